"""The OpenAPI document says what is there, and random bodies never break anything."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.domain import events as ev
from server.domain.directory import DEFAULT_TENANT, Role
from server.services.rate_limits import Rate
from server.signaling.rest.endpoint import PREFIX, Nothing
from server.signaling.web import WebLimits, all_endpoints
from tests.helpers.fuzz import examples
from tests.helpers.rest_world import World, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


def _references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [found for value in part.values() for found in _references(value)]
    return [found for value in part for found in _references(value)] if isinstance(part, list) else []


async def test_the_document_describes_every_endpoint(world: World) -> None:
    document = await (await world.browser()).get("/api/v1/openapi.json")
    assert document["openapi"] == "3.1.0"
    assert set(document["info"]) >= {"title", "version"}
    described = {f"{method.upper()} {path}" for path, operations in document["paths"].items() for method in operations}
    assert described == {f"{one.method} {PREFIX}{one.path}" for one in all_endpoints(world.deps)}


async def test_the_document_is_whole(world: World) -> None:
    document = await (await world.browser()).get("/api/v1/openapi.json")
    for reference in _references(document):
        assert reference.startswith("#/components/schemas/")
        assert reference.rpartition("/")[2] in document["components"]["schemas"], reference
    ids = []
    for path, operations in document["paths"].items():
        for operation in operations.values():
            ids.append(operation["operationId"])
            named = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert all({"name", "in", "schema"} <= set(one) for one in operation["parameters"])
            assert all(re.fullmatch(r"[1-5]\d\d", status) for status in operation["responses"])
            assert all("description" in answer for answer in operation["responses"].values())
    assert len(ids) == len(set(ids))


async def test_the_document_against_the_schema_of_json_schema(world: World) -> None:
    document = await (await world.browser()).get("/api/v1/openapi.json")
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(["", "ana", "widget", "admin", "que_x", "https://a.example", "\x00", "x" * 300])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data())
@settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_random_bodies_never_give_5xx(shared: Fuzzed, data: st.DataObject) -> None:
    endpoint = data.draw(st.sampled_from(shared.endpoints))
    names = sorted(endpoint.body.model_fields)
    body = data.draw(st.dictionaries(st.sampled_from(names) | st.text(max_size=5), VALUES, max_size=6) | VALUES)
    status = shared.send(endpoint.method, endpoint.path, body)
    assert status < 500, (endpoint.method, endpoint.path, body)


class Fuzzed:
    """A world whose loop a hypothesis test, which is synchronous, can drive."""

    def __init__(self, loop: Any, world: World, api: Any, ids: dict[str, str]) -> None:
        self._loop, self._api, self._ids = loop, api, ids
        self.endpoints = [one for one in all_endpoints(world.deps) if one.body is not Nothing]

    def send(self, method: str, path: str, body: object) -> int:
        async def request() -> int:
            full = PREFIX + re.sub(r"{(\w+)}", lambda found: self._ids[found[1]], path)
            raw = json.dumps(body).encode(errors="surrogatepass")
            headers = {"Content-Type": "application/json"}
            return int((await self._api.send(method, full, headers=headers, data=raw)).status)

        return int(self._loop.run_until_complete(request()))


@pytest.fixture
def shared(tmp_path: Path) -> Any:
    unlimited = Rate(1_000_000, 1)
    loop = asyncio.new_event_loop()
    opened = open_world(tmp_path, limits=WebLimits(unlimited, unlimited, unlimited, unlimited))

    async def begin() -> Fuzzed:
        world = await opened.__aenter__()
        api = await world.logged_in(Role.ADMIN)
        rules = ev.QueueRules("que_1", "Sales", 20, 60, True, True)
        arrived = ev.CallArrived("ses_fuzz", DEFAULT_TENANT, "ept_1", rules, ev.Customer("Li"), "media-1")
        await world.stepper.apply("ses_fuzz", arrived, ev.LegOffered("leg_fuzz_0", 1, "v=0"))
        ids = {"user_id": (await world.user("chen")).id, "session_id": "ses_fuzz"}
        for noun, name in (
            ("skills", "skill_id"),
            ("queues", "queue_id"),
            ("entry-points", "entry_point_id"),
            ("dispositions", "disposition_id"),
            ("break-reasons", "break_reason_id"),
        ):
            ids[name] = (await api.get(f"/api/v1/{noun}"))["items"][0][name]
        return Fuzzed(loop, world, api, ids)

    yield loop.run_until_complete(begin())
    loop.run_until_complete(opened.__aexit__(None, None, None))
    loop.close()
