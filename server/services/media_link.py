"""What media workers say, turned into session events; and where sessions are placed.

Rows and workers are compared when a worker connects and every RECONCILE_S: a session whose legs its worker
does not know has lost its worker; a leg that no row places is closed once it is older than ORPHAN_S.

Every node does all of this. Whoever says that a worker was lost names the placement (epoch) that was lost with it, so
what several nodes say of one incident counts once. A worker that this node merely can't reach is not lost as long as
another node reaches it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from server.domain import events as ev
from server.domain import media
from server.domain.leg import LegState
from server.domain.machine import IllegalTransition, Refused, Stale
from server.domain.recording import open_parts
from server.domain.session import Session
from server.services.moves import Mover
from server.services.placement import by_room
from server.services.ports import (
    Clock,
    LegTelemetry,
    MediaEngine,
    MediaError,
    StepStore,
    Unreadable,
    WorkerInfo,
    WorkerLeg,
)
from server.services.stepper import Stepper

log = structlog.get_logger()
RECONCILE_S = 5.0
ORPHAN_S = 30.0  # longer than a leg's set-up, so that an open order whose answer is on its way is left alone
ABSENT_MS = 10_000  # a worker restarts in about a second; one that was removed from the settings never comes back
SETTLED_MS = 5_000  # a leg that came up this recently may be missing in a list that is older

OthersReach = Callable[[str], Awaitable[bool]]  # worker id -> another living node is connected to it
SessionReport = media.LegUp | media.LegDown | media.LegQuiet | media.PartClosed | media.RecordingFailed
Left = tuple[str, str, int]  # session id, worker id, epoch


async def nobody_reaches(worker_id: str) -> bool:
    """Where there is one node only."""
    return False


class MediaLink:
    """`MediaListener` for the engine, and the placement of sessions. `mine(key)`: this node goes first at `key`."""

    def __init__(
        self,
        store: StepStore,
        stepper: Stepper,
        engine: MediaEngine,
        clock: Clock,
        mine: Callable[[str], bool] = lambda key: True,
        others_reach: OthersReach = nobody_reaches,
    ) -> None:
        self._store = store
        self._stepper = stepper
        self._engine = engine
        self._clock = clock
        self._others_reach = others_reach
        self.mover = Mover(store, stepper, engine, clock, mine)
        self._absent: dict[str, int] = {}  # worker id -> since when this process misses it
        self._known: dict[str, set[tuple[str, int]]] = {}  # worker id -> (session id, epoch) that it carries
        self.on_legs: Callable[[str, Sequence[LegTelemetry]], None] = lambda worker_id, legs: None
        self._missed: dict[Left, int] = {}  # what a worker should still hold -> since when it does not know it

    def place(self) -> WorkerInfo | None:
        """The worker for a new session: the one with the most room; None while none has any."""
        return next(iter(by_room(self._engine.workers())), None)

    # --- MediaListener ---

    async def on_report(self, worker_id: str, session_id: str, epoch: int, report: media.MediaReport) -> None:
        if isinstance(report, media.DigitPressed | media.PromptEnded):
            return  # nobody waits for keys, or plays a prompt once, yet
        try:
            await self._stepper.apply(session_id, _event(report, epoch))
        except (Stale, Refused) as reason:
            log.debug("report_stale", session_id=session_id, report=type(report).__name__, code=reason.code)
        except IllegalTransition:  # a word about a session that no row knows: the reconciler closes its legs
            log.warning("report_unplaced", session_id=session_id, report=type(report).__name__, worker_id=worker_id)

    async def on_worker_up(self, info: WorkerInfo) -> None:
        log.info("worker_up", worker_id=info.worker_id, incarnation=info.incarnation, load=info.load)
        await self.reconcile(info.worker_id)
        await self._rescue({worker.worker_id for worker in self._engine.connected()} | {info.worker_id})

    async def on_worker_down(self, worker_id: str, incarnation: str) -> None:
        here = next((worker for worker in self._engine.connected() if worker.worker_id == worker_id), None)
        if here is not None and here.incarnation == incarnation:
            return  # it was silent for a while, and speaks again
        certain = here is not None or self._engine.gone(worker_id)
        if not certain and await self._others_reach(worker_id):
            log.warning("worker_unreachable_here", worker_id=worker_id, incarnation=incarnation)
            return
        log.warning("worker_down", worker_id=worker_id, incarnation=incarnation)
        for session in await self._store.open_sessions(worker_id=worker_id):
            await self._lose(session, worker_id, incarnation)
        for session in await self._store.open_sessions():  # what others had left there
            await self._lose(session, worker_id, incarnation)

    def on_telemetry(self, worker_id: str, legs: Sequence[LegTelemetry]) -> None:
        """For the metrics: thresholds arrive as reports."""
        self.on_legs(worker_id, legs)

    # --- reconciling ---

    async def run(self) -> None:
        """Compare rows and workers, and empty workers that are to stop, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.mover.run(), name="mover")
            while True:
                await asyncio.sleep(RECONCILE_S)
                await self.look()

    async def look(self) -> None:
        """Make every connected worker and the rows agree, and find a place for the sessions that have none."""
        connected = {worker.worker_id for worker in self._engine.connected()}
        for worker_id in connected:
            try:
                await self.reconcile(worker_id)
            except Exception:
                log.exception("reconcile_failed", worker_id=worker_id)
        await self._rescue(connected)

    async def _rescue(self, connected: set[str]) -> None:
        """Place what no worker holds: since none had room, or since its worker stays away."""
        self._absent = {worker_id: since for worker_id, since in self._absent.items() if worker_id not in connected}
        missed, self._missed = self._missed, {}
        for session in await self._store.open_sessions():
            if session.worker_id is None and not session.ended and session.kept_since is None:
                worker = self.place()
                if worker is not None:
                    await self._post(session.id, ev.Placed(worker.worker_id, worker.incarnation))
            elif session.worker_id not in connected and session.worker_id and await self._is_lost(session.worker_id):
                await self._lose(session, session.worker_id, None)
            for worker_id, epoch in _left(session):
                if worker_id not in connected:
                    lost = await self._is_lost(worker_id)
                else:
                    lost = self._misses(session, worker_id, epoch, missed)
                if lost:
                    await self._post(session.id, ev.WorkerLost(worker_id, None, epoch))

    async def _is_lost(self, worker_id: str) -> bool:
        """Whether an absent worker was away for so long that it counts as lost."""
        now = self._clock.now_ms()
        if now - self._absent.setdefault(worker_id, now) < ABSENT_MS:
            return False
        return self._engine.gone(worker_id) or not await self._others_reach(worker_id)

    def _misses(self, session: Session, worker_id: str, epoch: int, missed: dict[Left, int]) -> bool:
        """A worker does not know what an earlier placement left there, and its word about it can't be under way."""
        if (session.id, epoch) in self._known.get(worker_id, {(session.id, epoch)}):
            return False
        left = (session.id, worker_id, epoch)
        self._missed[left] = missed.get(left, self._clock.now_ms())
        return self._settled(self._missed[left])

    async def reconcile(self, worker_id: str) -> None:
        """Make one worker and the rows agree."""
        try:
            legs = await self._engine.list_legs(worker_id)
        except MediaError as error:
            log.warning("reconcile_skipped", worker_id=worker_id, code=error.code)
            return
        sessions = {s.id: s for s in await self._store.open_sessions(worker_id=worker_id)}
        known = self._known[worker_id] = {(leg.session_id, leg.epoch) for leg in legs}
        for session in sessions.values():
            if self._missing(session, known):
                log.warning("session_unknown_to_worker", session_id=session.id, worker_id=worker_id)
                here = next((w for w in self._engine.connected() if w.worker_id == worker_id), None)
                incarnation = here.incarnation if here is not None else None
                await self._post(session.id, ev.WorkerLost(worker_id, worker_id, session.epoch, incarnation))
        for leg in legs:
            if leg.age_s <= ORPHAN_S or _placed(sessions.get(leg.session_id), leg):
                continue
            try:
                there = await self._store.session(leg.session_id)
            except Unreadable:  # a newer node placed it, and looks after it
                continue
            if not _placed(there, leg):  # placed elsewhere, and not there yet
                log.warning("orphan_leg_closed", session_id=leg.session_id, leg_id=leg.leg_id, worker_id=worker_id)
                await self._engine.close_leg(worker_id, leg.session_id, leg.leg_id)

    def _missing(self, session: Session, known: set[tuple[str, int]]) -> bool:
        """The row says that the worker carries sound for this session, or holds its open part, and it does not."""
        if (session.id, session.epoch) in known:
            return False
        if session.ended:
            here = session.worker_id or ""
            closing = [r for r in session.recordings if open_parts(r, here, session.epoch)]
            return any(self._settled(r.ended_at or 0) for r in closing)
        return any(leg.is_up and not leg.former and self._settled(leg.since) for leg in session.live_legs)

    def _settled(self, since: int) -> bool:
        return self._clock.now_ms() - since > SETTLED_MS

    async def _lose(self, session: Session, worker_id: str, incarnation: str | None) -> None:
        """Say that a worker is gone, in this life of it or (None) in any, of a session that has something there."""
        here = session.worker_id == worker_id and (incarnation is None or session.incarnation in (None, incarnation))
        epoch = session.epoch if here else session.epoch - 1
        if (session.ended or not here) and not session.has_left(worker_id, epoch):
            return
        others = (w for w in self._engine.workers() if w.worker_id != worker_id and not w.draining)
        other = next(others, None)
        if other is None:
            await self._post(session.id, ev.WorkerLost(worker_id, None, epoch))
        else:
            await self._post(session.id, ev.WorkerLost(worker_id, other.worker_id, epoch, other.incarnation))

    async def _post(self, session_id: str, event: ev.Event) -> None:
        try:
            await self._stepper.apply(session_id, event)
        except (Stale, Refused):
            return
        except Exception:  # one session's failure is its own
            log.exception("event_failed", session_id=session_id, session_event=type(event).__name__)


