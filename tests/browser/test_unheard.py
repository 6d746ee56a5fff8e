"""One-way audio has a name on the agent's screen within 3 s: which side it is, and why.

The clock runs in the agent's page: from the last moment in which all was well until the words are there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Frame, Page, expect

from tests.helpers.browser import (
    AGENT_HZ,
    CUSTOMER_HZ,
    agent_page,
    chromium,
    hears,
    shop_page,
    start_call,
)
from tests.helpers.system import PASSWORD, system

pytestmark = pytest.mark.browser

# The page's peer connections from now on, and its voice, which can be cut off.
PEERS = """() => {
  window.__peers = [];
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(configuration) { super(configuration); window.__peers.push(this); }
  };
}"""
SPEAK = """async (on) => {
  const sender = window.__peers.at(-1).getSenders()[0];
  window.__voice ??= sender.track;
  await sender.replaceTrack(on ? window.__voice : null);
}"""
WITHIN_MS = 3_000
SLACK_MS = 2_000  # of a machine that runs two browsers, a node and a worker on two cores


@dataclass
class Talk:
    li: Frame
    ana: Page


@asynccontextmanager
async def talk(folder: Path, customer_hz: float = CUSTOMER_HZ) -> AsyncIterator[Talk]:
    async with (
        system(folder, workers=1) as patchbay,
        chromium(folder, customer_hz) as customers,
        chromium(folder, AGENT_HZ) as agents,
    ):
        ana = await agent_page(agents, patchbay.url, "ana", PASSWORD)
        _, li = await shop_page(customers, patchbay.url)
        for page in (ana, li):
            await page.evaluate(PEERS)
        await start_call(li, "Li Wei")
        await ana.get_by_test_id("offer-accept").click()
        yield Talk(li, ana)


async def named_after_ms(page: Page, testid: str) -> float:
    """How long after now the words appear."""
    took_ms: float = await page.evaluate(
        """async (testid) => {
          const began = performance.now();
          while (document.querySelector(`[data-testid="${testid}"]`) === null) {
            if (performance.now() - began > 20000) return Infinity;
            await new Promise((resolve) => setTimeout(resolve, 20));
          }
          return performance.now() - began;
        }""",
        testid,
    )
    return took_ms


async def test_each_side_that_falls_silent_is_named_within_three_seconds(tmp_path: Path) -> None:
    async with talk(tmp_path) as t:
        await asyncio.gather(hears(t.ana, CUSTOMER_HZ), hears(t.li, AGENT_HZ))
        for side, testid, words in (
            (t.li, "customer-unheard", "no sound arrives from their device"),
            (t.ana, "you-unheard", "no sound of yours arrives"),
        ):
            await side.evaluate(SPEAK, False)
            took_ms = await named_after_ms(t.ana, testid)
            print(f"{testid}: {took_ms:.0f} ms")
            assert took_ms < WITHIN_MS + SLACK_MS
            await expect(t.ana.get_by_test_id(testid)).to_contain_text(words)
            await side.evaluate(SPEAK, True)
            await t.ana.get_by_test_id(testid).wait_for(state="detached")


async def test_a_microphone_that_only_sends_silence_is_named_when_the_talk_begins(tmp_path: Path) -> None:
    async with talk(tmp_path, customer_hz=0) as t:
        await t.ana.get_by_test_id("call-state").and_(t.ana.locator("[data-state=talking]")).wait_for()
        took_ms = await named_after_ms(t.ana, "customer-unheard")
        print(f"silence: {took_ms:.0f} ms")
        assert took_ms < WITHIN_MS + SLACK_MS
        await expect(t.ana.get_by_test_id("customer-unheard")).to_contain_text("only silence")
        assert await t.ana.get_by_test_id("you-unheard").count() == 0
