"""Capture files: the payloads of one side of a recording part, as they came, in a format that survives.

A worker appends records while the call runs and decodes nothing. A file holds one or more *segments* (a
second one when a part was stopped and begun again). Numbers are little-endian.

    segment  = magic "PBCAP\\0\\1\\n", u16 length, JSON header, records
    header   = {"side", "recording_id", "part", "session_id", "epoch", "wall_ns", "mono_ns", "boot", "at_ms"}
    record   = u8 kind, u64 time (ns since the header's mono_ns), u16 length, body, u32 CRC-32 of all before

    kind  body
    S     u32 ssrc, u32 clock rate, codec name: the packets that follow are of this stream
    P     u16 sequence, u32 RTP timestamp, payload
    Z, R  empty: paused, resumed. Nothing is written in between but T
    T     empty: the part was still running (once a second, so that a killed worker loses no more)
    E     empty: the end of the segment

`at_ms`, how far into the talk the segment begins, is left out where the order did not tell.

The reader stops at the first record that is cut off or whose CRC is wrong, and goes on at the next segment.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

MAGIC = b"PBCAP\0\1\n"
_RECORD = struct.Struct("<BQH")
_CRC = struct.Struct("<I")
_STREAM = struct.Struct("<II")
_PACKET = struct.Struct("<HI")
_PACKET_RECORD = struct.Struct("<BQHHI")  # the two above, packed at once: a record for each packet of a call
_LENGTH = struct.Struct("<H")

STREAM, PACKET, PAUSE, RESUME, TICK, END = b"SPZRTE"
FLUSH_BYTES = 16 * 1024
SAFE_NAME = re.compile(r"[A-Za-z0-9_@-][A-Za-z0-9_.:@-]{0,127}\Z")  # ids become folder names


@dataclass(frozen=True, slots=True)
class PartFiles:
    """The two capture files of a recording part."""

    customer: Path
    agent: Path


def part_files(spool: Path, tenant: str, session_id: str, recording_id: str, part: int) -> PartFiles:
    """Where a worker puts a part: known to the control node without asking."""
    folder = spool / tenant / session_id / recording_id
    return PartFiles(folder / f"{part}.customer.cap", folder / f"{part}.agent.cap")


def part_folders(spool: Path) -> Iterator[tuple[str, str, str]]:
    """(tenant, session id, recording id) of every folder of parts."""
    for folder in spool.glob("*/*/*"):
        if folder.is_dir():
            yield folder.parts[-3], folder.parts[-2], folder.parts[-1]


# --- writing -----------------------------------------------------------------------------------------


class Sink(Protocol):
    """An unbuffered file (`open(path, "ab", buffering=0)`); a test may fail in its place."""

    def write(self, data: bytes, /) -> int | None: ...

    def close(self) -> None: ...


Opener = Callable[[Path], Sink]


def open_file(path: Path) -> Sink:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return open(path, "ab", buffering=0, opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Aside(Protocol):
    """Who makes records of the packets in the writer's place (relay/ways.py)."""

    def records(self) -> bytes:
        """Those since the last time."""
        ...

    def end(self) -> None:
        """Make no more, and give what is left by `take_in`."""


class CaptureWriter:
    """Appends one segment. Packets collect in memory until `flush` or 16 KiB of them, and become records then, all in
    one go: a second of packets costs half of what they cost one by one. Raises OSError from any method that writes;
    after that only `abandon` makes sense."""

    def __init__(self, sink: Sink, header: dict[str, Any]) -> None:
        self._sink = sink
        text = json.dumps(header, separators=(",", ":")).encode()
        self._buffer = bytearray(MAGIC + _LENGTH.pack(len(text)) + text)
        self.origin_ns = int(header["mono_ns"])
        self._aside: Aside | None = None
        self._stream: tuple[int, int, str] | None = None
        self._packets: list[tuple[int, int, int, bytes]] = []  # not records yet: time, sequence, stamp, payload
        self._size = 0  # of their payloads

    def packet(self, at_ns: int, stream: tuple[int, int, str], sequence: int, stamp: int, data: bytes) -> None:
        """`stream`: ssrc, clock rate, codec name. Times are monotonic nanoseconds."""
        if stream != self._stream:
            self._stream = stream
            ssrc, clock, codec = stream
            self._put(STREAM, at_ns, _STREAM.pack(ssrc, clock) + codec.encode())
        self._packets.append((at_ns, sequence, stamp, data))
        self._size += len(data)
        if self._size >= FLUSH_BYTES:
            self.flush()

    def lend(self, stream: tuple[int, int, str], aside: Aside) -> bool:
        """Let somebody else make the records of this stream from now on; False: it is not the one that is written."""
        if stream != self._stream:
            return False
        self.let_go()
        self._aside = aside
        return True

    def let_go(self) -> None:
        """Nobody else makes records from here on."""
        if self._aside is not None:
            self._aside.end()

    def take_in(self) -> None:
        """The last records that were made elsewhere."""
        self._pack()
        self._aside = None

    def mark(self, kind: int, at_ns: int) -> None:
        """Append a bare record: PAUSE, RESUME or TICK."""
        self._put(kind, at_ns, b"")

    def flush(self) -> None:
        self._pack()
        while self._buffer:
            written = self._sink.write(bytes(self._buffer)) or 0
            del self._buffer[:written]

    def close(self, at_ns: int) -> None:
        self.let_go()
        self._put(END, at_ns, b"")
        self.flush()
        self._sink.close()

    def abandon(self) -> None:
        """Close the file as it is, after a failed write."""
        self.let_go()
        self._buffer.clear()
        self._packets = []
        try:
            self._sink.close()
        except OSError:
            return

    def _pack(self) -> None:
        """Make records of the packets, and take in what was made elsewhere since."""
        origin_ns, head_size = self.origin_ns, _PACKET.size
        pack, pack_crc, crc32 = _PACKET_RECORD.pack, _CRC.pack, zlib.crc32
        records: list[bytes] = []
        for at_ns, sequence, stamp, data in self._packets:
            head = pack(PACKET, max(0, at_ns - origin_ns), head_size + len(data), sequence, stamp)
            records += (head, data, pack_crc(crc32(data, crc32(head))))
        self._buffer += b"".join(records)
        self._packets, self._size = [], 0
        if self._aside is not None:
            self._buffer += self._aside.records()

    def _put(self, kind: int, at_ns: int, body: bytes) -> None:
        self._pack()
        record = _RECORD.pack(kind, max(0, at_ns - self.origin_ns), len(body)) + body
        self._buffer += record + _CRC.pack(zlib.crc32(record))


