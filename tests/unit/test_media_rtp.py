"""The outgoing stream looks like one sender, whatever its sources do."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.media.relay import rtcp, rtp
from server.media.relay.rtp import InStream, OutStream, Packet
from server.media.sdp import Codec

OPUS = Codec("opus", 111, 48000)
PCMU = Codec("pcmu", 0, 8000)
EVENT = Codec("telephone-event", 110, 48000)
CODECS = {codec.payload_type: codec for codec in (OPUS, PCMU, EVENT)}
FRAME_NS = 20_000_000


def packet(sequence: int, timestamp: int, codec: Codec = OPUS, level: int | None = None) -> Packet:
    return Packet(codec, 0, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, 7, b"x", level)


class Receiver:
    """Collects (sequence, timestamp, marker, payload type) of what is sent."""

    def __init__(self, level_id: int | None = None) -> None:
        self.raw: list[bytes] = []
        self.out = OutStream((OPUS, EVENT), level_id, self.raw.append)

    @property
    def got(self) -> list[tuple[int, int, int, int]]:
        heads = [rtp.HEADER.unpack_from(data) for data in self.raw]
        return [(seq, ts, second >> 7, second & 127) for _, second, seq, ts, _ in heads]


def test_a_switch_goes_on_without_a_gap() -> None:
    receiver = Receiver()
    a, b = object(), object()
    receiver.out.forward(a, packet(65535, 5000), 0)
    receiver.out.forward(a, packet(0, 5960), FRAME_NS)
    receiver.out.forward(b, packet(900, 77), 4 * FRAME_NS)
    receiver.out.forward(a, packet(1, 6920), 5 * FRAME_NS)
    (s0, t0, m0, _), (s1, t1, m1, _), (s2, t2, m2, _), (s3, t3, m3, _) = receiver.got
    assert [(s - s0) & 0xFFFF for s in (s1, s2, s3)] == [1, 2, 3]
    assert [(t - t0) & 0xFFFFFFFF for t in (t1, t2, t3)] == [960, 960 * 4, 960 * 5]
    assert [m0, m1, m2, m3] == [1, 0, 1, 1]


def test_loss_stays_visible_and_reordering_is_kept() -> None:
    receiver, a = Receiver(), object()
    for sequence in (10, 13, 12, 14):
        receiver.out.forward(a, packet(sequence, sequence * 960), sequence * FRAME_NS)
    first = receiver.got[0][0]
    assert [(seq - first) & 0xFFFF for seq, *_ in receiver.got] == [0, 3, 2, 4]


def test_a_codec_that_was_not_negotiated_is_not_sent() -> None:
    receiver = Receiver()
    receiver.out.forward(object(), packet(1, 1, PCMU), 0)
    assert receiver.raw == []
    assert receiver.out.unsendable == 1


def test_comfort_noise_leaves_no_gap_and_no_number_is_used_twice() -> None:
    receiver, a = Receiver(), object()
    noise = Codec("cn", 13, 8000)
    receiver.out.forward(a, packet(10, 0), 0)
    receiver.out.forward(a, packet(12, 320), 2 * FRAME_NS)
    receiver.out.forward(a, packet(13, 480, noise), 3 * FRAME_NS)
    receiver.out.forward(a, packet(11, 160), 4 * FRAME_NS)  # from before it: its number may be another one's now
    receiver.out.forward(a, packet(14, 960), 10 * FRAME_NS)
    receiver.out.forward(object(), packet(15, 1120, noise), 11 * FRAME_NS)
    first = receiver.got[0][0]
    assert [(seq - first) & 0xFFFF for seq, *_ in receiver.got] == [0, 2, 3]
    assert receiver.out.unsendable == 0


def test_time_goes_on_while_a_key_is_held() -> None:
    receiver, a, b = Receiver(), object(), object()
    for count in range(5):
        receiver.out.forward(a, packet(count, 0, EVENT), count * FRAME_NS)
    receiver.out.forward(b, packet(77, 5), 8 * FRAME_NS)
    assert (receiver.got[-1][1] - receiver.got[0][1]) & 0xFFFFFFFF == 8 * 960


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 65535), st.integers(0, 0xFFFFFFFF)), min_size=1, max_size=60)
)
def test_no_sequence_number_is_used_twice(steps: list[tuple[int, int, int]]) -> None:
    """SRTP must never protect two packets under one number (RFC 3711 section 9.1)."""
    receiver, sources = Receiver(), [object(), object(), object()]
    sent: set[tuple[int, int]] = set()
    for index, (source, sequence, timestamp) in enumerate(steps):
        key = (source, sequence)
        if key in sent:  # libsrtp's replay check drops repeated packets on the way in
            continue
        sent.add(key)
        receiver.out.forward(sources[source], packet(sequence, timestamp), index * FRAME_NS)
    numbers = [seq for seq, *_ in receiver.got]
    assert len(set(numbers)) == len(numbers)


def test_audio_level_in_and_out() -> None:
    extension = struct.pack("!HH", 0xBEDE, 1) + bytes((0x10, 0x85, 0, 0))
    data = rtp.HEADER.pack(0x90, 0x80 | 111, 5, 6, 7) + extension + b"payload"
    found = rtp.parse(data, CODECS, 1)
    assert found is not None
    assert (found.level, found.payload, found.marker) == (0x85, b"payload", 0x80)
    receiver = Receiver(level_id=3)
    receiver.out.forward(object(), found, 0)
    again = rtp.parse(receiver.raw[0], CODECS, 3)
    assert again is not None
    assert (again.level, again.payload) == (0x85, b"payload")


@given(st.binary(max_size=60))
def test_any_bytes_can_be_parsed(data: bytes) -> None:
    rtp.parse(data, CODECS, 1)
    rtp.parse(b"\xb3\x6f" + data, CODECS, 1)
    out = Receiver().out
    rtcp.note(data, None, out, 0)
    rtcp.note(data, InStream(packet(1, 1)), out, 0)


def test_reports() -> None:
    stream = InStream(packet(65534, 0))
    for sequence in (65534, 65535, 1):  # 0 is lost
        stream.add(packet(sequence, 0), sequence)
    assert stream.lost == 1
    receiver = Receiver()
    first = rtcp.compound(receiver.out, stream, FRAME_NS)
    assert first[1] == 201, "nothing was sent: a receiver report"
    assert struct.unpack_from("!I", first, 12)[0] == 64 << 24 | 1, "one of four, one in all"
    receiver.out.forward(object(), packet(1, 1), FRAME_NS)
    second = rtcp.compound(receiver.out, stream, 2 * FRAME_NS)
    assert second[1] == 200
    assert len(second) % 4 == 0


def peer_report(kind: int, ssrc: int, losses: int, jitter: int, lsr: int, delay: int) -> bytes:
    """As a peer says of the stream `ssrc`: with a sender's part (kind 200) or without (201)."""
    sender = bytes(20) if kind == 200 else b""
    block = struct.pack("!IIIIII", ssrc, losses, 0, jitter, lsr, delay)
    return struct.pack("!BBHI", 0x81, kind, (4 + len(sender) + len(block)) // 4, 7) + sender + block


@pytest.mark.parametrize("kind", [200, 201])
def test_what_the_peer_says_of_our_stream(kind: int) -> None:
    out = Receiver().out
    out.forward(object(), packet(1, 1), 0)
    sent = rtcp.compound(out, None, 1_000_000_000)
    high, low = struct.unpack_from("!II", sent, 8)
    lsr = (high & 0xFFFF) << 16 | low >> 16
    about = peer_report(kind, out.ssrc, 64 << 24 | 9, 480, lsr, 65536 // 2)
    rtcp.note(about, None, out, 1_540_000_000)
    assert (out.heard.loss, out.heard.lost, out.heard.jitter_ms) == (0.25, 9, 10.0)
    assert out.heard.rtt_ms == pytest.approx(40, abs=0.1), "540 ms, of which the peer kept it for 500"
    rtcp.note(peer_report(kind, out.ssrc, 0xFFFFFF, 0, 0, 0), None, out, 2_000_000_000)
    assert (out.heard.loss, out.heard.lost) == (0.0, -1), "one came twice"
    assert out.heard.rtt_ms == pytest.approx(40, abs=0.1), "it has not heard a report of ours: the last one counts"
    heard = out.heard
    rtcp.note(peer_report(kind, out.ssrc + 1, 9, 9, lsr, 0), None, out, 2_000_000_000)
    rtcp.note(about[:-1], None, out, 2_000_000_000)
    assert out.heard == heard, "of another stream; cut off"
    rtcp.note(peer_report(kind, out.ssrc, 0, 0, lsr ^ 1, 0), None, out, 3_000_000_000)
    assert out.heard.rtt_ms == heard.rtt_ms, "a time that we never sent"
    rtcp.note(peer_report(kind, out.ssrc, 0, 0, lsr, 0xFFFFFFFF), None, out, 3_000_000_000)
    assert out.heard.rtt_ms == 0, "it says that it kept it for longer than it had it"


@pytest.mark.parametrize(
    ("codec", "payload", "level", "sounds"),
    [
        ("opus", b"\x78\x01", None, True),  # nobody says
        ("opus", b"\x78\x01", 0x80 | 40, True),
        ("opus", b"\x78\x01", 127, False),
        ("opus", b"\x78\x01", 0x80 | 127, False),
        ("pcmu", 160 * b"\xff", None, False),
        ("pcmu", 159 * b"\xff" + b"\xfe", None, True),
        ("pcma", 80 * b"\xd5\x55", None, False),
        ("pcma", 160 * b"\xff", None, True),
        ("cn", b"\x40", None, False),
        ("telephone-event", b"\x01\x0a\x00\xa0", None, False),
    ],
)
def test_digital_silence_is_no_sound(codec: str, payload: bytes, level: int | None, sounds: bool) -> None:
    packet = rtp.Packet(Codec(codec, 0, 8000), 0, 1, 160, 7, payload, level)
    assert rtp.sounds(packet) is sounds
