"""The clock of a process: a jump of the wall clock by an hour changes no deadline that this process waits for."""

from __future__ import annotations

import time
from collections.abc import Callable

# A laptop that slept an hour has slept it for its deadlines too; CLOCK_MONOTONIC would not say so.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
SLEW = 0.005  # of the time that passed: a clock that NTP sets right is followed, a jump of an hour moves no timer


class MonotonicClock:
    """UTC epoch milliseconds that never run backwards: the wall clock at the start plus a steady clock, drawn
    towards the wall clock by at most SLEW. `steady_ns` and `wall_ns` are for tests."""

    def __init__(
        self,
        steady_ns: Callable[[], int] = lambda: time.clock_gettime_ns(_STEADY),
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._steady_ns = steady_ns
        self._wall_ns = wall_ns
        self._seen_ns = steady_ns()
        self._offset_ns = wall_ns() - self._seen_ns

    def now_ms(self) -> int:
        steady_ns = self._steady_ns()
        allowed_ns = int((steady_ns - self._seen_ns) * SLEW)
        self._seen_ns = steady_ns
        apart_ns = self._wall_ns() - steady_ns - self._offset_ns
        self._offset_ns += max(-allowed_ns, min(allowed_ns, apart_ns))
        return (steady_ns + self._offset_ns) // 1_000_000


class ManualClock:
    """For tests: stands still until it is moved."""

    def __init__(self, start_ms: int = 1_800_000_000_000) -> None:
        self._now_ms = start_ms

    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, seconds: float) -> None:
        self._now_ms += round(seconds * 1000)
