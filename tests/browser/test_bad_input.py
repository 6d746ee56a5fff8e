"""What people meet in a browser when something is wrong: foreign sites, dead microphones, a full disk, old logins."""

from __future__ import annotations

import re
import wave
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright, expect

from server.caller import Caller
from server.services.seed import DEMO_KEYS
from tests.helpers.browser import (
    AGENT_HZ,
    CHROMIUM,
    CUSTOMER_HZ,
    FLAGS,
    RATE,
    agent_page,
    agent_state,
    chromium,
    go_ready,
    log_in,
    shop_page,
    start_call,
    widget_frame,
)
from tests.helpers.full_disk import small_disk
from tests.helpers.rest import api
from tests.helpers.system import PASSWORD, System, free_port, system, until

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]
FAKE_UI, FAKE_DEVICE = "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"
NAMED_WITHIN_MS = 5_000  # a silent microphone: 3 s of zeros, and some for opening it
SPOOL_KIB = 96


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def patchbay(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with system(tmp_path_factory.mktemp("site"), workers=1) as started:
        yield started


@asynccontextmanager
async def browser(*without: str, sound: Path | None = None) -> AsyncIterator[Browser]:
    """Chromium without some of the flags that make a microphone; `sound` is what the fake one plays."""
    flags = [flag for flag in FLAGS if flag not in without]
    if sound is not None:
        flags.append(f"--use-file-for-fake-audio-capture={sound}")
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=flags)
        try:
            yield launched
        finally:
            await launched.close()


@asynccontextmanager
async def foreign_site(body: str, headers: dict[str, str] | None = None) -> AsyncIterator[str]:
    """A site of another origin whose every page is this one; its origin."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text=f"<!doctype html><title>site</title>{body}", content_type="text/html", headers=headers)

    app = web.Application()
    app.router.add_get("/{path:.*}", page)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


def embed(patchbay: System, queue: str = "Sales") -> str:
    return f'<script src="{patchbay.url}/widget.js" data-key="{DEMO_KEYS[queue]}"></script>'


async def allow(patchbay: System, queue: str, sites: Sequence[str]) -> None:
    async with api(patchbay.url, "admin", PASSWORD) as admin:
        entries = (await admin.ok("GET", "/entry-points"))["items"]
        entry = next(one for one in entries if one["key"] == DEMO_KEYS[queue])
        changed = {"version": entry["version"], "allowed_sites": list(sites)}
        await admin.ok("PATCH", f"/entry-points/{entry['entry_point_id']}", changed)


async def all_blocked(page: Page, count: int) -> None:
    """Wait until each frame of the page has ended up on the browser's own error page."""

    async def refused() -> bool:
        frames = page.frames[1:]
        return len(frames) == count and all(frame.url.startswith("chrome-error:") for frame in frames)

    await until(refused, 10, f"{count} frames refused")


# --- foreign sites -----------------------------------------------------------------------------------


async def test_the_widget_runs_on_the_sites_that_its_key_allows_and_on_no_other(patchbay: System) -> None:
    async with browser() as chrome, foreign_site(embed(patchbay)) as site:
        context = await chrome.new_context(permissions=["microphone"])
        page = await context.new_page()
        await page.goto(site)
        async with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
            await page.get_by_test_id("widget-launcher").click()
        await all_blocked(page, 1)

        await allow(patchbay, "Sales", [site])
        await page.reload()
        await page.get_by_test_id("widget-launcher").click()
        frame = await widget_frame(page)
        await start_call(frame, "from the allowed site")
        await frame.get_by_test_id("queue-position").wait_for()
        await frame.get_by_test_id("hang-up").click()
        await frame.get_by_test_id("call-ended").wait_for()


async def test_nothing_else_can_be_framed(patchbay: System) -> None:
    paths = ("/login", "/agent", "/admin", "/", f"/widget/call?key={DEMO_KEYS['Sales']}", "/demo/shop", "/nowhere")
    frames = "".join(f'<iframe src="{patchbay.url}{path}"></iframe>' for path in paths)
    async with browser() as chrome, foreign_site(frames) as site:
        page = await (await chrome.new_context()).new_page()
        await log_in(page, patchbay.url, "ana", PASSWORD)
        await page.goto(site)
        await all_blocked(page, len(paths))


async def test_a_site_that_forbids_the_microphone_gets_a_window_instead(patchbay: System) -> None:
    policy = {"Permissions-Policy": "microphone=()"}
    async with browser() as chrome, foreign_site(embed(patchbay, "Support"), policy) as site:
        await allow(patchbay, "Support", [site])
        context = await chrome.new_context(permissions=["microphone"])
        page = await context.new_page()
        await page.goto(site)
        async with page.expect_popup() as opening:
            await page.get_by_test_id("widget-launcher").click()
        window = await opening.value
        assert window.url.startswith(f"{patchbay.url}/widget/call?")
        await start_call(window.main_frame, "from the window")
        await window.get_by_test_id("queue-position").wait_for()
        await window.get_by_test_id("hang-up").click()
        await window.get_by_test_id("call-ended").wait_for()
        assert len(page.frames) == 1, "no frame in which nothing would work"


