"""Every endpoint with everything that can be wrong with a request: an error with a code, and never a 5xx.

What is sent is made from the OpenAPI document, so a new endpoint is swept from the day it is there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from aiohttp import ClientResponse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.domain.directory import Role
from server.services.rate_limits import Rate
from server.signaling.api_errors import STATUS
from server.signaling.rest.endpoint import MAX_BODY_BYTES
from server.signaling.web import WebLimits
from tests.helpers.fuzz import examples
from tests.helpers.rest_world import OTHER, PASSWORD, URL, Api, World, open_world

EXAMPLES = examples(250)
UNKNOWN_IDS = ("nobody", "usr_0", "x" * 64, "x" * 65, "x" * 4000, "..", "%2e%2e%2fetc", "%00", "a b", "é陈", "*", "-1")
CONTENT_TYPES = ("", "text/plain", "multipart/form-data", "application/xml", "application/json; charset=utf-16", "é")
BODIES: tuple[bytes, ...] = (
    b"", b"{", b"null", b"[]", b'"x"', b"1e999", b"{}" * 2, b"\xff\xfe", b'{"a":' * 5000, b"[" * 100_000,
    b'{"login":"\\ud800"}', b'{"version":1e400}', b'{"version":' + b"9" * 5000 + b"}", b'{"name":"\\u0000"}',
)  # fmt: skip


class Swept:
    """A world whose loop hypothesis, which is synchronous, can drive; one browser a role, and one without a login."""

    def __init__(self, loop: asyncio.AbstractEventLoop, browsers: dict[str, Api], operations: list[Operation]) -> None:
        self._loop, self.browsers, self.operations = loop, browsers, operations

    def send(self, who: str, method: str, path: str, **sent: Any) -> tuple[int, Any]:
        async def request() -> tuple[int, Any]:
            answer: ClientResponse = await self.browsers[who].send(method, path, **sent)
            return answer.status, await _json(answer)

        return self._loop.run_until_complete(request())


class Operation:
    """One method of one path, as the document describes it."""

    def __init__(self, path: str, method: str, described: dict[str, Any]) -> None:
        self.path, self.method = path, method.upper()
        parameters = described.get("parameters", [])
        self.parts = [one["name"] for one in parameters if one["in"] == "path"]
        self.query = [one["name"] for one in parameters if one["in"] == "query"]
        self.takes_body = "requestBody" in described
        self.fields = sorted(_fields(described))

    def __repr__(self) -> str:
        return f"{self.method} {self.path}"

    def filled(self, value: str) -> str:
        """The path with this in place of each id, as it is."""
        path = self.path
        for name in self.parts:
            path = path.replace("{" + name + "}", value)
        return path


def _fields(part: Any) -> set[str]:
    if isinstance(part, dict):
        own = set(part.get("properties", {})) if isinstance(part.get("properties"), dict) else set()
        return own.union(*(_fields(value) for value in part.values()))
    return set().union(*(_fields(value) for value in part)) if isinstance(part, list) else set()


async def _json(answer: ClientResponse) -> Any:
    text = await answer.text(errors="replace")
    return json.loads(text) if answer.content_type == "application/json" and text else None


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swept]:
    loop, stack, many = asyncio.new_event_loop(), AsyncExitStack(), Rate(1_000_000, 1)

    async def begin() -> Swept:
        folder: Path = tmp_path_factory.mktemp("swept")
        world: World = await stack.enter_async_context(open_world(folder, limits=WebLimits(many, many, many, many)))
        browsers = {role.value: await world.logged_in(role) for role in Role} | {"nobody": await world.browser()}
        browsers["stranger"] = await world.browser()  # an admin of another tenant
        assert (await browsers["stranger"].log_in("boss", PASSWORD)).status == 200
        document = await browsers["nobody"].get("/api/v1/openapi.json")
        operations = [
            Operation(path, method, _resolved(described, document))
            for path, methods in document["paths"].items()
            for method, described in methods.items()
            if path not in ("/api/v1/logout", "/api/v1/login")
            and method != "head"  # an answer without a body, see below
        ]
        return Swept(loop, browsers, operations)

    yield loop.run_until_complete(begin())
    loop.run_until_complete(stack.aclose())
    loop.close()


def _resolved(part: Any, document: Any) -> Any:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            return _resolved(document["components"]["schemas"][part["$ref"].rpartition("/")[2]], document)
        return {key: _resolved(value, document) for key, value in part.items()}
    return [_resolved(value, document) for value in part] if isinstance(part, list) else part


def check(said: tuple[int, Any], what: object) -> str:
    """The answer's code; it must be a known one where the answer is an error."""
    status, body = said
    assert status < 500, (what, status, body)
    if status < 400:
        return ""
    assert body is not None, (what, status)
    code = str(body["error"]["code"])
    assert STATUS[code] == status, (what, body)
    return code


def sweep(swept: Swept, send: Callable[[Operation, str], None]) -> None:
    for operation in swept.operations:
        for who in swept.browsers:
            send(operation, who)


