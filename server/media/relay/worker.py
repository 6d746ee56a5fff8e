"""A media worker without its control socket: sessions, orders in, reports out (see reports.py), timers."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from server.domain.media import (
    AnswerLeg,
    ApplyPlan,
    MediaOrder,
    MediaReport,
    OfferLeg,
    OpenLeg,
    ReleaseSession,
    SendDigits,
)
from server.media import capture
from server.media.capture import SAFE_NAME, Opener
from server.media.relay import sockets, ways
from server.media.relay.aiortc_seam import Identity
from server.media.relay.leg import Network
from server.media.relay.link import Binding
from server.media.relay.mixer import Mixer
from server.media.relay.music import PACKET_S, Library
from server.media.relay.orders import Ledger
from server.media.relay.reports import ReportDesk
from server.media.relay.session import RelaySession, Studio
from server.media.relay.udp_ports import PortRange
from server.media.relay.vitals import Vitals
from server.services.ports import LegTelemetry, MediaError, OrderResult, OrderStamp, WorkerInfo, WorkerLeg

log = structlog.get_logger(__name__)

TICK_S = 0.5  # time limits and flushes
TURNS = 20  # in a tick: all sessions at once would keep the packets waiting
MUSIC_BEHIND_S = 0.2  # a stall longer than this is skipped, not caught up with a burst


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The command line of a worker."""

    worker_id: str
    spool: Path
    bindings: tuple[Binding, ...]
    ports: PortRange
    capacity: int
    opener: Opener = capture.open_file
    prompts: Path | None = None
    compiled: bool = True


