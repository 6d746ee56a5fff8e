"""Logging in, staying in, and what ends it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path

import pytest
import sqlalchemy as sa

from server.domain.directory import Role
from server.services.auth import COOKIE, PER_LOGIN_AND_ADDRESS
from tests.helpers.rest_world import PASSWORD, URL, World, code, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def test_log_in_and_read_me(world: World) -> None:
    api = await world.browser()
    answer = await api.log_in("ANA")
    body = await answer.json()
    assert answer.status == 200
    assert (body["user"]["login"], body["user"]["role"], body["user"]["locale"]) == ("ana", "agent", "en")
    assert body["user"]["csrf"] == body["csrf"]
    assert await api.get("/api/v1/me") == body["user"]


async def test_cookie_flags_over_http(world: World) -> None:
    api = await world.browser()
    cookie = (await api.log_in("ana")).headers["Set-Cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/" in cookie
    assert "Max-Age=43200" in cookie
    assert "Secure" not in cookie


async def test_cookie_is_secure_behind_a_trusted_tls_proxy(tmp_path: Path) -> None:
    async with open_world(tmp_path, trusted_proxies=(ip_network("127.0.0.0/8"),)) as world:
        api = await world.browser()
        api.headers["X-Forwarded-Proto"] = "https"
        login = {"login": "ana", "password": PASSWORD}
        answer = await api.send("POST", "/api/v1/login", login, headers={"Origin": URL.replace("http", "https")})
        assert answer.status == 200
        assert "Secure" in answer.headers["Set-Cookie"]
        assert answer.headers["Strict-Transport-Security"].startswith("max-age=")


async def test_an_untrusted_proxy_is_not_believed(world: World) -> None:
    api = await world.browser()
    api.headers |= {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
    answer = await api.log_in("ana")
    assert "Secure" not in answer.headers["Set-Cookie"]
    assert "Strict-Transport-Security" not in answer.headers


@pytest.mark.parametrize(
    ("login", "password"), [("ana", "wrong password"), ("nobody", PASSWORD), ("ana", " " + PASSWORD)]
)
async def test_bad_credentials(world: World, login: str, password: str) -> None:
    api = await world.browser()
    answer = await api.log_in(login, password)
    assert (answer.status, await code(answer)) == (401, "bad_credentials")
    assert "Set-Cookie" not in answer.headers


async def test_a_login_rotates_the_token_and_ends_the_old_one(world: World) -> None:
    api = await world.browser()
    first = (await api.log_in("ana")).cookies[COOKIE].value
    second = (await api.log_in("ana")).cookies[COOKIE].value
    assert first != second
    assert await world.deps.auth.user_for_token(first) is None
    user = await world.deps.auth.user_for_cookie(f"a=b; {COOKIE}={second}")
    assert user is not None
    assert (user.login, user.role) == ("ana", Role.AGENT)


async def test_only_a_hash_of_the_token_is_stored(world: World) -> None:
    api = await world.browser()
    token = (await api.log_in("ana")).cookies[COOKIE].value
    async with world.engine.connect() as connection:
        hashes = list((await connection.execute(sa.text("SELECT token_hash FROM login_session"))).scalars())
    assert len(hashes) == 1
    assert token not in hashes[0]


async def test_log_out(world: World) -> None:
    api = await world.logged_in(Role.AGENT)
    answer = await api.send("POST", "/api/v1/logout", {})
    assert answer.status == 204
    assert answer.cookies[COOKIE]["max-age"] == "0"
    answer = await api.send("GET", "/api/v1/me")
    assert (answer.status, await code(answer)) == (401, "not_logged_in")


async def test_a_login_expires(world: World) -> None:
    api = await world.logged_in(Role.AGENT)
    world.clock.advance(12 * 3600 - 1)
    await api.get("/api/v1/me")
    world.clock.advance(2)
    await api.get("/api/v1/me", 401)
    assert (await api.log_in("ana")).status == 200
    async with world.engine.connect() as connection:
        left = await connection.execute(sa.text("SELECT count(*) FROM login_session"))
    assert left.scalar_one() == 1


@pytest.mark.parametrize("token", ["", "0" * 64, "not hex é"])
async def test_csrf_token_is_needed(world: World, token: str) -> None:
    api = await world.logged_in(Role.ADMIN)
    answer = await api.send(
        "POST", "/api/v1/skills", {"name": "x"}, headers={"X-CSRF-Token": token.encode().decode("latin-1")}
    )
    assert (answer.status, await code(answer)) == (403, "csrf")


async def test_another_logins_csrf_token_is_no_good(world: World) -> None:
    admin, supervisor = await world.logged_in(Role.ADMIN), await world.logged_in(Role.SUPERVISOR)
    admin.csrf = supervisor.csrf
    await admin.post("/api/v1/skills", {"name": "x"}, 403)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{URL}.evil.example", "http://cc.example"])
async def test_a_foreign_origin_is_refused(world: World, origin: str) -> None:
    api = await world.browser()
    login = {"login": "ana", "password": PASSWORD}
    answer = await api.send("POST", "/api/v1/login", login, headers={"Origin": origin})
    assert (answer.status, await code(answer)) == (403, "csrf")


async def test_login_attempts_are_limited_and_right_ones_are_not_counted(world: World) -> None:
    api = await world.browser()
    for _attempt in range(PER_LOGIN_AND_ADDRESS.burst + 5):
        assert (await api.log_in("ana")).status == 200
    for _attempt in range(PER_LOGIN_AND_ADDRESS.burst):
        assert (await api.log_in("ana", "wrong password")).status == 401
    answer = await api.log_in("ana")
    assert (answer.status, await code(answer)) == (429, "rate_limited")
    wait_s = int(answer.headers["Retry-After"])
    assert (await api.log_in("bo")).status == 200  # somebody else at the same place
    world.clock.advance(wait_s)
    assert (await api.log_in("ana")).status == 200


async def test_changing_the_password_ends_all_other_logins(world: World) -> None:
    here, there = await world.logged_in(Role.AGENT), await world.logged_in(Role.AGENT)
    new = "a much better one"
    answer = await here.send("PATCH", "/api/v1/me", {"password": {"old": PASSWORD, "new": new}})
    assert answer.status == 200
    here.csrf = (await answer.json())["csrf"]
    await there.get("/api/v1/me", 401)
    await here.patch("/api/v1/me", {"locale": "zh-CN"})
    assert (await there.log_in("ana")).status == 401
    assert (await there.log_in("ana", new)).status == 200


@pytest.mark.parametrize(
    ("old", "new", "loc", "fault"),
    [
        ("wrong one", "a much better one", "password.old", "bad_credentials"),
        (PASSWORD, "short", "password.new", "weak_password"),
        (PASSWORD, "ana-password", "password.new", "weak_password"),
        (PASSWORD, "aaaaaaaaaaaa", "password.new", "weak_password"),
    ],
)
async def test_a_password_change_that_is_refused(world: World, old: str, new: str, loc: str, fault: str) -> None:
    api = await world.logged_in(Role.AGENT)
    answer = await api.patch("/api/v1/me", {"password": {"old": old, "new": new}}, 422)
    assert answer["error"]["code"] == "invalid"
    assert [(field["loc"], field["code"]) for field in answer["error"]["fields"]] == [(loc, fault)]


async def test_locale_is_chosen_or_taken_from_the_browser(world: World) -> None:
    api = await world.logged_in(Role.AGENT)
    api.headers["Accept-Language"] = "de;q=0.9, zh-TW;q=0.8, en;q=x"
    assert (await api.get("/api/v1/me"))["locale"] == "zh-CN"
    assert (await api.patch("/api/v1/me", {"locale": "en"}))["locale"] == "en"
    assert (await api.get("/api/v1/me"))["locale"] == "en"
    await api.patch("/api/v1/me", {}, 422)


async def test_a_deactivated_user_is_out_at_once(world: World) -> None:
    admin, agent = await world.logged_in(Role.ADMIN), await world.logged_in(Role.AGENT)
    user = await world.user("ana")
    await admin.delete(f"/api/v1/users/{user.id}")
    await agent.get("/api/v1/me", 401)
    answer = await agent.log_in("ana")
    assert (answer.status, await code(answer)) == (401, "bad_credentials")
    await admin.patch(f"/api/v1/users/{user.id}", {"version": user.version + 1, "active": True})
    assert (await agent.log_in("ana")).status == 200


async def test_a_reset_password_works_once_told(world: World) -> None:
    admin, agent = await world.logged_in(Role.ADMIN), await world.logged_in(Role.AGENT)
    user = await world.user("ana")
    fresh = (await admin.post(f"/api/v1/users/{user.id}/password", {}, 200))["one_time_password"]
    await agent.get("/api/v1/me", 401)
    assert (await agent.log_in("ana")).status == 401
    assert (await agent.log_in("ana", fresh)).status == 200
    assert ("default", "user", user.id) in world.told
