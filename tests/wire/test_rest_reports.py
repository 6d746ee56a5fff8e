"""Queue reports over REST: the numbers of a day, and the sessions that each of them opens."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from server.domain.directory import DEFAULT_TENANT, Role
from server.domain.reports import Counted
from tests.helpers.rest_world import OTHER, Api, World, code, open_world

REPORT = "/api/v1/reports/queues"
MIDNIGHT = round(datetime(2026, 5, 20, tzinfo=UTC).timestamp() * 1000)
HOUR = 3_600_000
NOW = MIDNIGHT + 15 * HOUR


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        opened.clock.advance((NOW - opened.clock.now_ms()) / 1000)
        yield opened


async def queue_ids(world: World) -> list[str]:
    return sorted(queue.queue_id for queue in await world.deps.directory.queues(DEFAULT_TENANT) if queue.active)


async def add_visit(
    world: World, number: int, queue_id: str, entered_at: int, outcome: str | None, wait_ms: int, **more: Any
) -> str:
    """A session's visit; `more`: tenant, session_id of a session that is there, handle_ms of an answered one,
    told (at, position, low and high ms)."""
    tenant, new = more.get("tenant", DEFAULT_TENANT), "session_id" not in more
    session_id = str(more.get("session_id", f"ses_{number:04}"))
    ended_at = None if outcome is None else entered_at + wait_ms
    if new:
        open_now = outcome is None
        row = {"id": session_id, "tenant": tenant, "queue_id": queue_id, "created_at": entered_at - 500}
        row |= {"state": "queued" if open_now else "ended", "done": not open_now, "entry_point_id": "ept_1"}
        await world.insert(
            "session", **row, version=1, channel="voice", customer_name=f"Kund {number}", epoch=1, body={}
        )
    visit = {"id": f"vis_{number:04}", "tenant": tenant, "session_id": session_id, "queue_id": queue_id}
    if "told" in more:
        visit |= dict(zip(("told_at", "told_position", "told_low_ms", "told_high_ms"), more["told"], strict=True))
    await world.insert("queue_visit", **visit, entered_at=entered_at, ended_at=ended_at, outcome=outcome)
    if outcome == "answered" and ended_at is not None:
        handle_ms = more.get("handle_ms")
        row = {"id": f"seg_{number:04}", "tenant": tenant, "session_id": session_id, "number": number}
        row |= {"queue_id": queue_id, "agent_id": (await world.user("ana")).id, "state": "done", "notes": ""}
        row |= {"offered_at": ended_at - 1, "accepted_at": ended_at, "talk_started_at": ended_at, "hold_ms": 0}
        await world.insert("segment", **row, done_at=None if handle_ms is None else ended_at + handle_ms)
    return session_id


async def random_day(world: World, visits: int = 60) -> None:
    """Visits around two midnights to the demo's queues; some sessions wait twice."""
    pick, queues = random.Random(7), await queue_ids(world)
    session_id = None
    for number in range(visits):
        outcome = pick.choice([*["answered"] * 3, "abandoned", "flowed_out", "callback", "failed", None])
        entered_at = MIDNIGHT + pick.choice([-1, 0, 1, 24 * HOUR - 1, 24 * HOUR]) if pick.random() < 0.3 else None
        more: dict[str, Any] = {"handle_ms": pick.choice([None, 60_000, 95_000])}
        if session_id is not None and outcome is not None and pick.random() < 0.3:
            more["session_id"] = session_id
        session_id = await add_visit(
            world,
            number,
            pick.choice(queues),
            entered_at if entered_at is not None else MIDNIGHT + pick.randrange(-HOUR, 14 * HOUR),
            outcome,
            pick.choice([0, 4_999, 5_000, 19_000, 20_000, 20_001, 70_000]),
            **more,
        )
        session_id = session_id if outcome is not None else None


