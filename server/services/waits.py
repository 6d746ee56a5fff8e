"""How long customers will still wait: what each is told, and a record of the first thing that was said.

Every few seconds the past of the queues in which somebody from this node waits is read from the database, which holds
what all nodes did; nothing is read for a push. Whoever has waited for 2 s (most are answered sooner, or ring) is told a
range from then on. The first one of a visit is saved with the session, by the node that holds the customer's tab, after
it was told: whoever routes never waits for it. Should two nodes say it, the row takes one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import structlog

from server.domain.events import WaitEstimated
from server.domain.machine import Refused
from server.domain.router_state import QueueLook, RoutingView, WaitingSession, places
from server.domain.told_wait import ShownWait, rounded, shown_next
from server.domain.waits import Pace, Stages, pace, stages
from server.services.admin_ports import WaitHistory
from server.services.ports import Clock, Conflict, StorageUnavailable, Unreadable
from server.services.stepper import Stepper

log = structlog.get_logger()
LOOK_S = 2.0
READ_AFTER_MS = 10_000  # a queue's past changes by a few visits meanwhile
TOO_OLD_MS = 60_000  # the database is away: no estimate is better than one of then
TOLD_AFTER_MS = 2_000
AGAIN_MS = 10_000  # at a place that does not change
SAVE_AGAIN_S = 1.0  # the database is away


@dataclass(slots=True)
class _Queue:
    """`asked_at`: when somebody from here was last seen waiting in it. Times are UTC epoch ms."""

    asked_at: int
    waiting_since: int
    read_at: int | None = None
    pace: Pace | None = None
    staffed: bool = False


@dataclass(frozen=True, slots=True)
class _Said:
    """What the customer reads now. `visit` names the wait: queue and entry."""

    visit: tuple[str, int]
    position: int
    at: int
    wait: ShownWait


class WaitTimes:
    """Told of each look of the router; asked for what the people of this node are to be told."""

    def __init__(self, history: WaitHistory, stepper: Stepper, clock: Clock) -> None:
        self._history = history
        self._stepper = stepper
        self._clock = clock
        self._views: dict[str, RoutingView] = {}
        self._queues: dict[tuple[str, str], _Queue] = {}
        self._said: dict[str, _Said] = {}  # by session
        self._unsaved: dict[str, WaitEstimated] = {}  # by session
        self._asked, self._to_save = asyncio.Event(), asyncio.Event()

    def tell(self, view: RoutingView, look: QueueLook, here: Collection[str]) -> Mapping[str, ShownWait]:
        """By session id: those who wait in a queue, are connected here, and have something to be told."""
        self._views[view.tenant] = view
        mine = [(place, one) for place, one in places(look.waiting) if one.session_id in here]
        if not mine:
            return {}
        now = self._clock.now_ms()
        queue = self._queue(view.tenant, look, now)
        line = None if queue.pace is None else stages(queue.pace, mine[-1][0], queue.waiting_since, now)
        told = {}
        for place, one in mine:
            wait = self._next(queue, line, one, place, now)
            if wait is not None:
                told[one.session_id] = wait
        return told

    async def run(self) -> None:
        """Read what queues did lately, for ever."""
        while True:
            self._asked.clear()
            await self.look()
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._asked.wait()
            except TimeoutError:
                pass

    async def look(self) -> None:
        """Read the past of the queues that are asked for, where it is old; forget what is over."""
        now = self._clock.now_ms()
        self._queues = {key: queue for key, queue in self._queues.items() if now - queue.asked_at < TOO_OLD_MS}
        self._forget_who_left()
        self._see_who_is_on_duty()
        for (tenant, queue_id), queue in list(self._queues.items()):
            if queue.read_at is None or now - queue.read_at >= READ_AFTER_MS:
                try:
                    past = await self._history.lately(tenant, queue_id, now)
                except StorageUnavailable as error:
                    log.warning("waits_postponed", error=str(error))
                    return
                queue.pace, queue.read_at = pace(past, queue.waiting_since, now), now

    async def keep(self) -> None:
        """Save what was told, for ever."""
        while True:
            await self._to_save.wait()
            self._to_save.clear()
            while self._unsaved:
                session_id = next(iter(self._unsaved))
                told = self._unsaved.pop(session_id)
                try:
                    await self._stepper.apply(session_id, told, skip_stale=True)
                except StorageUnavailable as error:
                    log.warning("told_wait_postponed", session_id=session_id, error=str(error))
                    self._unsaved.setdefault(session_id, told)
                    await asyncio.sleep(SAVE_AGAIN_S)
                except (Refused, Conflict, Unreadable) as reason:
                    log.info("told_wait_not_kept", session_id=session_id, reason=str(reason))

    def _queue(self, tenant: str, look: QueueLook, now: int) -> _Queue:
        since = min((one.entered_at for one in look.waiting if not one.away), default=now)
        queue = self._queues.get((tenant, look.queue.queue_id))
        if queue is None:
            queue = self._queues[tenant, look.queue.queue_id] = _Queue(now, since)
            self._asked.set()
        queue.asked_at, queue.waiting_since = now, since
        return queue

    def _next(self, queue: _Queue, line: Stages | None, one: WaitingSession, place: int, now: int) -> ShownWait | None:
        if line is None or queue.read_at is None or now - queue.read_at > TOO_OLD_MS or not queue.staffed:
            self._said.pop(one.session_id, None)
            return None
        visit = (one.queue_id, one.entered_at)
        said = self._said.get(one.session_id)
        if said is not None and said.visit != visit:
            said = None
        if said is not None and said.position == place and now - said.at < AGAIN_MS:
            return said.wait
        if one.held or now - one.entered_at < TOLD_AFTER_MS:  # it rings, or is about to
            return None if said is None else said.wait
        wait = line.wait(place)
        if said is None:
            self._unsaved[one.session_id] = WaitEstimated(*visit, place, wait.low_ms, wait.high_ms)
            self._to_save.set()
        shown = shown_next(None if said is None else said.wait, rounded(wait))
        self._said[one.session_id] = _Said(visit, place, now, shown)
        return shown

    def _see_who_is_on_duty(self) -> None:
        for tenant, view in self._views.items():
            mine = {queue_id: queue for (of, queue_id), queue in self._queues.items() if of == tenant}
            staffed = view.staffed(mine) if mine else frozenset()
            for queue_id, queue in mine.items():
                queue.staffed = queue_id in staffed

    def _forget_who_left(self) -> None:
        if self._said:
            waiting = {one.session_id for view in self._views.values() for one in view.waiting()}
            self._said = {session_id: said for session_id, said in self._said.items() if session_id in waiting}
