"""Sides that spoke nothing but G.711 are kept as they came: WAV files of the very bytes, in their places."""

from __future__ import annotations

import base64
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.media import capture
from server.media.archive_wave import WaveWriter
from server.media.ogg import RATE
from server.media.peer import level_dbfs, spectrum_peak
from tests.helpers.browser import chromium
from tests.unit.test_media_archive import MS, Side, files, run, span
from tests.unit.test_media_archive_recode import said, say

HEAD_BYTES = 58
SILENCE = {"pcmu": b"\xff", "pcma": b"\xd5"}
TAG = {"pcmu": 7, "pcma": 6}


def sound_of(path: Path) -> bytes:
    return path.read_bytes()[HEAD_BYTES:]


@pytest.mark.parametrize("codec", ["pcmu", "pcma"])
def test_the_bytes_that_came_are_the_file(tmp_path: Path, codec: str) -> None:
    part = files(tmp_path)
    for path, pitch in ((part.customer, 440), (part.agent, 880)):
        side = Side(path)
        say(side, codec, pitch, 0, 150, stamp=(1 << 32) - 1600)  # wraps
        side.end(3000)
    result, left, right = run(tmp_path, part)
    assert (result.duration_ms, result.complete, result.skipped) == (3000, True, 0)
    assert (result.customer.codec, Path(result.customer.path).name) == (codec, "c.wav")
    assert sound_of(tmp_path / "c.wav") == b"".join(said(codec, 440, 150))
    head = (tmp_path / "c.wav").read_bytes()[:HEAD_BYTES]
    assert struct.unpack_from("<HHIIHH", head, 20) == (TAG[codec], 1, 8000, 8000, 1, 8)
    assert struct.unpack_from("<I", head, 4)[0] == result.customer.size_bytes - 8
    assert not list(tmp_path.glob("*.opus")), "nothing beside them"
    assert len(left) == len(right) == 3 * RATE
    assert abs(spectrum_peak(left) - 440) < 5
    assert abs(spectrum_peak(right) - 880) < 5


def test_gaps_pauses_and_late_orders_are_silence_of_their_length(tmp_path: Path) -> None:
    part = files(tmp_path)
    customer, agent = Side(part.customer, at_ms=500), Side(part.agent, at_ms=500)
    say(customer, "pcmu", 440, 200, 10)
    say(customer, "pcmu", 440, 1000, 10, stamp=160 * 40)
    for side in (customer, agent):
        side.mark(capture.PAUSE, 1400)
        side.mark(capture.RESUME, 2400)
        side.end(3000)
    result, _, _ = run(tmp_path, part, talk_ms=3500)
    assert result.duration_ms == 2500, "the talk less what was paused"
    sound = sound_of(tmp_path / "c.wav")
    spoken = said("pcmu", 440, 10)
    quiet = SILENCE["pcmu"]
    assert sound == b"".join([quiet * 8 * 700, *spoken, quiet * 8 * 600, *spoken, quiet * 8 * (2500 - 1700)]), (
        "500 ms before the order, 200 ms until the first packet"
    )
    assert (result.customer.codec, result.agent.codec) == ("pcmu", "opus"), "who said nothing has the smaller file"


def test_late_doubled_and_swapped_packets(tmp_path: Path) -> None:
    part = files(tmp_path)
    customer, agent = Side(part.customer), Side(part.agent)
    payloads = said("pcma", 440, 50)
    order = [0, 1, 3, 2, 4, 4, 5, *range(6, 50)]
    for place, index in enumerate(order):
        at = customer.origin + min(place, 49) * 20 * MS
        customer.writer.packet(at, (7, 8000, "pcma"), index, 160 * index, payloads[index])
    for side in (customer, agent):
        side.end(1000)
    result, _, _ = run(tmp_path, part)
    assert sound_of(tmp_path / "c.wav") == b"".join(payloads)
    assert result.complete


@pytest.mark.parametrize("other", ["pcma", "g722", "opus"])
def test_a_side_of_two_codecs_is_opus(tmp_path: Path, other: str) -> None:
    part = files(tmp_path)
    customer, agent = Side(part.customer), Side(part.agent)
    say(customer, "pcmu", 440, 0, 50)
    if other == "opus":
        customer.tone(700, 1000, 50)
    else:
        say(customer, other, 700, 1000, 50, ssrc=8)
    for side in (customer, agent):
        side.end(2000)
    result, left, _ = run(tmp_path, part)
    assert (result.customer.codec, result.complete) == ("opus", True)
    assert abs(spectrum_peak(span(left, 100, 900)) - 440) < 5
    assert abs(spectrum_peak(span(left, 1100, 1900)) - 700) < 5


def test_peaks_tell_where_it_is_loud(tmp_path: Path) -> None:
    part = files(tmp_path)
    customer, agent = Side(part.customer), Side(part.agent)
    say(customer, "pcmu", 440, 1000, 50)
    for side in (customer, agent):
        side.end(4000)
    result, left, _ = run(tmp_path, part)
    peaks = result.customer.peaks
    assert len(peaks) == 800
    assert max(peaks[:199]) == max(peaks[401:]) == 0
    loudest = max(abs(int(sample)) for sample in span(left, 1200, 1800)) * 255 // 32767
    assert all(abs(peak - loudest) <= 2 for peak in peaks[210:390])
    assert level_dbfs(span(left, 0, 900)) < -60


@given(
    st.sampled_from(["pcmu", "pcma"]),
    st.integers(0, 5000),
    st.lists(st.tuples(st.integers(0, 9000), st.binary(min_size=1, max_size=400)), max_size=20),
)
def test_it_is_always_as_long_as_its_head_says(codec: str, length: int, said_at: list[tuple[int, bytes]]) -> None:
    written = bytearray()
    writer = WaveWriter(codec, length * 6, written.extend)
    for at, payload in said_at:
        writer.fill(at * 6)
        writer.add(payload)
    writer.finish()
    assert struct.unpack_from("<I", written, HEAD_BYTES - 4)[0] == length
    assert len(written) == HEAD_BYTES + length + length % 2
    assert len(writer.peaks(800)) == 800


@pytest.mark.parametrize("codec", ["pcmu", "pcma"])
async def test_a_browser_plays_it(tmp_path: Path, codec: str) -> None:
    part = files(tmp_path)
    for path in (part.customer, part.agent):
        side = Side(path)
        say(side, codec, 440, 0, 100)
        side.end(2000)
    run(tmp_path, part)
    url = "data:audio/wav;base64," + base64.b64encode((tmp_path / "c.wav").read_bytes()).decode()
    async with chromium(tmp_path, 440) as browser:
        page = await browser.new_page()
        length = await page.evaluate(
            """async (url) => {
                 const audio = new Audio(url);
                 await new Promise((good, bad) => {
                   audio.oncanplaythrough = good;
                   audio.onerror = () => bad(audio.error.message);
                 });
                 return audio.duration;
               }""",
            url,
        )
    assert abs(length - 2) < 0.01
