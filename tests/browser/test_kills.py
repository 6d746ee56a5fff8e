"""A part is killed in the middle of a call between two Chromium windows: people hear each other all the same."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.helpers.browser import AGENT_HZ, CUSTOMER_HZ, agent_page, agent_state, chromium, hears, shop_page, start_call
from tests.helpers.live_call import LiveCall, live_call
from tests.helpers.recordings import read_stereo
from tests.helpers.system import PASSWORD, System, system, until

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("deployment")]
OUTAGE_S = 3.0  # of the control node: as long as it takes to start
BACK_S = 15.0  # a Python that starts (2 s, 4 s on a busy machine) and a reconnection, with room
MEDIA_BACK_S = 5.0  # with two browsers and a Python that starts, on two shared cores


async def killed(patchbay: System, part: str) -> float:
    """Kill a part and wait until another process is in its place; when it was killed (monotonic)."""
    pid = patchbay.kill(part)
    at = time.monotonic()

    async def replaced() -> bool:
        return patchbay.pids().get(part, pid) != pid

    await until(replaced, 5, f"another {part}")
    return at


async def both_back(call: LiveCall) -> None:
    """No screen says any more that it reconnects, and both are in the talk."""
    for side in (call.agent, call.widget):
        await expect(side.get_by_test_id("reconnecting")).to_have_count(0, timeout=BACK_S * 1000)
    await call.agent.locator('[data-testid="call-state"][data-state="talking"]').wait_for()
    await call.timers_go_on()


async def test_the_control_node_is_killed_in_a_call(tmp_path: Path) -> None:
    async with system(tmp_path) as patchbay, live_call(tmp_path, patchbay) as call:
        before = patchbay.session(call.session_id)
        hearing = asyncio.create_task(call.both_keep_hearing(OUTAGE_S + 2))
        at = await killed(patchbay, "control")
        for side in (call.agent, call.widget):
            await side.get_by_test_id("reconnecting").wait_for()
        noticed_s = time.monotonic() - at
        await both_back(call)
        print(f"noticed after {noticed_s:.2f} s, both screens back after {time.monotonic() - at:.2f} s")
        await hearing
        after = patchbay.session(call.session_id)
        assert after["epoch"] == before["epoch"]
        assert after["customer_leg"]["generation"] == before["customer_leg"]["generation"]  # nothing was torn down
        await call.hang_up_and_wrap_up()
        recording_id, parts = await call.one_playable_recording()
        assert parts == 1
        await read_stereo(call.agent, recording_id)


@pytest.mark.parametrize("workers", [2, 1])
async def test_a_media_worker_is_killed_in_a_call(tmp_path: Path, workers: int) -> None:
    async with system(tmp_path, workers=workers) as patchbay, live_call(tmp_path, patchbay) as call:
        first = patchbay.session(call.session_id)
        await call.both_keep_hearing(2)
        await call.mark_sound()
        patchbay.kill(first["worker_id"])
        at = time.monotonic()
        await call.both_hear_anew()
        back_s = time.monotonic() - at
        print(f"{workers} worker(s): two-way audio back after {back_s:.2f} s")
        assert back_s <= MEDIA_BACK_S
        await call.both_keep_hearing(2)
        await both_back(call)
        moved = patchbay.session(call.session_id)
        assert moved["epoch"] > first["epoch"]
        assert (moved["worker_id"] != first["worker_id"]) == (workers > 1)
        assert patchbay.rows("SELECT COUNT(*) FROM segment") == [(1,)]
        await call.hang_up_and_wrap_up()
        recording_id, parts = await call.one_playable_recording()
        assert parts == 2
        await both_sides_are_in_both_parts(call, recording_id)


async def both_sides_are_in_both_parts(call: LiveCall, recording_id: str) -> None:
    left, right, seconds = await read_stereo(call.agent, recording_id)
    session = call.patchbay.session(call.session_id)
    assert abs(seconds * 1000 - (session["ended_at"] - session["talk_started_at"])) <= 200
    for samples in (left, right):
        for part in (samples[: len(samples) // 4], samples[-len(samples) // 4 :]):
            assert part.max() > 1000, "a part is silent"


async def test_the_control_node_is_killed_between_a_leg_and_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each person's leg: the order is sent again, the worker says the same again, and the call comes up."""
    journal = tmp_path / "opened"
    monkeypatch.setenv("DIE_LOG", str(journal))
    monkeypatch.setenv("DIE_AT", "1,3")
    async with (
        system(tmp_path, module="tests.helpers.dying_control") as patchbay,
        chromium(tmp_path, CUSTOMER_HZ) as customers,
        chromium(tmp_path, AGENT_HZ) as agents,
    ):
        agent = await agent_page(agents, patchbay.url, "ana", PASSWORD)
        _, widget = await shop_page(customers, patchbay.url)
        began = time.monotonic()
        await start_call(widget, "Li Wei")
        await agent.get_by_test_id("offer-accept").click(timeout=2 * BACK_S * 1000)
        await asyncio.gather(hears(agent, CUSTOMER_HZ, BACK_S), hears(widget, AGENT_HZ, BACK_S))
        print(f"two deaths later the call is up, after {time.monotonic() - began:.2f} s")
        opened = [line.split() for line in journal.read_text().splitlines()]
        assert opened[0] == opened[1]
        assert opened[2] == opened[3]
        assert len({tuple(line) for line in opened}) == len(opened) - 2
        assert patchbay.rows("SELECT COUNT(*) FROM outbox") == [(0,)]
        await widget.get_by_test_id("hang-up").click()
        await agent.get_by_test_id("wrap-up").wait_for()
        await agent.get_by_test_id("disposition").select_option(index=1)
        await agent.get_by_test_id("wrap-up-done").click()
        await agent_state(agent, "ready")
