"""RTP headers in and out (RFC 3550): reading a packet, statistics of a stream, and a well-behaved sender.

A leg's outgoing stream keeps one SSRC for its whole peer connection while its source changes between
music, another leg and a comfort tone. `OutStream` makes that look like one sender: sequence numbers go on
by one at a switch and keep the source's gaps in between, so that the receiver sees real loss as loss; the
timestamp goes on by the time that passed; the first packet of a source carries the marker bit.
"""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from server.media.relay.link import End
from server.media.sdp import Codec

HEADER = struct.Struct("!BBHII")
_EXTENSION = struct.Struct("!HH")
_LEVEL_ELEMENT = struct.Struct("!HHBB")
_LEVEL_HEADER = struct.Struct("!BBHIIHHBBH")  # and the audio level alone in an extension (RFC 8285, RFC 6464)
ONE_BYTE_PROFILE = 0xBEDE  # RFC 8285 section 4.2
MAX_JUMP = 3000  # sequence numbers; a greater step is a new stream (RFC 3550 appendix A.1, MAX_DROPOUT)
FRAME_S = 0.02
SENDER_REPORTS = 4  # whose time is kept: a peer answers the newest, or the one before
NO_LEVEL = 127  # RFC 6464: silence
_ZERO = {"pcmu": b"\xff\x7f", "pcma": b"\xd5\x55", "cn": bytes(range(256)), "telephone-event": bytes(range(256))}


@dataclass(slots=True)
class Packet:
    """A decrypted packet: what forwarding, recording and statistics need. `level`: the byte of RFC 6464."""

    codec: Codec
    marker: int  # 0x80 or 0
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    level: int | None


def parse(data: bytes, codecs: Mapping[int, Codec], level_id: int | None) -> Packet | None:
    """Read a decrypted RTP packet; None when it is malformed or its payload type was not negotiated."""
    if len(data) < 12:
        return None
    first, second, sequence, timestamp, ssrc = HEADER.unpack_from(data)
    codec = codecs.get(second & 0x7F)
    if codec is None or first & 0xC0 != 0x80:
        return None
    level = None
    if first == 0x80:  # no padding, no extension, no contributing sources: the usual packet of a phone
        return Packet(codec, second & 0x80, sequence, timestamp, ssrc, data[12:], level)
    if first == 0x90 and level_id is not None and len(data) > 20:  # and that of Chromium: the level comes first
        profile, words, head, level = _LEVEL_ELEMENT.unpack_from(data, 12)
        if profile == ONE_BYTE_PROFILE and words and head >> 4 == level_id and len(data) >= 16 + 4 * words:
            return Packet(codec, second & 0x80, sequence, timestamp, ssrc, data[16 + 4 * words :], level)
        level = None
    start, end = 12 + 4 * (first & 0x0F), len(data)
    if first & 0x10:
        if end < start + 4:
            return None
        profile, words = _EXTENSION.unpack_from(data, start)
        start += 4
        if level_id is not None and profile == ONE_BYTE_PROFILE:
            level = _find_level(data, start, min(end, start + 4 * words), level_id)
        start += 4 * words
    if first & 0x20:
        end -= data[-1]
    if end < start:
        return None
    return Packet(codec, second & 0x80, sequence, timestamp, ssrc, data[start:end], level)


def _find_level(data: bytes, at: int, end: int, level_id: int) -> int | None:
    while at < end:
        head = data[at]
        if head == 0:  # padding
            at += 1
            continue
        if head >> 4 == level_id:
            return data[at + 1] if at + 1 < end else None
        at += 2 + (head & 0x0F)
    return None


def sounds(packet: Packet) -> bool:
    """Whether there is more in it than digital silence, as far as can be told without decoding it: by the sender's word
    (RFC 6464), or in G.711 by its codes of zero. Opus without that word counts as sound."""
    if packet.level is not None:
        return packet.level & 0x7F < NO_LEVEL
    zero = _ZERO.get(packet.codec.name)
    return zero is None or bool(packet.payload.strip(zero))


