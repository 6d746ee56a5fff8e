"""SRTP on one shared buffer: it says what pylibsrtp's own session says, to the byte and to the error."""

from __future__ import annotations

import gc

import pylibsrtp
import pytest

from server.media.relay import srtp

KEY = bytes(range(30))
IN, OUT = pylibsrtp.Policy.SSRC_ANY_INBOUND, pylibsrtp.Policy.SSRC_ANY_OUTBOUND
REPORT = b"\x80\xc9\x00\x01\x12\x34\x56\x78"


def session(direction: int) -> pylibsrtp.Session:
    return pylibsrtp.Session(pylibsrtp.Policy(key=KEY, ssrc_type=direction))


def packet(sequence: int, size: int = 160) -> bytes:
    return b"\x80\x6f" + sequence.to_bytes(2, "big") + bytes(4) + b"\x12\x34\x56\x78" + bytes([sequence % 251]) * size


def test_both_ways_are_byte_for_byte_those_of_pylibsrtp() -> None:
    ours, theirs = srtp.Outward(session(OUT)), session(OUT)
    inward = srtp.Inward(session(IN))
    for sequence in (1, 2, 3, 65535):
        plain = packet(sequence, size=sequence % 300)
        sealed = theirs.protect(plain)
        assert ours.rtp(plain) == sealed
        assert sealed != plain
        assert inward.rtp(sealed) == plain
    sealed = theirs.protect_rtcp(REPORT)
    assert ours.rtcp(REPORT) == sealed
    assert inward.rtcp(sealed) == REPORT


def test_links_share_the_buffer_and_nothing_else() -> None:
    """A longer packet of another link in between leaves nothing behind in a shorter one."""
    first, second, inward = srtp.Outward(session(OUT)), srtp.Outward(session(OUT)), srtp.Inward(session(IN))
    short = first.rtp(packet(1, size=3))
    second.rtp(packet(9, size=1200))
    assert inward.rtp(short) == packet(1, size=3)


def test_a_damaged_and_a_repeated_packet_are_refused_and_the_next_one_is_read() -> None:
    outward, inward = srtp.Outward(session(OUT)), srtp.Inward(session(IN))
    sealed = outward.rtp(packet(1))
    with pytest.raises(pylibsrtp.Error):
        inward.rtp(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    assert inward.rtp(sealed) == packet(1)
    with pytest.raises(pylibsrtp.Error):
        inward.rtp(sealed)
    with pytest.raises(pylibsrtp.Error):
        inward.rtp(b"\x80\x6f")
    assert inward.rtp(outward.rtp(packet(2))) == packet(2)


def test_no_packet_is_sealed_twice_under_one_number() -> None:
    outward = srtp.Outward(session(OUT))
    outward.rtp(packet(7))
    with pytest.raises(pylibsrtp.Error):
        outward.rtp(packet(7, size=20))


def test_the_longest_packet_fits_and_a_longer_one_never_reaches_the_buffer() -> None:
    outward, inward = srtp.Outward(session(OUT)), srtp.Inward(session(IN))
    longest = packet(1, size=srtp.ROOM_BYTES - srtp.RTP_TRAILER_BYTES - 12)
    assert inward.rtp(outward.rtp(longest)) == longest
    for refuses in (outward.rtp, outward.rtcp, inward.rtp, inward.rtcp):
        with pytest.raises(ValueError, match="too long"):
            refuses(bytes(srtp.ROOM_BYTES + 1))
    with pytest.raises(ValueError, match="too long"):
        outward.rtp(longest + b"\0")
    with pytest.raises(ValueError, match="too long"):
        outward.rtcp(bytes(srtp.ROOM_BYTES - srtp.RTCP_TRAILER_BYTES + 1))


def test_the_session_lives_as_long_as_what_was_made_of_it() -> None:
    seals = srtp.Outward(session(OUT)).rtp
    gc.collect()
    for sequence in range(1, 200):
        assert len(seals(packet(sequence))) == 12 + 160 + 10


def test_a_packet_is_decrypted_where_it_arrived() -> None:
    outward, inward = srtp.Outward(session(OUT)), srtp.Inward(session(IN))

    def arrives(sealed: bytes) -> bytes:
        srtp.ARRIVED[: len(sealed)] = sealed
        return inward.rtp_here(len(sealed))

    sealed = outward.rtp(packet(1))
    with pytest.raises(pylibsrtp.Error):
        arrives(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    assert arrives(sealed) == packet(1)
    with pytest.raises(pylibsrtp.Error):
        arrives(sealed)
    with pytest.raises(ValueError, match="too long"):
        arrives(bytes(srtp.ROOM_BYTES + 1))
    assert arrives(outward.rtp(packet(2))) == packet(2)
