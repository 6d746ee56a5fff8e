"""/users: who works here, and what they can do."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from server.domain.administration import SkillLevel, User
from server.domain.capacity import CAPACITY, CHANNELS, CHAT, EMAIL, MOST_AT_ONCE, VOICE, Capacity
from server.domain.directory import Role
from server.services.passwords import MAX_PASSWORD_CHARS
from server.services.users import LOGIN_PATTERN, NewUser
from server.signaling.access import ADMINS, SUPERVISORS
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
from server.signaling.rest.record_page import record_page

Login = Annotated[str, Field(pattern=LOGIN_PATTERN, min_length=1, max_length=64)]
Level = Annotated[int, Field(ge=1, le=10)]
MAX_SKILLS = 100


class UserSkill(RestModel):
    skill_id: Id
    level: Level


UserSkills = Annotated[list[UserSkill], Field(max_length=MAX_SKILLS)]


class ChannelCounts(RestModel):
    """How many sessions of each channel at once; 0: none of it."""

    voice: Annotated[int, Field(ge=0, le=MOST_AT_ONCE[VOICE])] = 0
    chat: Annotated[int, Field(ge=0, le=MOST_AT_ONCE[CHAT])] = 0
    email: Annotated[int, Field(ge=0, le=MOST_AT_ONCE[EMAIL])] = 0


ChannelName = Literal["voice", "chat", "email"]


class OnTop(RestModel):
    """A session of `channel` may come while one of `over` is held."""

    channel: ChannelName
    over: ChannelName

    @field_validator("over")
    @classmethod
    def _another(cls, over: str, info: ValidationInfo) -> str:
        if over == info.data.get("channel"):
            raise ValueError("another channel; how many of one at once is said in channels")
        return over


class UserCapacity(RestModel):
    """A session of another channel than those that are held comes only where `on_top` allows it over all of these."""

    channels: ChannelCounts
    on_top: Annotated[list[OnTop], Field(max_length=6)] = Field(default_factory=lambda: _on_top(CAPACITY))

    def value(self) -> Capacity:
        counts = tuple((channel, getattr(self.channels, channel)) for channel in CHANNELS)
        pairs = {(pair.channel, pair.over) for pair in self.on_top}
        return Capacity(tuple(pair for pair in counts if pair[1]), tuple(sorted(pairs)))


def _on_top(capacity: Capacity) -> list[OnTop]:
    return [OnTop.model_validate({"channel": channel, "over": over}) for channel, over in capacity.on_top]


def _capacity(capacity: Capacity) -> UserCapacity:
    return UserCapacity(channels=ChannelCounts(**dict(capacity.channels)), on_top=_on_top(capacity))


class UserView(RestModel):
    user_id: str
    login: str
    name: str
    role: Role
    active: bool
    skills: list[UserSkill]
    capacity: UserCapacity
    created_at: int
    version: int


class UserCreated(UserView):
    """`one_time_password` when none was given: shown once, never again."""

    one_time_password: str | None = None


class UserCreate(RestModel):
    login: Login
    name: Name
    role: Role
    password: Annotated[str, Field(max_length=MAX_PASSWORD_CHARS)] | None = None
    skills: UserSkills = Field(default_factory=list)
    capacity: UserCapacity | None = None


class UserChange(RestModel):
    version: Version
    login: Login | None = None
    name: Name | None = None
    role: Role | None = None
    active: bool | None = None
    skills: UserSkills | None = None
    capacity: UserCapacity | None = None


class OneTimePassword(RestModel):
    one_time_password: str


def view(user: User) -> UserView:
    return UserView(**_fields(user))


def _fields(user: User) -> dict[str, object]:
    return {
        "user_id": user.id,
        "login": user.login,
        "name": user.name,
        "role": user.role,
        "active": user.active,
        "skills": [UserSkill(skill_id=skill.skill_id, level=skill.level) for skill in user.skills],
        "capacity": _capacity(user.capacity),
        "created_at": user.created_at,
        "version": user.version,
    }


def _levels(skills: list[UserSkill]) -> tuple[SkillLevel, ...]:
    return tuple(SkillLevel(skill.skill_id, skill.level) for skill in skills)


async def list_users(call: Call[Nothing, PageQuery]) -> Page[UserView]:
    return await record_page(call, User, view)


async def create_user(call: Call[UserCreate, Nothing]) -> UserCreated:
    body = call.body
    capacity = body.capacity.value() if body.capacity is not None else CAPACITY
    new = NewUser(body.login, body.name, body.role, body.password, _levels(body.skills), capacity)
    user, made_up = await call.deps.users.create(call.user, new)
    return UserCreated(**_fields(user), one_time_password=made_up)


async def read_user(call: Call[Nothing, Nothing]) -> UserView:
    return view(await call.deps.admin.get(call.user, User, call.part("user_id")))


async def change_user(call: Call[UserChange, Nothing]) -> UserView:
    changes = given(call.body)
    if call.body.skills is not None:
        changes["skills"] = _levels(call.body.skills)
    if call.body.capacity is not None:
        changes["capacity"] = call.body.capacity.value()
    return view(await call.deps.users.change(call.user, call.part("user_id"), call.body.version, changes))


async def deactivate_user(call: Call[Nothing, Nothing]) -> None:
    await call.deps.users.deactivate(call.user, call.part("user_id"))


async def reset_password(call: Call[Nothing, Nothing]) -> OneTimePassword:
    fresh = await call.deps.users.reset_password(call.user, call.part("user_id"))
    return OneTimePassword(one_time_password=fresh)


_CHANGE_CODES = ("not_found", "changed_meanwhile", "login_taken", "last_admin")
ENDPOINTS: Endpoints = (
    Endpoint("GET", "/users", "List users", SUPERVISORS, list_users, query=PageQuery, answer=Page[UserView]),
    Endpoint(
        "POST",
        "/users",
        "Create a user",
        ADMINS,
        create_user,
        body=UserCreate,
        answer=UserCreated,
        status=201,
        codes=("login_taken",),
    ),
    Endpoint(
        "GET",
        "/users/{user_id}",
        "Read a user",
        SUPERVISORS,
        read_user,
        answer=UserView,
        codes=("not_found",),
    ),
    Endpoint(
        "PATCH",
        "/users/{user_id}",
        "Change a user; deactivating ends the user's logins",
        ADMINS,
        change_user,
        body=UserChange,
        answer=UserView,
        codes=_CHANGE_CODES,
    ),
    Endpoint(
        "DELETE",
        "/users/{user_id}",
        "Deactivate a user; history keeps the name",
        ADMINS,
        deactivate_user,
        status=204,
        codes=("not_found", "last_admin"),
    ),
    Endpoint(
        "POST",
        "/users/{user_id}/password",
        "Give a user a one-time password; the user's logins end",
        ADMINS,
        reset_password,
        answer=OneTimePassword,
        codes=("not_found",),
    ),
)
