"""What admins edit: users, skills, queues, entry points, dispositions and break reasons, as plain records.

Each record carries `version`, which grows by one with each change: an edit that names an older version is
refused (`changed_meanwhile`). Records that history may point to are deactivated, not deleted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from server.domain.capacity import CAPACITY, Capacity
from server.domain.directory import Role
from server.domain.queue_life import LIFE, QueueLife
from server.domain.queue_routing import ROUTING, QueueRouting


@dataclass(frozen=True, slots=True)
class SkillLevel:
    """An agent's level in a skill, or the least level that a queue asks for: 1–10."""

    skill_id: str
    level: int


@dataclass(frozen=True, slots=True)
class User:
    id: str
    tenant: str
    login: str
    name: str
    role: Role
    active: bool
    locale: str | None
    password_hash: str
    skills: tuple[SkillLevel, ...]
    created_at: int
    version: int
    capacity: Capacity = CAPACITY


@dataclass(frozen=True, slots=True)
class Skill:
    id: str
    tenant: str
    name: str
    version: int


@dataclass(frozen=True, slots=True)
class Queue:
    id: str
    tenant: str
    name: str
    skills: tuple[SkillLevel, ...]
    ring_timeout_s: int
    wrap_up_s: int
    disposition_required: bool
    record: bool
    service_level_s: int
    active: bool
    version: int
    routing: QueueRouting = ROUTING
    life: QueueLife = LIFE


@dataclass(frozen=True, slots=True)
class EntryPointRecord:
    id: str
    tenant: str
    name: str
    kind: str  # widget
    key: str
    queue_id: str
    allowed_sites: tuple[str, ...]
    active: bool
    version: int


@dataclass(frozen=True, slots=True)
class Disposition:
    id: str
    tenant: str
    name: str
    position: int
    active: bool
    version: int


@dataclass(frozen=True, slots=True)
class BreakReason:
    id: str
    tenant: str
    name: str
    position: int
    active: bool
    version: int


Record = User | Skill | Queue | EntryPointRecord | Disposition | BreakReason
R = TypeVar("R", User, Skill, Queue, EntryPointRecord, Disposition, BreakReason)

KINDS: dict[type[Record], str] = {
    User: "user",
    Skill: "skill",
    Queue: "queue",
    EntryPointRecord: "entry_point",
    Disposition: "disposition",
    BreakReason: "break_reason",
}


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the append-only audit log. `detail` names what changed, never a password or a hash."""

    id: str
    tenant: str
    at: int
    actor_id: str  # a user id, or "system"
    action: str  # created, changed, deactivated, deleted, password_reset, logged_in, …
    kind: str
    target_id: str
    detail: dict[str, object]


@dataclass(frozen=True, slots=True)
class LoginSession:
    """A login of one browser. Only the SHA-256 of its random token is kept."""

    token_hash: str
    tenant: str
    user_id: str
    created_at: int
    expires_at: int
