"""A media worker is told to stop in the middle of a call between two Chromium windows: it goes, and they talk on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Frame, Page

from tests.helpers.browser import AGENT_HZ, CUSTOMER_HZ, HEARS, TOLERANCE_HZ
from tests.helpers.live_call import live_call
from tests.helpers.machines import DRAIN_S, machines

pytestmark = pytest.mark.browser
WATCH_S = 8.0
GAP_MS = 700  # the tone itself pauses for 100 ms, and the analyser fills for 170 ms when the stream is another one

# Looks every 20 ms: the longest time without the tone, ms, and whether a "reconnecting" was shown.
WATCH = f"""async ([hz, tolerance, ms]) => {{
  const hears = {HEARS};
  let last = performance.now(), longest = 0, reconnecting = false;
  const until = last + ms;
  while (performance.now() < until) {{
    const now = performance.now();
    if (hears([hz, tolerance])) last = now;
    longest = Math.max(longest, now - last);
    reconnecting ||= document.querySelector('[data-testid="reconnecting"]') !== null;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }}
  return [longest, reconnecting];
}}"""


async def watched(page: Page | Frame, hz: float) -> Any:
    return await page.evaluate(WATCH, [hz, TOLERANCE_HZ, WATCH_S * 1000])


async def test_a_worker_is_drained_in_a_call(tmp_path: Path) -> None:
    async with machines(tmp_path) as m, live_call(tmp_path, m.patchbay) as call:
        first = await m.holder(call.session_id)
        await call.mark_sound()
        watching = asyncio.gather(watched(call.agent, CUSTOMER_HZ), watched(call.widget, AGENT_HZ))
        assert first.process is not None
        began = time.monotonic()
        first.process.terminate()
        await asyncio.wait_for(first.process.wait(), DRAIN_S)
        left_s = time.monotonic() - began
        seen = await watching
        print(f"worker gone after {left_s:.1f} s; [longest gap in ms, reconnecting shown] {seen}")
        assert left_s < 10
        assert all(gap_ms < GAP_MS for gap_ms, _ in seen)
        await call.both_hear_anew()
        await m.moved(call.session_id, 2)
        await first.start()
        await call.hang_up_and_wrap_up()
        _, parts = await call.one_playable_recording()
        assert parts == 2
