"""A tab is reloaded in the middle of a call: sound on both sides is back soon, and nothing else has happened."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from server.media.peer import spectrum_peak
from tests.helpers.browser import AGENT_HZ, CUSTOMER_HZ
from tests.helpers.live_call import RECORDING_TOLERANCE_MS, LiveCall, live_call
from tests.helpers.recordings import read_stereo
from tests.helpers.system import system

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("deployment")]
RELOADS = 20
BACK_S = 4.0  # with two browsers and the server on two shared cores; what people see is to stay below 2 s
MEDIAN_BACK_S = 2.0


@pytest.mark.parametrize("side", ["agent", "customer"])
async def test_a_reloaded_tab_is_back_in_the_same_call(tmp_path: Path, side: str) -> None:
    async with system(tmp_path) as patchbay, live_call(tmp_path, patchbay) as call:
        back_s = []
        for _ in range(RELOADS):
            back_s.append(await (call.reload_agent() if side == "agent" else call.reload_shop()))
            await call.timers_go_on()
        await call.both_keep_hearing(2)
        print(f"{side}: back after {statistics.median(back_s):.2f} s (median), {sorted(back_s)[-2]:.2f} s (p95)")
        assert statistics.median(back_s) <= MEDIAN_BACK_S, back_s
        assert max(back_s) <= BACK_S, back_s
        assert patchbay.rows("SELECT id FROM session") == [(call.session_id,)]
        assert patchbay.rows("SELECT COUNT(*) FROM segment") == [(1,)]
        await call.hang_up_and_wrap_up()
        await _the_recording_holds_both(call)


async def _the_recording_holds_both(call: LiveCall) -> None:
    recording_id, parts = await call.one_playable_recording()
    assert parts == 1
    left, right, seconds = await read_stereo(call.agent, recording_id)
    session = call.patchbay.session(call.session_id)
    assert abs(seconds * 1000 - (session["ended_at"] - session["talk_started_at"])) <= RECORDING_TOLERANCE_MS
    assert abs(spectrum_peak(left) - CUSTOMER_HZ) <= 10
    assert abs(spectrum_peak(right) - AGENT_HZ) <= 10
