"""PURE: how long somebody at a place in a queue will still wait, as a range, from what the queue did lately.

Theory of operation. While somebody waits, answers come at some pace: the *gaps* between two answers with the queue
never empty in between. (A gap in which the queue was empty tells when customers came, not how fast agents become free;
what is seen of it until the queue was empty counts as time without an answer.) Who stands at place k is answered with
the k-th answer from now. Each of the k − 1 before them may give up as well: what is seen of that is a rate per person
and time waited. So the wait is a sum of k stages; with j still ahead, a stage ends at the rate 1 ÷ mean gap + j × rate
of giving up. This is the Palm/Erlang-A queue's wait where gaps are exponential (Mandelbaum and Zeltyn, "Service
Engineering in Action", 2007, section 4), with its spread scaled by that of the gaps seen.

The sum is taken for a gamma variable of the same mean and variance (the variance of the estimated mean itself included:
few gaps make a wide range), and its quantiles are Wilson and Hilferty's (1931, "The distribution of chi-square",
Proceedings of the National Academy of Sciences 17): mean × (1 − 1/9a + z √(1/9a))³ for the shape a, within 2 % from
the shape 1 on.

Where the past says nothing about now there is no estimate: fewer than `LEAST_GAPS`, or (the caller's to know) no agent
on duty. What is older than half an hour counts half, what is older than two hours not at all. Sessions that come later
and go first (more urgent ones, those of other queues with more weight) are seen only in the gaps that they have made
longer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

KEPT_VISITS = 200  # of a queue: the newest that have ended; enough for ± 10 %, and read in a millisecond
KEPT_MS = 2 * 3_600_000  # a queue two hours ago had other agents
HALF_LIFE_MS = 1_800_000  # agents come and go within a shift
LEAST_GAPS = 10  # with fewer the range would be wider than anybody wants to hear
LEAST_SPREAD, MOST_SPREAD = 0.1, 4.0  # squared coefficients of variation; more is a break in the pace, not its spread
Z90 = 1.2815515655446004  # the normal quantile; that of 50 % is 0


@dataclass(frozen=True, slots=True)
class PastVisit:
    """A wait that is over. Ends other than an answer are all a giving up here: the place is free."""

    entered_at: int
    ended_at: int
    answered: bool


@dataclass(frozen=True, slots=True)
class Pace:
    """What a queue's past comes to. `gaps` is a weight, not quite a number; `seen_ms` is the weighted time in which
    they were seen; `spread` their squared coefficient of variation; `certainty` how many equal gaps would tell as much.
    `leaving` is the rate of giving up, per person and ms; `answered_at` the newest answer."""

    gaps: float
    seen_ms: float
    spread: float
    certainty: float
    leaving: float
    answered_at: int


@dataclass(frozen=True, slots=True)
class WaitRange:
    """From now on, in ms: half of such waits are at most `low_ms` (P50), nine in ten at most `high_ms` (P90)."""

    low_ms: int
    high_ms: int


# --- the past ----------------------------------------------------------------------------------------


def pace(past: Iterable[PastVisit], waiting_since: int | None, now: int) -> Pace | None:
    """The queue's pace, or None where too little is known. `waiting_since`: when the first came who waits now."""
    visits = sorted(
        (visit for visit in past if now - KEPT_MS <= visit.ended_at <= now), key=lambda visit: visit.ended_at
    )[-KEPT_VISITS:]
    gaps: list[tuple[float, float]] = []  # (weight, ms)
    cut = 0.0  # weighted ms of gaps whose end was not seen
    begun: int | None = None  # the answer that the gap counts from, while somebody waits
    answered_at = 0
    for visit, next_came in zip(visits, _next_came(visits, waiting_since), strict=True):
        weight = 0.5 ** ((now - visit.ended_at) / HALF_LIFE_MS)
        if begun is not None and visit.answered:
            gaps.append((weight, visit.ended_at - begun))
        somebody_waits = next_came <= visit.ended_at
        if visit.answered:
            answered_at = visit.ended_at
            begun = visit.ended_at if somebody_waits else None
        elif begun is not None and not somebody_waits:  # the last one gave up
            cut += weight * (visit.ended_at - begun)
            begun = None
    if len(gaps) < LEAST_GAPS:
        return None
    whole = sum(weight for weight, _ in gaps)
    mean = sum(weight * ms for weight, ms in gaps) / whole
    variance = sum(weight * (ms - mean) ** 2 for weight, ms in gaps) / whole
    waited = sum(visit.ended_at - visit.entered_at for visit in visits)
    return Pace(
        gaps=whole,
        seen_ms=whole * mean + cut,
        spread=min(MOST_SPREAD, max(LEAST_SPREAD, variance / mean**2)) if mean else 1.0,
        certainty=whole**2 / sum(weight**2 for weight, _ in gaps),
        leaving=sum(not visit.answered for visit in visits) / waited if waited else 0.0,
        answered_at=answered_at,
    )


