"""/login, /logout and /me."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import Field

from server.domain.directory import AuthedUser, Role
from server.services.auth import COOKIE
from server.services.passwords import MAX_PASSWORD_CHARS
from server.services.refusals import invalid
from server.signaling.access import ANYBODY, STAFF
from server.signaling.locales import choose_locale
from server.signaling.rest.endpoint import Call, Endpoint, Endpoints, Nothing
from server.signaling.rest.models import Locale, RestModel

Password = Annotated[str, Field(min_length=1, max_length=MAX_PASSWORD_CHARS)]


class Me(RestModel):
    user_id: str
    login: str
    name: str
    role: Role
    locale: str
    csrf: str
    tenant: str


class LogIn(RestModel):
    login: Annotated[str, Field(min_length=1, max_length=100)]
    password: Password


class LoggedInAnswer(RestModel):
    user: Me
    csrf: str


class PasswordChange(RestModel):
    old: Password
    new: Password


class MeChange(RestModel):
    locale: Locale | None = None
    password: PasswordChange | None = None


def me(user: AuthedUser, csrf: str, request: web.Request) -> Me:
    return Me(
        user_id=user.user_id,
        login=user.login,
        name=user.name,
        role=user.role,
        locale=choose_locale(user.locale, request),
        csrf=csrf,
        tenant=user.tenant,
    )


async def log_in(call: Call[LogIn, Nothing]) -> web.StreamResponse:
    fresh = await call.deps.auth.log_in(
        call.body.login, call.body.password, call.client.address, call.request.cookies.get(COOKIE)
    )
    answer = LoggedInAnswer(user=me(fresh.user, fresh.csrf, call.request), csrf=fresh.csrf)
    return _with_cookie(call, fresh.token, answer)


async def log_out(call: Call[Nothing, Nothing]) -> web.StreamResponse:
    await call.deps.auth.log_out(call.request.cookies[COOKIE])
    response = web.Response(status=204)
    response.del_cookie(COOKIE, path="/", httponly=True, samesite="Lax", secure=call.client.secure)
    return response


async def read_me(call: Call[Nothing, Nothing]) -> Me:
    return me(call.user, call.deps.auth.csrf(call.request.cookies[COOKIE]), call.request)


async def change_me(call: Call[MeChange, Nothing]) -> web.StreamResponse | Me:
    user, body = call.user, call.body
    if body.locale is None and body.password is None:
        raise invalid("", "nothing_to_change", "name locale or password")
    if body.locale is not None:
        user = await call.deps.auth.set_locale(user, body.locale)
    if body.password is None:
        return me(user, call.deps.auth.csrf(call.request.cookies[COOKIE]), call.request)
    fresh = await call.deps.auth.change_password(user, body.password.old, body.password.new, call.client.address)
    return _with_cookie(call, fresh.token, me(fresh.user, fresh.csrf, call.request))


def _with_cookie(call: Call[LogIn, Nothing] | Call[MeChange, Nothing], token: str, answer: RestModel) -> web.Response:
    response = web.Response(body=answer.model_dump_json().encode(), content_type="application/json")
    response.set_cookie(
        COOKIE,
        token,
        max_age=call.deps.auth.session_s,
        path="/",
        httponly=True,
        samesite="Lax",
        secure=call.client.secure,
    )
    return response


ENDPOINTS: Endpoints = (
    Endpoint(
        "POST",
        "/login",
        "Log in; sets the cookie",
        ANYBODY,
        log_in,
        body=LogIn,
        answer=LoggedInAnswer,
        codes=("bad_credentials", "csrf"),
    ),
    Endpoint("POST", "/logout", "Log out", STAFF, log_out, status=204),
    Endpoint("GET", "/me", "Who is logged in", STAFF, read_me, answer=Me),
    Endpoint(
        "PATCH",
        "/me",
        "Change one's own language or password; a new password ends all other logins",
        STAFF,
        change_me,
        body=MeChange,
        answer=Me,
    ),
)
