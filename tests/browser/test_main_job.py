"""The main job in real browsers: a customer calls from the shop, an agent answers, both hear each other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from server.media.peer import spectrum_peak
from tests.helpers.browser import (
    AGENT_HZ,
    CUSTOMER_HZ,
    agent_page,
    agent_state,
    chromium,
    hears,
    keeps_hearing,
    shop_page,
    start_call,
)
from tests.helpers.recordings import read_stereo
from tests.helpers.system import PASSWORD, system, until

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("deployment")]
TONE_TOLERANCE_HZ = 10


async def test_each_side_hears_the_other_and_the_recording_plays(tmp_path: Path) -> None:
    async with (
        system(tmp_path) as patchbay,
        chromium(tmp_path, CUSTOMER_HZ) as customers,
        chromium(tmp_path, AGENT_HZ) as agents,
    ):
        agent = await agent_page(agents, patchbay.url, "ana", PASSWORD)
        _, widget = await shop_page(customers, patchbay.url)
        await start_call(widget, "Li Wei")

        await agent.get_by_test_id("offer-card").wait_for()
        assert "Li Wei" in await agent.get_by_test_id("offer-card").inner_text()
        await agent.get_by_test_id("offer-accept").click()
        await asyncio.gather(hears(agent, CUSTOMER_HZ), hears(widget, AGENT_HZ))
        await asyncio.gather(keeps_hearing(agent, CUSTOMER_HZ, 5), keeps_hearing(widget, AGENT_HZ, 5))

        await widget.get_by_test_id("hang-up").click()
        await widget.get_by_test_id("call-ended").wait_for()
        await agent.get_by_test_id("wrap-up").wait_for()
        await agent.get_by_test_id("disposition").select_option(index=1)
        await agent.get_by_test_id("notes").fill("wanted a wide-angle lens")
        await agent.get_by_test_id("wrap-up-done").click()
        await agent_state(agent, "ready")

        async def archived() -> bool:
            return patchbay.rows("SELECT state FROM recording") == [("ready",)]

        await until(archived, 30, "the recording's archive")
        ((talk_ms, recorded_ms),) = patchbay.rows(
            "SELECT s.talk_ended_at - s.talk_started_at, r.duration_ms FROM segment s JOIN recording r"
            " ON r.segment_id = s.id"
        )
        assert abs(recorded_ms - talk_ms) <= 200

        await agent.get_by_test_id("nav-history").click()
        await agent.get_by_test_id("history-row").first.get_by_role("link").click()
        await agent.get_by_test_id("player-play").click()
        await agent.wait_for_function(
            "() => { const a = document.querySelector('[data-testid=player-audio]'); return a && a.currentTime > 1; }"
        )

        ((recording_id,),) = patchbay.rows("SELECT id FROM recording")
        left, right, seconds = await read_stereo(agent, recording_id)
        assert abs(spectrum_peak(left) - CUSTOMER_HZ) <= TONE_TOLERANCE_HZ
        assert abs(spectrum_peak(right) - AGENT_HZ) <= TONE_TOLERANCE_HZ
        assert abs(seconds * 1000 - talk_ms) <= 200
