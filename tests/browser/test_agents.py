"""What agents and supervisors see: a forced state, a wrap-up that is extended, a tab that can't take calls."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.helpers.browser import (
    AGENT_HZ,
    CUSTOMER_HZ,
    agent_page,
    agent_state,
    chromium,
    go_ready,
    hears,
    log_in,
    shop_page,
    start_call,
)
from tests.helpers.system import PASSWORD, System, system, until

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("deployment")]
WITHIN_MS = 10_000
# The page's microphone can be pulled out and put in again, and its media paths can be shut.
FAULTY = """
const media = navigator.mediaDevices, open = media.getUserMedia.bind(media), tracks = [];
let unplugged = false;
media.getUserMedia = async (wanted) => {
  if (unplugged) throw new DOMException('unplugged', 'NotFoundError');
  const stream = await open(wanted);
  tracks.push(...stream.getTracks());
  return stream;
};
window.unplug = () => {
  unplugged = true;
  for (const track of tracks.splice(0)) {
    track.stop();
    track.dispatchEvent(new Event('ended'));
  }
};
window.plugIn = () => {
  unplugged = false;
  media.dispatchEvent(new Event('devicechange'));
};
const Peer = RTCPeerConnection;
window.shutPaths = SHUT;
window.RTCPeerConnection = function (settings) {
  return new Peer(window.shutPaths ? { ...settings, iceServers: [], iceTransportPolicy: 'relay' } : settings);
};
"""


async def faulty_page(browser: Browser, patchbay: System, login: str, *, shut: bool = False) -> Page:
    page = await (await browser.new_context(permissions=["microphone"])).new_page()
    await page.add_init_script(f"(() => {{{FAULTY.replace('SHUT', 'true' if shut else 'false')}}})()")
    await log_in(page, patchbay.url, login, PASSWORD)
    await go_ready(page)
    return page


async def test_an_unplugged_microphone_sends_the_offer_away_and_a_new_one_brings_it_back(tmp_path: Path) -> None:
    async with (
        system(tmp_path) as patchbay,
        chromium(tmp_path, CUSTOMER_HZ) as customers,
        chromium(tmp_path, AGENT_HZ) as agents,
    ):
        agent = await faulty_page(agents, patchbay, "ana")
        _, widget = await shop_page(customers, patchbay.url)
        await start_call(widget)
        await agent.get_by_test_id("offer-card").wait_for()

        await agent.evaluate("window.unplug()")
        await agent.get_by_test_id("offer-card").wait_for(state="detached")
        fault = agent.get_by_test_id("microphone-fault")
        await expect(fault).to_contain_text("No microphone was found", timeout=WITHIN_MS)
        await expect(fault).to_contain_text("No calls come in until it works again")
        await expect(agent.get_by_test_id("idle")).to_contain_text("no calls can come in")
        await agent_state(agent, "ready")
        assert patchbay.rows("SELECT end_reason FROM segment") == [("withdrawn",)], "nobody is to blame"

        await agent.evaluate("window.plugIn()")
        await agent.get_by_test_id("offer-card").wait_for()
        await expect(fault).to_have_count(0)
        await agent.get_by_test_id("offer-accept").click()
        await hears(widget, AGENT_HZ)

        await widget.get_by_test_id("hang-up").click()
        await agent.get_by_test_id("wrap-up").wait_for()
        left = agent.get_by_test_id("wrap-up-left")
        before = int(await left.get_attribute("data-seconds") or 0)
        await agent.get_by_test_id("wrap-up-extend").click()
        await expect(agent.get_by_test_id("wrap-up-extend")).to_have_count(0)  # one is what a queue gives by default
        assert int(await left.get_attribute("data-seconds") or 0) >= before + 50
        await expect(agent.get_by_test_id("wrap-up-done")).to_be_enabled()


async def test_a_browser_that_can_make_no_call_says_so_until_it_can(tmp_path: Path) -> None:
    async with system(tmp_path) as patchbay, chromium(tmp_path, AGENT_HZ) as agents:
        agent = await faulty_page(agents, patchbay, "ana", shut=True)
        fault = agent.get_by_test_id("media-fault")
        await expect(fault).to_contain_text("can’t set up a call", timeout=WITHIN_MS)

        async def told() -> bool:
            return any("no_media" in str(row) for row in patchbay.rows("SELECT body FROM agent"))

        await until(told, 5, "the agent's row says no_media")
        await agent.evaluate("window.shutPaths = false")
        await expect(fault).to_have_count(0, timeout=20_000)


async def test_a_supervisor_sees_the_agents_and_sends_one_to_a_break(tmp_path: Path) -> None:
    async with system(tmp_path) as patchbay, chromium(tmp_path, AGENT_HZ) as browser:
        agent = await agent_page(browser, patchbay.url, "ana", PASSWORD)
        supervisor = await (await browser.new_context(viewport={"width": 420, "height": 800})).new_page()
        await log_in(supervisor, patchbay.url, "sam", PASSWORD, "/admin")
        await supervisor.get_by_test_id("nav-agents").click()
        ((user_id, name),) = patchbay.rows("SELECT id, name FROM \"user\" WHERE login = 'ana'")
        row = supervisor.locator(f'[data-testid="agent-row"][data-agent="{user_id}"]')
        await expect(row).to_have_attribute("data-state", "ready")
        await expect(row).to_contain_text(name)

        await row.get_by_test_id("force-state").focus()
        await supervisor.keyboard.press("Enter")
        dialog = supervisor.get_by_test_id("force-dialog")
        await dialog.get_by_test_id("force-break").first.check()
        await dialog.get_by_test_id("force-save").click()
        await expect(row).to_have_attribute("data-state", "break", timeout=WITHIN_MS)
        await expect(row.get_by_test_id("forced-by")).to_contain_text("Sam")

        await agent_state(agent, "break")
        notice = agent.get_by_test_id("forced")
        await expect(notice).to_contain_text("set you to Break")
        await notice.get_by_role("button").click()
        await expect(notice).to_have_count(0)
        await go_ready(agent)
        await expect(row).to_have_attribute("data-state", "ready", timeout=WITHIN_MS)
        await expect(row.get_by_test_id("forced-by")).to_have_count(0)

        await supervisor.get_by_test_id("agents-search").fill("nobody of that name")
        await expect(row).to_have_count(0)
        await expect(supervisor.get_by_role("heading", name="Nobody found")).to_be_visible()