def _placed(session: Session | None, leg: WorkerLeg) -> bool:
    """The row says that the leg is where it is."""
    row = session.leg(leg.leg_id) if session is not None and not session.ended else None
    if session is None or row is None or row.state is LegState.CLOSED:
        return False
    if session.former is not None and leg.epoch == session.former.epoch:
        return True
    return session.epoch == leg.epoch


def _left(session: Session) -> set[tuple[str, int]]:
    """(worker id, epoch) of earlier placements that still hold something of the session."""
    parts = [part for recording in session.recordings for part in recording.parts if not part.closed]
    found = {(part.worker_id, part.epoch) for part in parts if 0 < part.epoch < session.epoch}
    if session.former is not None:
        found.add((session.former.worker_id, session.former.epoch))
    return found


def _event(report: SessionReport, epoch: int) -> ev.Event:
    match report:
        case media.LegUp(leg_id, generation):
            return ev.LegWentUp(leg_id, generation, epoch)
        case media.LegDown(leg_id, generation, reason):
            return ev.LegWentDown(leg_id, generation, epoch, reason)
        case media.LegQuiet(leg_id, generation, quiet, change, silent):
            return ev.LegFellQuiet(leg_id, generation, epoch, quiet, change, silent)
        case media.PartClosed(recording_id, part):
            return ev.RecordingPartClosed(recording_id, part)
        case media.RecordingFailed(recording_id, part, code):
            return ev.RecordingBroke(recording_id, part, code)
