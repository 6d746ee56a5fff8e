"""One side that spoke nothing but G.711, as a WAV file of the very bytes that came: nothing is encoded, so it costs
next to nothing and is evidence of what was sent. Browsers play it.

The formats are WAVE_FORMAT_MULAW and WAVE_FORMAT_ALAW (RFC 2361, A.5 and A.6) with a `fact` chunk. The archive counts
in samples at 48 kHz, of which six are one byte here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from server.media.archive_peaks import loudest_g711, spread
from server.media.ogg import RATE

CLOCK_RATE = 8_000
SCALE = RATE // CLOCK_RATE
_TAG_AND_SILENCE = {"pcmu": (7, b"\xff"), "pcma": (6, b"\xd5")}
STREAMS = frozenset((CLOCK_RATE, name) for name in _TAG_AND_SILENCE)
_HEAD = struct.Struct("<4sI4s4sIHHIIHHH4sII4sI")
BUFFERED = 64 * 1024
LOUDNESS_STEP = CLOCK_RATE // 400  # a peak for each 2.5 ms, so that an hour fits in memory


class WaveWriter:
    """Writes `samples` (of 48 kHz) of one side to `sink`, no more and no fewer."""

    clock_rate = CLOCK_RATE

    def __init__(self, codec: str, samples: int, sink: Callable[[bytes], object]) -> None:
        self.codec = codec
        tag, self._silence = _TAG_AND_SILENCE[codec]
        self._size = samples // SCALE
        self._sink = sink
        self._buffer = bytearray()
        self._count = 0
        self._sound: list[bytes] = []  # loudness, 0..255, of each LOUDNESS_STEP
        self._rest = b""
        sink(_HEAD.pack(b"RIFF", _HEAD.size - 8 + self._size + self._size % 2, b"WAVE", b"fmt ", 18, tag, 1, CLOCK_RATE,
                        CLOCK_RATE, 1, 8, 0, b"fact", 4, self._size, b"data", self._size))  # fmt: skip

    @property
    def samples(self) -> int:
        """How much is written so far."""
        return self._count * SCALE

    def measure(self, payload: bytes) -> int:
        """How long it sounds; 0 for none."""
        return len(payload) * SCALE

    def add(self, payload: bytes) -> None:
        self._buffer += payload
        self._count += len(payload)
        if len(self._buffer) >= BUFFERED:
            self._flush()

    def fill(self, until: int) -> None:
        """Silence up to there."""
        missing = min(until // SCALE, self._size) - self._count
        while missing > 0:
            self.add(self._silence * min(missing, BUFFERED))
            missing = min(until // SCALE, self._size) - self._count

    def finish(self) -> None:
        self.fill(self._size * SCALE)
        self._flush()
        if self._size % 2:
            self._sink(b"\0")

    def peaks(self, count: int) -> list[int]:
        """The loudest sample of each of `count` equal spans, 0..255."""
        return spread(np.frombuffer(b"".join(self._sound), np.uint8), count)

    def _flush(self) -> None:
        surplus = max(0, self._count - self._size)
        data = bytes(self._buffer[: len(self._buffer) - surplus])
        self._buffer.clear()
        self._count -= surplus
        self._sink(data)
        joined = self._rest + data
        whole = len(joined) // LOUDNESS_STEP * LOUDNESS_STEP
        self._sound.append(loudest_g711(self.codec, joined[:whole], LOUDNESS_STEP))
        self._rest = joined[whole:]
