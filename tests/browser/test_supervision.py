"""A supervisor in somebody's talk: who hears whom in each of the four ways, by tones."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.browser.test_call_control import hears_both, hears_not
from tests.helpers.browser import (
    AGENT_HZ,
    CUSTOMER_HZ,
    agent_page,
    agent_state,
    chromium,
    hears,
    keeps_hearing,
    log_in,
    shop_page,
    start_call,
)
from tests.helpers.system import PASSWORD, system

pytestmark = pytest.mark.browser
SAM_HZ = 1320


async def test_listen_coach_barge_and_take_over(tmp_path: Path) -> None:
    async with (
        system(tmp_path) as patchbay,
        chromium(tmp_path, CUSTOMER_HZ) as customers,
        chromium(tmp_path, AGENT_HZ) as agents,
        chromium(tmp_path, SAM_HZ) as supervisors,
    ):
        ana = await agent_page(agents, patchbay.url, "ana", PASSWORD)
        _, li = await shop_page(customers, patchbay.url)
        await start_call(li, "Li Wei")
        await ana.get_by_test_id("offer-accept").click()
        await asyncio.gather(hears(ana, CUSTOMER_HZ), hears(li, AGENT_HZ))

        context = await supervisors.new_context(permissions=["microphone"])
        sam = await context.new_page()
        await log_in(sam, patchbay.url, "sam", PASSWORD, "/agent")
        await sam.get_by_test_id("nav-live").click()
        await sam.get_by_test_id("live-call").filter(has_text="Ana Duarte").get_by_test_id("live-listen").click()
        await sam.get_by_test_id("monitor-said").filter(has_text="Nobody hears you").wait_for()
        await hears_both(sam, CUSTOMER_HZ, AGENT_HZ)
        await asyncio.gather(hears_not(li, SAM_HZ), hears_not(ana, SAM_HZ))
        assert await sam.get_by_test_id("mute").get_attribute("aria-pressed") == "true", "the microphone is off"
        assert await ana.get_by_test_id("supervisor-here").count() == 0, "who listens is not seen"
        await sam.screenshot(path=tmp_path / "listen.png")

        await sam.get_by_test_id("monitor-coach").click()
        await ana.get_by_test_id("supervisor-here").wait_for()
        await asyncio.gather(hears_both(ana, CUSTOMER_HZ, SAM_HZ), hears_both(sam, CUSTOMER_HZ, AGENT_HZ))
        await hears_not(li, SAM_HZ)
        await ana.screenshot(path=tmp_path / "coached.png")

        await sam.get_by_test_id("monitor-barge").click()
        await asyncio.gather(hears_both(li, AGENT_HZ, SAM_HZ), hears_both(ana, CUSTOMER_HZ, SAM_HZ))

        await sam.get_by_test_id("monitor-listen").click()
        await asyncio.gather(hears_not(li, SAM_HZ), hears_not(ana, SAM_HZ))
        await asyncio.gather(keeps_hearing(li, AGENT_HZ, 1.5), keeps_hearing(ana, CUSTOMER_HZ, 1.5))

        await sam.get_by_test_id("monitor-take-over").click()
        await sam.get_by_test_id("take-over-yes").click()
        await asyncio.gather(hears(li, SAM_HZ), hears(sam, CUSTOMER_HZ), agent_state(ana, "wrap_up"))
        await hears_not(li, AGENT_HZ)
        await sam.get_by_test_id("hang-up").click()
        await agent_state(sam, "wrap_up")
        await sam.get_by_test_id("wrap-up-waits").get_by_role("link").click()  # the list of live calls is still shown
        await sam.get_by_test_id("wrap-up").wait_for()
        actions = [action for (action,) in patchbay.rows("SELECT action FROM audit_log ORDER BY at, id")]
        told = [action for action in actions if action.startswith("supervision")]
        assert told == [
            "supervision_begun", "supervision_coach", "supervision_barge", "supervision_listen",
            "supervision_taken_over",
        ]  # fmt: skip
