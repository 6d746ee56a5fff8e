"""The jitter buffer of one input: packets go in as they come, and come out in order when they are due. Pure.

    idle ──► playing: the first packet has waited for the target of arrivals.py
    playing ──► idle: nothing was there for 200 ms (the sender is silent, or gone)

The *cursor* is the timestamp that is decoded next. What is there is played; a gap before a packet that is there is a
loss, or a pause when the sequence numbers have none. When nothing is there, the cursor stands still until the target is
reached (the sound is stretched; `Wait`), and then moves on (`Loss`): what comes after that is late and dropped.

A stream starts anew with another SSRC or clock, a jump of the timestamp by more than a second, or when all packets of
half a second were late (the way became longer). Then the buffer is emptied; the target stays."""

from __future__ import annotations

from dataclasses import dataclass, field

from server.media.mixer.arrivals import MOST_MS, Arrivals
from server.media.mixer.formats import FRAME_MS, Format

IDLE_AFTER_MS = 200
JUMP_MS = 1000.0
LATE_RUN = 25  # packets
MAX_PACKETS = 64  # more than 200 ms of any sender; beyond that the stream is skipped ahead
TOO_OLD_MS = 60.0  # over the target: not played at all, the buffer skips ahead
SEQUENCE_JUMP = 3000  # RFC 3550 appendix A.1, MAX_DROPOUT


@dataclass(frozen=True, slots=True)
class Arrived:
    """A packet as it came. `at_ms` by the machine's monotonic clock."""

    form: Format
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    at_ms: float


@dataclass(frozen=True, slots=True)
class Play:
    form: Format
    payload: bytes


