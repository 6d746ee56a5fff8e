"""The directory: queues, agents and entry points of a tenant, read together and kept for a moment.

Routing asks on every decision, the widget on every page view; the answer changes when an admin saves something.
`forget` drops a tenant's copy at once. CACHE_MS bounds how long a change by another process (the command
line) stays unseen: then the tenant's counter of changes tells whether the copy is still good.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from server.domain.administration import BreakReason, Disposition, EntryPointRecord, Queue, R, SkillLevel, User
from server.domain.directory import AgentProfile, EntryPoint, QueueConfig
from server.services.ports import Clock
from server.storage.admin_repository import ENTRY_POINT, StoredAdmin, StoredTransaction
from server.storage.faults import translated

CACHE_MS = 5000
WHOLE_MS = 300_000  # what an older version of this program changed is not counted
_PAGE = 500


@dataclass(frozen=True, slots=True)
class _Copy:
    read_at: int
    set_up: int
    queues: dict[str, QueueConfig]
    queue_list: tuple[QueueConfig, ...]  # the same object until something changes
    agents: dict[str, AgentProfile]
    agent_list: tuple[AgentProfile, ...]
    entry_points: dict[str, EntryPoint]
    disposition_ids: frozenset[str]
    break_reason_ids: frozenset[str]


class StoredDirectory:
    """`Directory` over a database."""

    def __init__(self, engine: AsyncEngine, clock: Clock) -> None:
        self._engine = engine
        self._admin = StoredAdmin(engine)
        self._clock = clock
        self._copies: dict[str, _Copy] = {}
        self._fresh_at: dict[str, int] = {}  # tenant -> when its copy was last known to be the newest
        self._changes = 0

    def forget(self, tenant: str) -> None:
        self._changes += 1
        self._copies.pop(tenant, None)

    async def queues(self, tenant: str) -> tuple[QueueConfig, ...]:
        return (await self._copy(tenant)).queue_list

    async def queue(self, tenant: str, queue_id: str) -> QueueConfig | None:
        return (await self._copy(tenant)).queues.get(queue_id)

    async def agents(self, tenant: str) -> tuple[AgentProfile, ...]:
        return (await self._copy(tenant)).agent_list

    async def agent(self, tenant: str, user_id: str) -> AgentProfile | None:
        return (await self._copy(tenant)).agents.get(user_id)

    async def entry_point_by_key(self, key: str) -> EntryPoint | None:
        query = sa.select(ENTRY_POINT.c.tenant, ENTRY_POINT.c.id).where(ENTRY_POINT.c.key == key)
        with translated():
            async with self._engine.connect() as connection:
                found = (await connection.execute(query)).first()
        return None if found is None else await self.entry_point(*found)

    async def entry_point(self, tenant: str, entry_point_id: str) -> EntryPoint | None:
        return (await self._copy(tenant)).entry_points.get(entry_point_id)

    async def disposition_ids(self, tenant: str) -> frozenset[str]:
        return (await self._copy(tenant)).disposition_ids

    async def break_reason_ids(self, tenant: str) -> frozenset[str]:
        return (await self._copy(tenant)).break_reason_ids

    async def _copy(self, tenant: str) -> _Copy:
        now = self._clock.now_ms()
        known = self._copies.get(tenant)
        if known is not None and now - self._fresh_at.get(tenant, now - CACHE_MS) < CACHE_MS:
            return known
        changes = self._changes
        fresh = await self._read(tenant, known, now)
        if changes == self._changes:  # else a change came while we read: what we hold may be older
            self._copies[tenant] = fresh
            self._fresh_at[tenant] = now
        return fresh

    async def _read(self, tenant: str, known: _Copy | None, now: int) -> _Copy:
        """The copy that is known, where nothing has changed since it was read: fifty thousand users take a while."""
        async with self._admin.reading() as transaction:
            set_up = await transaction.set_up(tenant)
            if known is not None and known.set_up == set_up and now - known.read_at < WHOLE_MS:
                return known
            queues = await _all(transaction, Queue, tenant)
            users = await _all(transaction, User, tenant)
            entry_points = await _all(transaction, EntryPointRecord, tenant)
            dispositions = await _all(transaction, Disposition, tenant)
            break_reasons = await _all(transaction, BreakReason, tenant)
        queue_list, agent_list = tuple(map(_queue, queues)), tuple(map(_agent, users))
        return _Copy(
            read_at=now,
            set_up=set_up,
            queues={queue.queue_id: queue for queue in queue_list},
            queue_list=queue_list,
            agents={agent.user_id: agent for agent in agent_list},
            agent_list=agent_list,
            entry_points={entry.id: _entry_point(entry) for entry in entry_points},
            disposition_ids=frozenset(row.id for row in dispositions if row.active),
            break_reason_ids=frozenset(row.id for row in break_reasons if row.active),
        )


async def _all(transaction: StoredTransaction, kind: type[R], tenant: str) -> list[R]:
    found: list[R] = []
    after: tuple[int, str] | None = None
    while True:
        page = await transaction.page(kind, tenant, _PAGE, after)
        found.extend(page)
        if len(page) < _PAGE:
            return found
        after = (getattr(page[-1], "position", 0), page[-1].id)


def _levels(skills: tuple[SkillLevel, ...]) -> tuple[tuple[str, int], ...]:
    return tuple((skill.skill_id, skill.level) for skill in skills)


def _queue(queue: Queue) -> QueueConfig:
    return QueueConfig(
        queue_id=queue.id,
        tenant=queue.tenant,
        name=queue.name,
        skills=_levels(queue.skills),
        ring_timeout_s=queue.ring_timeout_s,
        wrap_up_s=queue.wrap_up_s,
        disposition_required=queue.disposition_required,
        record=queue.record,
        service_level_s=queue.service_level_s,
        active=queue.active,
        routing=queue.routing,
        life=queue.life,
    )


def _agent(user: User) -> AgentProfile:
    return AgentProfile(user.id, user.tenant, user.name, user.active, user.role, _levels(user.skills), user.capacity)


def _entry_point(entry: EntryPointRecord) -> EntryPoint:
    return EntryPoint(
        entry_point_id=entry.id,
        tenant=entry.tenant,
        key=entry.key,
        queue_id=entry.queue_id,
        name=entry.name,
        allowed_sites=entry.allowed_sites,
        active=entry.active,
    )
