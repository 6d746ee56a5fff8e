"""A press is one press, whatever the network does to its packets."""

from __future__ import annotations

import random
import struct

from hypothesis import given
from hypothesis import strategies as st

from server.media.relay import dtmf
from server.media.relay.dtmf import KeyPresses, KeyReader, PressLimit, event_codec
from server.media.relay.rtp import OutStream, Packet, parse
from server.media.sdp import Codec

EVENT = Codec("telephone-event", 101, 8000)
WIDE = Codec("telephone-event", 110, 48000)
OPUS = Codec("opus", 111, 48000)


def event(timestamp: int, key: int, ms: int, end: bool = False, ssrc: int = 1, marker: int = 0) -> Packet:
    payload = struct.pack("!BBH", key, 0x80 if end else 0, min(ms * 8, 0xFFFF))
    return Packet(EVENT, marker, 0, timestamp & 0xFFFFFFFF, ssrc, payload, None)


def press(timestamp: int, key: int, ms: int = 100) -> list[Packet]:
    packets = [event(timestamp, key, at) for at in range(20, ms, 20)] + [event(timestamp, key, ms, end=True)] * 3
    packets[0].marker = 0x80
    return packets


def read(packets: list[Packet]) -> str:
    reader = KeyReader()
    return "".join(digit for packet in packets if (digit := reader.take(packet)))


def test_each_key_once() -> None:
    presses = [packet for key in range(16) for packet in press(0xFFFFF000 + key * 1280, key)]
    assert read(presses) == "0123456789*#ABCD"
    assert read([packet for packet in presses for _ in range(2)]) == "0123456789*#ABCD", "doubled packets"


def test_lost_ends_and_late_packets() -> None:
    one, two, three = press(1000, 1), press(2280, 1), press(3560, 2)
    assert read(one[:3] + two[:3] + three[:3]) == "112", "no end was seen"
    assert read(one[-1:] + two[-1:] + three[-1:]) == "112", "only an end was seen"
    assert read(one[:4] + two[:2] + one[4:] + two[2:] + three) == "112", "late ones"


def test_too_short_is_no_press() -> None:
    assert read(press(1000, 5, 39)) == ""
    assert read(press(1000, 5, 40)) == "5"
    assert read([event(1000, 5, 20), event(9000, 6, 60)]) == "6"


def test_a_key_that_is_held_for_long_is_one_press() -> None:
    held = [event(1000, 7, ms) for ms in range(20, 8180, 20)] + [event(1000, 7, 8192)]
    on = [event(1000 + 0xFFFF, 7, ms) for ms in range(20, 500, 20)]
    assert read(held + on) == "7"
    again = [event(1000 + 0xFFFF, 7, ms, marker=0x80) for ms in range(20, 100, 20)]
    assert read(held + again) == "77", "the marker begins a press"


def test_nobody_presses_more_keys_than_a_keypad_can_make() -> None:
    """Timestamps cost nothing: 1000 presses a second for 10 s are read as 20 a second, and a keypad's as they are."""
    flood, quick = PressLimit(), PressLimit()
    start_ns = 10**15
    told = sum(flood.admits(start_ns + n * 1_000_000) for n in range(10_000))
    assert 200 <= told <= 220
    assert told + flood.dropped == 10_000
    assert all(quick.admits(start_ns + n * 80_000_000) for n in range(1000))
    assert all(quick.admits(start_ns + 100 * 10**9) for _ in range(20)), "of a second and a half, after a loss"


def test_another_stream_begins_anew() -> None:
    later = [event(100, 3, ms, ssrc=2) for ms in (20, 40)]
    assert read(press(5000, 3) + later) == "33"
    restarted = [event(5000 - 90 * 8000, 4, ms) for ms in (20, 40)]
    assert read(press(5000, 3) + restarted) == "34", "a sender that keeps its SSRC and not its clock"


def test_what_is_no_key() -> None:
    assert read([event(1, 16, 100), event(2, 255, 100)]) == ""
    short = event(3, 1, 100)
    short.payload = short.payload[:3]
    assert read([short]) == ""


@given(st.randoms(use_true_random=False), st.text("0123456789*#ABCD", min_size=1, max_size=12), st.floats(0, 0.5))
def test_loss_and_order_make_no_press_of_two_nor_two_of_one(dice: random.Random, keys: str, loss: float) -> None:
    """A press of which anything of 40 ms or more arrives is one press, in order."""
    sent = [press(1000 + 1280 * index, dtmf.DIGITS.index(key)) for index, key in enumerate(keys)]
    kept = [[packet for packet in one if dice.random() >= loss] for one in sent]
    for one in kept:
        dice.shuffle(one)
    arrived = [packet for one in kept for packet in one]
    enough = [any(struct.unpack("!BBH", p.payload)[2] >= 320 for p in one) for one in kept]
    assert read(arrived) == "".join(key for key, good in zip(keys, enough, strict=True) if good)


@given(st.binary(max_size=8), st.integers(0, 0xFFFFFFFF))
def test_any_payload(payload: bytes, timestamp: int) -> None:
    reader = KeyReader()
    for _ in range(2):
        reader.take(Packet(EVENT, 0, 0, timestamp, 1, payload, None))


def test_what_is_pressed_can_be_read() -> None:
    sent: list[bytes] = []
    out = OutStream((OPUS, WIDE), None, sent.append)
    presses = KeyPresses(WIDE)
    now_ns = 0
    for digit in "90#":
        for packet in presses.press(digit):
            now_ns += 20_000_000
            if packet is not None:
                out.forward(presses, packet, now_ns)
    packets = [packet for data in sent if (packet := parse(data, {110: WIDE}, None)) is not None]
    assert read(packets) == "90#"
    assert len(packets) == 3 * 7
    assert [packet.marker for packet in packets] == [0x80, 0, 0, 0, 0, 0, 0] * 3
    assert sorted({packet.timestamp - packets[0].timestamp & 0xFFFFFFFF for packet in packets}) == [0, 7680, 15360]


def test_which_events_go_with_the_sound() -> None:
    assert event_codec((OPUS, EVENT, WIDE), 48000) == WIDE
    assert event_codec((OPUS, EVENT, WIDE), 8000) == EVENT
    assert event_codec((OPUS, EVENT), 48000) == EVENT
    assert event_codec((OPUS,), 48000) is None
