"""Keys of a telephone as named events (RFC 4733): read from a stream, and pressed into one.

An event is several packets with one timestamp, whose duration grows; the last one is sent three times. So presses are
told apart by timestamps, and lost, doubled and late packets make no difference: a press counts as soon as any of its
packets says that it was long enough.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from server.media.relay.rtp import Packet
from server.media.sdp_lines import Codec

DIGITS = "0123456789*#ABCD"  # by event code, RFC 4733 section 3.2
PRESS_MS = 100
PAUSE_MS = 60
PACKET_MS = 20
END_PACKETS = 3  # RFC 4733 section 2.5.1.4
SHORTEST_MS = 40  # ITU-T Q.24: a shorter tone is no press
GAP_MS = 40  # as well: between two presses of a key
LATE_S = 5.0  # a timestamp that is further back is no late packet, but a sender that begins anew
# A press and its pause take 80 ms by Q.24, so a keypad makes 12.5 presses a second at most, and a network that stalls
# delivers those of its stall at once. Whoever "presses" more invents timestamps.
PRESSES_A_SECOND = 20
LONG_UNITS = 0x8000  # of duration: an event that long may go on under a new timestamp (RFC 4733 section 2.5.1.3)

_EVENT = struct.Struct("!BBH")
_END = 0x80
_VOLUME = 10  # -10 dBm0


class KeyReader:
    """The presses in one anchor's telephone-event packets."""

    def __init__(self) -> None:
        self._ssrc = -1
        self._timestamp = 0
        self._event = -1
        self._duration = 0  # timestamp units
        self._ended = False
        self._told = False

    def take(self, packet: Packet) -> str | None:
        """The key whose press this packet makes certain; None for all the other packets of it, and for no key."""
        if len(packet.payload) < _EVENT.size:
            return None
        event, flags, duration = _EVENT.unpack_from(packet.payload)
        if event >= len(DIGITS):
            return None
        clock = packet.codec.clock_rate
        if packet.ssrc != self._ssrc or packet.timestamp != self._timestamp:
            if not self._begins(packet, event, clock):
                return None
        elif event != self._event:
            return None
        self._duration = max(self._duration, duration)
        self._ended = self._ended or bool(flags & _END)
        if self._told or self._duration * 1000 < SHORTEST_MS * clock:
            return None
        self._told = True
        return DIGITS[event]

    def _begins(self, packet: Packet, event: int, clock: int) -> bool:
        """Note a new event, or a new segment of one; False for a late packet of an earlier one."""
        same = packet.ssrc == self._ssrc
        ahead = (packet.timestamp - self._timestamp) & 0xFFFFFFFF
        if same and 0x100000000 - ahead < LATE_S * clock:
            return False
        long = not self._ended and event == self._event and self._duration >= LONG_UNITS
        goes_on = same and long and not packet.marker and abs(ahead - self._duration) * 1000 < GAP_MS * clock
        self._told = goes_on and self._told
        self._ssrc, self._timestamp, self._event = packet.ssrc, packet.timestamp, event
        self._duration, self._ended = 0, False
        return True


class PressLimit:
    """Lets PRESSES_A_SECOND through, as a token bucket of that size. `dropped`: presses that it did not."""

    def __init__(self) -> None:
        self.dropped = 0
        self._left = float(PRESSES_A_SECOND)
        self._at_ns = 0

    def admits(self, now_ns: int) -> bool:
        """One more press, at this monotonic time."""
        self._left = min(float(PRESSES_A_SECOND), self._left + (now_ns - self._at_ns) * PRESSES_A_SECOND / 1e9)
        self._at_ns = now_ns
        if self._left < 1:
            self.dropped += 1
            return False
        self._left -= 1
        return True


def event_codec(codecs: Sequence[Codec], clock_rate: int) -> Codec | None:
    """The telephone-event to send beside audio of this clock rate (RFC 4733 section 2.1), else any; None: none."""
    events = [codec for codec in codecs if codec.name == "telephone-event"]
    return next((codec for codec in events if codec.clock_rate == clock_rate), events[0] if events else None)


class KeyPresses:
    """A source for an OutStream: one packet each 20 ms, or none in the pause between two keys."""

    def __init__(self, codec: Codec) -> None:
        self._packet = Packet(codec, 0, 0, 0, 0, b"", None)
        self._sequence = 0
        self._elapsed_ms = 0

    def press(self, digit: str) -> Iterator[Packet | None]:
        """What is to be sent in each 20 ms of a press and the pause after it. The packet is the same object each
        time."""
        packet, clock = self._packet, self._packet.codec.clock_rate
        event = DIGITS.index(digit)
        timestamp = self._elapsed_ms * clock // 1000 & 0xFFFFFFFF
        for at_ms in range(PACKET_MS, PRESS_MS + PAUSE_MS + 1, PACKET_MS):
            if at_ms > PRESS_MS + (END_PACKETS - 1) * PACKET_MS:
                yield None
                continue
            self._sequence = (self._sequence + 1) & 0xFFFF
            flags = _VOLUME | (_END if at_ms >= PRESS_MS else 0)
            packet.marker = 0x80 if at_ms == PACKET_MS else 0
            packet.sequence, packet.timestamp = self._sequence, timestamp
            packet.payload = _EVENT.pack(event, flags, min(at_ms, PRESS_MS) * clock // 1000)
            yield packet
        self._elapsed_ms += PRESS_MS + PAUSE_MS
