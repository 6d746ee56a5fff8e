"""Who may do what: every route declares it, and the declaration is what happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from server.domain.directory import AuthedUser, Role
from server.services.rate_limits import Rate
from server.signaling.access import ACCESS, ADMINS, ANYBODY, STAFF, SUPERVISORS, declare
from server.signaling.rest.endpoint import PREFIX
from server.signaling.web import SOCKET_PATH, WebLimits, all_endpoints, build_web
from tests.helpers.rest_world import HOST, World, code, open_world

# Written by hand, not derived: a change of who may do what must be made twice.
MATRIX = {
    "POST /login": ANYBODY,
    "POST /logout": STAFF,
    "GET /me": STAFF,
    "PATCH /me": STAFF,
    "GET /users": SUPERVISORS,
    "POST /users": ADMINS,
    "GET /users/{user_id}": SUPERVISORS,
    "PATCH /users/{user_id}": ADMINS,
    "DELETE /users/{user_id}": ADMINS,
    "POST /users/{user_id}/password": ADMINS,
    "GET /agents": SUPERVISORS,
    "POST /agents/{user_id}/state": SUPERVISORS,
    "GET /skills": STAFF,
    "POST /skills": ADMINS,
    "PATCH /skills/{skill_id}": ADMINS,
    "DELETE /skills/{skill_id}": ADMINS,
    "GET /queues": STAFF,
    "POST /queues": ADMINS,
    "GET /queues/{queue_id}": STAFF,
    "PATCH /queues/{queue_id}": ADMINS,
    "DELETE /queues/{queue_id}": ADMINS,
    "GET /entry-points": ADMINS,
    "POST /entry-points": ADMINS,
    "PATCH /entry-points/{entry_point_id}": ADMINS,
    "DELETE /entry-points/{entry_point_id}": ADMINS,
    "GET /dispositions": STAFF,
    "POST /dispositions": ADMINS,
    "PATCH /dispositions/{disposition_id}": ADMINS,
    "DELETE /dispositions/{disposition_id}": ADMINS,
    "GET /break-reasons": STAFF,
    "POST /break-reasons": ADMINS,
    "PATCH /break-reasons/{break_reason_id}": ADMINS,
    "DELETE /break-reasons/{break_reason_id}": ADMINS,
    "GET /widget/{key}": ANYBODY,
    "POST /sessions": ANYBODY,
    "GET /sessions": STAFF,
    "GET /sessions/{session_id}": STAFF,
    "GET /sessions/{session_id}/routing": STAFF,
    "PATCH /sessions/{session_id}/routing": SUPERVISORS,
    "GET /recordings/{recording_id}": STAFF,
    "GET /recordings/{recording_id}/audio": STAFF,
    "HEAD /recordings/{recording_id}/audio": STAFF,
    "GET /reports/ewt": SUPERVISORS,
    "GET /transfer-targets": STAFF,
    "GET /reports/queues": SUPERVISORS,
    "POST /whatif": SUPERVISORS,
}
OPEN_ELSEWHERE = {
    "/api/v1/openapi.json",
    "/healthz",
    "/readyz",
    "/metrics",
    "/",
    "/login",
    "/widget.js",
    "/widget/frame",
    "/widget/call",
    "/demo/shop",
    "/demo/shop.css",
    "/icon.svg",
    "/static/{path}",
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def test_every_route_declares_its_access(world: World) -> None:
    app = build_web(replace(world.deps, registry=type(world.deps.registry)()))
    for route in app.router.routes():
        assert route.resource is not None
        method = "GET" if route.method == "HEAD" else route.method
        assert (method, route.resource.canonical) in app[ACCESS], f"{route.method} {route.resource.canonical}"


async def test_nothing_but_the_named_routes_is_open(world: World) -> None:
    app = build_web(replace(world.deps, registry=type(world.deps.registry)()))
    open_paths = {path for (_method, path), access in app[ACCESS].items() if access.roles is None}
    api_open = {PREFIX + key.split()[1] for key, access in MATRIX.items() if access is ANYBODY}
    assert open_paths == OPEN_ELSEWHERE | api_open | {SOCKET_PATH}


async def test_the_matrix_names_every_endpoint(world: World) -> None:
    assert {f"{one.method} {one.path}": one.access for one in all_endpoints(world.deps)} == MATRIX


@pytest.mark.parametrize("role", [None, *Role])
async def test_role_by_endpoint(world: World, role: Role | None) -> None:
    api = await world.browser() if role is None else await world.logged_in(role)
    for key, access in sorted(MATRIX.items(), key=lambda item: item[0] == "POST /logout"):
        method, path = key.split()
        path = PREFIX + path.replace("{", "").replace("}", "")
        answer = await api.send(method, path, None if method in ("GET", "HEAD") else {})
        if access.roles is None:
            assert answer.status not in (401, 403), key
        elif role is None:
            assert answer.status == 401, key
            assert method == "HEAD" or await code(answer) == "not_logged_in", key
        elif role in access.roles:
            assert answer.status not in (401, 403), key
        else:
            assert (answer.status, await code(answer)) == (403, "forbidden"), key


def test_an_unknown_role_may_do_nothing() -> None:
    stranger = AuthedUser("default", "usr_x", "x", "X", cast(Role, "auditor"), None)
    assert not any(access.allows(stranger) for access in (STAFF, SUPERVISORS, ADMINS))


async def test_a_route_without_access_is_refused_to_everybody(world: World) -> None:
    async def secret(_request: web.Request) -> web.Response:
        return web.Response(text="secret")

    app = build_web(replace(world.deps, registry=type(world.deps.registry)()))
    app.router.add_get("/api/v1/forgotten", secret)
    app.router.add_get("/api/v1/declared", secret)
    declare(app, "GET", "/api/v1/declared", ANYBODY)
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/api/v1/forgotten", headers={"Host": HOST})
        assert (answer.status, await code(answer)) == (403, "forbidden")
        assert (await client.get("/api/v1/declared", headers={"Host": HOST})).status == 200


async def test_unknown_paths_and_methods(world: World) -> None:
    api = await world.browser()
    answer = await api.send("GET", "/api/v1/nothing")
    assert (answer.status, await code(answer)) == (404, "not_found")
    answer = await api.send("PUT", "/api/v1/login", {})
    assert (answer.status, await code(answer)) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"
    answer = await api.send("GET", "/nothing", headers={"Accept": "text/html"})
    assert (answer.status, answer.content_type) == (404, "text/html")
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


async def test_a_socket_from_a_foreign_origin_is_refused(world: World) -> None:
    app = build_web(replace(world.deps, registry=type(world.deps.registry)()))

    async def socket(request: web.Request) -> web.StreamResponse:
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        await answer.close()
        return answer

    app.router.add_get(SOCKET_PATH, socket)
    async with TestClient(TestServer(app)) as client:
        own = {"Host": HOST, "Origin": f"http://{HOST}"}
        async with client.ws_connect(SOCKET_PATH, headers=own):
            pass
        upgrade = {
            "Host": HOST,
            "Origin": "https://evil.example",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
        }
        answer = await client.get(SOCKET_PATH, headers=upgrade)
        assert (answer.status, await code(answer)) == (403, "csrf")


async def test_requests_of_one_address_are_limited(tmp_path: Path) -> None:
    async with open_world(tmp_path, limits=WebLimits(all_requests=Rate(5, 60))) as world:
        api = await world.browser()
        for _request in range(5):
            await api.get("/healthz")
        answer = await api.send("GET", "/api/v1/me")
        assert (answer.status, await code(answer)) == (429, "rate_limited")
        assert int(answer.headers["Retry-After"]) == 12
        world.clock.advance(12)
        await api.get("/healthz")


async def test_a_fault_of_ours_is_a_500_without_details(world: World) -> None:
    class Broken:
        async def sessions(self, *_arguments: object) -> tuple[()]:
            raise RuntimeError("the password is hunter2")

    app = build_web(replace(world.deps, history=cast("object", Broken()), registry=type(world.deps.registry)()))  # type: ignore[arg-type]  # broken on purpose
    api = await world.logged_in(Role.ADMIN)
    async with TestClient(TestServer(app)) as client:
        cookies = {cookie.key: cookie.value for cookie in api.client.session.cookie_jar}
        answer = await client.get("/api/v1/sessions", headers={"Host": HOST}, cookies=cookies)
        assert (answer.status, await code(answer)) == (500, "internal")
        assert "hunter2" not in await answer.text()


async def test_a_database_that_is_away_is_a_503(world: World) -> None:
    api = await world.logged_in(Role.ADMIN)
    async with world.engine.begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE skill RENAME TO skill_away")
    answer = await api.send("GET", "/api/v1/skills")
    assert (answer.status, await code(answer)) == (503, "storage_unavailable")
    assert "Retry-After" in answer.headers


async def test_security_headers_are_on_every_answer(world: World) -> None:
    api = await world.browser()
    for path in ("/", "/login", "/api/v1/me", "/nothing", "/healthz", "/static/assets/core-abc.js"):
        headers = (await api.send("GET", path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["Referrer-Policy"] == "strict-origin-when-cross-origin", path
        assert "microphone=(self)" in headers["Permissions-Policy"], path
        assert "default-src 'none'" in headers["Content-Security-Policy"], path
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"], path
