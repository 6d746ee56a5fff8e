"""What a customer reads of the wait, in Chromium: the range, in both languages and themes, and what is kept of it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from tests.helpers.browser import AGENT_HZ, CUSTOMER_HZ, agent_page, chromium, start_call, widget_frame
from tests.helpers.system import PASSWORD, System, system, until

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("deployment")]
MINUTE = 60_000
SOON_MS = 15_000


def busy_hour(patchbay: System) -> None:
    """Sales was never empty and answered somebody each minute."""
    ((queue_id, tenant),) = patchbay.rows("SELECT id, tenant FROM queue WHERE name = 'Sales'")
    now = round(time.time() * 1000)
    for number in range(30):
        ended = now - number * MINUTE
        patchbay.rows(
            "INSERT INTO queue_visit (id, tenant, session_id, queue_id, entered_at, ended_at, outcome) VALUES "
            f"('vis_old{number}', '{tenant}', 'ses_old', '{queue_id}', {ended - 3 * MINUTE}, {ended}, 'answered')"
        )


async def test_who_waits_reads_about_how_long(tmp_path: Path) -> None:
    async with (
        system(tmp_path) as patchbay,
        chromium(tmp_path, AGENT_HZ) as agents,
        chromium(tmp_path, CUSTOMER_HZ) as customers,
    ):
        busy_hour(patchbay)
        ana = await agent_page(agents, patchbay.url, "ana", PASSWORD)
        for locale, theme, said in (
            ("en-GB", "light", r"About \d+–\d+ (sec|min)"),
            ("zh-CN", "dark", r"预计还需 \d+-\d+(秒|分钟)"),
        ):
            context = await customers.new_context(
                permissions=["microphone"], locale=locale, color_scheme="dark" if theme == "dark" else "light"
            )
            page = await context.new_page()
            await page.goto(f"{patchbay.url}/demo/shop")
            await page.get_by_test_id("widget-launcher").click()
            frame = await widget_frame(page)
            await start_call(frame)
            await ana.get_by_test_id("offer-reject").click()  # she is at work, and takes something else
            wait = frame.get_by_test_id("queue-wait")
            await wait.wait_for(timeout=SOON_MS)
            text = await wait.inner_text()
            assert re.fullmatch(said, text), text
            await page.screenshot(path=tmp_path / f"waiting-{locale}-{theme}.png")
            await frame.get_by_test_id("hang-up").click()
            await wait.wait_for(state="detached")

        async def kept() -> list[tuple[str, ...]]:
            visits = patchbay.rows(
                "SELECT told_low_ms, told_high_ms, body FROM queue_visit JOIN session_event USING (session_id)"
                " WHERE type = 'WaitEstimated' AND outcome = 'abandoned'"
            )
            return visits if len(visits) == 2 else []

        for low_ms, high_ms, body in await until(kept, 5, "each is kept once"):
            told = json.loads(body) if isinstance(body, str) else body
            assert (low_ms, high_ms) == (told["low_ms"], told["high_ms"])
            assert 0 < low_ms < high_ms < 3 * MINUTE
