"""The ring in real consoles: it comes although messages are lost, moves on at the deadline, and who is too late
reads why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from server.caller import Caller
from tests.helpers.administration import change_queue
from tests.helpers.browser import AGENT_HZ, CUSTOMER_HZ, agent_page, agent_state, chromium, go_ready, hears, log_in
from tests.helpers.faulty_wire import Deaf, DoubledAndSwapped, Every, First, Receive, spoil
from tests.helpers.scripted_agent import ScriptedAgent
from tests.helpers.system import PASSWORD, System, system

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("deployment")]
RING_S = 3.0  # what the product promises, whatever is lost
RING_TIMEOUT_S = 5


@asynccontextmanager
async def calling(patchbay: System) -> AsyncIterator[Caller]:
    caller = Caller(patchbay.url, patchbay.widget_key(), tone_hz=CUSTOMER_HZ, name="Li Wei")
    await caller.begin()
    try:
        yield caller
    finally:
        await caller.close()


async def spoiled_page(browser: Browser, patchbay: System, login: str, receive: Receive) -> Page:
    context = await browser.new_context(permissions=["microphone"])
    page = await context.new_page()
    await spoil(page, receive)
    await log_in(page, patchbay.url, login, PASSWORD)
    await go_ready(page)
    return page


async def offered_at(patchbay: System, session_id: str, number: int) -> float:
    """When the session was offered for the n-th time, seconds since the epoch."""
    rows = patchbay.rows("SELECT offered_at FROM segment WHERE session_id = ? AND number = ?", session_id, number)
    return float(rows[0][0]) / 1000


@pytest.mark.parametrize("fault", ["first lost", "each lost", "no push at all", "doubled and swapped"])
async def test_it_rings_within_3_s_and_the_call_comes_up(tmp_path: Path, fault: str) -> None:
    faults: dict[str, First | Every | DoubledAndSwapped] = {
        "first lost": First("offer.made"),
        "each lost": Every("offer.made"),
        "no push at all": Every(),
        "doubled and swapped": DoubledAndSwapped(),
    }
    receive = faults[fault]
    async with system(tmp_path, workers=1) as patchbay, chromium(tmp_path, AGENT_HZ) as browser:
        agent = await spoiled_page(browser, patchbay, "ana", receive)
        async with calling(patchbay) as caller:
            await agent.get_by_test_id("offer-card").wait_for()
            rang_s = time.time() - await offered_at(patchbay, caller.view["session_id"], 1)
            print(f"{fault}: rang after {rang_s:.2f} s; {receive.lost} spoiled")
            assert rang_s <= RING_S
            assert receive.lost
            await agent.get_by_test_id("offer-accept").click()
            assert caller.peer is not None
            await asyncio.gather(hears(agent, CUSTOMER_HZ), caller.peer.wait_tone(AGENT_HZ))
            await caller.hang_up()
            await agent.get_by_test_id("wrap-up").wait_for()


async def test_an_offer_that_is_not_answered_moves_on_at_its_deadline(tmp_path: Path) -> None:
    async with system(tmp_path, workers=1) as patchbay, chromium(tmp_path, AGENT_HZ) as browser:
        await change_queue(patchbay, ring_timeout_s=RING_TIMEOUT_S)
        ana = await agent_page(browser, patchbay.url, "ana", PASSWORD)
        bo = await agent_page(browser, patchbay.url, "bo", PASSWORD)
        async with calling(patchbay) as caller:
            session_id = caller.view["session_id"]
            await ana.get_by_test_id("offer-card").wait_for()
            await bo.get_by_test_id("offer-card").wait_for()
            first, second = await offered_at(patchbay, session_id, 1), await offered_at(patchbay, session_id, 2)
            assert time.time() - second <= RING_S
            assert RING_TIMEOUT_S <= second - first <= RING_TIMEOUT_S + 1
            await agent_state(ana, "missed")
            await expect(ana.get_by_test_id("offer-card")).to_have_count(0)
            await bo.get_by_test_id("offer-reject").click()
            await agent_state(bo, "ready")
            async with calling(patchbay) as other:  # a second customer: bo's, and not the one's who missed
                await bo.get_by_test_id("offer-accept").click()
                assert other.peer is not None
                await other.peer.wait_tone(AGENT_HZ)
                agents = "SELECT agent_id FROM segment WHERE session_id = ? ORDER BY number"
                assert len(patchbay.rows(agents, session_id)) == 2
                await agent_state(ana, "missed")
                await ana.get_by_test_id("go-ready").first.click()
                await ana.get_by_test_id("offer-accept").click()  # now, and the one that waited for longer
                assert caller.peer is not None
                await caller.peer.wait_tone(AGENT_HZ)
                reasons = "SELECT end_reason FROM segment WHERE session_id = ? ORDER BY number"
                assert patchbay.rows(reasons, session_id) == [("missed",), ("rejected",), (None,)]


async def test_who_accepts_too_late_reads_who_has_taken_it(tmp_path: Path) -> None:
    """The console did not hear that its offer had gone on: the accept itself brings the news."""
    wire = Deaf()
    async with system(tmp_path, workers=1) as patchbay, chromium(tmp_path, AGENT_HZ) as browser:
        await change_queue(patchbay, ring_timeout_s=RING_TIMEOUT_S)
        ana = await spoiled_page(browser, patchbay, "ana", wire)
        async with ScriptedAgent(patchbay.url, "bo", PASSWORD, auto_accept=True) as bo:
            await bo.set_state("ready")
            async with calling(patchbay):
                await ana.get_by_test_id("offer-card").wait_for()
                wire.on = True
                await bo.contact("talking")
                began = time.monotonic()
                await ana.get_by_test_id("offer-accept").click()
                await expect(ana.get_by_test_id("refusal")).to_have_text("Taken by Bo Lindqvist.")
                assert time.monotonic() - began < 1
                wire.on = False
                await agent_state(ana, "missed")
                await expect(ana.get_by_test_id("offer-card")).to_have_count(0)
