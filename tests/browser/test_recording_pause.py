"""A payment: the agent pauses the recording by its button, and nothing of what is said meanwhile is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from server.media.peer import level_dbfs, spectrum_peak
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
from tests.helpers.recordings import RATE, read_stereo
from tests.helpers.system import PASSWORD, system, until

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("deployment")]
QUIET_DBFS = -50.0


async def test_nothing_of_a_pause_is_in_the_recording(tmp_path: Path) -> None:
    """The agent speaks, is muted, and unmuted during the pause only: after it was muted first, the file is silent."""
    async with (
        system(tmp_path) as patchbay,
        chromium(tmp_path, CUSTOMER_HZ) as customers,
        chromium(tmp_path, AGENT_HZ) as agents,
    ):
        agent = await agent_page(agents, patchbay.url, "ana", PASSWORD)
        _, widget = await shop_page(customers, patchbay.url)
        await start_call(widget, "Li Wei")
        await agent.get_by_test_id("offer-accept").click()
        await asyncio.gather(hears(agent, CUSTOMER_HZ), hears(widget, AGENT_HZ))
        state = agent.get_by_test_id("recording")
        await agent.locator("[data-testid=recording][data-state=on]").wait_for()
        await keeps_hearing(widget, AGENT_HZ, 2)
        await agent.get_by_test_id("mute").click()
        await asyncio.sleep(1.0)  # what a jitter buffer held of the tone, and a second of silence

        await agent.get_by_test_id("record-pause").click()
        await agent.locator("[data-testid=recording][data-state=paused]").wait_for()
        assert await state.locator("[data-testid=recording-resumes]").count() == 1
        await agent.get_by_test_id("mute").click()
        await hears(widget, AGENT_HZ)
        await asyncio.gather(keeps_hearing(agent, CUSTOMER_HZ, 2), keeps_hearing(widget, AGENT_HZ, 2))
        await agent.get_by_test_id("mute").click()
        await asyncio.sleep(0.5)
        await agent.keyboard.press("Alt+KeyP")  # and its key
        await agent.locator("[data-testid=recording][data-state=on]").wait_for()
        await agent.get_by_test_id("record-mark").click()
        await keeps_hearing(agent, CUSTOMER_HZ, 2)

        await widget.get_by_test_id("hang-up").click()
        await agent.get_by_test_id("disposition").select_option(index=1)
        await agent.get_by_test_id("wrap-up-done").click()
        await agent_state(agent, "ready")

        async def archived() -> bool:
            return patchbay.rows("SELECT state FROM recording") == [("ready",)]

        await until(archived, 30, "the recording's archive")
        ((talk_ms, recorded_ms, recording_id, session_id),) = patchbay.rows(
            "SELECT s.talk_ended_at - s.talk_started_at, r.duration_ms, r.id, r.session_id FROM segment s"
            " JOIN recording r ON r.segment_id = s.id"
        )
        (recording,) = patchbay.session(session_id)["recordings"]
        (pause,) = recording["pauses"]
        paused_ms = pause["until"] - pause["since"]
        assert paused_ms > 2_000
        assert abs(recorded_ms - (talk_ms - paused_ms)) <= 200

        left, right, _ = await read_stereo(agent, recording_id)
        paused_at = (pause["since"] - recording["started_at"]) * RATE // 1000
        assert abs(spectrum_peak(left) - CUSTOMER_HZ) <= 10, "the customer's side goes on"
        assert abs(spectrum_peak(right[:RATE]) - AGENT_HZ) <= 10, "the agent was heard at first"
        after = right[paused_at - RATE // 4 :]
        assert len(after) > 2 * RATE
        loudest = max(level_dbfs(part) for part in np.array_split(after, len(after) // (RATE // 50)))
        assert loudest < QUIET_DBFS, "and never again"

        await agent.get_by_test_id("nav-history").click()
        await agent.get_by_test_id("history-row").first.get_by_role("link").click()
        await agent.locator("[data-testid=recording-mark][data-kind=pause]").wait_for()
        assert await agent.locator("[data-testid=recording-mark][data-kind=mark]").count() == 1
