"""Users, skills, queues, entry points, dispositions, break reasons, logins and the audit log in the database.

The twin for fast tests is the same code over a SQLite file in a temporary folder.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, fields
from typing import Any, cast

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from server.domain.administration import (
    AuditEntry,
    BreakReason,
    Disposition,
    EntryPointRecord,
    LoginSession,
    Queue,
    R,
    Record,
    Skill,
    SkillLevel,
    User,
)
from server.domain.capacity import capacity_from_json, capacity_to_json
from server.domain.directory import Role
from server.domain.queue_life import life_from_json, life_to_json
from server.domain.queue_routing import routing_from_json, routing_to_json
from server.services.admin_ports import Duplicate
from server.storage import admin_tables as rows
from server.storage.engine import writing
from server.storage.faults import cause_of, translated
from server.storage.queue_rows import life_of, routing_of

TENANT = rows.table(rows.TenantRow)
USER = rows.table(rows.UserRow)
SKILL = rows.table(rows.SkillRow)
QUEUE = rows.table(rows.QueueRow)
ENTRY_POINT = rows.table(rows.EntryPointRow)
DISPOSITION = rows.table(rows.DispositionRow)
BREAK_REASON = rows.table(rows.BreakReasonRow)
USER_SKILL = rows.table(rows.UserSkillRow)
QUEUE_SKILL = rows.table(rows.QueueSkillRow)
LOGIN_SESSION = rows.table(rows.LoginSessionRow)
AUDIT = rows.table(rows.AuditRow)

_TABLES: dict[type[Record], sa.Table] = {
    User: USER,
    Skill: SKILL,
    Queue: QUEUE,
    EntryPointRecord: ENTRY_POINT,
    Disposition: DISPOSITION,
    BreakReason: BREAK_REASON,
}
# Where the skills of a kind are, and the column that names their owner.
_SKILLS: dict[type[Record], tuple[sa.Table, sa.Column[str]]] = {
    User: (USER_SKILL, USER_SKILL.c.user_id),
    Queue: (QUEUE_SKILL, QUEUE_SKILL.c.queue_id),
}


class StoredAdmin:
    """`AdminRepository` over a database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._reading = engine
        self._writing = writing(engine)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[StoredTransaction]:
        with translated():
            async with self._reading.begin() as connection:
                yield StoredTransaction(connection)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[StoredTransaction]:
        with translated():
            async with self._writing.begin() as connection:
                yield StoredTransaction(connection)


