"""What a session finds when it arrives: its queue, whether that is open, and which queues take nobody more."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from server.domain import events as ev
from server.domain.directory import QueueConfig
from server.domain.endings import EndReason
from server.domain.hours import is_open
from server.domain.machine import Refused
from server.domain.queue_routing import Strategy
from server.domain.segment import Role
from server.domain.session import Session, SessionState
from server.services.admin_ports import Directory
from server.services.exits import Exits, rule_of
from server.services.ports import Clock, StepStore
from server.services.tokens import CustomerToken

DROPPED = frozenset({EndReason.ABANDONED, EndReason.CUSTOMER_LOST})
MAX_CHAIN = 20  # of queues that overflow into each other; longer ones are refused when they are saved


def last_agent(earlier: Session) -> str | None:
    """Whose the customer of an earlier session was last; who was called in, or supervised, does not count."""
    owners = [segment for segment in earlier.segments if segment.role is Role.OWNER and segment.talk_started_at]
    return max(owners, key=lambda segment: (segment.talk_ended_at or inf, segment.number)).agent_id if owners else None


def left_behind(earlier: Session) -> bool:
    """It waits still, and its customer is not to be heard any more: a browser that was closed or crashed."""
    return earlier.state is SessionState.QUEUED and earlier.unattended and not earlier.customer_leg.is_up


def kept_for(earlier: Session, queue: QueueConfig) -> bool:
    """Its place is kept in this very queue, and the browser has forgotten so. What is kept elsewhere is kept on."""
    visit = earlier.visit
    return earlier.state is SessionState.PLACE_KEPT and visit is not None and visit.queue_id == queue.queue_id


class Arrivals:
    def __init__(self, store: StepStore, directory: Directory, clock: Clock, exits: Exits) -> None:
        self._possible = exits.possible
        self._store = store
        self._directory = directory
        self._clock = clock

    async def queue(self, grant: CustomerToken) -> QueueConfig:
        """The entry point's queue. Raises Refused: unknown_key, queue_closed, outside_hours."""
        entry = await self._directory.entry_point(grant.tenant, grant.entry_point_id)
        if entry is None or not entry.active:
            raise Refused("unknown_key")
        queue = await self._directory.queue(grant.tenant, entry.queue_id)
        if queue is None or not queue.active:
            raise Refused("queue_closed")
        hours = queue.life.hours
        if hours is not None and not is_open(hours, self._clock.now_ms()):
            raise Refused("outside_hours")
        return queue

    async def earlier(self, tenant: str, session_id: str | None) -> Session | None:
        """The session that this browser had before, while it is known."""
        session = None if session_id is None else await self._store.session(session_id)
        return session if session is not None and session.tenant == tenant else None

    def place_at(self, queue: QueueConfig, earlier: Session) -> int | None:
        """The first arrival of a session that its customer dropped out of while waiting for this queue, if that was
        not too long ago."""
        dropped = earlier.end_reason in DROPPED and earlier.talk_started_at is None and bool(earlier.visits)
        if not dropped or earlier.ended_at is None or earlier.visits[0].queue_id != queue.queue_id:
            return None
        late = self._clock.now_ms() - earlier.ended_at > queue.life.return_s * 1000
        return None if late else earlier.first_arrival

    async def rules(self, queue: QueueConfig, left: int = MAX_CHAIN) -> ev.QueueRules:
        """With those of the queues that it overflows into. One that was switched off meanwhile takes nobody. Their
        hours go with them, since it is later that they are asked."""
        life, overflow = queue.life, None
        if life.overflow_queue_id is not None and left > 0:
            target = await self._directory.queue(queue.tenant, life.overflow_queue_id)
            if target is not None and target.active:
                overflow = replace(await self.rules(target, left - 1), hours=target.life.hours)
        return ev.QueueRules(
            queue.queue_id,
            queue.name,
            queue.ring_timeout_s,
            queue.wrap_up_s,
            queue.disposition_required,
            queue.record,
            queue.routing.wrap_up_extend_s,
            queue.routing.wrap_up_extensions,
            max_wait_s=life.max_wait_s,
            overflow=overflow,
            ring_all=queue.routing.strategy is Strategy.RING_ALL,
            keep_place_s=life.keep_place_s,
            exit=rule_of(life.exit, self._possible),
            pause_limit_s=life.pause_limit_s,
            park_limit_s=life.park_limit_s,
            when_unrecorded=life.when_unrecorded,
        )

    async def full(self, tenant: str, rules: ev.QueueRules) -> tuple[ev.QueueFull, ...]:
        """From the first queue on, those that as many wait in as they take. Sessions that arrive at the same moment
        don't see each other, so a queue may get a few more; nobody is turned away who had a place."""
        found: list[ev.QueueFull] = []
        at: ev.QueueRules | None = rules
        while at is not None:
            queue = await self._directory.queue(tenant, at.queue_id)
            most = queue.life.max_length if queue is not None else 0
            if not most or await self._store.waiting(tenant, at.queue_id) < most:
                break
            found.append(ev.QueueFull(at.queue_id))
            at = at.overflow
        return tuple(found)