def test_ids_that_are_none(swept: Swept) -> None:
    def send(operation: Operation, who: str) -> None:
        for value in UNKNOWN_IDS if operation.parts else ():
            body: dict[str, object] | None = {} if operation.takes_body else None
            path = quote(operation.filled(value), safe="/%")
            code = check(swept.send(who, operation.method, path, body=body), (operation, who, value))
            assert code, (operation, who, value)

    sweep(swept, send)


def test_a_head_answers_like_its_get_without_a_body(swept: Swept) -> None:
    for operation in swept.operations:
        if operation.path.endswith("/audio"):
            for who in swept.browsers:
                path = operation.filled("x_nothing")
                status, body = swept.send(who, "HEAD", path)
                assert (status, body) == (swept.send(who, "GET", path)[0], None), who


def test_another_tenants_ids_answer_like_ids_that_are_none(swept: Swept) -> None:
    lists = {
        "user_id": "/users", "skill_id": "/skills", "queue_id": "/queues", "entry_point_id": "/entry-points",
        "disposition_id": "/dispositions", "break_reason_id": "/break-reasons",
    }  # fmt: skip
    compared = 0
    for operation in swept.operations:
        (part,) = operation.parts or ("",)
        if part not in lists:
            continue
        items = swept.send("admin", "GET", f"/api/v1{lists[part]}")[1]["items"]
        body = {"version": 1} if operation.takes_body else None
        theirs = swept.send("stranger", operation.method, operation.filled(items[0][part]), body=body)
        nobodys = swept.send("stranger", operation.method, operation.filled("x_nothing"), body=body)
        assert theirs == nobodys, operation
        check(theirs, operation)
        compared += theirs[0] == 404
        assert swept.send("admin", "GET", f"/api/v1{lists[part]}")[1]["items"] == items, "untouched"
    assert compared >= 8
    assert OTHER != "default"


def test_bodies_that_are_none(swept: Swept) -> None:
    def send(operation: Operation, who: str) -> None:
        if not operation.takes_body:
            return
        path, json_type = operation.filled("x_nothing"), {"Content-Type": "application/json"}
        for body in BODIES:
            assert check(swept.send(who, operation.method, path, data=body, headers=json_type), (operation, who, body))
        for content_type in CONTENT_TYPES:
            headers = {"Content-Type": quote(content_type, safe="/;= -")}
            said = swept.send(who, operation.method, path, data=b"{}", headers=headers)
            assert check(said, (operation, who, content_type))
        huge = b'{"name":"' + b"x" * MAX_BODY_BYTES + b'"}'
        code = check(swept.send(who, operation.method, path, data=huge, headers=json_type), (operation, who, "huge"))
        assert code in ("too_large", "not_logged_in", "forbidden"), (operation, who)

    sweep(swept, send)


def test_origins_and_tokens_that_are_not_ours(swept: Swept) -> None:
    def send(operation: Operation, who: str) -> None:
        if operation.method == "GET":
            return
        path = operation.filled("x_nothing")
        for origin in ("https://evil.example", "null", "", URL + ".evil.example", URL + ":1", "http://[", "é"):
            headers = {"Origin": quote(origin, safe=":/[")}
            code = check(swept.send(who, operation.method, path, body={}, headers=headers), (operation, who, origin))
            assert code == "csrf", (operation, who, origin)
        if who in ("admin", "stranger") and operation.path != "/api/v1/sessions":
            headers = {"X-CSRF-Token": "0" * 64}
            assert check(swept.send(who, operation.method, path, body={}, headers=headers), operation) == "csrf"

    sweep(swept, send)


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20)
    | st.sampled_from(["", "widget", "admin", "que_x", "https://a.example", "\x00", "\ud800", "x" * 300, "%", "'; --"])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=6), x, max_size=3), max_leaves=6
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_request(swept: Swept, data: st.DataObject) -> None:
    operation: Operation = data.draw(st.sampled_from(swept.operations))
    who = data.draw(st.sampled_from(sorted(swept.browsers)))
    part = data.draw(st.sampled_from(UNKNOWN_IDS[:4]) | st.text(max_size=12))
    path = operation.filled(quote(part.encode(errors="replace"), safe="") or "x")
    names = st.sampled_from(operation.query) if operation.query else st.just("q")
    query = data.draw(st.dictionaries(names | st.text(max_size=4), st.text(max_size=20) | st.integers(), max_size=4))
    if query:
        path += "?" + urlencode({k.encode(errors="replace"): str(v).encode(errors="replace") for k, v in query.items()})
    sent: dict[str, Any] = {}
    if operation.takes_body:
        field = st.sampled_from(operation.fields or ["x"]) | st.text(max_size=5)
        body = data.draw(st.dictionaries(field, VALUES, max_size=6) | VALUES)
        sent = {"data": json.dumps(body).encode(), "headers": {"Content-Type": "application/json"}}
    check(swept.send(who, operation.method, path, **sent), (operation, who, path, sent))
