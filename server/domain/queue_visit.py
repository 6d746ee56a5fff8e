"""One wait of one session in one queue: the unit of queue metrics. It ends once, with one outcome."""

from __future__ import annotations

from dataclasses import dataclass, replace

from server.domain.endings import VisitOutcome
from server.domain.machine import IllegalTransition


@dataclass(frozen=True, slots=True)
class ToldWait:
    """The first range of the wait that the customer was told, `at` a moment of this visit: what was still to wait then,
    as in `domain.waits.WaitRange`. `position` is 1 for the first."""

    at: int
    position: int
    low_ms: int
    high_ms: int


@dataclass(frozen=True, slots=True)
class QueueVisit:
    """`outcome` None: still waiting (offers and connecting are part of the wait). `away_ms`: how much of the wait was
    spent away with the place kept, not counting an absence that goes on. `told` None: no range was told."""

    id: str
    queue_id: str
    entered_at: int
    ended_at: int | None = None
    outcome: VisitOutcome | None = None
    away_ms: int = 0
    told: ToldWait | None = None


def close(visit: QueueVisit, outcome: VisitOutcome, now: int) -> QueueVisit:
    if visit.outcome is not None:
        raise IllegalTransition(f"queue visit {visit.id} ended as {visit.outcome} already")
    return replace(visit, ended_at=now, outcome=outcome)