@dataclass(frozen=True, slots=True)
class Loss:
    """`ms` of sound are lost; `following` is the payload right after them, when it is there."""

    ms: float
    following: bytes | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is there yet: 20 ms are to be made up, and will be heard in addition."""


@dataclass(frozen=True, slots=True)
class Pause:
    """The sender left out `ms` on purpose (DTX), or sends nothing."""

    ms: float


Next = Play | Loss | Wait | Pause


@dataclass(slots=True)
class Counts:
    """What became of the packets."""

    played: int = 0
    late: int = 0
    repeated: int = 0
    skipped: int = 0
    malformed: int = 0
    lost: int = 0  # pieces that are missing between others
    empty: int = 0  # pieces that were missing at the end of what was there
    restarts: int = 0


@dataclass(slots=True)
class _Held:
    sequence: int  # both without wraps
    timestamp: int
    ticks: int
    form: Format
    payload: bytes


@dataclass(slots=True)
class _Stream:
    """Where one numbering is: `sequence` and `timestamp` of the newest packet, without wraps."""

    ssrc: int
    clock_rate: int
    sequence: int
    timestamp: int
    transit_ms: float


@dataclass(slots=True)
class JitterBuffer:
    """`put` what arrives, `take` what is next."""

    arrivals: Arrivals = field(default_factory=Arrivals)
    counts: Counts = field(default_factory=Counts)
    _stream: _Stream | None = None
    _held: dict[int, _Held] = field(default_factory=dict)  # by timestamp
    _cursor: int | None = None  # None: idle
    _played_to: int | None = None
    _played_sequence: int = 0
    _frame_ms: float = FRAME_MS  # of the last packet
    _empty_ms: float = 0.0
    _late_run: int = 0

    # --- in ---

    def put(self, packet: Arrived) -> None:
        ticks = packet.form.ticks(packet.payload)
        if not ticks:
            self.counts.malformed += 1
            return
        stream = self._follow(packet)
        sequence = stream.sequence + _signed(packet.sequence - stream.sequence, 16)
        timestamp = stream.timestamp + _signed(packet.timestamp - stream.timestamp, 32)
        if timestamp in self._held:
            self.counts.repeated += 1
            return
        delay = self.arrivals.note(packet.at_ms, 1000 * timestamp / stream.clock_rate)
        if sequence > stream.sequence:
            stream.sequence, stream.timestamp = sequence, timestamp
            stream.transit_ms = packet.at_ms - 1000 * timestamp / stream.clock_rate
        gone = self._cursor if self._cursor is not None else self._played_to
        late = gone is not None and timestamp < gone
        self._late_run = self._late_run + 1 if late or delay > MOST_MS else 0
        if self._late_run >= LATE_RUN:
            stream = self._restart(packet)
            self.arrivals.note(packet.at_ms, 1000 * packet.timestamp / stream.clock_rate)
            stream.sequence, sequence, timestamp = packet.sequence, packet.sequence, packet.timestamp
        elif late:
            self.counts.late += 1
            return
        self._held[timestamp] = _Held(sequence, timestamp, ticks, packet.form, packet.payload)
        if len(self._held) > MAX_PACKETS:
            del self._held[min(self._held)]
            self.counts.skipped += 1

    def _follow(self, packet: Arrived) -> _Stream:
        stream = self._stream
        if stream is not None and stream.ssrc == packet.ssrc and stream.clock_rate == packet.form.clock_rate:
            timestamp = stream.timestamp + _signed(packet.timestamp - stream.timestamp, 32)
            transit = packet.at_ms - 1000 * timestamp / stream.clock_rate
            step = abs(_signed(packet.sequence - stream.sequence, 16))
            if abs(transit - stream.transit_ms) < JUMP_MS and step < SEQUENCE_JUMP:
                return stream
        return self._restart(packet)

    def _restart(self, packet: Arrived) -> _Stream:
        if self._stream is not None:
            self.counts.restarts += 1
        clock = packet.form.clock_rate
        sent_ms = 1000 * packet.timestamp / clock
        self._stream = stream = _Stream(
            packet.ssrc, clock, packet.sequence - 1, packet.timestamp, packet.at_ms - sent_ms
        )
        self.arrivals = Arrivals(self.arrivals.target_ms)
        self._held.clear()
        self._cursor = self._played_to = None
        self._late_run = 0
        return stream

    # --- out ---

    @property
    def ready(self) -> bool:
        """What is next is there."""
        return self._cursor in self._held

    @property
    def playing(self) -> bool:
        return self._cursor is not None

    def delay_ms(self, now_ms: float) -> float:
        """How late the cursor is against the quickest packets; 0 when idle."""
        return 0.0 if self._cursor is None else self.arrivals.delay(now_ms, self._ms(self._cursor))

    def take(self, now_ms: float) -> Next:
        """What is to be decoded next."""
        if self._cursor is None or self.delay_ms(now_ms) > MOST_MS + TOO_OLD_MS:
            self._skip(now_ms)
        if self._cursor is None:
            return Pause(FRAME_MS)
        held = self._held.pop(self._cursor, None)
        if held is not None:
            return self._play(held)
        if self._held:
            return self._gap(self._cursor, self._held[min(self._held)], now_ms)
        return self._nothing(self._cursor, now_ms)

    def _skip(self, now_ms: float) -> None:
        """Begin with the oldest packet that is due and not too old; idle when there is none."""
        self._cursor = None
        target = self.arrivals.target_ms
        for timestamp in sorted(self._held):
            delay = self.arrivals.delay(now_ms, self._ms(timestamp))
            if delay < target:
                return
            if delay <= target + TOO_OLD_MS:
                self._cursor = timestamp
                self._played_sequence = self._held[timestamp].sequence - 1
                self._empty_ms = 0.0
                return
            del self._held[timestamp]
            self.counts.skipped += 1

    def _play(self, held: _Held) -> Play:
        self._move(held.timestamp + held.ticks)
        self._played_sequence = held.sequence
        self._frame_ms = self._ms(held.ticks)
        self._empty_ms = 0.0
        self.counts.played += 1
        return Play(held.form, held.payload)

    def _gap(self, cursor: int, following: _Held, now_ms: float) -> Loss | Pause | Wait:
        """Up to the next packet that is there."""
        pause = following.sequence == self._played_sequence + 1
        if not pause and self.delay_ms(now_ms) < self.arrivals.target_ms:
            return Wait()  # it may only have been overtaken
        gap_ms = self._ms(following.timestamp - cursor)
        step_ms = min(gap_ms, self._frame_ms)
        if gap_ms > self._frame_ms and gap_ms - step_ms < FRAME_MS / 2:
            step_ms = gap_ms  # no crumbs
        self._move(cursor + round(step_ms * self._clock / 1000) if step_ms < gap_ms else following.timestamp)
        if pause:
            return Pause(step_ms)
        self.counts.lost += 1
        return Loss(step_ms, following.payload if step_ms == gap_ms else None)

    def _nothing(self, cursor: int, now_ms: float) -> Loss | Wait | Pause:
        self._empty_ms += FRAME_MS
        if self._empty_ms > IDLE_AFTER_MS:
            self._cursor = None
            return Pause(FRAME_MS)
        if self.delay_ms(now_ms) < self.arrivals.target_ms:
            return Wait()
        self._move(cursor + round(self._frame_ms * self._clock / 1000))
        self.counts.empty += 1
        return Loss(self._frame_ms)

    def _move(self, cursor: int) -> None:
        self._cursor = self._played_to = cursor

    @property
    def _clock(self) -> int:
        assert self._stream is not None
        return self._stream.clock_rate

    def _ms(self, ticks: int) -> float:
        return 1000 * ticks / self._clock


def _signed(number: int, bits: int) -> int:
    """A difference of numbers that wrap at 2^bits, as the smaller of both ways round."""
    half = 1 << bits - 1
    return (number + half & (1 << bits) - 1) - half
