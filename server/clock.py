"""The clock of a process: a jump of a wall clock by an hour changes no deadline that this process waits for."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

log = structlog.get_logger()
# A laptop that slept an hour has slept it for its deadlines too; CLOCK_MONOTONIC would not say so.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
SLEW = 0.005  # of the time that passed: a clock that NTP sets right is followed, a jump of an hour moves no timer
JUMP_NS = 10_000_000_000  # a database clock that is further off has jumped and is not followed


def _steady_now_ns() -> int:
    return time.clock_gettime_ns(_STEADY)


class MonotonicClock:
    """UTC epoch milliseconds that never run backwards: the wall clock at the start plus a steady clock, drawn
    towards the wall clock by at most SLEW. `steady_ns` and `wall_ns` are for tests."""

    def __init__(
        self, steady_ns: Callable[[], int] = _steady_now_ns, wall_ns: Callable[[], int] = time.time_ns
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


class DatabaseClock(MonotonicClock):
    """`FollowingClock`: goes by the time that it is told, so that all nodes of one database go alike. Between two
    tellings the steady clock runs; small differences are slewed, a jump of more than JUMP_NS is not followed."""

    def __init__(
        self, steady_ns: Callable[[], int] = _steady_now_ns, wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._told_offset_ns = wall_ns() - steady_ns()  # until the database is heard
        self._jumped = False
        super().__init__(steady_ns, lambda: steady_ns() + self._told_offset_ns)

    def stamp_ns(self) -> int:
        return self._steady_ns()

    def tell(self, theirs_ms: int, asked_ns: int, *, outright: bool = False) -> None:
        middle_ns = (asked_ns + self._steady_ns()) // 2
        offset_ns = theirs_ms * 1_000_000 - middle_ns
        if outright:
            self._told_offset_ns = self._offset_ns = offset_ns
            return
        jumped = abs(offset_ns - self._offset_ns) > JUMP_NS
        if jumped and not self._jumped:
            remedy = "the time of the nodes goes on as it was; set the database machine's clock right (NTP)"
            log.error("clock_jumped", apart_ms=(offset_ns - self._offset_ns) // 1_000_000, remedy=remedy)
        self._jumped = jumped
        if not jumped:
            self._told_offset_ns = offset_ns


class ManualClock:
    """For tests: stands still until it is moved."""

    def __init__(self, start_ms: int = 1_800_000_000_000) -> None:
        self._now_ms = start_ms

    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, seconds: float) -> None:
        self._now_ms += round(seconds * 1000)
