"""The range of a wait: of ten such waits about nine are at most its upper end, and five at most its lower one.

Held against days that the what-if plays: Poisson arrivals and exponential talks (M/M/c, with and without abandonment),
log-normal ones (M/G/c, even and uneven), one agent, many agents, ringing. Each range is made as the product makes it:
2 s after the arrival, from the visits that had ended by then."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace

import pytest

from server.domain.directory import AgentProfile, QueueConfig, Role
from server.domain.endings import VisitOutcome
from server.domain.reports import VisitFacts
from server.domain.told_wait import ShownWait, rounded, shown_next
from server.domain.waits import (
    KEPT_MS,
    KEPT_VISITS,
    LEAST_GAPS,
    Z90,
    Pace,
    PastVisit,
    WaitRange,
    _quantile,
    estimate,
    pace,
)
from server.whatif.engine import simulate
from server.whatif.workload import HOUR_MS, Center, Draw, Shift, Stream, exponential, log_normal, synthetic

TALK_MS = 180_000
TOLD_AFTER_MS = 2_000
SEEDS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Shop:
    """`load` in Erlang, `patience` in mean talks."""

    agents: int
    load: float
    patience: float | None = None
    talk: Draw = exponential
    answer_ms: float = 0
    arrivals: int = 5_000


SHOPS = {
    "M/M/10": Shop(10, 9.0),
    "M/M/1": Shop(1, 0.8),
    "M/M/10 with patience": Shop(10, 11.0, 2.0),
    "M/M/40 with patience": Shop(40, 42.0, 1.0),
    "M/G/5, even talks": Shop(5, 4.5, None, log_normal(0.4)),
    "M/G/5, uneven talks": Shop(5, 4.5, None, log_normal(1.8)),
    "M/G/1, even talks": Shop(1, 0.8, None, log_normal(0.4)),
    "M/G/10 with patience and ringing": Shop(10, 10.5, 1.5, log_normal(0.9), 4_000),
}


def played(shop: Shop, seed: int) -> list[VisitFacts]:
    rate = shop.load / TALK_MS
    until = round(shop.arrivals / rate)
    patience_ms = None if shop.patience is None else shop.patience * TALK_MS
    stream = Stream("que_a", (rate * HOUR_MS,), TALK_MS, patience_ms, 0, shop.answer_ms, shop.talk)
    shifts = [Shift(f"usr_{n:02}", 0, until) for n in range(shop.agents)]
    people = tuple(AgentProfile(one.agent_id, "default", one.agent_id, True, Role.AGENT, ()) for one in shifts)
    queue = QueueConfig("que_a", "default", "A", (), 60, 0, False, False, 20, True)
    return list(simulate(Center((queue,), people), synthetic(0, until, [stream], shifts, seed)).visits)


def told(visits: list[VisitFacts]) -> list[tuple[WaitRange, VisitFacts, int]]:
    """(range, visit, when it was told) of who waits for 2 s and has a range then."""
    by_end = sorted((v for v in visits if v.outcome is not None), key=lambda v: v.entered_at + v.wait_ms)
    ends = [v.entered_at + v.wait_ms for v in by_end]
    past = [PastVisit(v.entered_at, v.entered_at + v.wait_ms, v.outcome is VisitOutcome.ANSWERED) for v in by_end]
    found = []
    waiting: list[VisitFacts] = []
    for visit in visits:
        now = visit.entered_at + TOLD_AFTER_MS
        waiting = [v for v in waiting if v.entered_at + v.wait_ms > now] + [visit]
        if visit.wait_ms <= TOLD_AFTER_MS:
            waiting.pop()
            continue
        newest = bisect_right(ends, now)
        known = pace(past[max(0, newest - KEPT_VISITS) : newest], waiting[0].entered_at, now)
        if known is not None:
            found.append((estimate(known, len(waiting), waiting[0].entered_at, now), visit, now))
    return found


@pytest.mark.parametrize("name", SHOPS)
def test_nine_in_ten_waits_are_within_it(name: str) -> None:
    ranges = [one for seed in SEEDS for one in told(played(SHOPS[name], seed))]
    answered = [
        (visit.entered_at + visit.wait_ms - at, wait_range)
        for wait_range, visit, at in ranges
        if visit.outcome is VisitOutcome.ANSWERED
    ]
    within = sum(wait <= wait_range.high_ms for wait, wait_range in answered) / len(answered)
    below = sum(wait <= wait_range.low_ms for wait, wait_range in answered) / len(answered)
    width = sum(wait_range.high_ms / max(1, wait_range.low_ms) for _, wait_range in answered) / len(answered)
    print(f"\n{name}: {len(answered)} told; ≤ P90 {within:.1%}, ≤ P50 {below:.1%}; P90 ÷ P50 {width:.2f}")
    assert len(answered) > 1_000
    assert 0.82 <= within <= 0.96
    assert 0.40 <= below <= 0.60


# --- by hand -----------------------------------------------------------------------------------------

MINUTE = 60_000
NOW = 100 * HOUR_MS


def row(number: int, gap_ms: int = MINUTE, until: int = NOW, answered: bool = True) -> list[PastVisit]:
    """Visits of a queue that never was empty, the last of which ended at `until`."""
    ends = [until - back * gap_ms for back in reversed(range(number))]
    return [PastVisit(end - 3 * gap_ms, end, answered) for end in ends]


def known(past: list[PastVisit], waiting_since: int | None = NOW - 1_000, now: int = NOW) -> Pace:
    found = pace(past, waiting_since, now)
    assert found is not None
    return found


def test_even_gaps_are_told_as_such() -> None:
    found = known(row(21))
    assert found.seen_ms / found.gaps == pytest.approx(MINUTE)
    first, fifth = (estimate(found, place, NOW - 1_000, NOW) for place in (1, 5))
    assert 0.9 * MINUTE < first.low_ms < MINUTE < first.high_ms < 1.7 * MINUTE
    assert 4.8 * MINUTE < fifth.low_ms < 5 * MINUTE < fifth.high_ms < 6.5 * MINUTE


def test_too_little_history_says_nothing() -> None:
    assert pace([], NOW, NOW) is None
    assert pace(row(LEAST_GAPS), NOW - 1, NOW) is None, "one gap fewer than visits"
    assert pace(row(LEAST_GAPS + 1), NOW - 1, NOW) is not None
    assert pace(row(100, answered=False), NOW - 1, NOW) is None, "nobody was answered"
    assert pace(row(100, gap_ms=1_000), None, NOW + KEPT_MS + 1) is None, "that was this morning"


def test_gaps_of_an_empty_queue_are_none() -> None:
    """Ten minutes between customers say nothing of how fast agents become free."""
    past = [PastVisit(end - 5_000, end, True) for end in range(NOW - 30 * 10 * MINUTE, NOW, 10 * MINUTE)]
    assert pace(past, NOW - 1_000, NOW) is None
    crowd = row(21, 20_000)
    assert known(past[:-5] + crowd).seen_ms / known(past[:-5] + crowd).gaps == pytest.approx(20_000, rel=0.01)


def test_a_queue_that_stands_still_is_told_longer_and_longer_waits() -> None:
    found = known(row(21, 10_000))
    ranges = [estimate(found, 3, NOW, NOW + still) for still in (0, 10 * MINUTE, 30 * MINUTE)]
    assert ranges[0].high_ms < ranges[1].low_ms < ranges[2].low_ms


def test_who_may_give_up_makes_it_shorter() -> None:
    patient = known(row(21))
    leaving = replace(patient, leaving=1 / (5 * MINUTE))
    one, other = (estimate(of, 10, NOW - 1_000, NOW) for of in (patient, leaving))
    assert other.high_ms < 0.75 * one.high_ms
    assert estimate(patient, 1, NOW, NOW) == estimate(leaving, 1, NOW, NOW), "nobody is before the first"


def test_few_gaps_make_a_wide_range() -> None:
    few, many = known(row(LEAST_GAPS + 1)), known(row(150))
    few, many = replace(few, spread=1.0), replace(many, spread=1.0, seen_ms=many.gaps * MINUTE)
    wide, narrow = (estimate(of, 20, NOW, NOW) for of in (few, many))
    assert wide.high_ms / wide.low_ms > 1.15 * narrow.high_ms / narrow.low_ms


def test_what_is_older_counts_less() -> None:
    slow, quick = row(30, MINUTE, NOW - 30 * 10_000 - MINUTE), row(30, 10_000)
    whole = known(slow + quick)
    assert whole.seen_ms / whole.gaps < 0.5 * (MINUTE + 10_000)
    assert whole.certainty < len(slow + quick)


@pytest.mark.parametrize("position", [1, 3, 5_000])
@pytest.mark.parametrize("past", [row(30, 0), row(30, 1), row(200, 60), row(11, HOUR_MS // 10)])
def test_every_past_gives_a_range_in_its_order(past: list[PastVisit], position: int) -> None:
    for since in (NOW, NOW - 1, NOW - HOUR_MS):
        for now in (NOW, NOW + 3 * HOUR_MS):
            found = estimate(known(past, since), position, since, now)
            assert 0 <= found.low_ms <= found.high_ms


def test_the_quantiles_are_the_gammas() -> None:
    """Of the exponential, exactly ln 2 and ln 10 means; of an Erlang distribution by its sum; within 2 %."""
    assert _quantile(1e6, 1e12, 0.0) == pytest.approx(1e6 * math.log(2), rel=0.02)
    assert _quantile(1e6, 1e12, Z90) == pytest.approx(1e6 * math.log(10), rel=0.02)
    for stages in (2, 5, 20):
        for z, share in ((0.0, 0.5), (Z90, 0.9)):
            at = _quantile(1e6 * stages, 1e12 * stages, z) / 1e6
            below = 1 - sum(at**n * math.exp(-at) / math.factorial(n) for n in range(stages))
            assert below == pytest.approx(share, abs=0.01)


# --- as it is told -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low_ms", "high_ms", "low_s", "high_s"),
    [
        (0, 0, 0, 10),
        (12_000, 41_000, 10, 50),
        (20_000, 50_000, 20, 50),
        (119_999, 120_000, 110, 120),
        (60_000, 120_001, 60, 180),
        (59_999, 200_000, 0, 240),
        (61_000, 179_000, 60, 180),
    ],
)
def test_numbers_are_rounded_outwards(low_ms: int, high_ms: int, low_s: int, high_s: int) -> None:
    assert rounded(WaitRange(low_ms, high_ms)) == ShownWait(low_s, high_s)


def test_what_is_shown_falls_at_once_and_rises_rarely() -> None:
    shown, seen = None, []
    for high_s in (240, 300, 240, 300, 180, 240, 180, 180, 60, 50):
        shown = shown_next(shown, ShownWait(60, high_s))
        seen.append(shown.high_s)
    assert seen == [240, 240, 240, 240, 180, 240, 180, 180, 60, 50]
