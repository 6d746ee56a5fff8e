"""What admins do to skills, queues, entry points, dispositions and break reasons (users: users.py).

Every change reads: load, check the version, save, write the audit line, commit, tell the listeners. The version
check refuses an edit made on top of something older (`changed_meanwhile`), so that no admin undoes another unseen.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import structlog

from server.domain.administration import (
    KINDS,
    AuditEntry,
    BreakReason,
    Disposition,
    EntryPointRecord,
    Queue,
    R,
    Record,
    Skill,
    SkillLevel,
)
from server.domain.directory import AuthedUser
from server.domain.queue_life import Exit, QueueLife, life_to_json
from server.domain.queue_routing import QueueRouting, routing_to_json
from server.domain.requirements import Requirement, skills_of
from server.ids import new_id
from server.services.admin_ports import AdminListener, AdminRepository, AdminTransaction, Duplicate
from server.services.overflow import check_exit, check_overflow, overflowing_into
from server.services.ports import Clock
from server.services.refusals import Refused, invalid, not_found

# A choice list shorter than this never needs a page.
MAX_LABELS = 1000
MAX_QUEUES = 10_000
_SECRET_FIELDS = frozenset({"password_hash"})
L = TypeVar("L", Disposition, BreakReason)
log = structlog.get_logger()


class ChangeLog:
    """The part that all set-up changes share: versions, audit, listeners."""

    def __init__(self, repository: AdminRepository, clock: Clock, listeners: Sequence[AdminListener]) -> None:
        self.repository = repository
        self.clock = clock
        self._listeners = tuple(listeners)

    async def add(self, actor: AuthedUser, transaction: AdminTransaction, record: Record) -> None:
        """Raises Refused: login_taken, name_taken."""
        try:
            await transaction.add(record)
        except Duplicate as duplicate:
            raise _taken(duplicate) from None
        await self.audit(actor, transaction, "created", record, _shown(record))

    async def change(
        self,
        actor: AuthedUser,
        kind: type[R],
        record_id: str,
        version: int | None,
        edit: Callable[[AdminTransaction, R], Awaitable[R]],
    ) -> R:
        """Edit one record in one transaction; `version` None accepts any. A change that changes nothing is none.

        Raises Refused: not_found, changed_meanwhile, name_taken, and what `edit` raises."""
        async with self.repository.writing() as transaction:
            record = await found(transaction, kind, actor.tenant, record_id)
            if version is not None and record.version != version:
                raise Refused("changed_meanwhile", "somebody else changed this; load it again")
            edited = await edit(transaction, record)
            if edited == record:
                return record
            edited = replace(edited, version=record.version + 1)
            try:
                saved = await transaction.save(edited)
            except Duplicate as duplicate:
                raise _taken(duplicate) from None
            if not saved:
                raise Refused("changed_meanwhile", "somebody else changed this; load it again")
            await self.audit(actor, transaction, "changed", edited, _difference(record, edited))
        await self.tell(edited)
        return edited

    async def audit(
        self,
        actor: AuthedUser,
        transaction: AdminTransaction,
        action: str,
        record: Record,
        detail: dict[str, object],
    ) -> None:
        await transaction.audit(
            AuditEntry(
                id=new_id("aud"),
                tenant=record.tenant,
                at=self.clock.now_ms(),
                actor_id=actor.user_id,
                action=action,
                kind=KINDS[type(record)],
                target_id=record.id,
                detail=detail,
            )
        )

    async def tell(self, record: Record) -> None:
        """Tell every listener; one that fails must not undo what is already committed, nor silence the others."""
        for listener in self._listeners:
            try:
                await listener(record.tenant, KINDS[type(record)], record.id)
            except Exception:
                log.exception("admin_listener_failed", kind=KINDS[type(record)], id=record.id)


class AdminService:
    """The use cases. Changes take the fields to change; pydantic models in signaling checked their types."""

    def __init__(self, changes: ChangeLog, exits: Collection[Exit] = (Exit.QUEUE,)) -> None:
        """`exits`: what the installation can do for sessions that a queue gives up."""
        self._changes = changes
        self._exits = exits
        self._repository = changes.repository

    async def page(self, actor: AuthedUser, kind: type[R], limit: int, after: tuple[int, str] | None) -> tuple[R, ...]:
        async with self._repository.reading() as transaction:
            return await transaction.page(kind, actor.tenant, limit, after)

    async def get(self, actor: AuthedUser, kind: type[R], record_id: str) -> R:
        """Raises Refused: not_found."""
        async with self._repository.reading() as transaction:
            return await found(transaction, kind, actor.tenant, record_id)

    # --- skills ---

    async def create_skill(self, actor: AuthedUser, name: str) -> Skill:
        return await self._create(actor, Skill(new_id("skl"), actor.tenant, name, 1))

    async def change_skill(self, actor: AuthedUser, skill_id: str, version: int, name: str) -> Skill:
        async def edit(_transaction: AdminTransaction, skill: Skill) -> Skill:
            return replace(skill, name=name)

        return await self._changes.change(actor, Skill, skill_id, version, edit)

    async def remove_skill(self, actor: AuthedUser, skill_id: str) -> None:
        """Raises Refused: not_found, in_use (with where)."""
        async with self._repository.writing() as transaction:
            skill = await found(transaction, Skill, actor.tenant, skill_id)
            where = await transaction.skill_users(actor.tenant, skill_id)
            where += await _queues_that_ask(transaction, actor.tenant, skill_id)
            if where:
                raise Refused("in_use", "queues or users have this skill", where=where)
            await transaction.remove(skill)
            await self._changes.audit(actor, transaction, "deleted", skill, _shown(skill))
        await self._changes.tell(skill)

    # --- queues ---

    async def create_queue(self, actor: AuthedUser, settings: Mapping[str, Any]) -> Queue:
        queue = Queue(id=new_id("que"), tenant=actor.tenant, active=True, version=1, **settings)
        return await self._create(actor, queue)

    async def change_queue(
        self, actor: AuthedUser, queue_id: str, version: int | None, settings: Mapping[str, Any]
    ) -> Queue:
        """Deactivating (`active` False) is refused with in_use while entry points lead to the queue, or others overflow
        into it. Raises Refused: also overflow_cycle, exit_unavailable."""

        async def edit(transaction: AdminTransaction, queue: Queue) -> Queue:
            edited = replace(queue, **settings)
            skills = await check_skills(transaction, actor.tenant, edited.skills)
            if edited.active:
                check_exit(edited, self._exits)
                await check_overflow(transaction, edited)
            elif queue.active:
                where = [("entry_point", name) for name in await transaction.entry_points_of(actor.tenant, queue_id)]
                where += [("queue", name) for name in await overflowing_into(transaction, queue)]
                if where:
                    raise Refused("in_use", "entry points or queues lead to this queue", where=tuple(where))
            return replace(edited, skills=skills)

        return await self._changes.change(actor, Queue, queue_id, version, edit)

    # --- entry points ---

    async def create_entry_point(
        self, actor: AuthedUser, settings: Mapping[str, Any], key: str | None = None
    ) -> EntryPointRecord:
        entry_point = EntryPointRecord(
            id=new_id("ept"),
            tenant=actor.tenant,
            key=key or f"wk_{secrets.token_hex(12)}",
            active=True,
            version=1,
            **settings,
        )
        return await self._create(actor, entry_point)

    async def change_entry_point(
        self, actor: AuthedUser, entry_point_id: str, version: int | None, settings: Mapping[str, Any]
    ) -> EntryPointRecord:
        async def edit(transaction: AdminTransaction, entry_point: EntryPointRecord) -> EntryPointRecord:
            edited = replace(entry_point, **settings)
            if edited.active:
                await _check_queue(transaction, actor.tenant, edited.queue_id)
            return edited

        return await self._changes.change(actor, EntryPointRecord, entry_point_id, version, edit)

    # --- dispositions and break reasons ---

    async def create_label(self, actor: AuthedUser, kind: type[L], name: str, position: int | None) -> L:
        """A disposition or break reason; without a position it comes last."""
        prefix = "dsp" if kind is Disposition else "brk"
        async with self._repository.writing() as transaction:
            if position is None:
                known = await transaction.page(kind, actor.tenant, MAX_LABELS)
                position = max((label.position for label in known), default=0) + 1
            label = kind(new_id(prefix), actor.tenant, name, position, True, 1)
            await self._changes.add(actor, transaction, label)
        await self._changes.tell(label)
        return label

    async def change_label(
        self,
        actor: AuthedUser,
        kind: type[L],
        label_id: str,
        version: int | None,
        settings: Mapping[str, Any],
    ) -> L:
        async def edit(_transaction: AdminTransaction, label: L) -> L:
            return replace(label, **settings)

        return await self._changes.change(actor, kind, label_id, version, edit)

    async def _create(self, actor: AuthedUser, record: R) -> R:
        async with self._repository.writing() as transaction:
            if isinstance(record, Queue):
                await check_skills(transaction, actor.tenant, record.skills)
                check_exit(record, self._exits)
                await check_overflow(transaction, record)
            if isinstance(record, EntryPointRecord):
                await _check_queue(transaction, actor.tenant, record.queue_id)
            await self._changes.add(actor, transaction, record)
        await self._changes.tell(record)
        return record


async def found(transaction: AdminTransaction, kind: type[R], tenant: str, record_id: str) -> R:
    """The record. Raises Refused: not_found, also for another tenant's."""
    record = await transaction.get(kind, tenant, record_id)
    if record is None:
        raise not_found(KINDS[kind])
    return record