class InStream:
    """Statistics of one received SSRC (RFC 3550 sections 6.4.1 and A.8). Also the key of a source."""

    __slots__ = (
        "_codec", "_units_per_ns", "base", "clock", "highest", "jitter", "lsr", "lsr_ns", "prior", "received", "ssrc",
        "transit",
    )  # fmt: skip

    def __init__(self, packet: Packet) -> None:
        self.ssrc = packet.ssrc
        self.base = self.highest = packet.sequence  # highest is extended by wraps
        self.received = 0
        self.jitter = 0.0  # timestamp units
        self.transit: float | None = None
        self.prior = (0, 0)  # expected, received at the last receiver report
        self.lsr = 0  # middle 32 bits of the last sender report's NTP time
        self.lsr_ns = 0
        self._codec = packet.codec
        self.clock = packet.codec.clock_rate
        self._units_per_ns = self.clock / 1e9

    def add(self, packet: Packet, now_ns: int) -> None:
        self.received += 1
        step = (packet.sequence - self.highest) & 0xFFFF
        if step < 0x8000:
            self.highest += step
        codec = packet.codec
        if codec is not self._codec or codec.name == "telephone-event":
            if codec.name == "telephone-event":  # its timestamp stands still while a key is held
                return
            self._codec, self.clock = codec, codec.clock_rate
            self._units_per_ns = self.clock / 1e9
        transit = now_ns * self._units_per_ns - packet.timestamp
        before, self.transit = self.transit, transit
        if before is not None:
            change = abs(transit - before)
            if change < self.clock:  # a wrap or jump of the timestamp is no jitter
                self.jitter += (change - self.jitter) / 16

    def lend(self, numbers: Any) -> None:
        """To a way (ways.py), which counts for us from now on."""
        numbers.highest, numbers.received, numbers.clock = self.highest, self.received, self.clock
        numbers.units_per_ns, numbers.transit, numbers.jitter = self._units_per_ns, self.transit, self.jitter

    def take_back(self, numbers: Any) -> None:
        self.highest, self.received = numbers.highest, numbers.received
        self.transit, self.jitter = numbers.transit, numbers.jitter

    def follows(self, codec: Codec) -> bool:
        """The next packet of this codec is one like the last."""
        return codec is self._codec and self.transit is not None

    @property
    def lost(self) -> int:
        return max(0, self.highest - self.base + 1 - self.received)

    @property
    def jitter_ms(self) -> float:
        return 1000 * self.jitter / self.clock


@dataclass(frozen=True, slots=True)
class PeerReport:
    """What the peer's newest report block says of our stream (RFC 3550, 6.4.1); None: nothing yet. What was lost on
    its way to us is missing in our stream, too, and so in what the peer counts.

    loss: of the last interval, 0 to 1; lost: packets since the beginning, below 0 when some came twice;
    rtt_ms: from us to the peer and back, without the time that the peer kept it."""

    loss: float | None = None
    lost: int | None = None
    jitter_ms: float | None = None
    rtt_ms: float | None = None


class Lease(Protocol):
    """Who has our numbers (ways.py)."""

    def read_back(self) -> None: ...

    def end(self) -> None: ...


class Carrier(Protocol):
    """The link that a stream is sent by, as far as ways go."""

    @property
    def going(self) -> End | None: ...

    def failed(self, unsent: int) -> None: ...


