"""SRTP on one shared buffer: libsrtp through pylibsrtp's cffi handle.

`pylibsrtp.Session` allocates a length cell for each packet and finds its buffer by way of the instance. Both directions
of every link can share one of each, since a packet is read or copied in, worked on and copied out without an await in
between. So this is for one thread only, the event loop's: cffi lets go of the GIL while libsrtp works.

Sockets read into that buffer as well (ARRIVED): what came is decrypted where it lies (`rtp_here`), and copied once.

Private names of pylibsrtp, exercised by tests/wire/test_aiortc_seam.py: _binding.ffi, _binding.lib, Session._srtp.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pylibsrtp
from pylibsrtp._binding import ffi, lib

ROOM_BYTES = 1500  # pylibsrtp's own limit: what an Ethernet frame carries
RTP_TRAILER_BYTES = 16 + 128  # SRTP_MAX_TRAILER_LEN: what libsrtp may add
RTCP_TRAILER_BYTES = 4 + RTP_TRAILER_BYTES  # and the SRTCP index

_cell = ffi.new("char[]", 2048)
_buffer = ffi.buffer(_cell)
_length = ffi.new("int *")

ARRIVED = memoryview(_buffer)
"""Where a socket reads the next datagram to: longer ones than any media packet are cut, and refused by their length."""

Transform = Callable[[bytes], bytes]


class Inward:
    """What comes from a peer: checks and decrypts. Raises pylibsrtp.Error; ValueError when a packet is too long."""

    __slots__ = ("rtcp", "rtp", "rtp_here", "session")

    def __init__(self, session: pylibsrtp.Session) -> None:
        self.session = session
        self.rtp = _transform(session, lib.srtp_unprotect, ROOM_BYTES)
        self.rtp_here = _decrypt_here(session)
        self.rtcp = _transform(session, lib.srtp_unprotect_rtcp, ROOM_BYTES)


class Outward:
    """What goes to a peer: encrypts and signs. Raises as above."""

    __slots__ = ("rtcp", "rtp", "session")

    def __init__(self, session: pylibsrtp.Session) -> None:
        self.session = session
        self.rtp = _transform(session, lib.srtp_protect, ROOM_BYTES - RTP_TRAILER_BYTES)
        self.rtcp = _transform(session, lib.srtp_protect_rtcp, ROOM_BYTES - RTCP_TRAILER_BYTES)


def _transform(session: pylibsrtp.Session, function: Any, limit: int) -> Transform:
    handle = session._srtp[0]

    cell, buffer, length = _cell, _buffer, _length

    def run(packet: bytes, _keep: pylibsrtp.Session = session) -> bytes:  # libsrtp's memory goes with the session
        size = len(packet)
        if size > limit:
            raise ValueError("packet is too long")
        length[0] = size
        buffer[0:size] = packet
        status = function(handle, cell, length)
        if status:
            raise pylibsrtp.Error(f"libsrtp status {status}")
        done: bytes = buffer[0 : length[0]]
        return done

    return run


def _decrypt_here(session: pylibsrtp.Session) -> Callable[[int], bytes]:
    handle, unprotect = session._srtp[0], lib.srtp_unprotect

    cell, buffer, length = _cell, _buffer, _length

    def run(size: int, _keep: pylibsrtp.Session = session) -> bytes:
        """The packet of `size` bytes that lies in ARRIVED."""
        if size > ROOM_BYTES:
            raise ValueError("packet is too long")
        length[0] = size
        status = unprotect(handle, cell, length)
        if status:
            raise pylibsrtp.Error(f"libsrtp status {status}")
        done: bytes = buffer[0 : length[0]]
        return done

    return run
