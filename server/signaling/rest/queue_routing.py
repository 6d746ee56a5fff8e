"""The `routing` of a queue in the API: requirements are texts with the names of skills (domain/requirements.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import Field

from server.domain.administration import Queue, Skill
from server.domain.directory import AgentProfile, QueueConfig
from server.domain.queue_check import asked_in_vain
from server.domain.queue_routing import LAST_PRIORITY, PRIORITY, TOP_PRIORITY, WEIGHT, QueueRouting, RelaxStep, Strategy
from server.domain.requirements import MAX_LENGTH, Requirement, RequirementFault, parse, write
from server.services.refusals import invalid
from server.signaling.rest.endpoint import Call
from server.signaling.rest.models import RestModel

MAX_STEPS = 10
MAX_SKILLS_READ = 10_000
# One longer than allowed passes here: the parser tells the column.
Text = Annotated[
    str,
    Field(max_length=MAX_LENGTH + 1, description="`english >= 5 and (billing or refunds)`; empty or `anyone`: anyone"),
]


class StepModel(RestModel):
    after_s: Annotated[int, Field(ge=1, le=86_400, description="seconds of waiting")]
    requirement: Text


class RoutingModel(RestModel):
    """`requirement` is asked beside `skills`, until the first step replaces both."""

    strategy: Annotated[Strategy, Field(strict=False)] = Strategy.LONGEST_IDLE
    requirement: Text = ""
    steps: Annotated[list[StepModel], Field(max_length=MAX_STEPS)] = Field(default_factory=list)
    priority: Annotated[int, Field(ge=TOP_PRIORITY, le=LAST_PRIORITY, description="1 is the most urgent")] = PRIORITY
    grow_s: Annotated[
        int, Field(ge=0, le=3_600, description="seconds of waiting that improve the priority by one; 0: never")
    ] = 0
    weight: Annotated[int, Field(ge=0, le=100, description="the queue of the higher weight goes first")] = WEIGHT
    sticky_s: Annotated[
        int, Field(ge=0, le=600, description="seconds to wait for the agent whom the customer last had; 0: none")
    ] = 0
    time_zone: Annotated[str, Field(max_length=64, description="IANA name; where today begins")] = "UTC"
    wrap_up_extend_s: Annotated[int, Field(ge=10, le=600, description="seconds that an agent may add")] = 60
    wrap_up_extensions: Annotated[int, Field(ge=0, le=5, description="how often; 0: never")] = 1


class Warning(RestModel):
    """`code`: skill_nobody_has (no active user has `skill` at `level`), nobody_fits (none meets the whole step)."""

    code: str
    step: int
    skill: str | None = None
    level: int | None = None


async def skill_names(call: Call[Any, Any]) -> dict[str, str]:
    """The tenant's skills: names by id."""
    skills = await call.deps.admin.page(call.user, Skill, MAX_SKILLS_READ, None)
    return {skill.id: skill.name for skill in skills}


def routing_model(routing: QueueRouting, names: Mapping[str, str]) -> RoutingModel:
    return RoutingModel(
        strategy=routing.strategy,
        requirement=_text(routing.requirement, names),
        steps=[StepModel(after_s=s.after_s, requirement=_text(s.requirement, names)) for s in routing.steps],
        priority=routing.priority,
        grow_s=routing.grow_s,
        weight=routing.weight,
        sticky_s=routing.sticky_s,
        time_zone=routing.time_zone,
        wrap_up_extend_s=routing.wrap_up_extend_s,
        wrap_up_extensions=routing.wrap_up_extensions,
    )


def routing_of(model: RoutingModel, names: Mapping[str, str]) -> QueueRouting:
    """Raises Refused: invalid, with the field and what is wrong with it, and in a requirement the column."""
    ids = ids_of(names)
    steps: list[RelaxStep] = []
    for index, step in enumerate(model.steps):
        if steps and step.after_s <= steps[-1].after_s:
            raise invalid(f"routing.steps.{index}.after_s", "not_ascending", "a step comes later than the one before")
        asked = parsed(step.requirement, ids, f"routing.steps.{index}.requirement")
        steps.append(RelaxStep(step.after_s, asked))
    _check_zone(model.time_zone)
    return QueueRouting(
        strategy=model.strategy,
        requirement=parsed(model.requirement, ids, "routing.requirement"),
        steps=tuple(steps),
        priority=model.priority,
        grow_s=model.grow_s,
        weight=model.weight,
        sticky_s=model.sticky_s,
        time_zone=model.time_zone,
        wrap_up_extend_s=model.wrap_up_extend_s,
        wrap_up_extensions=model.wrap_up_extensions,
    )


def warnings(queue: Queue, profiles: tuple[AgentProfile, ...], names: Mapping[str, str]) -> list[Warning]:
    """What the queue asks for in vain. An inactive queue asks for nothing."""
    if not queue.active:
        return []
    config = QueueConfig(
        queue_id=queue.id,
        tenant=queue.tenant,
        name=queue.name,
        skills=tuple((skill.skill_id, skill.level) for skill in queue.skills),
        ring_timeout_s=queue.ring_timeout_s,
        wrap_up_s=queue.wrap_up_s,
        disposition_required=queue.disposition_required,
        record=queue.record,
        service_level_s=queue.service_level_s,
        active=True,
        routing=queue.routing,
    )
    return [
        Warning(code="nobody_fits", step=vain.step)
        if vain.skill_id is None
        else Warning(
            code="skill_nobody_has", step=vain.step, skill=names.get(vain.skill_id, vain.skill_id), level=vain.level
        )
        for vain in asked_in_vain(config, profiles)
    ]


def _text(requirement: Requirement, names: Mapping[str, str]) -> str:
    text = write(requirement, names)
    return "" if text == "anyone" else text


def ids_of(names: Mapping[str, str]) -> dict[str, str]:
    """Skill ids by casefolded name."""
    return {name.casefold(): skill_id for skill_id, name in names.items()}


def parsed(text: str, ids: Mapping[str, str], loc: str) -> Requirement:
    try:
        return parse(text, ids)
    except RequirementFault as fault:
        raise invalid(loc, fault.code, str(fault)) from None


def _check_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # a bad path, a folder's name, an unknown name
        raise invalid("routing.time_zone", "unknown_time_zone", "no such time zone") from None