async def check_skills(
    transaction: AdminTransaction, tenant: str, skills: Sequence[SkillLevel]
) -> tuple[SkillLevel, ...]:
    """The skills in the order in which they are stored. Raises Refused: invalid, when one is unknown or named twice."""
    seen: set[str] = set()
    for index, skill in enumerate(skills):
        loc = f"skills.{index}.skill_id"
        if skill.skill_id in seen:
            raise invalid(loc, "duplicate", "this skill is named twice")
        seen.add(skill.skill_id)
        if await transaction.get(Skill, tenant, skill.skill_id) is None:
            raise invalid(loc, "unknown_skill", "no such skill")
    return tuple(sorted(skills, key=lambda skill: skill.skill_id))


async def _queues_that_ask(transaction: AdminTransaction, tenant: str, skill_id: str) -> tuple[tuple[str, str], ...]:
    """Active queues whose requirements name a skill, apart from those whose lists do."""
    return tuple(
        ("queue", queue.name)
        for queue in await transaction.page(Queue, tenant, MAX_QUEUES)
        if queue.active
        and all(level.skill_id != skill_id for level in queue.skills)
        and any(skill_id in skills_of(asked) for asked in _asks(queue.routing))
    )


def _asks(routing: QueueRouting) -> tuple[Requirement, ...]:
    return (routing.requirement, *(step.requirement for step in routing.steps))


async def _check_queue(transaction: AdminTransaction, tenant: str, queue_id: str) -> None:
    queue = await transaction.get(Queue, tenant, queue_id)
    if queue is None or not queue.active:
        raise invalid("queue_id", "unknown_queue", "no such active queue")


def _taken(duplicate: Duplicate) -> Refused:
    return Refused(f"{duplicate.field}_taken", f"this {duplicate.field} is taken")


def _plain(value: object) -> object:
    if isinstance(value, SkillLevel):
        return [value.skill_id, value.level]
    if isinstance(value, QueueRouting):
        return routing_to_json(value)
    if isinstance(value, QueueLife):
        return life_to_json(value)
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _shown(record: Record) -> dict[str, object]:
    """A record for the audit log, without what is secret."""
    hidden = _SECRET_FIELDS | {"id", "tenant", "version"}
    return {part.name: _plain(getattr(record, part.name)) for part in fields(record) if part.name not in hidden}


def _difference(before: Record, after: Record) -> dict[str, object]:
    old, new = _shown(before), _shown(after)
    return {name: [old[name], new[name]] for name in old if old[name] != new[name]}