class OutStream:
    """The one RTP stream that a peer connection sends. `send` takes a finished packet; `carrier`: a way could send it
    there, too. `way`: the one that does."""

    def __init__(
        self,
        codecs: tuple[Codec, ...],
        level_id: int | None,
        send: Callable[[bytes], None],
        carrier: Carrier | None = None,
    ) -> None:
        self.ssrc = random.getrandbits(32)
        self.packets = 0
        self.octets = 0
        self.unsendable = 0  # packets of a codec that this peer has not negotiated
        self.last_timestamp = random.getrandbits(32)
        self.last_ns = 0
        self.last_clock = 48000
        self.heard = PeerReport()
        self.carrier = carrier
        self.way: Lease | None = None
        self.told: deque[tuple[int, int]] = deque(maxlen=SENDER_REPORTS)  # when each was sent: as in the report, and ns
        self._types = {(codec.name, codec.clock_rate): codec.payload_type for codec in codecs}
        self._codec: Codec | None = None  # of the last packet, and its payload type here
        self._type: int | None = None
        self._level_id = level_id
        self._send = send
        self._source: object = None
        self._last_sequence = random.getrandbits(15)  # below 2^15: no early wrap (libsrtp, RFC 3711, 3.3.1)
        self._newest_in = 0  # the source's newest sequence number
        self._steps = 0  # how far the source has come since the switch
        self._sequence_shift = 0
        self._timestamp_shift = 0

    def forward(self, source: object, packet: Packet, now_ns: int) -> None:
        """Send a source's packet under our own header. A packet from before the switch is dropped: its
        number was given to another packet, and SRTP must never protect two under one (RFC 3711, 9.1)."""
        if self.way is not None:
            self.way.end()  # the numbers are here again
        codec = packet.codec
        if codec is not self._codec:
            self._codec, self._type = codec, self._types.get((codec.name, codec.clock_rate))
        payload_type = self._type
        if payload_type is None:
            if codec.name == "cn":
                self._skip(source, packet)
            else:
                self.unsendable += 1
            return
        number, marker = packet.sequence, packet.marker
        late = False
        step = (number - self._newest_in) & 0xFFFF
        if source is not self._source or MAX_JUMP < step < 0x10000 - MAX_JUMP:
            self._switch(source, packet, now_ns)
            marker = 0x80
        elif step == 0:
            return
        elif step < 0x8000:
            self._steps += step
        elif 0x10000 - step > self._steps:
            return
        else:
            late = True
        sequence = (number + self._sequence_shift) & 0xFFFF
        timestamp = (packet.timestamp + self._timestamp_shift) & 0xFFFFFFFF
        if not late:
            self._newest_in, self._last_sequence = number, sequence
            if timestamp != self.last_timestamp:  # it stands still while a key is held, and time does not
                self.last_timestamp, self.last_ns, self.last_clock = timestamp, now_ns, codec.clock_rate
        payload, level = packet.payload, packet.level
        self.packets += 1
        self.octets += len(payload)
        kind = marker | payload_type
        if level is None or self._level_id is None:
            head = HEADER.pack(0x80, kind, sequence, timestamp, self.ssrc)
        else:
            about = ONE_BYTE_PROFILE, 1, self._level_id << 4, level, 0
            head = _LEVEL_HEADER.pack(0x90, kind, sequence, timestamp, self.ssrc, *about)
        self._send(head + payload)

    def lend(self, numbers: Any) -> None:
        """To a way (ways.py), which numbers our packets from now on."""
        numbers.out_type, numbers.out_ssrc, numbers.out_level_id = self._type, self.ssrc, self._level_id or 0
        numbers.newest_in, numbers.last_sequence, numbers.steps = self._newest_in, self._last_sequence, self._steps
        numbers.sequence_shift = self._sequence_shift & 0xFFFF
        numbers.timestamp_shift = self._timestamp_shift & 0xFFFFFFFF
        numbers.last_timestamp, numbers.last_ns = self.last_timestamp, self.last_ns
        numbers.packets, numbers.octets = self.packets, self.octets

    def take_back(self, numbers: Any) -> None:
        self._newest_in, self._last_sequence, self._steps = numbers.newest_in, numbers.last_sequence, numbers.steps
        self.last_timestamp, self.last_ns = numbers.last_timestamp, numbers.last_ns
        self.packets, self.octets = numbers.packets, numbers.octets

    def follows(self, source: object, codec: Codec) -> bool:
        """The next packet of this source and codec is one like the last."""
        return source is self._source and codec is self._codec and self._type is not None

    def _skip(self, source: object, packet: Packet) -> None:
        """Comfort noise is not for this peer: leave no gap in its place. What comes late from before it is dropped."""
        if source is self._source and 0 < (packet.sequence - self._newest_in) & 0xFFFF <= MAX_JUMP:
            self._newest_in, self._steps = packet.sequence, 0
            self._sequence_shift = self._last_sequence - packet.sequence

    def _switch(self, source: object, packet: Packet, now_ns: int) -> None:
        passed_s = FRAME_S if self._source is None else max(FRAME_S, (now_ns - self.last_ns) / 1e9)
        timestamp = self.last_timestamp + int(passed_s * packet.codec.clock_rate)
        self._sequence_shift = self._last_sequence + 1 - packet.sequence
        self._timestamp_shift = timestamp - packet.timestamp
        self._source, self._newest_in, self._steps = source, packet.sequence, 0
