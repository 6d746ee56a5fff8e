"""The report's screen in Chromium: numbers open exactly their sessions, and old numbers are said to be old."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from playwright.async_api import Page

from server.domain.directory import DEFAULT_TENANT
from server.preflight import STATIC_DIR
from tests.helpers.browser import chromium
from tests.helpers.rest_world import PASSWORD, World, open_world
from tests.wire.test_rest_reports import add_visit

DAY_S = 86_400
COLUMNS = {"offered": 6, "answered": 3, "abandoned": 2, "waiting": 1, "service_level": 2, "asa": 3, "aht": 2}


async def log_in(page: Page, url: str) -> None:
    await page.goto(f"{url}/login")
    await page.get_by_label("User name").fill("sam")
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/admin*")


async def a_day(world: World) -> None:
    """Six visits to Sales a minute ago: the numbers of COLUMNS."""
    noon = (time.time() // DAY_S + 0.5) * DAY_S  # whatever the hour: the visits are of today
    world.clock.advance(noon - world.clock.now_ms() / 1000)
    queues = await world.deps.directory.queues(DEFAULT_TENANT)
    sales = next(queue.queue_id for queue in queues if queue.name == "Sales")
    at = world.clock.now_ms() - 60_000
    await add_visit(world, 1, sales, at, "answered", 5_000, handle_ms=30_000)
    await add_visit(world, 2, sales, at, "answered", 20_000, handle_ms=31_000)
    await add_visit(world, 3, sales, at, "answered", 21_000)
    await add_visit(world, 4, sales, at, "abandoned", 1_000)
    await add_visit(world, 5, sales, at, "abandoned", 9_000)
    await add_visit(world, 6, sales, at, None, 0)


async def test_numbers_open_their_sessions_and_old_ones_say_so(tmp_path: Path) -> None:
    async with open_world(tmp_path, static_dir=STATIC_DIR) as world, chromium(tmp_path, 440) as browser:
        await a_day(world)
        url = str(world.server.make_url("")).rstrip("/")
        page = await (await browser.new_context(timezone_id="UTC", viewport={"width": 1280, "height": 800})).new_page()
        await log_in(page, url)
        await page.goto(f"{url}/admin/reports")
        row = page.get_by_test_id("report-row").filter(has_text="Sales")
        for column, sessions in COLUMNS.items():
            await row.locator(f"[data-column={column}] a").click()
            rows = page.get_by_test_id("history-row")
            await page.get_by_test_id("visits-chip").first.wait_for()
            await rows.nth(sessions - 1).wait_for()
            assert await rows.count() == sessions, column
            await page.go_back()
            await row.wait_for()

        await row.locator("[data-column=abandoned] a").click()
        await page.get_by_role("button", name="Remove the filter: Abandoned").click()
        await page.get_by_test_id("history-row").nth(5).wait_for()  # all that entered today
        await page.go_back()
        await page.get_by_test_id("history-row").nth(1).wait_for()
        await page.go_back()

        await page.get_by_test_id("report-total").wait_for()
        await page.route("**/api/v1/reports/**", lambda route: route.abort())
        await page.get_by_test_id("report-stale").wait_for(timeout=20_000)
        assert await row.locator("[data-column=offered]").inner_text() == "6", "the last numbers stay"
        await page.unroute("**/api/v1/reports/**")
        await page.get_by_test_id("report-stale").get_by_role("button").click()
        await page.get_by_test_id("report-stale").wait_for(state="detached")


async def test_what_was_told_of_the_wait_opens_its_sessions(tmp_path: Path) -> None:
    async with open_world(tmp_path, static_dir=STATIC_DIR) as world, chromium(tmp_path, 440) as browser:
        await a_day(world)
        url = str(world.server.make_url("")).rstrip("/")
        page = await (await browser.new_context(timezone_id="UTC", viewport={"width": 1280, "height": 900})).new_page()
        await log_in(page, url)
        await page.goto(f"{url}/admin/reports")
        await page.get_by_test_id("told-empty").wait_for()

        queues = await world.deps.directory.queues(DEFAULT_TENANT)
        sales = next(queue.queue_id for queue in queues if queue.name == "Sales")
        at = world.clock.now_ms() - 120_000
        told = (at + 2_000, 2, 10_000, 60_000)
        for number, (outcome, wait_ms) in enumerate((("answered", 9_000), ("answered", 50_000), ("abandoned", 20_000))):
            await add_visit(world, 10 + number, sales, at, outcome, wait_ms, told=told)
        await page.reload()
        row = page.get_by_test_id("told-row").filter(has_text="Sales")
        for column, (shown, sessions) in {
            "told": ("3", 3), "answered": ("2", 2), "within": ("100%", 2), "below": ("50%", 1), "off": ("0:20", 2),
            "abandoned": ("1", 1),
        }.items():  # fmt: skip
            link = row.locator(f"[data-column={column}] a")
            assert await link.inner_text() == shown, column
            await link.click()
            await page.get_by_test_id("visits-chip").first.wait_for()
            await page.get_by_test_id("history-row").nth(sessions - 1).wait_for()
            assert await page.get_by_test_id("history-row").count() == sessions, column
            await page.go_back()
            await row.wait_for()

        looks: tuple[tuple[Literal["light", "dark"], int], ...] = (("light", 1280), ("dark", 1280), ("light", 380))
        for theme, width in looks:
            await page.emulate_media(color_scheme=theme)
            await page.set_viewport_size({"width": width, "height": 900})
            await row.scroll_into_view_if_needed()
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{width} px: no sideways"
            await page.screenshot(path=tmp_path / f"told-{theme}-{width}.png")
