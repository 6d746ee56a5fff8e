"""A customer who waits keeps the place, closes the page, and comes back to be answered first."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from playwright.async_api import Frame, Page, expect

from server.caller import Caller
from tests.helpers.administration import change_queue
from tests.helpers.browser import AGENT_HZ, CUSTOMER_HZ, chromium, hears, log_in, start_call, widget_frame
from tests.helpers.system import PASSWORD, system

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("deployment")]
SHOTS = os.environ.get("PATCHBAY_SHOTS")  # a folder: pictures to look at


async def shop(page: Page, url: str) -> Frame:
    await page.goto(f"{url}/demo/shop")
    await page.get_by_test_id("widget-launcher").click()
    return await widget_frame(page)


async def shot(page: Page, name: str) -> None:
    if SHOTS is None:
        return
    for theme in ("light", "dark"):
        await page.emulate_media(color_scheme=theme)
        await page.screenshot(path=Path(SHOTS) / f"{name}-{theme}.png")
    await page.emulate_media(color_scheme="light")


async def test_who_keeps_the_place_and_comes_back_is_answered_before_who_came_later(tmp_path: Path) -> None:
    async with (
        system(tmp_path, workers=1) as patchbay,
        chromium(tmp_path, CUSTOMER_HZ) as customers,
        chromium(tmp_path, AGENT_HZ) as agents,
    ):
        await change_queue(patchbay, life={"keep_place_s": 600})
        context = await customers.new_context(permissions=["microphone"])
        first = await context.new_page()
        widget = await shop(first, patchbay.url)
        await start_call(widget)
        await widget.get_by_test_id("keep-place").wait_for()
        await expect(widget.get_by_test_id("queue-position")).to_have_text("1")
        await shot(first, "waiting")
        await widget.get_by_test_id("keep-place").press("Enter")
        await widget.locator("[data-screen=place]").wait_for()
        await widget.get_by_test_id("turn-soon").wait_for()
        await expect(widget.get_by_test_id("call-log")).to_contain_text("It is your turn soon")
        await shot(first, "place-soon")
        assert await widget.evaluate("() => window.__patchbay.remoteStream()") is None, "no sound runs"

        later = Caller(patchbay.url, patchbay.widget_key(), tone_hz=660, name="Later")
        await later.begin()
        await first.reload()  # the panel opens by itself, as in a call
        widget = await widget_frame(first)
        await widget.locator("[data-screen=place]").wait_for()
        await first.close()

        page = await context.new_page()
        widget = await shop(page, patchbay.url)
        await widget.get_by_test_id("place-until").wait_for()
        await expect(widget.get_by_test_id("queue-position")).to_have_text("1")
        await shot(page, "place-again")
        await widget.get_by_test_id("come-back").click()
        await widget.locator("[data-screen=queue]").wait_for()
        await widget.wait_for_function("() => window.__patchbay.leg().state === 'up'")

        ana = await (await agents.new_context(permissions=["microphone"])).new_page()
        await log_in(ana, patchbay.url, "ana", PASSWORD)
        await ana.get_by_test_id("go-ready").first.click()
        await expect(ana.get_by_test_id("offer-card")).to_contain_text("Li Wei")
        await ana.get_by_test_id("offer-accept").click()
        await asyncio.gather(hears(ana, CUSTOMER_HZ), hears(widget, AGENT_HZ))
        assert later.view["state"] == "queued"
        assert patchbay.rows("SELECT COUNT(*) FROM session") == [(2,)], "it is the same session"
        await widget.get_by_test_id("hang-up").click()
        await widget.get_by_test_id("call-ended").wait_for()
        await later.hang_up()
        await later.close()
        await (await shop(page, patchbay.url)).get_by_test_id("start-call").wait_for()