async def opened(api: Api, **filters: Any) -> list[dict[str, Any]]:
    """All pages of the sessions' list with these filters."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        query = urlencode({name: value for name, value in filters.items() if value is not None} | {"limit": 7})
        page = await api.get(f"/api/v1/sessions?{query}" + (f"&cursor={cursor}" if cursor else ""))
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            return found


async def test_every_number_opens_exactly_its_sessions(world: World) -> None:
    await random_day(world)
    api = await world.logged_in(Role.SUPERVISOR)
    report = await api.get(f"{REPORT}?date=2026-05-20")
    span = {"entered_from": report["since"], "entered_to": report["until"]}
    assert (report["since"], report["until"], report["at"]) == (MIDNIGHT, MIDNIGHT + 24 * HOUR, NOW)
    assert sum(bool(row["offered"]) for row in report["queues"]) > 1, "the data set says something"
    for row in [*report["queues"], report["total"]]:
        queue_id = row.get("queue_id")
        for counted in (one for one in Counted if not one.startswith("told")):
            sessions = await opened(api, **span, queue_id=queue_id, counted_as=counted.value)
            assert sum(session["matching_visits"] for session in sessions) == row[counted.value], (queue_id, counted)
            assert all(session["matching_visits"] > 0 for session in sessions)
            assert len({session["session_id"] for session in sessions}) == len(sessions)
        live = await opened(api, queue_id=queue_id, counted_as="waiting")
        assert len(live) == row["now"]["waiting"]
        parts = "answered", "abandoned", "flowed_out", "callback", "failed", "waiting"
        assert row["offered"] == sum(row[part] for part in parts)
    assert report["total"]["offered"] == sum(row["offered"] for row in report["queues"])
    kinds = [counted.value for counted in Counted if not counted.startswith("told")]
    assert all(report["total"][kind] for kind in kinds), "every kind is in the data set"


async def test_a_line(world: World) -> None:
    """Sales of the demo: a service level of 20 s."""
    queue_id = next(q.queue_id for q in await world.deps.directory.queues(DEFAULT_TENANT) if q.name == "Sales")
    at = MIDNIGHT + HOUR
    await add_visit(world, 1, queue_id, at, "answered", 10_000, handle_ms=100_000)
    await add_visit(world, 2, queue_id, at, "answered", 30_000)
    await add_visit(world, 3, queue_id, at, "abandoned", 1_000)
    longest = await add_visit(world, 4, queue_id, at, "abandoned", 60_000)
    waiting = await add_visit(world, 5, queue_id, NOW - 5_000, None, 0)
    yesterdays = await add_visit(world, 6, queue_id, MIDNIGHT - 1, None, 0)
    await add_visit(world, 7, "que_x", at, "answered", 1_000, tenant=OTHER)
    api = await world.logged_in(Role.ADMIN)
    report = await api.get(REPORT)
    (row,) = [row for row in report["queues"] if row["offered"]]
    assert (row["queue_name"], row["service_level_s"], row["active"]) == ("Sales", 20, True)
    assert [row[name] for name in ("offered", "answered", "abandoned", "failed", "waiting")] == [5, 2, 2, 0, 1]
    assert (row["service_level"], row["service_level_answered"]) == (1 / 3, 1 / 2)
    assert (row["service_level_leaving"], row["abandon_rate"]) == (2 / 5, 1 / 4)
    assert (row["asa_ms"], row["aht_ms"], row["handled"]) == (20_000, 100_000, 1)
    assert row["longest"] == {"wait_ms": 60_000, "session_id": longest}
    assert row["now"] == {"waiting": 2, "longest": {"wait_ms": 15 * HOUR + 1, "session_id": yesterdays}}
    assert (await opened(api, counted_as="waiting", entered_from=MIDNIGHT))[0]["session_id"] == waiting
    empty = next(row for row in report["queues"] if not row["offered"])
    assert (empty["service_level"], empty["asa_ms"], empty["aht_ms"], empty["longest"]) == (None,) * 4
    assert report["total"]["longest"]["session_id"] == longest


async def test_days_of_a_zone(world: World) -> None:
    await add_visit(world, 1, (await queue_ids(world))[0], MIDNIGHT - 1, "answered", 1_000)
    api = await world.logged_in(Role.SUPERVISOR)
    for query, offered in (
        ("date=2026-05-20", 0),
        ("date=2026-05-19", 1),
        ("date=2026-05-20&zone=Asia/Shanghai", 1),
        ("date=2026-05-19&zone=America/New_York", 1),
        ("from=2026-05-18&to=2026-05-20", 1),
        ("from=2026-04-20&to=2026-05-20", 1),  # 31 days
        ("from=2026-05-20", 0),
        ("", 0),
        ("zone=Asia/Shanghai", 1),  # 23:00 there: still the 20th
    ):
        assert (await api.get(f"{REPORT}?{query}"))["total"]["offered"] == offered, query
    berlin = await api.get(f"{REPORT}?date=2026-03-29&zone=Europe/Berlin")
    assert berlin["until"] - berlin["since"] == 23 * HOUR
    assert (berlin["zone"], berlin["first_day"], berlin["today"]) == ("Europe/Berlin", "2026-03-29", "2026-05-20")


@pytest.mark.parametrize(
    "query",
    [
        "date=yesterday", "date=2026-02-30", "date=1716163200", "date=0001-01-01", "date=9999-12-31", "date=٢٠٢٦-٠٥-٢٠",
        "date=2026-05-20&from=2026-05-20", "to=2026-05-20", "from=2026-05-20&to=2026-05-19",
        "from=2026-04-19&to=2026-05-20", "zone=Europe/Atlantis", "zone=America", "zone=../../etc/passwd", "zone=",
        "zone=%00", "zone=tzdata.zi", "date=2026-05-20&date=2026-05-21", "day=2026-05-20",
    ],
)  # fmt: skip
async def test_days_that_can_not_be_asked_for(world: World, query: str) -> None:
    api = await world.logged_in(Role.ADMIN)
    answer = await api.send("GET", f"{REPORT}?{query}")
    assert (answer.status, await code(answer)) == (422, "invalid"), query


async def test_filters_of_the_list_that_can_not_be(world: World) -> None:
    api = await world.logged_in(Role.ADMIN)
    for query in ("counted_as=lost", "counted_as=", "entered_from=x", "entered_to=-1"):
        await api.get(f"/api/v1/sessions?{query}", 422)


async def test_agents_get_no_report_and_list_only_what_they_took(world: World) -> None:
    queue_id = (await queue_ids(world))[0]
    await add_visit(world, 1, queue_id, MIDNIGHT, "answered", 1_000)
    await add_visit(world, 2, queue_id, MIDNIGHT, "abandoned", 9_000)
    api = await world.logged_in(Role.AGENT)
    assert await code(await api.send("GET", REPORT)) == "forbidden"
    assert [row["session_id"] for row in await opened(api, entered_from=MIDNIGHT)] == ["ses_0001"]


async def test_a_queue_that_was_switched_off_keeps_its_numbers(world: World) -> None:
    admin = await world.logged_in(Role.ADMIN)
    queue = await admin.post("/api/v1/queues", {"name": "Archive"})
    await admin.delete(f"/api/v1/queues/{queue['queue_id']}")
    names = [row["queue_name"] for row in (await admin.get(REPORT))["queues"]]
    assert "Archive" not in names
    assert names == sorted(names, key=str.casefold)
    await add_visit(world, 1, queue["queue_id"], MIDNIGHT, "answered", 1_000)
    row = next(row for row in (await admin.get(REPORT))["queues"] if row["queue_name"] == "Archive")
    assert (row["offered"], row["active"]) == (1, False)


async def test_a_queue_that_another_node_made_is_in_the_report_at_once(world: World) -> None:
    admin = await world.logged_in(Role.ADMIN)
    await admin.get(REPORT)
    row = {"id": "que_new", "tenant": DEFAULT_TENANT, "name": "New", "active": True, "version": 1}
    rules = {"ring_timeout_s": 20, "wrap_up_s": 60, "disposition_required": True, "record": True, "service_level_s": 20}
    await world.insert("queue", **row, **rules)
    await add_visit(world, 1, "que_new", MIDNIGHT, "answered", 1_000)
    report = await admin.get(REPORT)
    assert report["total"]["offered"] == 1
    assert "New" in [row["queue_name"] for row in report["queues"]]


# --- what was told of the wait ---

TOLD = "/api/v1/reports/ewt"


async def test_what_was_told_and_what_came_of_it(world: World) -> None:
    """Told 2 s after the entry: 10 to 60 s. Answered after 5, 9, 30, 60 and 200 s from then, one left, one waits."""
    sales, other = (await queue_ids(world))[:2]
    at = MIDNIGHT + HOUR
    waits: tuple[tuple[str | None, int], ...] = (
        ("answered", 7_000),
        ("answered", 11_000),
        ("answered", 32_000),
        ("answered", 62_000),
    )
    waits += (("answered", 202_000), ("abandoned", 20_000), (None, 0))
    told = (at + 2_000, 2, 10_000, 60_000)
    for number, (outcome, wait_ms) in enumerate(waits):
        await add_visit(world, number, sales, at, outcome, wait_ms, told=told)
    await add_visit(world, 20, sales, at, "answered", 1_000)  # at once: nothing was told
    await add_visit(world, 21, other, at, "answered", 63_000, told=told)
    await add_visit(world, 22, "que_x", at, "answered", 1_000, tenant=OTHER, told=told)
    api = await world.logged_in(Role.SUPERVISOR)
    report = await api.get(f"{TOLD}?date=2026-05-20")
    rows = {row["queue_id"]: row for row in report["queues"]}
    assert set(rows) == {sales, other}
    counts = ("told", "told_answered", "told_within", "told_below", "told_abandoned")
    assert [rows[sales][name] for name in counts] == [7, 5, 4, 2, 1]
    assert (rows[sales]["within"], rows[sales]["below"]) == (4 / 5, 2 / 5)
    assert rows[sales]["off_ms"] == 26_000, "of 30, 26, 5, 25 and 165 s from the middle, 35 s, the median"
    assert (rows[other]["within"], rows[other]["off_ms"]) == (0.0, 26_000)
    assert [report["total"][name] for name in counts] == [8, 6, 4, 2, 1]
    assert report["total"]["off_ms"] == 26_000
    span = {"entered_from": report["since"], "entered_to": report["until"]}
    for row in [*report["queues"], report["total"]]:
        for counted in counts:
            sessions = await opened(api, **span, queue_id=row.get("queue_id"), counted_as=counted)
            assert sum(session["matching_visits"] for session in sessions) == row[counted], counted
    only = await api.get(f"{TOLD}?from=2026-05-20&to=2026-05-20&queue_id={other}")
    assert [row["queue_id"] for row in only["queues"]] == [other]
    assert only["total"]["told"] == 1


async def test_a_day_on_which_nothing_was_told(world: World) -> None:
    await add_visit(world, 1, (await queue_ids(world))[0], MIDNIGHT, "answered", 1_000)
    api = await world.logged_in(Role.ADMIN)
    report = await api.get(f"{TOLD}?date=2026-05-20")
    assert report["queues"] == []
    total = report["total"]
    assert [total["told"], total["within"], total["below"], total["off_ms"]] == [0, None, None, None]
    assert (await api.get(f"{TOLD}?queue_id=que_none"))["queues"] == []
    await api.get(f"{TOLD}?date=yesterday", 422)
    assert await code(await (await world.logged_in(Role.AGENT)).send("GET", TOLD)) == "forbidden"
