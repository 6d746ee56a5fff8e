"""How a queue picks agents and where it stands among other queues: what admins set, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from server.domain.requirements import ANYONE, Requirement, from_json, to_json
from server.domain.setting import whole

TOP_PRIORITY, PRIORITY, LAST_PRIORITY = 1, 5, 10
WEIGHT = 10


class Strategy(StrEnum):
    """Which of the agents who may take a session is asked first."""

    LONGEST_IDLE = "longest_idle"
    LEAST_OCCUPIED = "least_occupied"  # (on contact + wrap-up) ÷ (on contact + wrap-up + ready) since login
    BEST_SKILL = "best_skill"  # the sum of the levels in the skills that are asked for, then idle time
    FEWEST_SESSIONS = "fewest_sessions"  # answered since midnight in the queue's time zone, then idle time
    ROUND_ROBIN = "round_robin"  # whose last offer is the oldest
    RING_ALL = "ring_all"  # all of them at once, longest idle first; who accepts first gets it


@dataclass(frozen=True, slots=True)
class RelaxStep:
    """From `after_s` seconds of waiting on, this is asked instead of what was before."""

    after_s: int
    requirement: Requirement


@dataclass(frozen=True, slots=True)
class QueueRouting:
    """`requirement` is asked beside the queue's list of skills, until the first step replaces both. `priority` is the
    one that sessions enter with, 1 the most urgent; with `grow_s` it improves by one for each such span of waiting,
    evenly. A queue of a higher `weight` is served first, whatever waits in others. `sticky_s`: for so long the agent
    whom the customer last had is waited for. In wrap-up the agent may take `wrap_up_extend_s` more, so many times as
    `wrap_up_extensions` says."""

    strategy: Strategy = Strategy.LONGEST_IDLE
    requirement: Requirement = ANYONE
    steps: tuple[RelaxStep, ...] = ()
    priority: int = PRIORITY
    grow_s: int = 0
    weight: int = WEIGHT
    sticky_s: int = 0
    time_zone: str = "UTC"
    wrap_up_extend_s: int = 60
    wrap_up_extensions: int = 1


ROUTING = QueueRouting()


def routing_to_json(routing: QueueRouting) -> dict[str, object]:
    """What differs from the defaults, so that an old row and a new one read alike."""
    whole: dict[str, object] = {
        "strategy": routing.strategy.value,
        "requirement": to_json(routing.requirement),
        "steps": [[step.after_s, to_json(step.requirement)] for step in routing.steps],
        "priority": routing.priority,
        "grow_s": routing.grow_s,
        "weight": routing.weight,
        "sticky_s": routing.sticky_s,
        "time_zone": routing.time_zone,
        "wrap_up_extend_s": routing.wrap_up_extend_s,
        "wrap_up_extensions": routing.wrap_up_extensions,
    }
    return whole if routing != ROUTING else {}


def routing_from_json(value: Mapping[str, Any]) -> QueueRouting:
    if not value:
        return ROUTING
    return QueueRouting(
        strategy=Strategy(value["strategy"]),
        requirement=from_json(value["requirement"]),
        steps=tuple(RelaxStep(whole(after_s), from_json(asked)) for after_s, asked in value["steps"]),
        priority=whole(value["priority"]),
        grow_s=whole(value["grow_s"]),
        weight=whole(value["weight"]),
        sticky_s=whole(value["sticky_s"]),
        time_zone=value["time_zone"],
        wrap_up_extend_s=whole(value["wrap_up_extend_s"]),
        wrap_up_extensions=whole(value["wrap_up_extensions"]),
    )
