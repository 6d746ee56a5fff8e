"""How right the ranges were that customers were told: beside the counts of `reports.Counted`, how far off they were.

Both count only who was answered. Who gave up is counted apart: nobody knows how long they would have waited.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from server.domain.report_days import Days
from server.domain.reports import QueueNumbers, VisitFacts, total


@dataclass(frozen=True, slots=True)
class ToldRow:
    """How right the ranges were that a queue's customers were told. `off_ms`: the median of how far the answer was from
    the middle of the range; None without an answer."""

    queue_id: str
    name: str
    active: bool
    numbers: QueueNumbers
    off_ms: int | None


@dataclass(frozen=True, slots=True)
class ToldReport:
    """`off_ms` is the median over all rows' visits. `at` as in `QueueReport`."""

    days: Days
    at: int
    rows: tuple[ToldRow, ...]
    off_ms: int | None

    @property
    def total(self) -> QueueNumbers:
        return total(row.numbers for row in self.rows)


def off_ms(found: Iterable[VisitFacts]) -> int | None:
    """The median of how far the answers were from the middles of the ranges that were told."""
    return middle([visit.off_ms for visit in found if visit.off_ms is not None])


def middle(values: Sequence[int]) -> int | None:
    """The median, rounded down; None of nothing."""
    return int(median(values)) if values else None
