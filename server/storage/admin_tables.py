"""Tables that admins edit, and logins. The ORM's classes define them; server/storage/admin_repository.py reads and
writes them as the records of server/domain/administration.py. All times are UTC epoch milliseconds.

Names are unique among active rows only: a deactivated row keeps its name for history and does not block it.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from server.storage.runtime_tables import Json


def _time(**column: Any) -> Any:
    return Field(sa_type=sa.BigInteger, **column)


def _json() -> Any:
    return Field(sa_type=Json, sa_column_kwargs={"server_default": "{}"})


def _unique_among_active(name: str, *columns: str) -> sa.Index:
    return sa.Index(name, *columns, unique=True, sqlite_where=sa.text("active = 1"), postgresql_where=sa.text("active"))


class TenantRow(SQLModel, table=True):
    __tablename__ = "tenant"
    id: str = Field(primary_key=True, sa_type=sa.Text)
    name: str = Field(sa_type=sa.Text)
    created_at: int = _time()
    set_up: int = _time(default=0, sa_column_kwargs={"server_default": "0"})  # grows with each change of its set-up


class UserRow(SQLModel, table=True):
    __tablename__ = "user"
    id: str = Field(primary_key=True, sa_type=sa.Text)
    tenant: str = Field(foreign_key="tenant.id", index=True, sa_type=sa.Text)
    login: str = Field(unique=True, sa_type=sa.Text)  # across tenants: a tenant is found by login
    name: str = Field(sa_type=sa.Text)
    role: str = Field(sa_type=sa.Text)
    active: bool
    locale: str | None = Field(sa_type=sa.Text)
    password_hash: str = Field(sa_type=sa.Text)
    created_at: int = _time()
    version: int = Field(sa_type=sa.BigInteger)
    capacity: dict[str, Any] = _json()


class SkillRow(SQLModel, table=True):
    __tablename__ = "skill"
    __table_args__ = (sa.Index("skill_name", "tenant", "name", unique=True),)
    id: str = Field(primary_key=True, sa_type=sa.Text)
    tenant: str = Field(foreign_key="tenant.id", sa_type=sa.Text)
    name: str = Field(sa_type=sa.Text)
    version: int = Field(sa_type=sa.BigInteger)


class UserSkillRow(SQLModel, table=True):
    __tablename__ = "user_skill"
    user_id: str = Field(primary_key=True, foreign_key="user.id", ondelete="CASCADE", sa_type=sa.Text)
    skill_id: str = Field(primary_key=True, foreign_key="skill.id", ondelete="CASCADE", index=True, sa_type=sa.Text)
    level: int


class QueueRow(SQLModel, table=True):
    __tablename__ = "queue"
    __table_args__ = (_unique_among_active("queue_name", "tenant", "name"),)
    id: str = Field(primary_key=True, sa_type=sa.Text)
    tenant: str = Field(foreign_key="tenant.id", sa_type=sa.Text)
    name: str = Field(sa_type=sa.Text)
    ring_timeout_s: int
    wrap_up_s: int
    disposition_required: bool
    record: bool
    service_level_s: int
    active: bool
    version: int = Field(sa_type=sa.BigInteger)
    routing: dict[str, Any] = _json()  # server/domain/queue_routing.py
    life: dict[str, Any] = _json()  # server/domain/queue_life.py


class QueueSkillRow(SQLModel, table=True):
    __tablename__ = "queue_skill"
    queue_id: str = Field(primary_key=True, foreign_key="queue.id", ondelete="CASCADE", sa_type=sa.Text)
    skill_id: str = Field(primary_key=True, foreign_key="skill.id", ondelete="CASCADE", index=True, sa_type=sa.Text)
    level: int  # the least that an agent must have


class EntryPointRow(SQLModel, table=True):
    __tablename__ = "entry_point"
    __table_args__ = (_unique_among_active("entry_point_name", "tenant", "name"),)
    id: str = Field(primary_key=True, sa_type=sa.Text)
    tenant: str = Field(foreign_key="tenant.id", sa_type=sa.Text)
    name: str = Field(sa_type=sa.Text)
    kind: str = Field(sa_type=sa.Text)
    key: str = Field(unique=True, sa_type=sa.Text)
    queue_id: str = Field(foreign_key="queue.id", index=True, sa_type=sa.Text)
    allowed_sites: list[str] = Field(sa_type=Json)
    active: bool
    version: int = Field(sa_type=sa.BigInteger)


class DispositionRow(SQLModel, table=True):
    __tablename__ = "disposition"
    __table_args__ = (_unique_among_active("disposition_name", "tenant", "name"),)
    id: str = Field(primary_key=True, sa_type=sa.Text)
    tenant: str = Field(foreign_key="tenant.id", sa_type=sa.Text)
    name: str = Field(sa_type=sa.Text)
    position: int
    active: bool
    version: int = Field(sa_type=sa.BigInteger)


class BreakReasonRow(SQLModel, table=True):
    __tablename__ = "break_reason"
    __table_args__ = (_unique_among_active("break_reason_name", "tenant", "name"),)
    id: str = Field(primary_key=True, sa_type=sa.Text)
    tenant: str = Field(foreign_key="tenant.id", sa_type=sa.Text)
    name: str = Field(sa_type=sa.Text)
    position: int
    active: bool
    version: int = Field(sa_type=sa.BigInteger)


class LoginSessionRow(SQLModel, table=True):
    """A login. The cookie's token is not here, only its SHA-256: who reads the table can't use it."""

    __tablename__ = "login_session"
    token_hash: str = Field(primary_key=True, sa_type=sa.Text)
    tenant: str = Field(foreign_key="tenant.id", sa_type=sa.Text)
    user_id: str = Field(foreign_key="user.id", ondelete="CASCADE", index=True, sa_type=sa.Text)
    created_at: int = _time()
    expires_at: int = _time(index=True)


class AuditRow(SQLModel, table=True):
    """Append-only: triggers refuse to change or delete a row (migrations/versions)."""

    __tablename__ = "audit_log"
    __table_args__ = (sa.Index("audit_log_by_time", "tenant", "at"),)
    id: str = Field(primary_key=True, sa_type=sa.Text)
    tenant: str = Field(foreign_key="tenant.id", sa_type=sa.Text)
    at: int = _time()
    actor_id: str = Field(sa_type=sa.Text)
    action: str = Field(sa_type=sa.Text)
    kind: str = Field(sa_type=sa.Text)
    target_id: str = Field(sa_type=sa.Text)
    detail: dict[str, Any] = Field(sa_type=Json)


def table(row: type[SQLModel]) -> sa.Table:
    """The Core table of a row class."""
    found = SQLModel.metadata.tables[str(row.__tablename__)]
    assert isinstance(found, sa.Table)
    return found
