"""A call between two Chromium windows, up and heard on both sides; and what is looked at again and again in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Frame, Page

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
    widget_frame,
)
from tests.helpers.system import PASSWORD, System, until

RECORDING_TOLERANCE_MS = 200  # what the product promises
ARCHIVE_S = 30.0

TIMER_OFF_S = 2  # a whole second of rounding, and one for the look itself


async def _counts_from(began_at_s: float, shown: Callable[[], Awaitable[int]], what: str) -> None:
    """Some look finds the timer right: a busy tab may show a second late, and takes the server's time from a ping."""

    async def right() -> bool:
        before_s = time.time() - began_at_s
        seconds = await shown()
        seen.append(f"{seconds} after {time.time() - began_at_s:.1f} s")
        return before_s - TIMER_OFF_S <= seconds <= time.time() - began_at_s + TIMER_OFF_S

    seen: list[str] = []
    try:
        await until(right, 10.0, what, every_s=0.5)
    except AssertionError:
        raise AssertionError(f"{what} shows {seen[-3:]}") from None


@dataclass
class LiveCall:
    patchbay: System
    agent: Page
    shop: Page
    widget: Frame
    session_id: str

    async def both_hear(self, timeout_s: float = 15.0) -> None:
        await asyncio.gather(hears(self.agent, CUSTOMER_HZ, timeout_s), hears(self.widget, AGENT_HZ, timeout_s))

    async def both_keep_hearing(self, seconds: float) -> None:
        await asyncio.gather(
            keeps_hearing(self.agent, CUSTOMER_HZ, seconds), keeps_hearing(self.widget, AGENT_HZ, seconds)
        )

    async def mark_sound(self) -> None:
        """What is heard now is the old sound: `both_hear_anew` waits for another stream's."""
        for side in (self.agent, self.widget):
            await side.evaluate("() => { window.__oldStream = window.__patchbay.remoteStream(); }")

    async def both_hear_anew(self, timeout_s: float = 15.0) -> None:
        anew = "() => { const now = window.__patchbay.remoteStream(); return now && now !== window.__oldStream; }"
        for side, hz in ((self.agent, CUSTOMER_HZ), (self.widget, AGENT_HZ)):
            await side.wait_for_function(anew, timeout=timeout_s * 1000, polling=20)
            await hears(side, hz, timeout_s)

    async def reload_agent(self) -> float:
        """Reload the console; seconds until both hear each other again."""
        began = time.monotonic()
        await self.agent.reload(wait_until="commit")
        await hears(self.agent, CUSTOMER_HZ)
        await hears(self.widget, AGENT_HZ)  # asked only now: what was under way before the reload is played out
        return time.monotonic() - began

    async def reload_shop(self) -> float:
        """Reload the page around the widget; seconds until both hear each other again."""
        began = time.monotonic()
        await self.shop.reload(wait_until="commit")
        self.widget = await widget_frame(self.shop)
        await hears(self.widget, AGENT_HZ)
        await hears(self.agent, CUSTOMER_HZ)
        return time.monotonic() - began

    async def hang_up_and_wrap_up(self) -> None:
        """The customer hangs up; the agent finishes and is ready again."""
        await self.widget.get_by_test_id("hang-up").click()
        await self.widget.get_by_test_id("call-ended").wait_for()
        await self.agent.get_by_test_id("wrap-up").wait_for()
        await self.agent.get_by_test_id("disposition").select_option(index=1)
        await self.agent.get_by_test_id("wrap-up-done").click()
        await agent_state(self.agent, "ready")

    async def timers_go_on(self) -> None:
        """Both screens count from the moment when the talk began."""
        began_at = self.patchbay.session(self.session_id)["talk_started_at"]

        async def agents_s() -> int:
            return int(await self.agent.get_by_test_id("call-timer").get_attribute("data-seconds") or -1)

        async def widgets_s() -> int:
            minutes, seconds = (await self.widget.get_by_test_id("call-timer").inner_text()).split(":")
            return int(minutes) * 60 + int(seconds)

        await _counts_from(began_at / 1000, agents_s, "the agent's timer")
        await _counts_from(began_at / 1000, widgets_s, "the widget's timer")

    async def one_playable_recording(self) -> tuple[str, int]:
        """(id, parts) of the call's only recording, once its archive is made: as long as the talk was."""

        async def archived() -> Any:
            found = self.patchbay.rows(
                "SELECT r.id, r.state, r.parts, r.duration_ms, s.talk_ended_at - s.talk_started_at"
                " FROM recording r JOIN segment s ON s.id = r.segment_id WHERE r.session_id = ?",
                self.session_id,
            )
            assert len(found) == 1, found
            return found[0] if found[0][1] in ("ready", "failed", "lost") else None

        recording_id, state, parts, duration_ms, talk_ms = await until(archived, ARCHIVE_S, "the recording's archive")
        assert state == "ready"
        assert abs(duration_ms - talk_ms) <= RECORDING_TOLERANCE_MS, f"{duration_ms} ms of {talk_ms} ms"
        return recording_id, parts


@asynccontextmanager
async def live_call(folder: Path, patchbay: System) -> AsyncIterator[LiveCall]:
    """Ana's console and the demo shop, talking."""
    async with chromium(folder, CUSTOMER_HZ) as customers, chromium(folder, AGENT_HZ) as agents:
        agent = await agent_page(agents, patchbay.url, "ana", PASSWORD)
        shop, widget = await shop_page(customers, patchbay.url)
        await start_call(widget, "Li Wei")
        await agent.get_by_test_id("offer-accept").click()
        await asyncio.gather(hears(agent, CUSTOMER_HZ), hears(widget, AGENT_HZ))
        ((session_id,),) = patchbay.rows("SELECT id FROM session WHERE state <> 'ended'")
        yield LiveCall(patchbay, agent, shop, widget, session_id)
