"""Back from the mixer to the relay: what still waited in the mixer is sent first, and nothing older."""

from __future__ import annotations

from itertools import pairwise

from server.media.relay.mixer import Mixer
from server.media.relay.rtp import HEADER, OutStream, Packet
from server.media.relay.session_mix import Tap
from server.media.sdp import Codec

PCMU = Codec("pcmu", 0, 8000)
START_NS = 10**12


async def test_what_the_mixer_made_wait_is_sent_on_the_way_back() -> None:
    tap, source, sent = Tap(Mixer()), object(), list[bytes]()
    for n in range(500):
        tap.forward(source, Packet(PCMU, 0, n, 160 * n, 1, bytes([n % 256]), None), START_NS + n * 20_000_000)
    now_ns = START_NS + 499 * 20_000_000 + 10_000_000
    out = OutStream((PCMU,), None, sent.append)
    tap.catch_up(out, now_ns)
    out.forward(source, Packet(PCMU, 0, 500, 160 * 500, 1, b"next", None), now_ns)
    said = [packet[12:] for packet in sent]
    assert said == [bytes([497 % 256]), bytes([498 % 256]), bytes([499 % 256]), b"next"], "65 ms: a steady sender"
    numbers = [HEADER.unpack_from(packet) for packet in sent]
    assert [(b[2] - a[2]) & 0xFFFF for a, b in pairwise(numbers)] == [1, 1, 1]
    assert [(b[3] - a[3]) & 0xFFFFFFFF for a, b in pairwise(numbers)] == [160, 160, 160]


async def test_a_jittery_sender_is_sent_more_of_but_never_more_than_a_quarter_of_a_second() -> None:
    tap, source, sent = Tap(Mixer()), object(), list[bytes]()
    for n in range(500):
        late_ns = (n * 7919 % 15) * 10_000_000
        tap.forward(source, Packet(PCMU, 0, n, 160 * n, 1, b"x", None), START_NS + n * 20_000_000 + late_ns)
    tap.catch_up(OutStream((PCMU,), None, sent.append), START_NS + 500 * 20_000_000)
    assert 5 <= len(sent) <= 12