def _next_came(visits: list[PastVisit], waiting_since: int | None) -> list[float]:
    """For each visit: when the first of those came who left after it, or wait still."""
    last = math.inf if waiting_since is None else waiting_since
    earliest = list(accumulate((visit.entered_at for visit in reversed(visits)), min, initial=last))
    return earliest[-2::-1]


# --- the range ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stages:
    """What the stages from each place on come to: made once for a queue, however many stand in it. `means` and
    `squares` are sums of stages (ms, ms²) and `lasts` the last one, by place − 1; `left` is the share of the last stage
    (that of the next answer) which is still to come."""

    means: tuple[float, ...]
    squares: tuple[float, ...]
    lasts: tuple[float, ...]
    left: float
    spread: float
    certainty: float

    def wait(self, position: int) -> WaitRange:
        """What is still to wait at a place, 1 for the first."""
        if not self.means:
            return WaitRange(0, 0)
        at = min(position, len(self.means)) - 1
        last = self.lasts[at]
        mean = self.means[at] - (1 - self.left) * last
        squares = self.squares[at] - (1 - self.left) * last**2
        variance = self.spread * (squares + mean**2 / self.certainty)
        return WaitRange(_quantile(mean, variance, 0.0), _quantile(mean, variance, Z90))


def stages(pace: Pace, places: int, waiting_since: int, now: int) -> Stages:
    """For so many places. `waiting_since` as in `pace`.

    A queue that stands still for longer than a gap is told longer and longer waits. Where gaps are more even than
    chance, what has passed since the last answer (an agent has talked for as long, even if nobody waited) is over.
    """
    mean_gap = pace.seen_ms / pace.gaps
    still = max(0, now - max(pace.answered_at, waiting_since))
    gap = mean_gap + max(0.0, still - mean_gap) / pace.gaps
    left = max(pace.spread, 1 - max(0, now - pace.answered_at) / gap) if pace.spread < 1 and gap > 0 else 1.0
    lasts = [1 / (1 / gap + ahead * pace.leaving) for ahead in range(places)] if gap > 0 else []
    return Stages(
        tuple(accumulate(lasts)),
        tuple(accumulate(stage**2 for stage in lasts)),
        tuple(lasts),
        left,
        pace.spread,
        pace.certainty,
    )


def estimate(pace: Pace, position: int, waiting_since: int, now: int) -> WaitRange:
    """The range of one place; see `stages`."""
    return stages(pace, position, waiting_since, now).wait(position)


def _quantile(mean: float, variance: float, z: float) -> int:
    """Of the gamma distribution, whole ms. Source: Wilson and Hilferty, as above."""
    ninth = variance / (9 * mean**2)  # 1 ÷ 9 shape
    return round(mean * max(0.0, 1 - ninth + z * math.sqrt(ninth)) ** 3)
