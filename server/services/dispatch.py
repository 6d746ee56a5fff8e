"""Carries out orders: the outbox rows of each session, strictly in their sequence, on the worker that holds it.

The node that saved an order sends it, under a short lease on the session's orders: while another node holds the lease
that one will find the new rows, too. A row is deleted in the transaction that saves what it yielded. A process that
dies in between leaves the row and its lease ends with it; another node finds the row, sends the order again under the
same stamp, and the worker gives its first result again.

An order that fails for a cause of ours is never given up: it is tried again, by any node, with a growing pause.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import suppress

import structlog

from server.domain.events import LegAnswered, LegRefused, RecordingPauseSaid, WorkerLost
from server.domain.media import ApplyPlan, MediaOrder, OpenLeg, dated
from server.probes import Work
from server.services.nodes import Nodes
from server.services.placement import by_room
from server.services.ports import Clock, Commit, MediaEngine, MediaError, OutboxRow, StepStore, StorageUnavailable
from server.services.stepper import Stepper

log = structlog.get_logger()
RETRY_S = 0.25  # a worker that does not answer is restarting, or about to be declared lost
STORAGE_AWAY_S = 1.0
AFTER_FAULT_S = (1.0, 60.0)  # doubled each time; less than a minute after its cause has passed the order is carried out
LEASE_MS = 30_000  # a round of LEASED orders that each take their whole time-out; it ends with its node at once
LEASED = 4
SWEEP_S = 1.0
LEFT_MS = 1_000  # an order that lies longer than this may be nobody's
EVERYBODYS_SWEEP = 3  # each third sweep takes what should be another node's, too
OVERTAKEN = frozenset({"stale_epoch", "stale_order"})
UNREACHABLE = frozenset({"worker_gone", "worker_timeout"})


class Dispatcher:
    """One task a session that has orders; `group` is their parent."""

    def __init__(
        self,
        store: StepStore,
        stepper: Stepper,
        engine: MediaEngine,
        clock: Clock,
        nodes: Nodes,
        group: asyncio.TaskGroup,
    ) -> None:
        self._store = store
        self._stepper = stepper
        self._engine = engine
        self._clock = clock
        self._nodes = nodes
        self._group = group
        self._running: set[str] = set()
        self._again: set[str] = set()

    @property
    def busy(self) -> bool:
        """Orders are being carried out."""
        return bool(self._running)

    def on_commit(self, commit: Commit) -> None:
        for save in commit.sessions:
            if save.orders:
                self.kick(save.after.id)

    def kick(self, session_id: str) -> None:
        if session_id in self._running:
            self._again.add(session_id)
            return
        self._running.add(session_id)
        self._group.create_task(self._run(session_id), name=f"dispatch {session_id}")

    async def resume(self) -> None:
        """After a start: the orders that an earlier process left."""
        for session_id in await self._store.outbox_sessions():
            self.kick(session_id)

    async def run(self) -> None:
        """Find orders that nobody carries out, for ever."""
        for sweep in itertools.count(1):
            await asyncio.sleep(SWEEP_S)
            try:
                for session_id in await self._store.outbox_sessions(self._clock.now_ms() - LEFT_MS):
                    if sweep % EVERYBODYS_SWEEP == 0 or self._nodes.mine(session_id):
                        self.kick(session_id)
            except StorageUnavailable as error:
                log.warning("outbox_sweep_postponed", error=str(error))

    async def _run(self, session_id: str) -> None:
        faults = 0
        try:
            while True:
                try:
                    if not await self._round(session_id):
                        return
                    faults = 0
                except StorageUnavailable as error:
                    log.warning("dispatch_postponed", session_id=session_id, error=str(error))
                    await asyncio.sleep(STORAGE_AWAY_S)
                except Exception:  # a boundary: the rows stay, so nothing is lost
                    faults += 1
                    wait_s = after_fault_s(faults, random.random())
                    log.exception("dispatch_failed", session_id=session_id, times=faults, again_in_s=round(wait_s, 1))
                    with suppress(Exception):  # another node, of another version, may do better meanwhile
                        await self._store.end_lease(session_id, self._nodes.node_id)
                    await asyncio.sleep(wait_s)
        finally:
            self._running.discard(session_id)

    async def _round(self, session_id: str) -> bool:
        """Carry out what is there; False when nothing was, or another node does it."""
        self._again.discard(session_id)
        now = self._clock.now_ms()
        node_id = self._nodes.node_id
        rows = await self._store.lease_orders(session_id, node_id, now, now + LEASE_MS, LEASED)
        if rows is None:
            return session_id in self._again
        for row in rows:
            if not await self._carry_out(row):
                # Another node may reach the worker meanwhile.
                await self._store.end_lease(session_id, node_id)
                await asyncio.sleep(RETRY_S)
                return True
        if len(rows) == LEASED:
            return True
        return await self._store.end_lease(session_id, node_id) or session_id in self._again

    async def _carry_out(self, row: OutboxRow) -> bool:
        """True when the row is gone. One that can't reach its worker stays until the session is placed anew."""
        try:
            with Work("order", session_id=row.key.session_id, order=type(row.order).__name__, worker_id=row.worker_id):
                order = dated(row.order, self._clock.now_ms())
                result = await self._engine.order(row.worker_id, row.stamp, order)
        except MediaError as error:
            return await self._failed(row, error)
        if isinstance(row.order, OpenLeg):
            answer = LegAnswered(row.order.leg_id, row.order.generation, row.epoch, result.sdp or "")
            await self._stepper.apply(row.key.session_id, answer, consumed=[row.key], skip_stale=True)
        elif (said := _pause_said(row.order)) is not None:  # the agent waits for the worker's word
            await self._stepper.apply(row.key.session_id, said, consumed=[row.key], skip_stale=True)
        else:
            await self._store.drop_orders([row.key])
        return True

    async def _failed(self, row: OutboxRow, error: MediaError) -> bool:
        session = await self._store.session(row.key.session_id)
        moved = session is None or session.epoch > row.epoch or session.worker_id is None
        if error.code == "worker_busy" and not moved:
            await self._place_elsewhere(row)
            return True
        if error.code in UNREACHABLE:
            # A session that ended needs a dead worker no more, once the recording's parts are closed; a worker that is
            # only slow must still hear that it is released.
            needed = session is not None and (
                error.code == "worker_timeout"
                or not session.ended
                or any(r.state == "closing" for r in session.recordings)
            )
            if needed and not moved:
                return False
        elif error.code not in OVERTAKEN:
            log.warning("order_failed", session_id=row.key.session_id, order=type(row.order).__name__, code=error.code)
        if isinstance(row.order, OpenLeg) and not moved and error.code not in OVERTAKEN:
            refused = LegRefused(row.order.leg_id, row.order.generation, row.epoch, error.code)
            await self._stepper.apply(row.key.session_id, refused, consumed=[row.key], skip_stale=True)
        else:
            await self._store.drop_orders([row.key])
        return True

    async def _place_elsewhere(self, row: OutboxRow) -> None:
        """The worker took nothing of a new session in. Where no other one has room, the session waits for one."""
        others = (worker for worker in by_room(self._engine.workers()) if worker.worker_id != row.worker_id)
        other = next(others, None)
        to, incarnation = (other.worker_id, other.incarnation) if other is not None else (None, None)
        lost = WorkerLost(row.worker_id, to, row.epoch, incarnation)
        await self._stepper.apply(row.key.session_id, lost, consumed=[row.key], skip_stale=True)


def _pause_said(order: MediaOrder) -> RecordingPauseSaid | None:
    """What a plan that was carried out tells of the recording's pauses; None where there were none."""
    recording = order.plan.recording if isinstance(order, ApplyPlan) else None
    return RecordingPauseSaid(recording.recording_id, recording.change) if recording and recording.change else None


def after_fault_s(faults: int, chance: float) -> float:
    """How long to wait after so many faults in a row, the first one included. `chance`: 0 to 1, so that a hundred
    sessions with one cause do not come back at one moment."""
    shortest, longest = AFTER_FAULT_S
    doubled: int = 2 ** min(faults - 1, 16)
    return min(longest, shortest * doubled) * (1 + chance) / 2
