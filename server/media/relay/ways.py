"""The usual packet's way, compiled (ways.c): from the socket of who speaks, through the recording, to the socket of who
hears, without Python in between.

    packets ─► Python (links, leg.py, rtp.py, recorder.py) ── it went as usual ─► a way is laid
                 ▲                                                                    │ packets like it
                 └── anything else came, or something changed: the way ends ◄────────┘

A way is laid by an anchor (leg.py) that has just passed on a packet as it passes on nearly all: of a settled stream in
one codec, from one address, to one listener. While it lies, the numbers that it counts are here and not in the Python
objects; `read_back` brings them there, and whoever changes any of what it was laid with ends it first. Ending it costs
some microseconds and the next usual packet lays it again, so that in doubt it ends.

A packet is looked at before it is decrypted. One of another payload type, source, SSRC or shape, and all that is no
RTP, falls out as it came, and Python does with it what it does without ways. So Python's path is the whole truth, and
this the same for one case: tests/contract/test_ways.py holds them against each other, packet by packet.

Where there was no compiler at the install, or no Linux, nothing is laid and everything works as well. What it gives
stands in docs/decisions/0014."""

from __future__ import annotations

import ctypes
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pylibsrtp
import structlog
from pylibsrtp._binding import ffi, lib

from server.media.capture import CaptureWriter
from server.media.relay.link import Address, End
from server.media.relay.rtp import NO_LEVEL, InStream, OutStream
from server.media.relay.srtp import ARRIVED
from server.media.sdp import Codec

log = structlog.get_logger(__name__)

_ABI = 1
_ROOM_BYTES = 24 * 1024  # of records: a second of anything, and more than the writer keeps
_FALLEN = 128  # EVENTS
_MAX_FD = 65536


class _Way(ctypes.Structure):
    """As in ways.c."""

    _fields_ = (
        ("rx", ctypes.c_void_p), ("from_ip", ctypes.c_uint32), ("from_port", ctypes.c_uint16),
        ("payload_type", ctypes.c_uint16), ("ssrc", ctypes.c_uint32), ("level_id", ctypes.c_int32),
        ("highest", ctypes.c_int64), ("received", ctypes.c_int64), ("clock", ctypes.c_int64),
        ("units_per_ns", ctypes.c_double), ("transit", ctypes.c_double), ("jitter", ctypes.c_double),
        ("heard_ns", ctypes.c_int64), ("refused", ctypes.c_int64), ("level", ctypes.c_int32),
        ("room", ctypes.c_int32), ("records", ctypes.c_void_p), ("size", ctypes.c_int64),
        ("origin_ns", ctypes.c_int64),
        ("tx", ctypes.c_void_p), ("out_fd", ctypes.c_int32), ("to_ip", ctypes.c_uint32), ("to_port", ctypes.c_uint16),
        ("out_type", ctypes.c_uint16), ("out_ssrc", ctypes.c_uint32), ("out_level_id", ctypes.c_int32),
        ("newest_in", ctypes.c_uint32), ("last_sequence", ctypes.c_uint32), ("sequence_shift", ctypes.c_uint32),
        ("timestamp_shift", ctypes.c_uint32), ("steps", ctypes.c_int64), ("last_timestamp", ctypes.c_uint32),
        ("pad", ctypes.c_uint32), ("last_ns", ctypes.c_int64), ("packets", ctypes.c_int64),
        ("octets", ctypes.c_int64), ("unsent", ctypes.c_int64),
    )  # fmt: skip


class _Fallen(ctypes.Structure):
    _fields_ = (
        ("fd", ctypes.c_int32), ("size", ctypes.c_int32), ("ip", ctypes.c_uint32), ("port", ctypes.c_uint16),
        ("pad", ctypes.c_uint16), ("data", ctypes.c_uint8 * len(ARRIVED)),
    )  # fmt: skip


