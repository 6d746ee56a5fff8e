"""Parking and fetching, as three people hear and see it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.browser.test_call_control import BO_HZ, hears_not, scene
from tests.helpers.browser import AGENT_HZ, CUSTOMER_HZ, agent_state, hears

pytestmark = pytest.mark.browser


async def test_a_call_is_parked_and_the_other_agent_fetches_it(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await s.bo.get_by_test_id("parked-none").wait_for()
        await s.ana.get_by_test_id("park").click()
        await agent_state(s.ana, "wrap_up")
        call = s.bo.get_by_test_id("parked-call").filter(has_text="Li Wei")
        await call.filter(has_text="Parked by Ana Duarte").wait_for()
        await s.ana.get_by_test_id("parked-call").wait_for()
        assert await s.ana.get_by_test_id("fetch").is_disabled(), "who wraps up is not free"
        await s.li.get_by_test_id("held").wait_for()
        await hears_not(s.li, AGENT_HZ, BO_HZ)
        await s.bo.screenshot(path=tmp_path / "parked.png")
        await s.bo.emulate_media(color_scheme="dark")
        await s.bo.set_viewport_size({"width": 360, "height": 740})
        await s.bo.screenshot(path=tmp_path / "parked-narrow-dark.png")
        await s.bo.set_viewport_size({"width": 1280, "height": 720})

        await s.bo.keyboard.press("Alt+KeyG")
        await asyncio.gather(hears(s.bo, CUSTOMER_HZ), hears(s.li, BO_HZ))
        await agent_state(s.bo, "on_contact")
        await asyncio.gather(
            s.ana.get_by_test_id("parked-none").wait_for(), s.bo.get_by_test_id("parked-none").wait_for()
        )
        await s.bo.screenshot(path=tmp_path / "fetched.png")
        await s.bo.get_by_test_id("hang-up").click()
        await agent_state(s.bo, "wrap_up")
        rows = s.patchbay.rows("SELECT agent_id, end_reason FROM segment ORDER BY number")
        assert [reason for _, reason in rows] == ["parked", "agent_hung_up"]
