"""Real Chromium windows with a tone as their microphone; who hears whom is told by the spectrum of what is received."""

from __future__ import annotations

import os
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from playwright.async_api import Browser, Frame, Page, async_playwright

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
CUSTOMER_HZ, AGENT_HZ = 440, 880
TOLERANCE_HZ = 15
RATE = 48_000
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream", "--disable-background-timer-throttling",
)  # fmt: skip

# The loudest frequency of what a page receives now: {hz, db}. The analyser is made once for each stream.
PEAK = """() => {
  const stream = window.__patchbay?.remoteStream?.();
  if (!stream || !stream.getAudioTracks().length) return null;
  if (window.__peakOf !== stream) {
    window.__peakContext ??= new AudioContext();
    window.__peakAnalyser = window.__peakContext.createAnalyser();
    window.__peakAnalyser.fftSize = 8192;
    window.__peakAnalyser.smoothingTimeConstant = 0.2;
    window.__peakContext.createMediaStreamSource(stream).connect(window.__peakAnalyser);
    window.__peakOf = stream;
  }
  const bins = new Float32Array(window.__peakAnalyser.frequencyBinCount);
  window.__peakAnalyser.getFloatFrequencyData(bins);
  let best = 0;
  bins.forEach((value, index) => { if (value > bins[best]) best = index; });
  return { hz: best * window.__peakContext.sampleRate / window.__peakAnalyser.fftSize, db: bins[best] };
}"""
HEARS = f"""([hz, tolerance]) => {{
  const peak = ({PEAK})();
  return peak !== null && peak.db > -60 && Math.abs(peak.hz - hz) <= tolerance;
}}"""


def write_tone(path: Path, hz: float, seconds: float = 4.0) -> Path:
    """A tone in bursts of 400 ms: a steady one is taken for noise by the browser's noise suppression."""
    t = np.arange(int(RATE * seconds)) / RATE
    loud = (t % 0.5) < 0.4
    samples = (0.4 * 32767 * np.sin(2 * np.pi * hz * t) * loud).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return path


@asynccontextmanager
async def chromium(folder: Path, hz: float, program: Path | str = CHROMIUM) -> AsyncIterator[Browser]:
    """A browser whose microphone is a tone."""
    tone = write_tone(folder / f"tone-{hz:.0f}.wav", hz)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program, headless=True, args=[*FLAGS, f"--use-file-for-fake-audio-capture={tone}"]
        )
        try:
            yield browser
        finally:
            await browser.close()


async def hears(page: Page | Frame, hz: float, timeout_s: float = 10.0) -> None:
    """Wait until the page hears the tone. Raises playwright's TimeoutError."""
    await page.wait_for_function(HEARS, arg=[hz, TOLERANCE_HZ], timeout=timeout_s * 1000, polling=50)


async def keeps_hearing(page: Page | Frame, hz: float, seconds: float) -> None:
    """The tone is the loudest thing in nearly every look over this time (a burst's gap may hide one)."""
    looks = await page.evaluate(
        f"""async ([hz, tolerance, ms]) => {{
          const hears = {HEARS};
          let good = 0, all = 0;
          const until = performance.now() + ms;
          while (performance.now() < until) {{
            all += 1;
            if (hears([hz, tolerance])) good += 1;
            await new Promise((resolve) => setTimeout(resolve, 100));
          }}
          return [good, all];
        }}""",
        [hz, TOLERANCE_HZ, seconds * 1000],
    )
    assert looks[0] >= 0.75 * looks[1], f"heard {hz} Hz in {looks[0]} of {looks[1]} looks"


async def log_in(page: Page, url: str, login: str, password: str, path: str = "/agent") -> None:
    await page.goto(f"{url}/login?next={path}")
    await page.get_by_test_id("login-name").fill(login)
    await page.get_by_test_id("login-password").fill(password)
    await page.get_by_test_id("login-submit").click()
    await page.wait_for_url(lambda at: urlsplit(at).path.startswith(path))


async def agent_page(browser: Browser, url: str, login: str, password: str) -> Page:
    """A console that is ready for calls."""
    context = await browser.new_context(permissions=["microphone"])
    page = await context.new_page()
    await log_in(page, url, login, password)
    await go_ready(page)
    return page


async def go_ready(page: Page) -> None:
    await page.get_by_test_id("go-ready").first.click()
    await agent_state(page, "ready")


async def agent_state(page: Page, state: str, timeout_s: float = 10.0) -> None:
    await page.locator(f'[data-testid="agent-state"][data-state="{state}"]').first.wait_for(timeout=timeout_s * 1000)


async def shop_page(browser: Browser, url: str) -> tuple[Page, Frame]:
    """The demo shop with the widget open; the frame is the widget's."""
    context = await browser.new_context(permissions=["microphone"])
    page = await context.new_page()
    await page.goto(f"{url}/demo/shop")
    await page.get_by_test_id("widget-launcher").click()
    return page, await widget_frame(page)


async def widget_frame(page: Page) -> Frame:
    element = await page.wait_for_selector("iframe[src*='/widget/frame']", state="attached")
    frame = await element.content_frame() if element is not None else None
    assert frame is not None
    await frame.wait_for_load_state()
    return frame


async def start_call(frame: Frame, name: str = "Li Wei") -> None:
    await frame.get_by_test_id("start-call").wait_for()
    if await frame.get_by_test_id("name-field").count():
        await frame.get_by_test_id("name-field").fill(name)
    await frame.get_by_test_id("start-call").click()