class Ways:
    """The compiled part, in one event loop. `load` finds it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._fallen = (_Fallen * _FALLEN)()
        self._count = ctypes.c_int(0)
        self._counted = ctypes.byref(self._count)
        self._look = library.ways_look
        self._laid: dict[int, Way] = {}  # by the socket that it comes in at
        self._leaving: dict[int, Way] = {}  # and by the one that it goes out at

    def look(self, epoll_fd: int, budget: int) -> tuple[int, int]:
        """Carry what lies at the sockets; (how many datagrams there were, how many fell out)."""
        read: int = self._look(epoll_fd, budget, self._fallen, self._counted)
        return read, self._count.value

    def fallen(self, count: int) -> Iterator[tuple[int, int, Address | None]]:
        """(socket, size, source) of what fell out of the last look, each of them in ARRIVED while it is the newest;
        source None: the socket has no way, and was not read."""
        for index in range(count):
            one = self._fallen[index]
            if one.size < 0:
                yield one.fd, 0, None
                continue
            ARRIVED[: one.size] = memoryview(one.data).cast("B")[: one.size]
            host = socket.inet_ntoa(one.ip.to_bytes(4, sys.byteorder))
            yield one.fd, one.size, (host, socket.ntohs(one.port))

    def lay(self, laid: Laying) -> Way | None:
        """None: the recording writes another stream, or a number is beyond what the compiled part takes."""
        for fd, ways in ((laid.source.fd, self._laid), (laid.target.fd, self._leaving)):
            if fd in ways:
                ways[fd].end()
        codec, writer = laid.codec, laid.writer
        if laid.source.fd >= _MAX_FD:
            return None
        way = Way(self, laid)
        if writer is not None and not writer.lend((laid.stream.ssrc, codec.clock_rate, codec.name), way):
            return None
        laid.out.way = way
        self._library.ways_set(laid.source.fd, ctypes.byref(way.numbers))
        self._laid[laid.source.fd] = self._leaving[laid.target.fd] = way
        return way

    def lift(self, way: Way) -> None:
        source, target = way.laid.source.fd, way.laid.target.fd
        self._library.ways_set(source, None)
        del self._laid[source], self._leaving[target]

    def forget(self, fd: int) -> None:
        """The socket is about to be closed: the next one with this number is somebody else's."""
        for ways in (self._laid, self._leaving):
            if fd in ways:
                ways[fd].end()


@dataclass(frozen=True, slots=True)
class Laying:
    """What a way is laid with. `count`: told what was heard since the last time (when it was last, packets, the loudest
    level, how many could not be decrypted). `ended`: it lies no more."""

    source: End
    stream: InStream
    codec: Codec
    level_id: int | None
    writer: CaptureWriter | None
    out: OutStream
    target: End
    count: Callable[[int, int, int, int], None]
    ended: Callable[[], None]


class Way:
    """A way that lies."""

    def __init__(self, ways: Ways, laid: Laying) -> None:
        self.lies = True
        self.laid = laid
        self._ways = ways
        self._received = laid.stream.received
        source, target, stream, out = laid.source, laid.target, laid.stream, laid.out
        self._records = ctypes.create_string_buffer(_ROOM_BYTES) if laid.writer is not None else None
        self.numbers = numbers = _Way(
            rx=_handle(source.session),
            from_ip=_ip(source.peer),
            from_port=socket.htons(source.peer[1]),
            payload_type=laid.codec.payload_type,
            ssrc=stream.ssrc,
            level_id=laid.level_id or 0,
            level=NO_LEVEL,
            room=_ROOM_BYTES,
            records=ctypes.addressof(self._records) if self._records is not None else None,
            origin_ns=laid.writer.origin_ns if laid.writer is not None else 0,
            tx=_handle(target.session),
            out_fd=target.fd,
            to_ip=_ip(target.peer),
            to_port=socket.htons(target.peer[1]),
        )
        stream.lend(numbers)
        out.lend(numbers)

    def read_back(self) -> None:
        """Bring what was counted to the Python objects; the way goes on."""
        laid, numbers = self.laid, self.numbers
        laid.stream.take_back(numbers)
        laid.out.take_back(numbers)
        received = numbers.received - self._received
        self._received = numbers.received
        laid.count(numbers.heard_ns, received, numbers.level, numbers.refused)
        if laid.out.carrier is not None:
            laid.out.carrier.failed(numbers.unsent)
        numbers.level, numbers.refused, numbers.unsent = NO_LEVEL, 0, 0

    def records(self) -> bytes:
        """The records since the last time, for the writer."""
        if self._records is None:
            return b""
        done = ctypes.string_at(self._records, self.numbers.size)
        self.numbers.size = 0
        return done

    def end(self) -> None:
        """Everything is Python's again. Harmless when repeated."""
        if not self.lies:
            return
        self.lies = False
        self._ways.lift(self)
        self.read_back()
        writer = self.laid.writer
        if writer is not None:
            writer.take_in()
        self.laid.out.way = None
        self.laid.ended()


def load() -> Ways | None:
    """None: there is no compiled part, or not for this version."""
    if sys.platform != "linux":
        return None
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_ways{suffix}")
        if path.exists():
            break
    else:
        return None
    try:
        library = ctypes.CDLL(str(path))
        library.ways_look.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        library.ways_set.argtypes = [ctypes.c_int, ctypes.c_void_p]
        library.ways_begin.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        began = library.ways_begin(_pointer(lib, "srtp_unprotect"), _pointer(lib, "srtp_protect"))
    except (OSError, AttributeError) as error:
        log.warning("ways_unusable", error=str(error))
        return None
    if began != _ABI * 10_000 + ctypes.sizeof(_Way):
        log.warning("ways_unusable", error="it was compiled for another version; install again")
        return None
    return Ways(library)


def _pointer(library: Any, name: str) -> int:
    return int(ffi.cast("intptr_t", ffi.addressof(library, name)))


def _handle(session: pylibsrtp.Session | None) -> int | None:
    return None if session is None else int(ffi.cast("intptr_t", session._srtp[0]))


def _ip(address: Address) -> int:
    return int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
