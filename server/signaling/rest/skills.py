"""/skills: what agents can do and queues ask for."""

from __future__ import annotations

from server.domain.administration import Skill
from server.signaling.access import ADMINS, STAFF
from server.signaling.rest.endpoint import Call, Endpoint, Endpoints, Nothing
from server.signaling.rest.models import Name, Page, PageQuery, RestModel, Version
from server.signaling.rest.record_page import record_page


class SkillView(RestModel):
    skill_id: str
    name: str
    version: int


class SkillCreate(RestModel):
    name: Name


class SkillChange(RestModel):
    version: Version
    name: Name


def view(skill: Skill) -> SkillView:
    return SkillView(skill_id=skill.id, name=skill.name, version=skill.version)


async def list_skills(call: Call[Nothing, PageQuery]) -> Page[SkillView]:
    return await record_page(call, Skill, view)


async def create_skill(call: Call[SkillCreate, Nothing]) -> SkillView:
    return view(await call.deps.admin.create_skill(call.user, call.body.name))


async def change_skill(call: Call[SkillChange, Nothing]) -> SkillView:
    body = call.body
    return view(await call.deps.admin.change_skill(call.user, call.part("skill_id"), body.version, body.name))


async def remove_skill(call: Call[Nothing, Nothing]) -> None:
    await call.deps.admin.remove_skill(call.user, call.part("skill_id"))


ENDPOINTS: Endpoints = (
    Endpoint("GET", "/skills", "List skills", STAFF, list_skills, query=PageQuery, answer=Page[SkillView]),
    Endpoint(
        "POST",
        "/skills",
        "Create a skill",
        ADMINS,
        create_skill,
        body=SkillCreate,
        answer=SkillView,
        status=201,
        codes=("name_taken",),
    ),
    Endpoint(
        "PATCH",
        "/skills/{skill_id}",
        "Rename a skill",
        ADMINS,
        change_skill,
        body=SkillChange,
        answer=SkillView,
        codes=("not_found", "changed_meanwhile", "name_taken"),
    ),
    Endpoint(
        "DELETE",
        "/skills/{skill_id}",
        "Delete a skill that no active queue or user has; `where` names those that do",
        ADMINS,
        remove_skill,
        status=204,
        codes=("not_found", "in_use"),
    ),
)
