"""The clock of a process: wall time read once, then the monotonic clock, so that a jump of the wall clock
by an hour changes no deadline that this process waits for."""

from __future__ import annotations

import time


class MonotonicClock:
    """UTC epoch milliseconds that never run backwards."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ms(self) -> int:
        return (time.monotonic_ns() + self._offset_ns) // 1_000_000


class ManualClock:
    """For tests: stands still until it is moved."""

    def __init__(self, start_ms: int = 1_800_000_000_000) -> None:
        self._now_ms = start_ms

    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, seconds: float) -> None:
        self._now_ms += round(seconds * 1000)
