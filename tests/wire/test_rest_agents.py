"""The floor: which agents there are, what they hold, and states that supervisors force."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from server.domain import agent as ag
from server.domain import events as ev
from server.domain.agent import Chosen, Fault
from server.domain.directory import DEFAULT_TENANT, Role
from server.domain.session import derived_id
from server.storage.admin_repository import AUDIT
from tests.helpers.rest_world import OTHER, Api, World, open_world

PATH = "/api/v1/agents"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def supervisor(world: World) -> Api:
    return await world.logged_in(Role.SUPERVISOR)


async def ready(world: World, login: str) -> str:
    user = await world.user(login)
    events = ag.WentLive(), ag.StateChosen(Chosen.READY)
    await world.stepper.apply_agent(DEFAULT_TENANT, user.id, *events, create=True)
    return user.id


async def ringing(world: World, login: str) -> tuple[str, str]:
    """(user id, session id) of an agent at whom Li's call rings."""
    user_id = await ready(world, login)
    async with world.engine.connect() as connection:
        queue_id = await connection.scalar(sa.text("SELECT id FROM queue WHERE name = 'Sales' AND tenant = 'default'"))
    rules = ev.QueueRules(queue_id, "Sales", 20, 60, True, False)
    arrived = ev.CallArrived("ses_1", DEFAULT_TENANT, "ept_1", rules, ev.Customer("Li"), "media-1")
    leg = derived_id("ses_1", "leg", 0)
    up = ev.LegOffered(leg, 1, "v=0"), ev.LegAnswered(leg, 1, 1, "v=0"), ev.LegWentUp(leg, 1, 1)
    await world.stepper.apply("ses_1", arrived, *up, ev.AgentOffered(user_id, "Ana"))
    return user_id, "ses_1"


async def one(api: Api, user_id: str, query: str = "") -> Any:
    return next((item for item in (await api.get(PATH + query))["items"] if item["user_id"] == user_id), None)


async def test_agents_as_they_are_now(world: World, supervisor: Api) -> None:
    never = (await world.user("bo")).id
    user_id, session_id = await ringing(world, "ana")
    shown = await one(supervisor, user_id)
    assert (shown["state"], shown["since"], shown["live"]) == ("ringing", world.clock.now_ms(), True)
    assert shown["contacts"] == [
        {
            "session_id": session_id,
            "segment_id": derived_id(session_id, "seg", 1),
            "channel": "voice",
            "state": "ringing",
            "queue_name": "Sales",
            "customer_name": "Li",
            "since": world.clock.now_ms(),
        }
    ]
    away = await one(supervisor, never)
    assert (away["state"], away["since"], away["contacts"], away["live"]) == ("offline", None, [], False)
    assert await one(supervisor, never, "?on_duty=true") is None
    assert (await one(supervisor, user_id, "?on_duty=true"))["state"] == "ringing"


async def test_who_is_no_agent_shows_once_on_duty(world: World, supervisor: Api) -> None:
    admin = (await world.user("admin")).id
    assert await one(supervisor, admin) is None
    await ready(world, "admin")
    assert (await one(supervisor, admin))["state"] == "ready"


async def test_pages_by_name_and_a_search(world: World, supervisor: Api) -> None:
    everybody = [item["name"] for item in (await supervisor.get(PATH))["items"]]
    assert everybody == sorted(everybody, key=str.lower)
    assert len(everybody) >= 2
    first = await supervisor.get(PATH + "?limit=1")
    second = await supervisor.get(f"{PATH}?limit=1&cursor={first['next']}")
    assert [page["items"][0]["name"] for page in (first, second)] == everybody[:2]
    part = everybody[0][1:3].upper()
    assert everybody[0] in [item["name"] for item in (await supervisor.get(f"{PATH}?q={part}"))["items"]]
    assert (await supervisor.get(PATH + "?q=%25"))["items"] == []
    assert (await supervisor.get(PATH + "?cursor=WzIwMDAwMCwgIiJd", 422))["error"]["code"] == "invalid"


async def test_a_fault_shows(world: World, supervisor: Api) -> None:
    user_id = await ready(world, "ana")
    await world.stepper.apply_agent(DEFAULT_TENANT, user_id, ag.EquipmentChanged(Fault.MICROPHONE_MUTED))
    assert (await one(supervisor, user_id))["fault"] == "microphone_muted"


async def test_a_supervisor_sends_an_agent_to_a_break(world: World, supervisor: Api) -> None:
    user_id = await ready(world, "ana")
    reason = (await supervisor.get("/api/v1/break-reasons"))["items"][0]["break_reason_id"]
    answer = await supervisor.post(f"{PATH}/{user_id}/state", {"state": "break", "reason_id": reason}, 200)
    assert answer == {"user_id": user_id, "state": "break", "next_state": None}
    sam = await world.user("sam")
    shown = await one(supervisor, user_id)
    assert (shown["state"], shown["reason_id"], shown["forced_by"]) == ("break", reason, sam.name)
    async with world.engine.connect() as connection:
        rows = (await connection.execute(sa.select(AUDIT).where(AUDIT.c.action == "state_forced"))).all()
    assert [(row.actor_id, row.kind, row.target_id, row.detail) for row in rows] == [
        (sam.id, "user", user_id, {"state": "break", "reason_id": reason})
    ]


async def test_during_a_contact_it_becomes_the_next_state(world: World, supervisor: Api) -> None:
    user_id, _ = await ringing(world, "ana")
    answer = await supervisor.post(f"{PATH}/{user_id}/state", {"state": "offline"}, 200)
    later = {"state": "offline", "reason_id": None, "forced_by": (await world.user("sam")).name}
    assert (answer["state"], answer["next_state"]) == ("ringing", later)
    assert (await one(supervisor, user_id))["next_state"] == later


@pytest.mark.parametrize(
    ("body", "status", "code", "loc"),
    [
        ({"state": "break"}, 422, "invalid", "reason_id"),
        ({"state": "break", "reason_id": "brk_none"}, 422, "invalid", "reason_id"),
        ({"state": "asleep"}, 422, "invalid", "state"),
        ({"state": "missed"}, 422, "invalid", "state"),
        ({}, 422, "invalid", "state"),
    ],
)
async def test_states_that_do_not_fit(
    world: World, supervisor: Api, body: dict[str, Any], status: int, code: str, loc: str
) -> None:
    user_id = await ready(world, "ana")
    error = (await supervisor.post(f"{PATH}/{user_id}/state", body, status))["error"]
    assert (error["code"], [field["loc"] for field in error["fields"]]) == (code, [loc])


async def test_nobody_is_sent_to_work_in_an_empty_chair(world: World, supervisor: Api) -> None:
    user_id = (await world.user("bo")).id
    answer = await supervisor.post(f"{PATH}/{user_id}/state", {"state": "ready"}, 409)
    assert answer["error"]["code"] == "agent_away"
    assert (await supervisor.post(f"{PATH}/{user_id}/state", {"state": "offline"}, 200))["state"] == "offline"


async def test_other_tenants_agents_are_nobodys(world: World, supervisor: Api) -> None:
    boss = (await world.user("boss")).id
    assert boss not in [item["user_id"] for item in (await supervisor.get(PATH))["items"]]
    await supervisor.post(f"{PATH}/{boss}/state", {"state": "offline"}, 404)
    async with world.engine.connect() as connection:
        assert await connection.scalar(sa.text("SELECT COUNT(*) FROM agent WHERE tenant = :t"), {"t": OTHER}) == 0
