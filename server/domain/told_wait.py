"""PURE: an estimated wait as a customer is told it: in round numbers that do not jump.

A range is rounded outwards, so that it promises no more than was estimated: to 10 s up to two minutes, to whole minutes
above. What is shown falls at once and rises only by more than a quarter, or every look would change it: a customer who
reads "2–4 min" twice trusts it more than one who reads "2–4", "3–5", "2–4".
"""

from __future__ import annotations

from dataclasses import dataclass

from server.domain.waits import WaitRange

FINE_TO_S, FINE_S, COARSE_S = 120, 10, 60
RAISED_BY = 1.25


@dataclass(frozen=True, slots=True)
class ShownWait:
    """Seconds. `low_s` may be 0: "up to"."""

    low_s: int
    high_s: int


def rounded(wait: WaitRange) -> ShownWait:
    step_ms = 1000 * (FINE_S if wait.high_ms <= FINE_TO_S * 1000 else COARSE_S)
    steps = max(1, -(-wait.high_ms // step_ms))
    return ShownWait(wait.low_ms // step_ms * step_ms // 1000, steps * step_ms // 1000)


def shown_next(before: ShownWait | None, fresh: ShownWait) -> ShownWait:
    """What is shown after `before`, when an estimate made now says `fresh`."""
    if before is None or fresh.high_s < before.high_s or fresh.high_s > before.high_s * RAISED_BY:
        return fresh
    return before
