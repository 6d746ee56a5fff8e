"""Takes the sessions off a media worker that is to stop: each gets its new placement on another one, and comes over
while the old one still carries it (see domain/session.py). A few at a time, since each move costs set-ups in the new
place; and none while no other worker has room: then the worker's end is as sudden as a crash would be.

Any node may move any session. The one whose turn it is goes first; the others take over what it leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from server.domain import events as ev
from server.domain.leg import LegState
from server.domain.machine import Refused, Stale
from server.domain.session import Session
from server.services.placement import by_room, fullness
from server.services.ports import Clock, MediaEngine, StepStore, StorageUnavailable, WorkerInfo
from server.services.stepper import Stepper

log = structlog.get_logger()
LOOK_S = 1.0
MOVES_PER_LOOK = 10  # of one worker: two set-ups each, of 10 ms of CPU, and 45 s for the 75 calls of a full one
TURN_MS = 3_000  # a node that does not do what is its own by then is busy, or does not see the worker
PATIENCE_MS = 10_000  # a leg that is being set up gets so long: it would have to begin again elsewhere


class Mover:
    """`mine(key)`: it is this node's turn to act on `key`."""

    def __init__(
        self, store: StepStore, stepper: Stepper, engine: MediaEngine, clock: Clock, mine: Callable[[str], bool]
    ) -> None:
        self._store = store
        self._stepper = stepper
        self._engine = engine
        self._clock = clock
        self._mine = mine
        self._draining: dict[str, int] = {}  # incarnation -> since when it is seen to drain

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except StorageUnavailable as error:
                log.warning("moves_postponed", error=str(error))

    async def look(self) -> None:
        """Move the next sessions of every worker that drains."""
        now = self._clock.now_ms()
        draining = [worker for worker in self._engine.connected() if worker.draining]
        self._draining = {worker.incarnation: self._draining.get(worker.incarnation, now) for worker in draining}
        for worker in draining:
            await self._empty(worker, now - self._draining[worker.incarnation])

    async def _empty(self, worker: WorkerInfo, since_ms: int) -> None:
        targets = _Targets(self._engine.workers(), worker.worker_id)
        moved = 0
        for session in await self._store.open_sessions(worker_id=worker.worker_id):
            if session.ended or not self._is_due(session, since_ms):
                continue
            target = targets.next()
            if target is None or moved == MOVES_PER_LOOK:
                return
            try:
                await self._stepper.apply(
                    session.id, ev.SessionMoved(target.worker_id, session.epoch, target.incarnation)
                )
            except (Stale, Refused):  # another node was first
                continue
            except StorageUnavailable:
                raise
            except Exception:  # one session's failure is its own: the others still have to leave
                log.exception("move_failed", session_id=session.id, worker_id=worker.worker_id)
                continue
            moved += 1
            log.info("session_moved", session_id=session.id, worker_id=worker.worker_id, to=target.worker_id)

    def _is_due(self, session: Session, since_ms: int) -> bool:
        if since_ms < TURN_MS and not self._mine(session.id):
            return False
        return since_ms >= PATIENCE_MS or all(leg.state is not LegState.OPENING for leg in session.live_legs)


class _Targets:
    """The workers that take sessions; each in turn, by the room that is left."""

    def __init__(self, workers: Sequence[WorkerInfo], besides: str) -> None:
        others = [worker for worker in by_room(workers) if worker.worker_id != besides]
        self._left = {w.worker_id: (w, round((1 - fullness(w)) * w.capacity)) for w in others}

    def next(self) -> WorkerInfo | None:
        """The one with the most room; its room for two legs is taken."""
        best = max(self._left.values(), key=lambda entry: entry[1], default=None)
        if best is None or best[1] <= 0:
            return None
        self._left[best[0].worker_id] = (best[0], best[1] - 2)
        return best[0]
