"""/queues: where sessions wait."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from server.domain.administration import Queue, SkillLevel
from server.signaling.access import ADMINS, STAFF
from server.signaling.rest.endpoint import Call, Endpoint, Endpoints, Nothing
from server.signaling.rest.models import (
    Id,
    Name,
    Page,
    PageQuery,
    RestModel,
    Version,
    given,
)
from server.signaling.rest.queue_life import QueueLifeModel, life_of, life_view
from server.signaling.rest.queue_routing import RoutingModel, Warning, routing_model, routing_of, skill_names, warnings
from server.signaling.rest.record_page import record_page
from server.signaling.rest.users import MAX_SKILLS, Level

RingTimeout = Annotated[int, Field(ge=5, le=120, description="seconds until an offer moves on")]
WrapUp = Annotated[int, Field(ge=0, le=600, description="seconds; 0: no wrap-up")]
ServiceLevel = Annotated[int, Field(ge=1, le=3600, description="seconds to answer within")]


class QueueSkill(RestModel):
    skill_id: Id
    min_level: Level


QueueSkills = Annotated[list[QueueSkill], Field(max_length=MAX_SKILLS)]


class QueueView(RestModel):
    queue_id: str
    name: str
    skills: list[QueueSkill]
    ring_timeout_s: int
    wrap_up_s: int
    disposition_required: bool
    record: bool
    service_level_s: int
    life: QueueLifeModel
    routing: RoutingModel
    active: bool
    version: int
    warnings: list[Warning] | None = Field(default=None, description="what is asked in vain; null in lists")


class QueueCreate(RestModel):
    name: Name
    skills: QueueSkills = Field(default_factory=list)
    ring_timeout_s: RingTimeout = 20
    wrap_up_s: WrapUp = 60
    disposition_required: bool = True
    record: bool = True
    service_level_s: ServiceLevel = 20
    life: QueueLifeModel = Field(default_factory=QueueLifeModel)
    routing: RoutingModel = Field(default_factory=RoutingModel)


class QueueChange(RestModel):
    version: Version
    name: Name | None = None
    skills: QueueSkills | None = None
    ring_timeout_s: RingTimeout | None = None
    wrap_up_s: WrapUp | None = None
    disposition_required: bool | None = None
    record: bool | None = None
    service_level_s: ServiceLevel | None = None
    life: QueueLifeModel | None = None
    routing: RoutingModel | None = Field(default=None, description="all of it: what is left out gets its default")
    active: bool | None = None


def view(queue: Queue, names: Mapping[str, str]) -> QueueView:
    return QueueView(
        queue_id=queue.id,
        name=queue.name,
        skills=[QueueSkill(skill_id=skill.skill_id, min_level=skill.level) for skill in queue.skills],
        ring_timeout_s=queue.ring_timeout_s,
        wrap_up_s=queue.wrap_up_s,
        disposition_required=queue.disposition_required,
        record=queue.record,
        service_level_s=queue.service_level_s,
        life=life_view(queue.life),
        routing=routing_model(queue.routing, names),
        active=queue.active,
        version=queue.version,
    )


def _levels(skills: list[QueueSkill]) -> tuple[SkillLevel, ...]:
    return tuple(SkillLevel(skill.skill_id, skill.min_level) for skill in skills)


async def _whole(call: Call[Any, Any], queue: Queue, names: Mapping[str, str]) -> QueueView:
    profiles = await call.deps.directory.agents(call.user.tenant)
    return view(queue, names).model_copy(update={"warnings": warnings(queue, profiles, names)})


async def list_queues(call: Call[Nothing, PageQuery]) -> Page[QueueView]:
    names = await skill_names(call)
    return await record_page(call, Queue, lambda queue: view(queue, names))


async def create_queue(call: Call[QueueCreate, Nothing]) -> QueueView:
    names = await skill_names(call)
    settings = {name: getattr(call.body, name) for name in QueueCreate.model_fields}
    settings["skills"] = _levels(call.body.skills)
    settings["life"] = life_of(call.body.life)
    settings["routing"] = routing_of(call.body.routing, names)
    return await _whole(call, await call.deps.admin.create_queue(call.user, settings), names)


async def read_queue(call: Call[Nothing, Nothing]) -> QueueView:
    queue = await call.deps.admin.get(call.user, Queue, call.part("queue_id"))
    return await _whole(call, queue, await skill_names(call))


async def change_queue(call: Call[QueueChange, Nothing]) -> QueueView:
    names = await skill_names(call)
    changes = given(call.body)
    if call.body.skills is not None:
        changes["skills"] = _levels(call.body.skills)
    if call.body.life is not None:
        changes["life"] = life_of(call.body.life)
    if call.body.routing is not None:
        changes["routing"] = routing_of(call.body.routing, names)
    queue_id = call.part("queue_id")
    queue = await call.deps.admin.change_queue(call.user, queue_id, call.body.version, changes)
    return await _whole(call, queue, names)


async def deactivate_queue(call: Call[Nothing, Nothing]) -> None:
    await call.deps.admin.change_queue(call.user, call.part("queue_id"), None, {"active": False})


ENDPOINTS: Endpoints = (
    Endpoint("GET", "/queues", "List queues", STAFF, list_queues, query=PageQuery, answer=Page[QueueView]),
    Endpoint(
        "POST",
        "/queues",
        "Create a queue",
        ADMINS,
        create_queue,
        body=QueueCreate,
        answer=QueueView,
        status=201,
        codes=("name_taken", "overflow_cycle", "exit_unavailable"),
    ),
    Endpoint(
        "GET",
        "/queues/{queue_id}",
        "Read a queue",
        STAFF,
        read_queue,
        answer=QueueView,
        codes=("not_found",),
    ),
    Endpoint(
        "PATCH",
        "/queues/{queue_id}",
        "Change a queue",
        ADMINS,
        change_queue,
        body=QueueChange,
        answer=QueueView,
        codes=("not_found", "changed_meanwhile", "name_taken", "in_use", "overflow_cycle", "exit_unavailable"),
    ),
    Endpoint(
        "DELETE",
        "/queues/{queue_id}",
        "Deactivate a queue that no active entry point or queue leads to",
        ADMINS,
        deactivate_queue,
        status=204,
        codes=("not_found", "in_use"),
    ),
)
