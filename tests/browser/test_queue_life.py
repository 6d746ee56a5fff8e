"""What a customer sees of a queue that is closed, or that gives up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from tests.helpers.browser import CUSTOMER_HZ, chromium, log_in, shop_page, start_call
from tests.helpers.system import PASSWORD, system

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("deployment")]
SOON_MS = 15_000


async def _open_queue(admin: Page, url: str, name: str) -> None:
    await admin.goto(f"{url}/admin/queues")
    await admin.get_by_role("row", name=name).get_by_test_id("edit").click()
    await admin.get_by_test_id("queue-editor").wait_for()


async def _save(admin: Page) -> None:
    await admin.get_by_test_id("save").click()
    await admin.get_by_test_id("queue-editor").wait_for(state="detached")


async def test_a_wait_that_is_too_long_goes_on_in_another_queue_and_a_closed_one_says_when_it_opens(
    tmp_path: Path,
) -> None:
    async with system(tmp_path) as patchbay, chromium(tmp_path, CUSTOMER_HZ) as browser:
        admin = await (await browser.new_context()).new_page()
        await log_in(admin, patchbay.url, "admin", PASSWORD, "/admin")
        await _open_queue(admin, patchbay.url, "Sales")
        await admin.get_by_test_id("queue-max_wait_s").fill("5")
        await admin.get_by_test_id("queue-overflow").select_option(label="Support")
        await _save(admin)

        _, widget = await shop_page(browser, patchbay.url)
        await start_call(widget)
        await widget.get_by_test_id("moved").wait_for(timeout=SOON_MS)
        assert "Support" in await widget.get_by_test_id("moved").inner_text()
        outcomes: list[Any] = patchbay.rows("SELECT outcome FROM queue_visit ORDER BY entered_at, id")
        assert outcomes == [("flowed_out",), (None,)]
        await widget.get_by_test_id("hang-up").click()

        await _open_queue(admin, patchbay.url, "Sales")
        assert await admin.get_by_test_id("queue-max_wait_s").input_value() == "5"
        await admin.get_by_test_id("queue-hours").check()
        await admin.get_by_test_id("queue-zone").fill("UTC")
        opens = datetime.now(UTC) + timedelta(hours=2)
        span = f"{opens:%H:%M}-{opens + timedelta(minutes=1):%H:%M}".replace("-00:00", "-24:00")
        for weekday in range(7):
            await admin.get_by_test_id(f"queue-weekday-{weekday}").fill(span if weekday else "9")
        await admin.get_by_test_id("save").click()
        await admin.get_by_role("alert").first.wait_for()  # "9" is no span
        await admin.get_by_test_id("queue-weekday-0").fill(span)
        await _save(admin)

        _, closed = await shop_page(browser, patchbay.url)
        await closed.locator("[data-screen=closed]").wait_for(timeout=SOON_MS)
        assert await closed.get_by_test_id("start-call").count() == 0
        assert "We open again on" in await closed.get_by_test_id("screen").inner_text()
        await _open_queue(admin, patchbay.url, "Sales")
        await admin.get_by_test_id("queue-hours").uncheck()
        await _save(admin)
        await closed.get_by_test_id("check-again").click()
        await closed.get_by_test_id("start-call").wait_for()