async def test_a_frame_that_is_given_no_microphone_says_so(patchbay: System) -> None:
    frame_only = f'<iframe src="{patchbay.url}/widget/frame?key={DEMO_KEYS["Support"]}" width=400 height=660></iframe>'
    async with browser() as chrome, foreign_site(frame_only) as site:
        await allow(patchbay, "Support", [site])
        page = await (await chrome.new_context(permissions=["microphone"])).new_page()
        await page.goto(site)
        frame = await widget_frame(page)
        await start_call(frame)
        fault = frame.get_by_test_id("microphone-fault")
        await expect(fault).to_have_attribute("data-fault", "host_blocked")
        await expect(fault).to_contain_text("does not allow the microphone")


# --- microphones -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "without", "sentence"),
    [("denied", (FAKE_UI,), "The microphone is blocked"), ("none", (FAKE_DEVICE,), "No microphone was found")],
)
async def test_without_a_microphone_nobody_calls_or_is_ready(
    patchbay: System, fault: str, without: tuple[str, ...], sentence: str
) -> None:
    async with browser(*without) as chrome:
        page = await (await chrome.new_context()).new_page()
        await page.goto(f"{patchbay.url}/demo/shop")
        await page.get_by_test_id("widget-launcher").click()
        frame = await widget_frame(page)
        before = patchbay.rows("SELECT COUNT(*) FROM session")
        await start_call(frame)
        shown = frame.get_by_test_id("microphone-fault")
        await expect(shown).to_have_attribute("data-fault", fault, timeout=NAMED_WITHIN_MS)
        await expect(shown).to_contain_text(sentence)
        assert patchbay.rows("SELECT COUNT(*) FROM session") == before, "nobody is in the queue without a voice"

        console = await (await chrome.new_context()).new_page()
        await log_in(console, patchbay.url, "bo", PASSWORD)
        await console.get_by_test_id("go-ready").first.click()
        notice = console.get_by_test_id("microphone-fault")
        await expect(notice).to_contain_text(sentence, timeout=NAMED_WITHIN_MS)
        await expect(notice).to_contain_text("can’t be ready without a microphone")
        await agent_state(console, "offline")


async def test_a_silent_microphone_is_named(patchbay: System, tmp_path: Path) -> None:
    silence = tmp_path / "silence.wav"
    with wave.open(str(silence), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(bytes(2 * RATE * 2))
    async with browser(sound=silence) as chrome:
        _, frame = await shop_page(chrome, patchbay.url)
        await start_call(frame)
        await frame.get_by_test_id("mic-meter").wait_for()
        await expect(frame.get_by_test_id("mic-note")).to_contain_text("We hear nothing", timeout=NAMED_WITHIN_MS)
        await frame.get_by_test_id("hang-up").click()

        console = await (await chrome.new_context(permissions=["microphone"])).new_page()
        await log_in(console, patchbay.url, "chen", PASSWORD)
        await go_ready(console)
        await expect(console.get_by_test_id("microphone-quiet")).to_be_visible(timeout=NAMED_WITHIN_MS)


# --- the server's side -------------------------------------------------------------------------------


async def test_the_console_says_in_red_that_nothing_is_recorded(tmp_path: Path) -> None:
    disk = small_disk(tmp_path / "data" / "spool", SPOOL_KIB)
    async with (
        system(tmp_path, workers=1, wrapper=disk.wrapper) as full,
        chromium(tmp_path, AGENT_HZ) as agents,
    ):
        disk.limit(full)
        agent = await agent_page(agents, full.url, "ana", PASSWORD)
        caller = Caller(full.url, full.widget_key())
        await caller.begin()
        await agent.get_by_test_id("offer-accept").click()
        await agent.get_by_test_id("recording").wait_for()
        notice = agent.get_by_test_id("recording-failed")
        await notice.wait_for(timeout=60_000)
        await expect(notice).to_contain_text("Not recording")
        await expect(notice).to_have_class(re.compile(r"\bdanger\b"))
        in_the_bar = agent.get_by_test_id("recording")
        await expect(in_the_bar).to_have_attribute("data-state", "failed")
        await expect(in_the_bar).to_have_text("Not recording")
        await expect(agent.get_by_test_id("call-state")).to_have_attribute("data-state", "talking")
        await caller.hang_up()
        await agent.get_by_test_id("wrap-up").wait_for()
        await caller.close()


async def test_why_the_line_is_refused_is_a_sentence(patchbay: System, tmp_path: Path) -> None:
    """The node begins anew with another key, and the console's cookie is gone."""
    async with chromium(tmp_path, CUSTOMER_HZ) as chrome:
        console = await (await chrome.new_context(permissions=["microphone"])).new_page()
        await log_in(console, patchbay.url, "sam", PASSWORD)
        await console.get_by_test_id("go-ready").first.wait_for()
        _, frame = await shop_page(chrome, patchbay.url)
        await start_call(frame)
        await frame.get_by_test_id("queue-position").wait_for()
        await console.context.clear_cookies()
        patchbay.forget_token_key()
        patchbay.kill("control")
        await expect(console.get_by_test_id("refused")).to_contain_text("You are logged out", timeout=20_000)
        await expect(frame.locator("body")).to_contain_text("This call is no longer valid", timeout=20_000)
        text = await frame.locator("body").inner_text()
        assert "token_invalid" not in text, "no code on the screen"
