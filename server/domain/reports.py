"""Numbers per queue: a fold over sessions, which are themselves the folds of their events.

The unit is the queue visit: one wait of one session in one queue. It belongs to the day in which it entered the queue,
whatever happens to it later. Every count is the number of the visits that its rule in `RULES` picks, so what a number
stands for can be listed by the same rule; shares and means are made of counts and sums, and are None where there is
nothing to divide. docs/metrics.md has the formulas.

server/storage/reports.py asks the database for the same numbers; tests/contract/test_reports.py holds the two equal on
random histories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from server.domain.endings import VisitOutcome
from server.domain.queue_visit import QueueVisit, ToldWait
from server.domain.report_days import Days
from server.domain.session import Session

SHORT_ABANDON_MS = 5000  # who leaves sooner has not waited: a wrong click, a second thought


class Counted(StrEnum):
    """What visits are counted as; one visit counts as several."""

    OFFERED = "offered"
    ANSWERED = "answered"
    ABANDONED = "abandoned"
    FLOWED_OUT = "flowed_out"
    CALLBACK = "callback"
    FAILED = "failed"
    WAITING = "waiting"
    ANSWERED_IN_TIME = "answered_in_time"  # within the queue's service-level target
    LEFT_IN_TIME = "left_in_time"  # the same, whichever way
    SERVICE_LEVEL_BASE = "service_level_base"  # whose service level is decided
    SHORT_ABANDONS = "short_abandons"
    LONG_ABANDONS = "long_abandons"
    ABANDON_RATE_BASE = "abandon_rate_base"
    HANDLED = "handled"  # answered, and the agent has finished talk and wrap-up
    TOLD = "told"  # the customer was told a range of the wait
    TOLD_ANSWERED = "told_answered"
    TOLD_WITHIN = "told_within"  # answered, and by the upper end of the range
    TOLD_BELOW = "told_below"  # answered, and by its lower end
    TOLD_ABANDONED = "told_abandoned"


@dataclass(frozen=True, slots=True)
class VisitFacts:
    """A visit as of a moment. Milliseconds: `wait_ms` so far while it waits; `target_ms` is the queue's service
    level now; `handle_ms` is talk with hold and wrap-up, None until both are over. `told` is the first range of the
    wait that the customer was told; None also for who was away meanwhile: that tells nothing of how right it was."""

    visit_id: str
    session_id: str
    queue_id: str
    entered_at: int
    outcome: VisitOutcome | None
    wait_ms: int
    target_ms: int
    handle_ms: int | None
    told: ToldWait | None = None

    @property
    def answered_when_told(self) -> tuple[ToldWait, int] | None:
        """What was told, and the wait from then to the answer, ms. None unless both are known."""
        if self.told is None or self.outcome is not VisitOutcome.ANSWERED:
            return None
        return self.told, self.entered_at + self.wait_ms - self.told.at

    @property
    def off_ms(self) -> int | None:
        """How far the answer was from the middle of the range."""
        found = self.answered_when_told
        return None if found is None else abs(found[1] - (found[0].low_ms + found[0].high_ms) // 2)

    @property
    def in_time(self) -> bool:
        return self.wait_ms <= self.target_ms

    @property
    def short(self) -> bool:
        return self.outcome is VisitOutcome.ABANDONED and self.wait_ms < SHORT_ABANDON_MS


def _told_within(v: VisitFacts) -> bool:
    found = v.answered_when_told
    return found is not None and found[1] <= found[0].high_ms


def _told_below(v: VisitFacts) -> bool:
    found = v.answered_when_told
    return found is not None and found[1] <= found[0].low_ms


RULES: dict[Counted, Callable[[VisitFacts], bool]] = {
    Counted.OFFERED: lambda v: True,
    Counted.ANSWERED: lambda v: v.outcome is VisitOutcome.ANSWERED,
    Counted.ABANDONED: lambda v: v.outcome is VisitOutcome.ABANDONED,
    Counted.FLOWED_OUT: lambda v: v.outcome is VisitOutcome.FLOWED_OUT,
    Counted.CALLBACK: lambda v: v.outcome is VisitOutcome.CALLBACK,
    Counted.FAILED: lambda v: v.outcome is VisitOutcome.FAILED,
    Counted.WAITING: lambda v: v.outcome is None,
    Counted.ANSWERED_IN_TIME: lambda v: v.outcome is VisitOutcome.ANSWERED and v.in_time,
    Counted.LEFT_IN_TIME: lambda v: v.outcome is not None and v.in_time,
    Counted.SERVICE_LEVEL_BASE: lambda v: not v.short and not (v.outcome is None and v.in_time),
    Counted.SHORT_ABANDONS: lambda v: v.short,
    Counted.LONG_ABANDONS: lambda v: v.outcome is VisitOutcome.ABANDONED and not v.short,
    Counted.ABANDON_RATE_BASE: lambda v: not v.short,
    Counted.HANDLED: lambda v: v.handle_ms is not None,
    Counted.TOLD: lambda v: v.told is not None,
    Counted.TOLD_ANSWERED: lambda v: v.answered_when_told is not None,
    Counted.TOLD_WITHIN: _told_within,
    Counted.TOLD_BELOW: _told_below,
    Counted.TOLD_ABANDONED: lambda v: v.told is not None and v.outcome is VisitOutcome.ABANDONED,
}


@dataclass(frozen=True, slots=True)
class VisitFilter:
    """Which visits; None means any. `entered_from` ≤ entered_at < `entered_to`. Waits are as of `now`."""

    now: int
    counted_as: Counted = Counted.OFFERED
    queue_id: str | None = None
    entered_from: int | None = None
    entered_to: int | None = None


@dataclass(frozen=True, slots=True)
class LongestWait:
    wait_ms: int
    visit_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class QueueNumbers:
    """`answer_wait_ms` sums the waits of answered visits, `handle_ms` the times of handled ones. `longest` is the
    greatest wait, abandons included and those who wait still; None without a visit."""

    counts: Mapping[Counted, int] = field(default_factory=lambda: dict.fromkeys(Counted, 0))
    answer_wait_ms: int = 0
    handle_ms: int = 0
    longest: LongestWait | None = None

    @property
    def service_level(self) -> float | None:
        """Share, 0 to 1. Source: docs/metrics.md#service-level."""
        return self._share(Counted.ANSWERED_IN_TIME, Counted.SERVICE_LEVEL_BASE)

    @property
    def service_level_answered(self) -> float | None:
        """Share, 0 to 1: answered-only."""
        return self._share(Counted.ANSWERED_IN_TIME, Counted.ANSWERED)

    @property
    def service_level_leaving(self) -> float | None:
        """Share, 0 to 1: leaving-queue."""
        return self._share(Counted.LEFT_IN_TIME, Counted.OFFERED)

    @property
    def abandon_rate(self) -> float | None:
        """Share, 0 to 1, short abandons excluded. Source: docs/metrics.md#abandon-rate."""
        return self._share(Counted.LONG_ABANDONS, Counted.ABANDON_RATE_BASE)

    @property
    def asa_ms(self) -> int | None:
        """Average speed of answer: from queue entry until both could hear each other, answered visits only.
        Source: docs/metrics.md#asa."""
        return self._mean(self.answer_wait_ms, Counted.ANSWERED)

    @property
    def aht_ms(self) -> int | None:
        """Average handle time: talk, hold and wrap-up of handled visits. Source: docs/metrics.md#aht."""
        return self._mean(self.handle_ms, Counted.HANDLED)

    @property
    def told_within(self) -> float | None:
        """Share, 0 to 1, of the told and answered. 0.9 is wanted. Source: docs/metrics.md#told-waits."""
        return self._share(Counted.TOLD_WITHIN, Counted.TOLD_ANSWERED)

    @property
    def told_below(self) -> float | None:
        """Share, 0 to 1, of the told and answered. 0.5 is wanted. Source: docs/metrics.md#told-waits."""
        return self._share(Counted.TOLD_BELOW, Counted.TOLD_ANSWERED)

    def _share(self, part: Counted, whole: Counted) -> float | None:
        return self.counts[part] / self.counts[whole] if self.counts[whole] else None

    def _mean(self, total_ms: int, counted: Counted) -> int | None:
        return round(total_ms / self.counts[counted]) if self.counts[counted] else None


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue's line. `numbers` are of the days that were asked for, `live` of the visits that wait at this moment,
    whenever they came."""

    queue_id: str
    name: str
    active: bool
    service_level_s: int
    numbers: QueueNumbers
    live: QueueNumbers


@dataclass(frozen=True, slots=True)
class QueueReport:
    """`at`: the moment, UTC epoch milliseconds, that the numbers are of."""

    days: Days
    at: int
    rows: tuple[QueueRow, ...]

    @property
    def total(self) -> QueueNumbers:
        return total(row.numbers for row in self.rows)

    @property
    def live_total(self) -> QueueNumbers:
        return total(row.live for row in self.rows)


# --- the fold ----------------------------------------------------------------------------------------


def visits(sessions: Iterable[Session], targets: Mapping[str, int], now: int) -> list[VisitFacts]:
    """Every visit of some sessions to the queues of `targets` (queue id to service level in seconds)."""
    return [
        VisitFacts(
            visit_id=visit.id,
            session_id=session.id,
            queue_id=visit.queue_id,
            entered_at=visit.entered_at,
            outcome=visit.outcome,
            wait_ms=(now if visit.ended_at is None else visit.ended_at) - visit.entered_at,
            target_ms=targets[visit.queue_id] * 1000,
            handle_ms=_handle_ms(session, visit),
            told=None if visit.away_ms else visit.told,
        )
        for session in sessions
        for visit in session.visits
        if visit.queue_id in targets
    ]


def picked(found: Iterable[VisitFacts], wanted: VisitFilter) -> list[VisitFacts]:
    """The visits that a filter wants; `wanted.now` is the moment that they are facts of."""
    return [
        visit
        for visit in found
        if RULES[wanted.counted_as](visit)
        and wanted.queue_id in (None, visit.queue_id)
        and (wanted.entered_from is None or visit.entered_at >= wanted.entered_from)
        and (wanted.entered_to is None or visit.entered_at < wanted.entered_to)
    ]


def numbers(found: Iterable[VisitFacts]) -> QueueNumbers:
    """What some visits come to."""
    all_of_them = list(found)
    waits = [LongestWait(visit.wait_ms, visit.visit_id, visit.session_id) for visit in all_of_them]
    return QueueNumbers(
        counts={counted: sum(map(rule, all_of_them)) for counted, rule in RULES.items()},
        answer_wait_ms=sum(visit.wait_ms for visit in all_of_them if visit.outcome is VisitOutcome.ANSWERED),
        handle_ms=sum(visit.handle_ms for visit in all_of_them if visit.handle_ms is not None),
        longest=longest(waits),
    )


def total(rows: Iterable[QueueNumbers]) -> QueueNumbers:
    """All queues together: shares and means are of all visits, not means of the rows' means."""
    every = list(rows)
    return QueueNumbers(
        counts={counted: sum(row.counts[counted] for row in every) for counted in Counted},
        answer_wait_ms=sum(row.answer_wait_ms for row in every),
        handle_ms=sum(row.handle_ms for row in every),
        longest=longest(row.longest for row in every if row.longest is not None),
    )


def longest(waits: Iterable[LongestWait]) -> LongestWait | None:
    """The greatest; of equal ones the first by visit id."""
    return min(waits, key=lambda wait: (-wait.wait_ms, wait.visit_id), default=None)


def _handle_ms(session: Session, visit: QueueVisit) -> int | None:
    """The agent's time with the session: of the segment whose talk began as the visit was answered."""
    if visit.outcome is not VisitOutcome.ANSWERED or visit.ended_at is None:
        return None
    done = [x.done_at for x in session.segments if x.talk_started_at == visit.ended_at and x.done_at is not None]
    return max(done) - visit.ended_at if done else None
