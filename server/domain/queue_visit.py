"""One wait of one session in one queue: the unit of queue metrics. It ends once, with one outcome."""

from __future__ import annotations

from dataclasses import dataclass, replace

from server.domain.endings import VisitOutcome
from server.domain.machine import IllegalTransition


@dataclass(frozen=True, slots=True)
class QueueVisit:
    """`outcome` None: still waiting (offers and connecting are part of the wait). `away_ms`: how much of the wait was
    spent away with the place kept, not counting an absence that goes on."""

    id: str
    queue_id: str
    entered_at: int
    ended_at: int | None = None
    outcome: VisitOutcome | None = None
    away_ms: int = 0


def close(visit: QueueVisit, outcome: VisitOutcome, now: int) -> QueueVisit:
    if visit.outcome is not None:
        raise IllegalTransition(f"queue visit {visit.id} ended as {visit.outcome} already")
    return replace(visit, ended_at=now, outcome=outcome)
