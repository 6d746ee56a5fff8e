"""What a queue asks for in vain: worth a warning when it is saved, and no fault, for people are hired later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from server.domain.directory import AgentProfile, QueueConfig
from server.domain.requirements import AllOf, AnyOf, Not, Requirement, SkillLevels, meets


@dataclass(frozen=True, slots=True)
class Vain:
    """`step` 0 is what the queue asks at first. `skill_id` None: nobody meets the whole of it."""

    step: int
    skill_id: str | None = None
    level: int = 0


def asked_in_vain(queue: QueueConfig, profiles: Iterable[AgentProfile]) -> list[Vain]:
    """Skills that no active agent has as asked, and requirements that no active agent meets."""
    active = [profile for profile in profiles if profile.active]
    found: list[Vain] = []
    for step, asked in enumerate(queue.asks):
        missing = [
            Vain(step, skill.skill_id, skill.low)
            for skill in _wanted(asked)
            if not any(profile.level(skill.skill_id) >= skill.low for profile in active)
        ]
        found += missing
        if not missing and not any(meets(asked, profile.level) for profile in active):
            found.append(Vain(step))
    return found


def _wanted(requirement: Requirement) -> Iterator[SkillLevels]:
    """The skills that somebody is to have; what stands under `not` is not wanted."""
    match requirement:
        case SkillLevels(_, low) if low > 0:
            yield requirement
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from _wanted(part)
        case SkillLevels() | Not():
            return