class StoredTransaction:
    """`AdminTransaction` over one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    # --- records of every kind ---

    async def get(self, kind: type[R], tenant: str, record_id: str) -> R | None:
        table = _TABLES[kind]
        found = await self._records(kind, sa.select(table).where(table.c.tenant == tenant, table.c.id == record_id))
        return found[0] if found else None

    async def page(self, kind: type[R], tenant: str, limit: int, after: tuple[int, str] | None = None) -> tuple[R, ...]:
        table = _TABLES[kind]
        position = table.c.position if "position" in table.c else sa.literal(0)
        query = sa.select(table).where(table.c.tenant == tenant).order_by(position, table.c.id).limit(limit)
        if after is not None:
            query = query.where(sa.or_(position > after[0], sa.and_(position == after[0], table.c.id > after[1])))
        return tuple(await self._records(kind, query, readable=True))

    async def add(self, record: Record) -> None:
        table = _TABLES[type(record)]
        await self._execute_unique(sa.insert(table).values(**_columns(record)))
        await self._add_skills(record)
        await self._count(record.tenant)

    async def save(self, record: Record) -> bool:
        table = _TABLES[type(record)]
        values = {name: value for name, value in _columns(record).items() if name not in ("id", "tenant")}
        changed = await self._execute_unique(
            sa.update(table)
            .where(table.c.tenant == record.tenant, table.c.id == record.id)
            .where(table.c.version == record.version - 1)
            .values(**values)
        )
        if changed.rowcount == 0:
            return False
        if type(record) in _SKILLS:
            skills, owner = _SKILLS[type(record)]
            await self._connection.execute(sa.delete(skills).where(owner == record.id))
            await self._add_skills(record)
        await self._count(record.tenant)
        return True

    async def remove(self, record: Record) -> None:
        table = _TABLES[type(record)]
        await self._connection.execute(sa.delete(table).where(table.c.tenant == record.tenant, table.c.id == record.id))
        await self._count(record.tenant)

    async def _count(self, tenant: str) -> None:
        """Whoever keeps a copy of the set-up sees that it is old."""
        await self._connection.execute(
            sa.update(TENANT).where(TENANT.c.id == tenant).values(set_up=TENANT.c.set_up + 1)
        )

    async def _records(self, kind: type[R], query: sa.Select[Any], *, readable: bool = False) -> list[R]:
        """`readable`: a row with parts that this version does not understand is read all the same (queue_rows.py)."""
        found = (await self._connection.execute(query)).mappings().all()
        skills = await self._skills_of(kind, [row["id"] for row in found])
        return [cast(R, _record(kind, row, skills.get(row["id"], ()), readable)) for row in found]

    async def _skills_of(self, kind: type[Record], ids: Sequence[str]) -> dict[str, tuple[SkillLevel, ...]]:
        if kind not in _SKILLS or not ids:
            return {}
        table, owner = _SKILLS[kind]
        query = sa.select(owner, table.c.skill_id, table.c.level).where(owner.in_(ids)).order_by(table.c.skill_id)
        found: dict[str, tuple[SkillLevel, ...]] = {}
        for owner_id, skill_id, level in await self._connection.execute(query):
            found[owner_id] = (*found.get(owner_id, ()), SkillLevel(skill_id, level))
        return found

    async def _add_skills(self, record: Record) -> None:
        if isinstance(record, User | Queue) and record.skills:
            table, owner = _SKILLS[type(record)]
            await self._connection.execute(
                sa.insert(table),
                [{owner.name: record.id, "skill_id": skill.skill_id, "level": skill.level} for skill in record.skills],
            )

    async def _execute_unique(self, statement: sa.Insert | sa.Update) -> sa.CursorResult[Any]:
        try:
            async with self._connection.begin_nested():  # PostgreSQL could not go on after a failed statement
                return await self._connection.execute(statement)
        except IntegrityError as error:
            field = _taken(error)
            if field is None:
                raise
            raise Duplicate(field) from None

    # --- questions of the use cases ---

    async def set_up(self, tenant: str) -> int:
        """Grows with each change of the tenant's set-up; 0 for a tenant that is unknown."""
        return (await self._connection.execute(sa.select(TENANT.c.set_up).where(TENANT.c.id == tenant))).scalar() or 0

    async def add_tenant(self, tenant: str, name: str, at: int) -> None:
        insert = postgresql_insert if self._connection.dialect.name == "postgresql" else sqlite_insert
        await self._connection.execute(
            insert(TENANT).values(id=tenant, name=name, created_at=at).on_conflict_do_nothing()
        )

    async def user_by_login(self, login: str) -> User | None:
        found = await self._records(User, sa.select(USER).where(USER.c.login == login))
        return found[0] if found else None

    async def active_admins(self, tenant: str) -> tuple[str, ...]:
        query = sa.select(USER.c.id).where(USER.c.tenant == tenant, USER.c.role == Role.ADMIN.value, USER.c.active)
        return tuple((await self._connection.execute(query.with_for_update())).scalars())

    async def skill_users(self, tenant: str, skill_id: str) -> tuple[tuple[str, str], ...]:
        queues = (
            sa.select(sa.literal("queue"), QUEUE.c.name)
            .join(QUEUE_SKILL, QUEUE_SKILL.c.queue_id == QUEUE.c.id)
            .where(QUEUE.c.tenant == tenant, QUEUE_SKILL.c.skill_id == skill_id, QUEUE.c.active)
        )
        users = (
            sa.select(sa.literal("user"), USER.c.name)
            .join(USER_SKILL, USER_SKILL.c.user_id == USER.c.id)
            .where(USER.c.tenant == tenant, USER_SKILL.c.skill_id == skill_id, USER.c.active)
        )
        found = await self._connection.execute(sa.union_all(queues, users))
        return tuple((kind, name) for kind, name in found)

    async def entry_points_of(self, tenant: str, queue_id: str) -> tuple[str, ...]:
        query = sa.select(ENTRY_POINT.c.name).where(
            ENTRY_POINT.c.tenant == tenant, ENTRY_POINT.c.queue_id == queue_id, ENTRY_POINT.c.active
        )
        return tuple((await self._connection.execute(query)).scalars())

    async def audit(self, entry: AuditEntry) -> None:
        await self._connection.execute(sa.insert(AUDIT).values(**asdict(entry)))

    # --- logins ---

    async def add_login(self, login: LoginSession) -> None:
        await self._connection.execute(sa.insert(LOGIN_SESSION).values(**asdict(login)))

    async def login_session(self, token_hash: str) -> tuple[LoginSession, User] | None:
        query = sa.select(LOGIN_SESSION).where(LOGIN_SESSION.c.token_hash == token_hash)
        row = (await self._connection.execute(query)).mappings().first()
        if row is None:
            return None
        login = LoginSession(**row)
        user = await self.get(User, login.tenant, login.user_id)
        return None if user is None else (login, user)

    async def end_login(self, token_hash: str) -> None:
        await self._connection.execute(sa.delete(LOGIN_SESSION).where(LOGIN_SESSION.c.token_hash == token_hash))

    async def end_logins(self, user_id: str) -> None:
        await self._connection.execute(sa.delete(LOGIN_SESSION).where(LOGIN_SESSION.c.user_id == user_id))

    async def drop_expired_logins(self, now_ms: int) -> None:
        await self._connection.execute(sa.delete(LOGIN_SESSION).where(LOGIN_SESSION.c.expires_at <= now_ms))


