"""The fold that makes numbers of visits, by hand: each formula of docs/metrics.md, and what has nothing to divide."""

from __future__ import annotations

from dataclasses import replace

from server.domain import reports
from server.domain.endings import VisitOutcome
from server.domain.queue_visit import ToldWait
from server.domain.reports import Counted, LongestWait, QueueNumbers, VisitFacts, VisitFilter, numbers
from server.domain.told_report import off_ms

ANSWERED, ABANDONED, FAILED = VisitOutcome.ANSWERED, VisitOutcome.ABANDONED, VisitOutcome.FAILED


def visit(name: str, outcome: VisitOutcome | None, wait_s: float, handle_s: float | None = None) -> VisitFacts:
    handle_ms = None if handle_s is None else round(handle_s * 1000)
    return VisitFacts(f"vis_{name}", f"ses_{name}", "que_1", 0, outcome, round(wait_s * 1000), 20_000, handle_ms)


DAY = (
    visit("a", ANSWERED, 10, 100),
    visit("b", ANSWERED, 20, 200),
    visit("c", ANSWERED, 30),  # still in the talk, or in wrap-up
    visit("d", ABANDONED, 4.999),
    visit("e", ABANDONED, 15),
    visit("f", FAILED, 40),
    visit("g", None, 20),  # may still be answered in time
    visit("h", None, 90),
)


def test_the_formulas() -> None:
    row = reports.numbers(DAY)
    assert {counted.value: n for counted, n in row.counts.items() if not counted.startswith("told")} == {
        "offered": 8,
        "answered": 3,
        "abandoned": 2,
        "flowed_out": 0,
        "callback": 0,
        "failed": 1,
        "waiting": 2,
        "answered_in_time": 2,
        "left_in_time": 4,
        "service_level_base": 6,
        "short_abandons": 1,
        "long_abandons": 1,
        "abandon_rate_base": 7,
        "handled": 2,
    }
    assert row.service_level == 2 / 6
    assert row.service_level_answered == 2 / 3
    assert row.service_level_leaving == 4 / 8
    assert row.abandon_rate == 1 / 7
    assert (row.asa_ms, row.aht_ms) == (20_000, 150_000)
    assert row.longest == LongestWait(90_000, "vis_h", "ses_h")


def test_who_flowed_out_counts_against_the_service_level_and_not_as_abandoned() -> None:
    row = reports.numbers([*DAY[:1], visit("x", VisitOutcome.FLOWED_OUT, 3)])
    assert (row.counts[Counted.OFFERED], row.counts[Counted.FLOWED_OUT], row.counts[Counted.ABANDONED]) == (2, 1, 0)
    assert (row.service_level, row.abandon_rate, row.service_level_leaving) == (1 / 2, 0, 1)


def test_nothing_to_divide_is_none_and_not_zero() -> None:
    for row in (QueueNumbers(), reports.numbers(()), reports.total(())):
        assert set(row.counts.values()) == {0}
        assert (row.service_level, row.service_level_answered, row.service_level_leaving) == (None, None, None)
        assert (row.abandon_rate, row.asa_ms, row.aht_ms, row.longest) == (None, None, None, None)
    waiting = reports.numbers([visit("a", None, 5)])
    assert waiting.service_level is None, "nothing is decided yet"
    short = reports.numbers([visit("a", ABANDONED, 1)])
    assert (short.service_level, short.abandon_rate) == (None, None)
    assert reports.numbers([visit("a", FAILED, 1)]).service_level == 0, "our own fault counts against us"


def test_the_total_is_of_all_visits_and_no_mean_of_means() -> None:
    rows = [reports.numbers(DAY[:2]), reports.numbers(DAY[2:])]
    assert reports.total(rows) == reports.numbers(DAY)


def test_of_equal_waits_the_first_by_id() -> None:
    waits = [LongestWait(5, "vis_b", "ses_b"), LongestWait(5, "vis_a", "ses_a"), LongestWait(4, "vis_0", "ses_0")]
    assert reports.longest(waits) == waits[1]


def test_a_filter_picks_by_queue_time_and_rule() -> None:
    early, late = replace(DAY[0], entered_at=10), replace(DAY[4], entered_at=20, queue_id="que_2")
    both = [early, late]
    assert reports.picked(both, VisitFilter(0)) == both
    assert reports.picked(both, VisitFilter(0, queue_id="que_2")) == [late]
    assert reports.picked(both, VisitFilter(0, entered_from=10, entered_to=20)) == [early]
    assert reports.picked(both, VisitFilter(0, Counted.LONG_ABANDONS)) == [late]


def test_what_was_told_counts_from_when_it_was_told() -> None:
    """Told at 2 s: 10 to 60 s. The ends belong to the range; who left or waits still is neither right nor wrong."""
    told = ToldWait(2_000, 3, 10_000, 60_000)
    waits = ((ANSWERED, 12), (ANSWERED, 12.001), (ANSWERED, 62), (ANSWERED, 62.001), (ABANDONED, 5), (FAILED, 300))
    found = [replace(visit(str(n), outcome, wait_s), told=told) for n, (outcome, wait_s) in enumerate(waits)]
    found += [visit("at_once", ANSWERED, 1), replace(visit("now", None, 30), told=told)]
    row = numbers(found)
    told_counts = [row.counts[Counted(f"told{name}")] for name in ("", "_answered", "_within", "_below", "_abandoned")]
    assert told_counts == [7, 4, 3, 1, 1]
    assert (row.told_within, row.told_below) == (3 / 4, 1 / 4)
    assert off_ms(found) == 25_000, "of 25, 24.999, 25 and 25.001 s from 35 s"
    assert off_ms(found[4:]) is None
    assert numbers(found[4:]).told_within is None
