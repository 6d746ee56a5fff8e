"""Recordings of phones: G.711 and G.722 come out at their pitch and in their place, beside Opus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.media.archive_recode import as_opus
from server.media.capture import CapturedPacket
from server.media.mixer.codecs import encoder
from server.media.mixer.formats import BY_NAME
from server.media.ogg import packet_samples
from server.media.peer import level_dbfs, spectrum_peak
from tests.helpers.plain_peer import tone
from tests.unit.test_media_archive import MS, Side, files, run, span

FRAME = 160  # timestamp units of 20 ms: all three have a clock of 8 kHz


def said(codec: str, pitch_hz: float, count: int) -> list[bytes]:
    """Payloads of 20 ms; G.711 by tables that are not those of the product."""
    if codec != "g722":
        payloads = tone(codec.upper(), pitch_hz)
        return [payloads[index % len(payloads)] for index in range(count)]
    coder = encoder(BY_NAME["g722"], 16_000)
    wave = 0.14 * np.sin(2 * np.pi * pitch_hz * np.arange(320 * count) / 16_000)
    return [coder.encode(wave[at : at + 320].astype(np.float32)) for at in range(0, 320 * count, 320)]


def say(side: Side, codec: str, pitch_hz: float, at_ms: int, count: int, ssrc: int = 7, stamp: int = 0) -> None:
    for index, payload in enumerate(said(codec, pitch_hz, count)):
        at = side.origin + (at_ms + 20 * index) * MS
        side.writer.packet(at, (ssrc, 8000, codec), index, (stamp + FRAME * index) % (1 << 32), payload)


@pytest.mark.parametrize("codec", ["pcmu", "pcma", "g722"])
def test_a_phone_and_a_browser(tmp_path: Path, codec: str) -> None:
    part = files(tmp_path)
    customer, agent = Side(part.customer), Side(part.agent)
    say(customer, codec, 440, 500, 50, stamp=(1 << 32) - 10 * FRAME)  # wraps
    agent.tone(880, 1500, 50)
    for side in (customer, agent):
        side.end(3000)
    result, left, right = run(tmp_path, part)
    assert (result.duration_ms, result.complete, result.skipped) == (3000, True, 0)
    assert abs(spectrum_peak(span(left, 600, 1400)) - 440) < 5
    assert abs(level_dbfs(span(left, 600, 1400)) + 20) < 2, "as loud as it was"
    assert level_dbfs(span(left, 0, 480)) < -60
    assert level_dbfs(span(left, 1550, 2990)) < -60
    assert abs(spectrum_peak(span(right, 1600, 2400)) - 880) < 5


def test_a_codec_that_changes_in_the_middle(tmp_path: Path) -> None:
    """Within one stream, as browsers do."""
    part = files(tmp_path)
    customer, agent = Side(part.customer), Side(part.agent)
    customer.tone(440, 0, 50, stamp=123_456_789)
    say(customer, "pcmu", 600, 1000, 50, stamp=5)
    customer.tone(1000, 2000, 50, stamp=123_456_789 + 96_000)
    for side in (customer, agent):
        side.end(3000)
    result, left, _ = run(tmp_path, part)
    assert (result.duration_ms, result.complete) == (3000, True)
    for second, pitch in enumerate((440, 600, 1000)):
        assert abs(spectrum_peak(span(left, 1000 * second + 100, 1000 * second + 900)) - pitch) < 5


@given(st.integers(0, 2000), st.sampled_from(["pcmu", "pcma"]))
def test_any_length_comes_out_to_the_shortest_frame(size: int, codec: str) -> None:
    packet = CapturedPacket(0, 1, 8000, codec, 1, 1000, b"\x55" * size)
    out = list(as_opus([packet]))
    if size < 20:
        return
    assert sum(packet_samples(one.payload) for one in out) == size // 20 * 120
    at = 6000
    for one in out:
        assert (one.timestamp, one.codec) == (at, "opus")
        at += packet_samples(one.payload)


def test_opus_and_what_nobody_knows_stay_as_they_are() -> None:
    packets = [CapturedPacket(0, 1, rate, codec, 1, 2, b"x") for codec, rate in (("opus", 48_000), ("speex", 8000))]
    packets.append(CapturedPacket(0, 1, 44_100, "pcmu", 1, 2, b"x"))
    assert list(as_opus(packets)) == packets