class Worker:
    """Carries out orders. `on_telemetry` is set by the control socket."""

    def __init__(self, settings: WorkerSettings, tasks: asyncio.TaskGroup) -> None:
        self.settings = settings
        self.incarnation = secrets.token_hex(8)
        self.draining = False
        self.on_telemetry: Callable[[list[LegTelemetry]], None] = lambda legs: None
        self.reports = ReportDesk()
        self._vitals = Vitals()
        self._ledger = Ledger()
        self._sessions: dict[str, RelaySession] = {}
        self._tasks = tasks
        network = Network(settings.bindings, settings.ports, Identity(), tasks)
        self._studio = Studio(
            network, Library(settings.prompts), settings.spool, settings.opener, asyncio.Event(), Mixer()
        )

    def start(self) -> None:
        table = sockets.of_loop()  # its descriptor is the worker's, and no call's
        if self.settings.compiled:
            table.ways = ways.load()
        log.info("packets_carried", by="compiled ways" if table.ways is not None else "Python")
        self._tasks.create_task(self._watch())
        self._tasks.create_task(self._play())
        self._tasks.create_task(self._studio.mixer.run())
        self._tasks.create_task(self._vitals.watch())

    # --- orders ---

    async def order(self, stamp: OrderStamp, order: MediaOrder) -> OrderResult:
        """Carry out an order, or give the answer of its first time. Raises MediaError."""
        _check_names(stamp, order)
        entry, earlier = self._ledger.admit(stamp, release=isinstance(order, ReleaseSession))
        if earlier is not None:
            return await asyncio.shield(earlier)
        result: asyncio.Future[OrderResult] = asyncio.get_running_loop().create_future()
        self._ledger.remember(entry, stamp, result)
        try:
            async with entry.lock:
                answer = await self._carry_out(stamp, order)
            session = self._sessions.get(stamp.session_id)
            if isinstance(order, ApplyPlan) and session is not None:  # beyond the lock: a release need not wait
                await session.obeyed()
        except MediaError as error:
            result.set_exception(error)
        except Exception as error:  # a boundary: one session's failure is its own
            log.exception("order_failed", session_id=stamp.session_id)
            result.set_exception(MediaError("internal", f"{type(error).__name__}: {error}"))
        except BaseException:
            result.cancel()
            raise
        else:
            result.set_result(answer)
        return await result

    async def _carry_out(self, stamp: OrderStamp, order: MediaOrder) -> OrderResult:
        session = self._sessions.get(stamp.session_id)
        if session is not None and session.epoch < stamp.epoch:
            self._sessions.pop(stamp.session_id).close()
            session = None
        if isinstance(order, ReleaseSession):
            if session is not None:
                self._sessions.pop(stamp.session_id).close()
            self._ledger.release(stamp.session_id)
            return OrderResult()
        if session is not None and session.epoch > stamp.epoch:
            raise MediaError("stale_epoch", f"the session is at epoch {session.epoch}")  # it waited too long
        if session is None:
            session = self._begin(stamp)
        match order:
            case OpenLeg() | OfferLeg():
                return OrderResult(sdp=await session.open_leg(order))
            case AnswerLeg(leg_id, generation, sdp):
                session.known_leg(leg_id).answer(generation, sdp)
            case SendDigits(leg_id, digits):
                session.known_leg(leg_id).dial(digits)
            case ApplyPlan(plan):
                session.apply(plan)
        return OrderResult()

    def _begin(self, stamp: OrderStamp) -> RelaySession:
        """Raises MediaError(worker_busy) for a session that is new to everybody; calls that other workers lost or hand
        over are taken in whatever it costs."""
        session_id, epoch = stamp.session_id, stamp.epoch
        if epoch == 1 and self.info().load >= self.settings.capacity:
            self._ledger.forget(session_id)
            raise MediaError("worker_busy", f"it carries {self.settings.capacity} legs, as many as it is meant to")
        session = RelaySession(
            stamp.tenant, session_id, epoch, self._studio, lambda report: self._report(session_id, epoch, report)
        )
        self._sessions[session_id] = session
        return session

    def close_leg(self, session_id: str, leg_id: str) -> None:
        session = self._sessions.get(session_id)
        if session is None:
            return
        session.close_leg(leg_id)
        if not session.legs:  # no row places this session here any more: nobody would ever release it
            session.close()
            del self._sessions[session_id]
            self._ledger.forget(session_id)

    # --- facts ---

    @property
    def carries(self) -> bool:
        """A leg or a recording would be lost if the process ended now."""
        return any(session.legs or session.recording for session in self._sessions.values())

    def info(self) -> WorkerInfo:
        # a leg counts by its sockets, and once without any: it may come back
        load = sum(max(1, len(leg.anchors)) for s in self._sessions.values() for leg in s.legs.values())
        settings = self.settings
        vitals = self._vitals.loop_lag_s, self._vitals.cpu_share
        return WorkerInfo(settings.worker_id, self.incarnation, load, settings.capacity, self.draining, *vitals)

    def legs(self) -> list[WorkerLeg]:
        now = time.monotonic()
        return [
            WorkerLeg(session.session_id, leg.leg_id, leg.generation, session.epoch, now - leg.opened_at)
            for session in self._sessions.values()
            for leg in session.legs.values()
        ]

    def _report(self, session_id: str, epoch: int, report: MediaReport) -> None:
        self.reports.post(session_id, epoch, report, time.monotonic())

    # --- timers ---

    async def _watch(self) -> None:
        """Each session's time limits every half second, its flush every second, some sessions at each turn; stalled
        reports and telemetry at the end."""
        odd = False
        while True:
            odd = not odd
            sessions = list(self._sessions.values())
            for turn in range(TURNS):
                await asyncio.sleep(TICK_S / TURNS)
                for session in sessions[turn::TURNS]:
                    self._look_after(session, odd)
            self.reports.look(time.monotonic())
            if odd:
                self.on_telemetry(self._telemetry())

    def _look_after(self, session: RelaySession, flush: bool) -> None:
        now = time.monotonic()
        try:
            for leg in list(session.legs.values()):
                for anchor in list(leg.anchors):
                    anchor.check(now)
            if flush:
                session.flush()
        except Exception:  # a boundary: the other sessions go on
            log.exception("watch_failed", session_id=session.session_id)

    def _telemetry(self) -> list[LegTelemetry]:
        legs = (leg.telemetry() for s in self._sessions.values() for leg in s.legs.values())
        return [leg for leg in legs if leg is not None]

    async def _play(self) -> None:
        """The one music timer, on an absolute schedule so that it does not drift. It rests when nobody
        hears music."""
        wanted = self._studio.music_wanted
        due = time.monotonic()
        while True:
            if not wanted.is_set():
                await wanted.wait()
                due = time.monotonic()
            due += PACKET_S
            wait = due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            elif wait < -MUSIC_BEHIND_S:
                due = time.monotonic()
            now_ns = time.monotonic_ns()
            playing = [session for session in self._sessions.values() if session.plays]
            if not playing:
                wanted.clear()
            for session in playing:
                try:
                    session.play(now_ns)
                except Exception:  # a boundary: the other sessions' music goes on
                    session.fall_silent()
                    log.exception("music_failed", session_id=session.session_id)

    def close(self) -> None:
        """Close all sessions: finalises recordings, says goodbye to peers in the background."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()


def _check_names(stamp: OrderStamp, order: MediaOrder) -> None:
    """Names become folders: refuse what could leave the spool. Raises MediaError(internal): it is our fault."""
    names = [stamp.tenant, stamp.session_id]
    if isinstance(order, ApplyPlan) and order.plan.recording is not None:
        names.append(order.plan.recording.recording_id)
    for name in names:
        if not SAFE_NAME.match(name):
            raise MediaError("internal", f"{name[:40]!r} is no usable id: letters, digits and _.:@- only")
