"""What a queue does with who waits too long, or comes outside its hours: kept as it was said, and checked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from server.domain.directory import DEFAULT_TENANT, Role
from tests.helpers.rest_world import Api, World, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def admin(world: World) -> Api:
    return await world.logged_in(Role.ADMIN)


async def _queue(api: Api, name: str) -> Any:
    return next(item for item in (await api.get("/api/v1/queues"))["items"] if item["name"] == name)


HOURS = {
    "time_zone": "Europe/Berlin",
    "week": [[{"opens": "09:00", "closes": "17:00"}]] * 5 + [[{"opens": "22:00", "closes": "06:00"}], []],
    "holidays": [
        {"day": "2026-12-24", "spans": [{"opens": "09:00", "closes": "12:00"}]},
        {"day": "2026-12-25", "spans": []},
    ],
}


async def test_what_a_queue_does_with_who_waits_too_long_is_kept_as_it_was_said(world: World, admin: Api) -> None:
    sales, support = [await _queue(admin, name) for name in ("Sales", "Support")]
    nothing: dict[str, Any] = dict.fromkeys(("max_wait_s", "max_length", "return_s", "keep_place_s"), 0)
    nothing |= {"overflow_queue_id": None, "hours": None, "exit": "end"}
    nothing |= {"pause_limit_s": 600, "when_unrecorded": "go_on", "park_limit_s": 120}
    assert sales["life"] == nothing
    limits = {"max_wait_s": 300, "max_length": 20, "return_s": 90, "keep_place_s": 3600}
    limits |= {"pause_limit_s": 0, "park_limit_s": 300}
    life = limits | {"overflow_queue_id": support["queue_id"], "hours": HOURS, "exit": "queue"}
    life |= {"when_unrecorded": "end"}
    path = f"/api/v1/queues/{sales['queue_id']}"
    changed = await admin.patch(path, {"version": sales["version"], "life": life})
    assert changed["life"] == life
    assert (await admin.get(path))["life"] == life
    again = await admin.patch(path, {"version": changed["version"], "life": nothing})
    assert again["life"] == nothing
    made = await admin.post("/api/v1/queues", {"name": "Night", "life": life})
    assert made["life"] == life
    queue = await world.deps.directory.queue(DEFAULT_TENANT, made["queue_id"])
    assert queue is not None
    assert queue.life.hours is not None
    assert queue.life.hours.time_zone == "Europe/Berlin"


async def test_queues_that_overflow_in_a_circle_are_refused_and_named(admin: Api) -> None:
    names = ("A queue", "B queue", "C queue")
    a, b, c = [await admin.post("/api/v1/queues", {"name": name}) for name in names]

    def change(queue: Any, target: Any) -> dict[str, Any]:
        return {"version": queue["version"], "life": {"overflow_queue_id": target["queue_id"]}}

    answer = await admin.patch(f"/api/v1/queues/{a['queue_id']}", change(a, a), 409)
    assert answer["error"]["code"] == "overflow_cycle"
    await admin.patch(f"/api/v1/queues/{a['queue_id']}", change(a, b))
    await admin.patch(f"/api/v1/queues/{b['queue_id']}", change(b, c))
    answer = await admin.patch(f"/api/v1/queues/{c['queue_id']}", change(c, a), 409)
    assert answer["error"]["code"] == "overflow_cycle"
    assert [one["name"] for one in answer["error"]["where"]] == ["C queue", "A queue", "B queue", "C queue"]
    refused = await admin.send("DELETE", f"/api/v1/queues/{c['queue_id']}")
    assert (refused.status, (await refused.json())["error"]["where"]) == (409, [{"kind": "queue", "name": "B queue"}])


async def test_an_exit_that_nothing_here_can_carry_out_is_refused_in_plain_words(admin: Api) -> None:
    for way, needs in (("callback", "a phone line"), ("voicemail", "call flows")):
        answer = await admin.post("/api/v1/queues", {"name": f"By {way}", "life": {"exit": way}}, 409)
        assert answer["error"]["code"] == "exit_unavailable"
        assert needs in answer["error"]["message"]
    sales = await _queue(admin, "Sales")
    change = {"version": sales["version"], "life": {"exit": "callback"}}
    answer = await admin.patch(f"/api/v1/queues/{sales['queue_id']}", change, 409)
    assert answer["error"]["code"] == "exit_unavailable"
    assert (await _queue(admin, "Sales"))["version"] == sales["version"]


async def test_an_exit_that_is_left_out_is_what_the_other_queue_says(admin: Api) -> None:
    """As those say it who know of no exits."""
    support = await _queue(admin, "Support")
    for overflow, way in ((support["queue_id"], "queue"), (None, "end")):
        made = await admin.post("/api/v1/queues", {"name": f"To {way}", "life": {"overflow_queue_id": overflow}})
        assert made["life"]["exit"] == way


@pytest.mark.parametrize(
    ("life", "loc"),
    [
        ({"max_wait_s": 4}, "life.max_wait_s"),
        ({"max_wait_s": 86_401}, "life.max_wait_s"),
        ({"max_length": -1}, "life.max_length"),
        ({"return_s": 3601}, "life.return_s"),
        ({"keep_place_s": 59}, "life.keep_place_s"),
        ({"exit": "nowhere"}, "life.exit"),
        ({"park_limit_s": 14}, "life.park_limit_s"),
        ({"park_limit_s": 3601}, "life.park_limit_s"),
        ({"pause_limit_s": 29}, "life.pause_limit_s"),
        ({"pause_limit_s": 3601}, "life.pause_limit_s"),
        ({"when_unrecorded": "announce"}, "life.when_unrecorded"),
        ({"exit": "queue"}, "life"),
        ({"exit": "end", "overflow_queue_id": "que_none"}, "life"),
        ({"keep_place_s": 28_801}, "life.keep_place_s"),
        ({"overflow_queue_id": "que_none"}, "life.overflow_queue_id"),
        ({"hours": {**HOURS, "time_zone": "Berlin"}}, "life.hours.time_zone"),
        ({"hours": {**HOURS, "time_zone": "America"}}, "life.hours.time_zone"),
        ({"hours": {**HOURS, "week": []}}, "life.hours.week"),
        ({"hours": {**HOURS, "week": [[{"opens": "9", "closes": "17:00"}], *[[]] * 6]}}, "life.hours.week.0.0.opens"),
        ({"hours": {**HOURS, "week": [[{"opens": "09:00", "closes": "09:00"}], *[[]] * 6]}}, "life.hours.week.0.0"),
        ({"hours": {**HOURS, "holidays": [{"day": "2026-02-30"}]}}, "life.hours.holidays.0.day"),
        ({"hours": {**HOURS, "holidays": [{"day": "2026-12-24"}] * 2}}, "life.hours"),
    ],
)
async def test_a_queue_life_that_makes_no_sense_names_its_field(admin: Api, life: dict[str, Any], loc: str) -> None:
    answer = await admin.post("/api/v1/queues", {"name": "Odd", "life": life}, 422)
    assert [field["loc"] for field in answer["error"]["fields"]] == [loc]
