"""A worker's own figures: the worst lag and the share of a core, over a window."""

from __future__ import annotations

import asyncio
import time

import pytest

from server.media.relay.vitals import PERIOD_S, WINDOW, Vitals


def test_the_worst_of_the_window_and_no_older_one() -> None:
    vitals = Vitals()
    assert (vitals.loop_lag_s, vitals.cpu_share) == (0.0, None)
    vitals.note(10.0, 10.3, 5.0)
    assert vitals.cpu_share is None, "one moment has no share"
    for tick in range(1, WINDOW):
        vitals.note(10.0 + tick, 9.999 + tick, 5.0 + tick / 4)  # a timer that is early is not late
    assert vitals.loop_lag_s == 0.3
    assert vitals.cpu_share == pytest.approx(0.25, rel=0.01)
    for tick in range(WINDOW, 3 * WINDOW):
        vitals.note(10.0 + tick, 10.01 + tick, 5.0 + WINDOW / 4)
    assert vitals.loop_lag_s == 0.01
    assert vitals.cpu_share == 0.0


async def test_a_loop_that_is_held_up_says_so() -> None:
    vitals = Vitals()
    watching = asyncio.create_task(vitals.watch())
    await asyncio.sleep(0)  # it begins to wait
    time.sleep(PERIOD_S + 0.2)  # noqa: ASYNC251  # the fault itself: somebody holds the loop
    async with asyncio.timeout(5):
        while not vitals.loop_lag_s:  # noqa: ASYNC110  # it has no event for that
            await asyncio.sleep(0.01)
    assert vitals.loop_lag_s >= 0.19
    watching.cancel()
