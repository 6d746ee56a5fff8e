"""What media workers say, turned into session events; and where sessions are placed.

Rows and workers are compared when a worker connects and every RECONCILE_S: a session whose legs its worker
does not know has lost its worker; a leg that no row places is closed once it is older than ORPHAN_S.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from server.domain import events as ev
from server.domain import media
from server.domain.leg import LegState
from server.domain.machine import IllegalTransition, Refused, Stale
from server.domain.session import Session
from server.services.ports import Clock, LegTelemetry, MediaEngine, MediaError, StepStore, WorkerInfo, WorkerLeg
from server.services.stepper import Stepper

log = structlog.get_logger()
RECONCILE_S = 5.0
ORPHAN_S = 30.0  # longer than a leg's set-up, so that an open order whose answer is on its way is left alone
ABSENT_MS = 10_000  # a worker restarts in about a second; one that was removed from the settings never comes back
SETTLED_MS = 5_000  # a leg that came up this recently may be missing in a list that is older


class MediaLink:
    """`MediaListener` for the engine, and the placement of sessions."""

    def __init__(self, store: StepStore, stepper: Stepper, engine: MediaEngine, clock: Clock) -> None:
        self._store = store
        self._stepper = stepper
        self._engine = engine
        self._clock = clock
        self._absent: dict[str, int] = {}  # worker id -> since when this process misses it

    def place(self) -> str | None:
        """The worker for a new session: the least loaded one; None while no worker is connected."""
        return next((worker.worker_id for worker in self._engine.workers() if not worker.draining), None)

    # --- MediaListener ---

    async def on_report(self, worker_id: str, session_id: str, epoch: int, report: media.MediaReport) -> None:
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
        log.warning("worker_down", worker_id=worker_id, incarnation=incarnation)
        for session in await self._store.open_sessions(worker_id=worker_id):
            await self._post(session.id, ev.WorkerLost(worker_id, self._other(worker_id)))

    def on_telemetry(self, worker_id: str, legs: Sequence[LegTelemetry]) -> None:
        """Levels are a passing value; thresholds arrive as reports."""

    # --- reconciling ---

    async def run(self) -> None:
        """Compare rows and workers for ever."""
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
        now = self._clock.now_ms()
        self._absent = {worker_id: since for worker_id, since in self._absent.items() if worker_id not in connected}
        for session in await self._store.open_sessions():
            if session.worker_id is None:
                worker_id = self.place()
                if worker_id is not None and not session.ended:
                    await self._post(session.id, ev.Placed(worker_id))
            elif session.worker_id not in connected:
                since = self._absent.setdefault(session.worker_id, now)
                if now - since >= ABSENT_MS:
                    await self._post(session.id, ev.WorkerLost(session.worker_id, self._other(session.worker_id)))

    async def reconcile(self, worker_id: str) -> None:
        """Make one worker and the rows agree."""
        try:
            legs = await self._engine.list_legs(worker_id)
        except MediaError as error:
            log.warning("reconcile_skipped", worker_id=worker_id, code=error.code)
            return
        sessions = {s.id: s for s in await self._store.open_sessions(worker_id=worker_id)}
        known = {(leg.session_id, leg.epoch) for leg in legs}
        for session in sessions.values():
            if self._missing(session, known):
                log.warning("session_unknown_to_worker", session_id=session.id, worker_id=worker_id)
                await self._post(session.id, ev.WorkerLost(worker_id, worker_id))
        for leg in legs:
            if leg.age_s > ORPHAN_S and not _placed(sessions.get(leg.session_id), leg):
                log.warning("orphan_leg_closed", session_id=leg.session_id, leg_id=leg.leg_id, worker_id=worker_id)
                await self._engine.close_leg(worker_id, leg.session_id, leg.leg_id)

    def _missing(self, session: Session, known: set[tuple[str, int]]) -> bool:
        """The row says that the worker carries sound for this session, or holds its open part, and it does not."""
        if (session.id, session.epoch) in known:
            return False
        if session.ended:
            closing = [r for r in session.recordings if r.ended_at is not None and not all(p.closed for p in r.parts)]
            return any(self._settled(r.ended_at or 0) for r in closing)
        owner = session.owner
        legs = [session.customer_leg, owner.leg] if owner else [session.customer_leg]
        return any(leg.state is LegState.UP and self._settled(leg.since) for leg in legs)

    def _settled(self, since: int) -> bool:
        return self._clock.now_ms() - since > SETTLED_MS

    def _other(self, worker_id: str) -> str | None:
        return next((w.worker_id for w in self._engine.workers() if w.worker_id != worker_id and not w.draining), None)

    async def _post(self, session_id: str, event: ev.Event) -> None:
        try:
            await self._stepper.apply(session_id, event)
        except (Stale, Refused):
            return
        except Exception:  # one session's failure is its own
            log.exception("event_failed", session_id=session_id, session_event=type(event).__name__)


def _placed(session: Session | None, leg: WorkerLeg) -> bool:
    if session is None or session.ended or session.epoch != leg.epoch:
        return False
    row = session.leg(leg.leg_id)
    return row is not None and row.state is not LegState.CLOSED


def _event(report: media.MediaReport, epoch: int) -> ev.Event:
    match report:
        case media.LegUp(leg_id, generation):
            return ev.LegWentUp(leg_id, generation, epoch)
        case media.LegDown(leg_id, generation, reason):
            return ev.LegWentDown(leg_id, generation, epoch, reason)
        case media.LegQuiet(leg_id, generation, quiet):
            return ev.LegFellQuiet(leg_id, generation, epoch, quiet)
        case media.PartClosed(recording_id, part):
            return ev.RecordingPartClosed(recording_id, part)
        case media.RecordingFailed(recording_id, part, code):
            return ev.RecordingBroke(recording_id, part, code)
