"""The in-memory twin of MediaEngine: the same rules for orders, no packets. For fast tests.

Reports happen when a test says so: `report_up`, `report_down`, `report`. One twin stands for all workers.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from server.domain.media import (
    AnswerLeg,
    ApplyPlan,
    LegDown,
    LegUp,
    MediaOrder,
    MediaPlan,
    MediaReport,
    OfferLeg,
    OpenLeg,
    PartClosed,
    RecordingOrder,
    ReleaseSession,
    SendDigits,
)
from server.media.relay.dtmf import DIGITS
from server.media.relay.orders import Ledger
from server.media.sdp import parse_offer
from server.media.sdp_plain import is_plain, parse_plain
from server.services.ports import (
    MediaError,
    MediaListener,
    OrderResult,
    OrderStamp,
    WorkerInfo,
    WorkerLeg,
)

ANSWER = "v=0 twin answer"
OFFER = "v=0 twin offer"
CAPACITY = 1000


@dataclass(slots=True)
class TwinSession:
    """What a worker would be doing for a session: open to inspection."""

    epoch: int
    plan: MediaPlan = field(default_factory=MediaPlan)
    legs: dict[str, int] = field(default_factory=dict)  # leg id → generation
    offered: set[tuple[str, int]] = field(default_factory=set)  # leg id, generation: phones that we called
    digits: dict[str, str] = field(default_factory=dict)  # leg id → the keys that were pressed towards it


@dataclass(slots=True)
class _TwinWorker:
    incarnation: str
    ledger: Ledger = field(default_factory=Ledger)
    sessions: dict[str, TwinSession] = field(default_factory=dict)
    alive: bool = True
    silent: bool = False  # not alive from here; others may reach it
    draining: bool = False


class MemoryEngine:
    """MediaEngine without media. `check_sdp`: refuse bad offers as the worker does (off: any text will do)."""

    def __init__(
        self, worker_ids: Sequence[str] = ("media-1",), check_sdp: bool = False, capacity: int = CAPACITY
    ) -> None:
        self._incarnations = itertools.count(1)
        self._workers = {worker_id: self._fresh() for worker_id in worker_ids}
        self._check_sdp = check_sdp
        self._capacity = capacity
        self._failures: deque[str] = deque()
        self._listener: MediaListener | None = None
        self.age_s = 0.0  # of every leg
        self._reporting: set[asyncio.Task[None]] = set()
        self.orders: list[tuple[str, OrderStamp, MediaOrder]] = []  # carried out, in order

    # --- MediaEngine ---

    async def start(self, listener: MediaListener) -> None:
        self._listener = listener
        for worker_id, worker in self._workers.items():
            if worker.alive:
                await listener.on_worker_up(self._info(worker_id))

    async def stop(self) -> None:
        self._listener = None
        if self._reporting:
            await asyncio.wait(self._reporting)

    def workers(self) -> Sequence[WorkerInfo]:
        usable = [info for info in self.connected() if not info.draining and info.load < info.capacity]
        return sorted(usable, key=lambda info: (info.load, info.worker_id))

    def connected(self) -> Sequence[WorkerInfo]:
        """The live workers by id; none before `start` or after `stop`."""
        if self._listener is None:
            return []
        return [self._info(worker_id) for worker_id, worker in sorted(self._workers.items()) if worker.alive]

    async def order(self, worker_id: str, stamp: OrderStamp, order: MediaOrder) -> OrderResult:
        worker = self._worker(worker_id)
        if self._failures and isinstance(order, OpenLeg | OfferLeg):
            raise MediaError(self._failures.popleft(), "the test asked for it")
        entry, earlier = worker.ledger.admit(stamp, release=isinstance(order, ReleaseSession))
        if earlier is not None:
            return await asyncio.shield(earlier)
        result: asyncio.Future[OrderResult] = asyncio.get_running_loop().create_future()
        worker.ledger.remember(entry, stamp, result)
        self.orders.append((worker_id, stamp, order))
        try:
            done, closed = self._carry_out(worker, stamp, order)
        except MediaError as error:
            result.set_exception(error)
            return await result
        result.set_result(done)
        if closed is not None:
            ended = PartClosed(closed.recording_id, closed.part)
            self._later(self.report(worker_id, stamp.session_id, ended, stamp.epoch))
        return done

    def gone(self, worker_id: str) -> bool:
        worker = self._workers.get(worker_id)
        return worker is not None and not worker.alive and not worker.silent

    async def list_legs(self, worker_id: str) -> Sequence[WorkerLeg]:
        sessions = self._worker(worker_id).sessions
        return [
            WorkerLeg(session_id, leg_id, generation, session.epoch, self.age_s)
            for session_id, session in sessions.items()
            for leg_id, generation in session.legs.items()
        ]

    async def close_leg(self, worker_id: str, session_id: str, leg_id: str) -> None:
        session = self._worker(worker_id).sessions.get(session_id)
        if session is not None:
            session.legs.pop(leg_id, None)

    async def drain(self, worker_id: str) -> None:
        self._worker(worker_id).draining = True

    # --- for tests ---

    def session(self, session_id: str, worker_id: str | None = None) -> TwinSession | None:
        """What a worker does for a session (the first that knows it, when none is named)."""
        for name, worker in self._workers.items():
            if worker_id in (None, name) and worker.alive and session_id in worker.sessions:
                return worker.sessions[session_id]
        return None

    async def report_up(self, session_id: str, leg_id: str) -> None:
        """The leg's newest generation is up."""
        worker_id, session = self._holder(session_id, leg_id)
        await self.report(worker_id, session_id, LegUp(leg_id, session.legs[leg_id]))

    async def report_down(self, session_id: str, leg_id: str, reason: str = "dtls_closed") -> None:
        worker_id, session = self._holder(session_id, leg_id)
        await self.report(worker_id, session_id, LegDown(leg_id, session.legs[leg_id], reason))

    async def report(self, worker_id: str, session_id: str, report: MediaReport, epoch: int | None = None) -> None:
        """Hand any report to the listener, with the session's epoch unless another is given."""
        if self._listener is None:
            return
        if epoch is None:
            epoch = self._workers[worker_id].sessions[session_id].epoch
        await self._listener.on_report(worker_id, session_id, epoch, report)

    async def kill(self, worker_id: str, *, silent: bool = False) -> None:
        """The process dies: its sessions are gone. `silent`: it can't be reached, and nobody knows why."""
        worker = self._workers[worker_id]
        worker.alive, worker.silent = False, silent
        worker.sessions.clear()
        if self._listener is not None:
            await self._listener.on_worker_down(worker_id, worker.incarnation)

    async def revive(self, worker_id: str) -> None:
        """The process is started again: a new incarnation that knows nothing."""
        self._workers[worker_id] = self._fresh()
        if self._listener is not None:
            await self._listener.on_worker_up(self._info(worker_id))

    def fail_next_leg(self, code: str) -> None:
        """The next OpenLeg or OfferLeg fails with this code and has no effect. May be called several times."""
        self._failures.append(code)

    # --- rules ---

    def _later(self, report: Coroutine[Any, Any, None]) -> None:
        """Report after the order's result, as a worker does: the caller may hold its session's lock."""
        task = asyncio.create_task(report)
        self._reporting.add(task)
        task.add_done_callback(self._reporting.discard)

    def _carry_out(
        self, worker: _TwinWorker, stamp: OrderStamp, order: MediaOrder
    ) -> tuple[OrderResult, RecordingOrder | None]:
        """The result, and the recording that ended by this order."""
        old = worker.sessions.get(stamp.session_id)
        before = old.plan.recording if old is not None and old.epoch == stamp.epoch else None
        if isinstance(order, ReleaseSession):
            worker.sessions.pop(stamp.session_id, None)
            worker.ledger.release(stamp.session_id)
            return OrderResult(), before
        if old is None and stamp.epoch == 1 and sum(len(s.legs) for s in worker.sessions.values()) >= self._capacity:
            worker.ledger.forget(stamp.session_id)
            raise MediaError("worker_busy", "the twin has no room")
        session = old if old is not None and old.epoch == stamp.epoch else TwinSession(stamp.epoch)
        if isinstance(order, OpenLeg | OfferLeg):
            if order.generation <= session.legs.get(order.leg_id, 0):
                raise MediaError("stale_generation", f"leg {order.leg_id} is at {session.legs[order.leg_id]}")
            if self._check_sdp and isinstance(order, OpenLeg):
                if order.plain and is_plain(order.sdp):
                    parse_plain(order.sdp, loopback=True)
                else:
                    parse_offer(order.sdp)
            worker.sessions[stamp.session_id] = session
            session.legs[order.leg_id] = order.generation
            if isinstance(order, OpenLeg):
                return OrderResult(sdp=ANSWER), None
            session.offered.add((order.leg_id, order.generation))
            return OrderResult(sdp=OFFER), None
        if isinstance(order, AnswerLeg | SendDigits):
            self._tell_leg(session, order)
            return OrderResult(), None
        worker.sessions[stamp.session_id] = session
        self._apply(session, order)
        after = order.plan.recording
        same = before is not None and after is not None and _key(before) == _key(after)
        return OrderResult(), None if same else before

    def _tell_leg(self, session: TwinSession, order: AnswerLeg | SendDigits) -> None:
        generation = session.legs.get(order.leg_id)
        if generation is None:
            raise MediaError("unknown_leg", f"no leg is called {order.leg_id}")
        if isinstance(order, SendDigits):
            if not order.digits or any(digit not in DIGITS for digit in order.digits):
                raise MediaError("bad_digits", "keys are 0-9, *, # and A-D")
            session.digits[order.leg_id] = session.digits.get(order.leg_id, "") + order.digits
        elif generation != order.generation or (order.leg_id, generation) not in session.offered:
            raise MediaError("stale_generation", f"leg {order.leg_id} is at {generation}")
        elif self._check_sdp:
            parse_plain(order.sdp, loopback=True)

    @staticmethod
    def _apply(session: TwinSession, order: ApplyPlan) -> None:
        session.plan = order.plan
        named = {name for route in order.plan.routes for name in (route.leg_id, route.hears)}
        if order.plan.recording is not None:
            named |= {order.plan.recording.customer_leg, order.plan.recording.agent_leg}
        session.legs = {leg_id: gen for leg_id, gen in session.legs.items() if leg_id in named}

    def _fresh(self) -> _TwinWorker:
        return _TwinWorker(f"twin-{next(self._incarnations)}")

    def _info(self, worker_id: str) -> WorkerInfo:
        worker = self._workers[worker_id]
        load = sum(len(session.legs) for session in worker.sessions.values())
        return WorkerInfo(worker_id, worker.incarnation, load, self._capacity, worker.draining)

    def _worker(self, worker_id: str) -> _TwinWorker:
        worker = self._workers.get(worker_id)
        if worker is None or not worker.alive:
            raise MediaError("worker_gone", f"{worker_id} is not running")
        return worker

    def _holder(self, session_id: str, leg_id: str) -> tuple[str, TwinSession]:
        for worker_id, worker in self._workers.items():
            session = worker.sessions.get(session_id)
            if session is not None and leg_id in session.legs:
                return worker_id, session
        raise KeyError(f"no worker holds leg {leg_id} of session {session_id}")


def _key(order: RecordingOrder) -> tuple[str, int]:
    return order.recording_id, order.part
