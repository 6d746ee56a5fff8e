"""The directory: who works here and which queues and entry points exist, as routing and sessions read it.

Plain values, read often and changed rarely. What the admin screens edit (with versions, logins and so on) is
in `administration.py`; these are its projections.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from server.domain.capacity import CAPACITY, Capacity
from server.domain.queue_life import LIFE, QueueLife
from server.domain.queue_routing import ROUTING, QueueRouting
from server.domain.requirements import AllOf, Requirement, SkillLevels, meets

DEFAULT_TENANT = "default"  # exists from the start; a tenant is found by login, widget key or number


class Role(StrEnum):
    """What a login may do. A supervisor sees everything and changes no set-up."""

    ADMIN = "admin"
    SUPERVISOR = "supervisor"
    AGENT = "agent"


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """A queue as routing sees it. `skills` are (skill_id, min_level 1–10); an agent needs all of them."""

    queue_id: str
    tenant: str
    name: str
    skills: tuple[tuple[str, int], ...]
    ring_timeout_s: int
    wrap_up_s: int  # 0: no wrap-up
    disposition_required: bool
    record: bool
    service_level_s: int
    active: bool
    routing: QueueRouting = ROUTING
    life: QueueLife = LIFE

    @property
    def asks(self) -> tuple[Requirement, ...]:
        """What is asked of an agent: at first, and from each relaxing step on."""
        listed = tuple(SkillLevels(skill_id, level) for skill_id, level in self.skills)
        asked = (*listed, self.routing.requirement) if self.routing.requirement != AllOf(()) else listed
        first = asked[0] if len(asked) == 1 else AllOf(asked)
        return (first, *(step.requirement for step in self.routing.steps))

    def serves(self, profile: AgentProfile) -> bool:
        """True when the agent is active and may get a session of the queue now or after some waiting."""
        return profile.active and any(meets(asked, profile.level) for asked in self.asks)


@dataclass(frozen=True, slots=True)
class AgentProfile:
    """A user as routing sees one, whatever the role. `skills` are (skill_id, level 1–10)."""

    user_id: str
    tenant: str
    name: str
    active: bool
    role: Role
    skills: tuple[tuple[str, int], ...]
    capacity: Capacity = CAPACITY

    def level(self, skill_id: str) -> int:
        """The level in a skill, 0 without it."""
        for known, level in self.skills:  # a plain loop: it runs for each agent and each requirement
            if known == skill_id:
                return level
        return 0


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """Where sessions arrive. `allowed_sites` are origins (`https://shop.example`) that may embed it."""

    entry_point_id: str
    tenant: str
    key: str
    queue_id: str
    name: str
    allowed_sites: tuple[str, ...]
    active: bool


@dataclass(frozen=True, slots=True)
class AuthedUser:
    """Who a valid login cookie belongs to."""

    tenant: str
    user_id: str
    login: str
    name: str
    role: Role
    locale: str | None
