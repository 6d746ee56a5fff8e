"""Whose packets are a phone's: the address that its SDP names first, others after a while, nobody after that."""

from __future__ import annotations

import random
import struct

from server.media.relay import latch
from server.media.relay.latch import Latch

HERE, MOVED, STRANGER = ("192.0.2.7", 4000), ("192.0.2.7", 4444), ("203.0.113.9", 4000)


def packet(sequence: int, ssrc: int = 1, payload_type: int = 0) -> bytes:
    return struct.pack("!BBHII", 0x80, payload_type, sequence & 0xFFFF, sequence * 160, ssrc) + b"x"


def stream(found: Latch, source: tuple[str, int], begin_s: float, count: int, first: int = 65533) -> float | None:
    """When it locked, packets coming every 20 ms from `begin_s`."""
    for index in range(count):
        now = begin_s + index * 0.02
        if found.learn(packet(first + index), source, now):
            return now
    return None


def test_the_named_address_needs_two_in_sequence() -> None:
    found = Latch(HERE, {0, 101}, 10.0)
    assert not found.learn(packet(5), HERE, 10.0)
    assert not found.learn(packet(7), HERE, 10.0), "a gap begins anew"
    assert not found.learn(packet(8, ssrc=2), HERE, 10.0), "so does another SSRC"
    assert not found.learn(packet(9, ssrc=2, payload_type=3), HERE, 10.0), "that was not negotiated"
    assert found.address is None
    assert found.learn(packet(9, ssrc=2), HERE, 10.0)
    assert found.address == HERE


def test_others_wait_for_the_named_one() -> None:
    moved = stream(Latch(HERE, {0}, 0.0), MOVED, 0.0, 100)
    stranger = stream(Latch(HERE, {0}, 0.0), STRANGER, 0.0, 100)
    assert moved is not None
    assert stranger is not None
    assert latch.SAME_HOST_PATIENCE_S <= moved < latch.SAME_HOST_PATIENCE_S + 0.04
    assert latch.FOREIGN_PATIENCE_S <= stranger < latch.FOREIGN_PATIENCE_S + 0.04
    late = Latch(HERE, {0}, 0.0)
    assert stream(late, STRANGER, 5.0, latch.FOREIGN_PACKETS - 1) is None
    assert late.learn(packet(1), HERE, 5.1) is False
    assert late.learn(packet(2), HERE, 5.1), "strangers' packets count for nobody else"


def test_a_spray_locks_nothing_and_is_not_remembered() -> None:
    dice, found = random.Random(1), Latch(HERE, {0}, 0.0)
    for _ in range(5000):
        source = ("203.0.113.9", dice.randrange(1024, 65536))
        assert not found.learn(packet(dice.randrange(65536), dice.getrandbits(32)), source, 5.0)
    assert len(found._candidates) <= latch.CANDIDATES_KEPT
    assert stream(found, HERE, 5.0, 2) is not None


def test_of_two_strangers_who_speak_at_once_neither_is_taken() -> None:
    """A phone whose SDP names a private address, and somebody who guessed its port and sends faster."""
    phone, thief = ("198.51.100.4", 4000), STRANGER
    found = Latch(HERE, {0}, 0.0)
    for tick in range(400):  # of 5 ms
        assert not found.learn(packet(tick, ssrc=2), thief, tick * 0.005)
        if tick % 4 == 0:
            assert not found.learn(packet(tick // 4), phone, tick * 0.005)
    since = 400 * 0.005
    alone = stream(found, phone, since, 100, first=100)
    assert alone is not None, "who is left alone is the peer"
    assert latch.RIVAL_S - 0.01 <= alone - since <= latch.RIVAL_S + 0.04


def test_who_is_on_hold_or_unknown_locks_nobody() -> None:
    assert stream(Latch(None, {0}, 0.0), STRANGER, 5.0, 100) is None
    for data in (b"", b"\x80" * 11, b"\x40" + packet(1)[1:]):
        assert not Latch(HERE, {0}, 0.0).learn(data, HERE, 0.0)
