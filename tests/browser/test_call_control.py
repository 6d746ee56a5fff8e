"""Handing over and calling in, as three people hear and see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Frame, Page

from tests.helpers.browser import (
    AGENT_HZ,
    CUSTOMER_HZ,
    HEARS,
    PEAK,
    TOLERANCE_HZ,
    agent_page,
    agent_state,
    chromium,
    hears,
    keeps_hearing,
    shop_page,
    start_call,
)
from tests.helpers.system import PASSWORD, System, system

pytestmark = pytest.mark.browser
BO_HZ = 1320


@dataclass
class Scene:
    """Li, the customer, talks to Ana; Bo is ready."""

    patchbay: System
    li: Frame
    ana: Page
    bo: Page


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    async with (
        system(folder) as patchbay,
        chromium(folder, CUSTOMER_HZ) as customers,
        chromium(folder, AGENT_HZ) as agents,
        chromium(folder, BO_HZ) as others,
    ):
        ana = await agent_page(agents, patchbay.url, "ana", PASSWORD)
        _, li = await shop_page(customers, patchbay.url)
        await start_call(li, "Li Wei")
        await ana.get_by_test_id("offer-accept").click()
        await asyncio.gather(hears(ana, CUSTOMER_HZ), hears(li, AGENT_HZ))
        bo = await agent_page(others, patchbay.url, "bo", PASSWORD)
        yield Scene(patchbay, li, ana, bo)


async def hears_both(page: Page | Frame, *pitches: float) -> None:
    """Each tone stands out of its surroundings in what the page receives, within a second of looks."""
    for hz in pitches:
        await page.wait_for_function(
            f"""([hz, tolerance]) => {{
              if (({PEAK})() === null) return false;
              const analyser = window.__peakAnalyser;
              const bins = new Float32Array(analyser.frequencyBinCount);
              analyser.getFloatFrequencyData(bins);
              const width = window.__peakContext.sampleRate / analyser.fftSize;
              const at = (frequency) => Math.round(frequency / width);
              const loudest = (from, to) => Math.max(...bins.slice(at(from), at(to) + 1));
              const around = Math.max(loudest(hz - 150, hz - 60), loudest(hz + 60, hz + 150));
              return loudest(hz - tolerance, hz + tolerance) > Math.max(-60, around + 12);
            }}""",
            arg=[hz, TOLERANCE_HZ],
            timeout=10_000,
            polling=50,
        )


async def hears_not(page: Page | Frame, *pitches: float, seconds: float = 1.5) -> None:
    """Soon, and from then on for so long, none of the tones is ever the loudest thing."""
    quiet = await page.evaluate(
        f"""async ([pitches, tolerance, ms]) => {{
          const hears = {HEARS};
          const until = performance.now() + 3 * ms;
          let since = performance.now();
          while (performance.now() < until) {{
            if (pitches.some((hz) => hears([hz, tolerance]))) since = performance.now();
            if (performance.now() - since >= ms) return true;
            await new Promise((resolve) => setTimeout(resolve, 50));
          }}
          return false;
        }}""",
        [pitches, TOLERANCE_HZ, seconds * 1000],
    )
    assert quiet, f"one of {pitches} Hz is heard"


async def ask(scene: Scene, act: str, kind: str = "agent", name: str = "Bo") -> None:
    """Ana opens the dialog by its key, finds somebody, and presses one of the two."""
    await scene.ana.keyboard.press("Alt+KeyT")
    await scene.ana.get_by_test_id("transfer-search").fill(name)
    row = scene.ana.get_by_test_id(f"transfer-{kind}").filter(has_text=name)
    await row.get_by_test_id(f"transfer-{act}").click()
    await scene.ana.get_by_test_id("transfer-dialog").wait_for(state="detached")


async def says(page: Page, text: str) -> None:
    await page.get_by_test_id("consult-said").filter(has_text=text).wait_for()


async def test_a_consult_is_swapped_and_handed_over(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await ask(s, "consult")
        await says(s.ana, "Asking Bo Lindqvist")
        await s.bo.get_by_text("Ana Duarte asks for you").first.wait_for()
        await s.bo.get_by_test_id("offer-accept").click()
        await asyncio.gather(hears(s.ana, BO_HZ), hears(s.bo, AGENT_HZ))
        await says(s.ana, "the customer hears music")
        await says(s.bo, "the customer can’t hear you")
        await hears_not(s.li, AGENT_HZ, BO_HZ)
        await s.ana.screenshot(path=tmp_path / "consult-owner.png")
        await s.bo.screenshot(path=tmp_path / "consult-guest.png")
        assert await s.ana.get_by_test_id("hang-up").is_disabled(), "nobody hangs up on a customer on hold by mistake"

        await s.ana.get_by_test_id("consult-swap").click()
        await asyncio.gather(hears(s.ana, CUSTOMER_HZ), hears(s.li, AGENT_HZ))
        await says(s.bo, "you hear music")
        await hears_not(s.bo, AGENT_HZ, CUSTOMER_HZ)

        await s.ana.get_by_test_id("consult-complete").click()
        await asyncio.gather(hears(s.bo, CUSTOMER_HZ), hears(s.li, BO_HZ))
        await asyncio.gather(agent_state(s.ana, "wrap_up"), agent_state(s.bo, "on_contact"))
        await s.bo.get_by_test_id("hang-up").click()
        await agent_state(s.bo, "wrap_up")
        rows = s.patchbay.rows("SELECT agent_id, end_reason FROM segment ORDER BY number")
        assert [reason for _, reason in rows] == ["transferred", "agent_hung_up"]


async def test_a_conference_of_three(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await ask(s, "consult")
        await s.bo.get_by_test_id("offer-accept").click()
        await hears(s.ana, BO_HZ)
        await s.ana.get_by_test_id("consult-confer").click()
        await says(s.ana, "Everybody hears everybody")
        listeners = ((s.li, (AGENT_HZ, BO_HZ)), (s.ana, (CUSTOMER_HZ, BO_HZ)), (s.bo, (CUSTOMER_HZ, AGENT_HZ)))
        await asyncio.gather(*(hears_both(page, *pitches) for page, pitches in listeners))
        await s.ana.screenshot(path=tmp_path / "conference.png")
        await s.ana.get_by_test_id("hang-up").click()
        await asyncio.gather(hears(s.bo, CUSTOMER_HZ), hears(s.li, BO_HZ))
        await asyncio.gather(agent_state(s.ana, "wrap_up"), agent_state(s.bo, "on_contact"))
        await hears_not(s.li, AGENT_HZ)


async def test_a_consult_ends_and_the_customer_is_back(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await ask(s, "consult")
        await s.bo.get_by_test_id("offer-accept").click()
        await hears(s.ana, BO_HZ)
        await s.bo.reload()
        await asyncio.gather(hears(s.ana, BO_HZ), hears(s.bo, AGENT_HZ))
        await s.ana.get_by_test_id("consult-end").click()
        await asyncio.gather(hears(s.ana, CUSTOMER_HZ), hears(s.li, AGENT_HZ))
        await agent_state(s.bo, "ready")
        await s.ana.get_by_test_id("consult-bar").wait_for(state="detached")


async def test_a_transfer_to_an_agent_and_on_to_a_queue(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await ask(s, "now")
        await s.bo.get_by_text("Transferred by Ana Duarte").first.wait_for()
        await agent_state(s.ana, "wrap_up")
        await s.bo.get_by_test_id("offer-accept").click()
        await asyncio.gather(hears(s.bo, CUSTOMER_HZ), hears(s.li, BO_HZ))
        await s.ana.get_by_test_id("disposition").select_option(index=1)
        await s.ana.get_by_test_id("wrap-up-done").click()
        await agent_state(s.ana, "ready")
        back = Scene(s.patchbay, s.li, s.bo, s.ana)
        await ask(back, "now", "queue", "Sales")
        await s.ana.get_by_test_id("offer-accept").click()
        await asyncio.gather(hears(s.ana, CUSTOMER_HZ), hears(s.li, AGENT_HZ))


async def test_who_is_muted_stays_so_after_a_reload(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await s.ana.get_by_test_id("mute").click()
        await hears_not(s.li, AGENT_HZ)
        await s.ana.reload()
        await hears(s.ana, CUSTOMER_HZ)
        await s.ana.get_by_test_id("muted").wait_for()
        await hears_not(s.li, AGENT_HZ)
        await s.ana.get_by_test_id("mute").click()
        await hears(s.li, AGENT_HZ)
        await keeps_hearing(s.li, AGENT_HZ, 1.5)
