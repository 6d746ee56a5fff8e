"""The what-if form in Chromium: a day that was, played with another agent, beside what happened."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from playwright.async_api import expect

from server.domain import agent as ag
from server.domain.directory import DEFAULT_TENANT
from server.preflight import STATIC_DIR
from server.storage.codec import AGENT_EVENTS
from tests.browser.test_reports import DAY_S, log_in
from tests.helpers.browser import chromium
from tests.helpers.rest_world import World, open_world

HOUR_MS = 3_600_000
TALK_MS, WAIT_MS, CALLS = 50_000, 30_000, 40


async def a_busy_hour(world: World) -> None:
    """Ana alone takes a call a minute, of whom each waits half a minute, because the one before still talks."""
    noon = (time.time() // DAY_S + 0.5) * DAY_S
    world.clock.advance(noon - world.clock.now_ms() / 1000)
    queues = await world.deps.directory.queues(DEFAULT_TENANT)
    sales = next(queue.queue_id for queue in queues if queue.name == "Sales")
    ana, began = (await world.user("ana")).id, world.clock.now_ms() - HOUR_MS
    events: list[ag.AgentEvent] = [ag.AgentCreated(ana, DEFAULT_TENANT), ag.WentLive()]
    events.append(ag.StateChosen(ag.Chosen.READY))
    for version, event in enumerate(events, 1):
        kind, body = AGENT_EVENTS.dump(event)
        row = {"user_id": ana, "tenant": DEFAULT_TENANT, "version": version, "at": began + version}
        await world.insert("agent_event", **row, type=kind, body=json.loads(body))
    for number in range(CALLS):
        talk_at = began + 60_000 * (number + 1)
        session: dict[str, Any] = {
            "id": f"ses_{number}",
            "tenant": DEFAULT_TENANT,
            "queue_id": sales,
            "created_at": talk_at - WAIT_MS,
        }
        session |= {"state": "ended", "done": True, "entry_point_id": "ept_1", "version": 1, "channel": "voice"}
        await world.insert("session", **session, customer_name="Li", epoch=1, body={})
        visit: dict[str, Any] = {
            "id": f"vis_{number}",
            "tenant": DEFAULT_TENANT,
            "session_id": f"ses_{number}",
            "queue_id": sales,
        }
        visit |= {"entered_at": talk_at - WAIT_MS, "ended_at": talk_at, "outcome": "answered"}
        await world.insert("queue_visit", **visit)
        segment: dict[str, Any] = {
            "id": f"seg_{number}",
            "tenant": DEFAULT_TENANT,
            "session_id": f"ses_{number}",
            "number": 1,
        }
        segment |= {"queue_id": sales, "agent_id": ana, "state": "done", "notes": "", "hold_ms": 0}
        segment |= {"offered_at": talk_at - 2000, "accepted_at": talk_at - 1000, "talk_started_at": talk_at}
        await world.insert("segment", **segment, talk_ended_at=talk_at + TALK_MS, done_at=talk_at + TALK_MS + 5000)


async def test_a_day_is_played_with_one_agent_more_and_without_the_only_one(tmp_path: Path) -> None:
    async with open_world(tmp_path, static_dir=STATIC_DIR) as world, chromium(tmp_path, 440) as browser:
        await a_busy_hour(world)
        url = str(world.server.make_url("")).rstrip("/")
        page = await (await browser.new_context(timezone_id="UTC", viewport={"width": 1280, "height": 800})).new_page()
        await log_in(page, url)
        await page.goto(f"{url}/admin/what-if")
        for day in ("what-if-first", "what-if-last"):
            await page.get_by_test_id(day).fill(await page.get_by_test_id(day).get_attribute("max") or "")
        await page.get_by_test_id("what-if-add-more").click()
        await page.get_by_test_id("what-if-play").click()
        asked = page.get_by_test_id("what-if-result").locator("[data-figure=asa][data-queue=''] td")
        await expect(asked.nth(0)).to_have_text("30 s")
        seconds = [float((await asked.nth(at).inner_text()).split()[0]) for at in range(3)]
        assert seconds[2] <= seconds[1], "one agent more"

        await page.get_by_test_id("what-if-pick-queue").select_option(label="Sales")
        await page.get_by_test_id("what-if-requirement").fill("english >=")
        await page.get_by_test_id("what-if-play").click()
        await expect(page.get_by_test_id("what-if-fault")).to_contain_text("Sales › requirement: column 11")
        await page.get_by_test_id("what-if-requirement").fill("")
        await page.get_by_test_id("what-if-pick-agent").select_option(label="Ana Duarte")
        await page.get_by_test_id("what-if-more").get_by_role("button").click()
        await page.get_by_test_id("what-if-play").click()
        answered = page.get_by_test_id("what-if-result").locator("[data-figure=answered][data-queue=''] td")
        await expect(answered.nth(2)).to_have_text("0")
        await expect(answered.nth(0)).to_have_text(str(CALLS))
