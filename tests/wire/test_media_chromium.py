"""A real Chromium talks through a worker: offers without candidates, hears, is heard, hangs up."""

from __future__ import annotations

import time
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import async_playwright

from server.domain.media import DigitPressed, LegDown, LegUp, OpenLeg, SendDigits
from server.media.peer import RATE, sine
from tests.helpers.browser import CHROMIUM
from tests.helpers.rtc_peer import running

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><meta charset=utf-8><title>peer</title><script>
let pc, analyser, context;
async function offer() {
  const stream = await navigator.mediaDevices.getUserMedia(
    {audio: {echoCancellation: false, noiseSuppression: false, autoGainControl: false}});
  pc = new RTCPeerConnection({bundlePolicy: 'max-bundle'});
  stream.getTracks().forEach(t => pc.addTrack(t, stream));
  pc.ontrack = e => {
    context = new AudioContext({sampleRate: 48000});
    const sound = new Audio(); sound.muted = true; sound.srcObject = e.streams[0]; sound.play();
    analyser = context.createAnalyser(); analyser.fftSize = 8192;
    context.createMediaStreamSource(e.streams[0]).connect(analyser);
  };
  await pc.setLocalDescription();
  return pc.localDescription.sdp;
}
async function answer(sdp) {
  const began = performance.now();
  await pc.setRemoteDescription({type: 'answer', sdp});
  await new Promise(done => {
    const check = () => pc.connectionState === 'connected' && done();
    pc.onconnectionstatechange = check; check();
  });
  return performance.now() - began;
}
function peak() {
  if (!analyser) return 0;
  const bins = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(bins);
  let best = 0;
  bins.forEach((v, i) => { if (v > bins[best]) best = i; });
  return bins[best] < -70 ? 0 : best * 48000 / 8192;
}
function press(keys) { pc.getSenders()[0].dtmf.insertDTMF(keys, 100, 70); }
async function stats() {
  const all = [...(await pc.getStats()).values()];
  const codec = id => all.find(s => s.id === id)?.mimeType;
  const pick = type => all.find(s => s.type === type);
  return {sent: codec(pick('outbound-rtp').codecId), got: codec(pick('inbound-rtp').codecId),
    lost: pick('inbound-rtp').packetsLost, concealed: pick('inbound-rtp').concealedSamples,
    total: pick('inbound-rtp').totalSamplesReceived, rtt: pick('remote-inbound-rtp')?.roundTripTime};
}
</script>"""


async def serve_page(request: web.Request) -> web.Response:
    return web.Response(text=PAGE, content_type="text/html")


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Any]:
    tone = tmp_path / "tone.wav"
    with wave.open(str(tone), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(sine(440, -12).tobytes() * 5)
    app = web.Application()
    app.router.add_get("/", serve_page)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with async_playwright() as tool:
        browser = await tool.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={tone}",
                "--autoplay-policy=no-user-gesture-required",
            ],
        )
        tab = await browser.new_page()
        await tab.goto(f"http://127.0.0.1:{port}/")
        yield tab
        await browser.close()
    await runner.cleanup()


@pytest.mark.parametrize("bind", ["127.0.0.1", ""])
async def test_chromium_hears_and_is_heard(page: Any, tmp_path: Path, bind: str) -> None:
    async with running(tmp_path, "--bind", bind) as rig:
        caller, agent = rig.caller(), rig.peer(880)
        await caller.bridge()
        await caller.open("agent", agent)
        await rig.listener.until_report(LegUp("agent", 1))
        offer = await page.evaluate("offer()")
        assert "a=candidate" not in offer, "the browser does not wait for its candidates"
        result = await caller.order(OpenLeg("customer", 1, offer))
        answered = time.monotonic()
        connected_ms = await page.evaluate("sdp => answer(sdp)", result.sdp)
        await rig.listener.until_report(LegUp("customer", 1))
        print(f"connected after {connected_ms:.0f} ms, up after {1000 * (time.monotonic() - answered):.0f} ms")
        await agent.wait_tone(440)
        await page.wait_for_function("Math.abs(peak() - 880) < 15", timeout=10_000)
        await page.wait_for_function("stats().then(s => s.rtt !== undefined)", timeout=10_000, polling=200)
        stats = await page.evaluate("stats()")
        print(stats)
        assert (stats["sent"], stats["got"]) == ("audio/opus", "audio/opus")
        await page.evaluate("press('15#')")
        told = [DigitPressed("customer", 1, digit, number) for number, digit in enumerate("15#", start=1)]
        await rig.listener.until_report(told[-1])
        assert [report for report in rig.listener.all() if isinstance(report, DigitPressed)] == told
        await caller.order(SendDigits("customer", "#" * 10))
        # a browser plays the keys that it is sent: for # these two tones at once
        await page.wait_for_function("[941, 1477].some(hz => Math.abs(peak() - hz) < 15)", timeout=10_000)
        await page.wait_for_function("Math.abs(peak() - 880) < 15", timeout=10_000)
        began = time.monotonic()
        await page.reload()
        await rig.listener.until(lambda: any(isinstance(r, LegDown) for r in rig.listener.all()), 8)
        print(f"{rig.listener.all()[-1]} {1000 * (time.monotonic() - began):.0f} ms after the reload")