def _columns(record: Record) -> dict[str, Any]:
    values = {part.name: getattr(record, part.name) for part in fields(record) if part.name != "skills"}
    if isinstance(record, EntryPointRecord):
        values["allowed_sites"] = list(record.allowed_sites)
    if isinstance(record, User):
        values["capacity"] = capacity_to_json(record.capacity)
    if isinstance(record, Queue):
        values |= {"routing": routing_to_json(record.routing), "life": life_to_json(record.life)}
    return values


def _record(kind: type[Record], row: Mapping[Any, Any], skills: tuple[SkillLevel, ...], readable: bool) -> Record:
    values: dict[str, Any] = dict(row)
    if kind in _SKILLS:
        values["skills"] = skills
    if kind is User:
        values |= {"role": Role(values["role"]), "capacity": capacity_from_json(values["capacity"])}
    if kind is Queue and readable:
        queue_id = values["id"]
        values |= {"routing": routing_of(queue_id, values["routing"]), "life": life_of(queue_id, values["life"])}
    elif kind is Queue:
        values |= {"routing": routing_from_json(values["routing"]), "life": life_from_json(values["life"])}
    if kind is EntryPointRecord:
        values["allowed_sites"] = tuple(values["allowed_sites"])
    return kind(**values)


def _taken(error: IntegrityError) -> str | None:
    """The field whose unique value is taken. PostgreSQL names the constraint or index (`user_login_key`,
    `queue_name`), SQLite the columns in its text (`UNIQUE constraint failed: queue.tenant, queue.name`)."""
    cause = cause_of(error)
    if isinstance(cause, asyncpg.UniqueViolationError):
        named = str(cause.constraint_name).removesuffix("_key").replace("_", " ")
    elif "UNIQUE" in str(cause):
        named = str(cause).replace(".", " ").replace(",", " ")
    else:
        return None
    field = named.split()[-1]
    return field if field in ("login", "name", "key") else None