# --- reading -----------------------------------------------------------------------------------------


class CapturedPacket(NamedTuple):
    """`at_ns` since the segment's start; `ssrc` and `codec` of the stream it belongs to."""

    at_ns: int
    ssrc: int
    clock_rate: int
    codec: str
    sequence: int
    timestamp: int
    payload: bytes


Source = bytes | mmap.mmap


@dataclass(slots=True)
class Segment:
    """One run of a part. `end_ns` since its start: of the END record, or of the last readable one. `streams`: clock
    rate and codec of all that it holds packets of."""

    header: dict[str, Any]
    pauses: list[tuple[int, int | None]] = field(default_factory=list)  # (from, to) in ns; None: to the end
    end_ns: int = 0
    complete: bool = False
    streams: set[tuple[int, str]] = field(default_factory=set)
    _data: Source = b""
    _records_at: int = 0

    @property
    def at_ns(self) -> int | None:
        """How far into the talk it begins, ns; None where the header does not tell."""
        at_ms = self.header.get("at_ms")
        return at_ms * 1_000_000 if type(at_ms) is int and at_ms >= 0 else None

    @property
    def ends_paused(self) -> bool:
        return bool(self.pauses) and self.pauses[-1][1] is None

    def stream(self) -> Iterator[CapturedPacket]:
        """The packets as they came, read anew each time: an hour of them is not held in memory."""
        data, stream = self._data, None
        for kind, at_ns, at, end in _records(data, self._records_at):
            if kind == PACKET and stream is not None and end - at >= _PACKET.size:
                sequence, stamp = _PACKET.unpack_from(data, at)
                yield CapturedPacket(at_ns, *stream, sequence, stamp, data[at + _PACKET.size : end])
            elif kind == STREAM and end - at >= _STREAM.size:
                stream = _stream_of(data, at, end)

    @property
    def packets(self) -> list[CapturedPacket]:
        return list(self.stream())


def map_file(path: Path) -> Source:
    """A file's bytes without reading it whole. Raises OSError."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def read_capture(data: Source) -> list[Segment]:
    """All segments that can be read; they keep `data` for their packets. Never raises, whatever the bytes."""
    segments: list[Segment] = []
    at = data.find(MAGIC)
    while at >= 0:
        segment, end = _read_segment(data, at + len(MAGIC))
        if segment is not None:
            segments.append(segment)
        at = data.find(MAGIC, end)
    return segments


def _read_segment(data: Source, at: int) -> tuple[Segment | None, int]:
    if at + 2 > len(data):
        return None, at
    (size,) = _LENGTH.unpack_from(data, at)
    at += 2
    try:
        header = json.loads(data[at : at + size].decode())
    except ValueError:
        return None, at
    if not isinstance(header, dict) or not isinstance(header.get("wall_ns"), int) or "mono_ns" not in header:
        return None, at
    at += size
    segment = Segment(header, _data=data, _records_at=at)
    for kind, at_ns, body_at, end in _records(data, at):
        at = end + _CRC.size
        segment.end_ns = max(segment.end_ns, at_ns)
        if kind == PAUSE:
            segment.pauses.append((at_ns, None))
        elif kind == RESUME and segment.pauses and segment.pauses[-1][1] is None:
            segment.pauses[-1] = (segment.pauses[-1][0], at_ns)
        elif kind == STREAM and end - body_at >= _STREAM.size:
            segment.streams.add(_stream_of(data, body_at, end)[1:])
        elif kind == END:
            segment.complete = True
    return segment, at


def _stream_of(data: Source, at: int, end: int) -> tuple[int, int, str]:
    ssrc, clock = _STREAM.unpack_from(data, at)
    return ssrc, clock, data[at + _STREAM.size : end].decode(errors="replace")


def _records(data: Source, at: int) -> Iterator[tuple[int, int, int, int]]:
    """Kind, time, and where the body begins and ends, of each good record of a segment."""
    kind = 0
    while kind != END and at + _RECORD.size + _CRC.size <= len(data):
        kind, at_ns, length = _RECORD.unpack_from(data, at)
        body_at = at + _RECORD.size
        end = body_at + length
        if end + _CRC.size > len(data) or _CRC.unpack_from(data, end)[0] != zlib.crc32(data[at:end]):
            return
        at = end + _CRC.size
        yield kind, at_ns, body_at, end
