"""What queues did lately, from the database: for the estimated wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from server.domain.endings import VisitOutcome
from server.domain.waits import KEPT_MS, KEPT_VISITS, PastVisit
from server.storage.faults import translated
from server.storage.runtime_tables import queue_visit

LONGEST_MS = 4 * 3_600_000  # who waited longer says nothing of today; bounds the part of the index that is read


class StoredWaits:
    """`WaitHistory` over a database. It goes by the index of the reports, backwards from the newest that entered: an
    index by the time of leaving would be one more to write with each visit."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def lately(self, tenant: str, queue_id: str, now: int) -> Sequence[PastVisit]:
        with translated():
            async with self._engine.connect() as connection:
                found = (await connection.execute(_newest(tenant, queue_id, now))).all()
        served = (VisitOutcome.ANSWERED.value, VisitOutcome.CALLBACK.value)
        return [PastVisit(row.entered_at, row.ended_at, row.outcome in served) for row in found]


def _newest(tenant: str, queue_id: str, now: int) -> sa.Select[Any]:
    visit = queue_visit.c
    return (
        sa.select(visit.entered_at, visit.ended_at, visit.outcome)
        .where(visit.tenant == tenant, visit.queue_id == queue_id, visit.entered_at >= now - LONGEST_MS)
        .where(visit.outcome.is_not(None), visit.ended_at >= now - KEPT_MS, visit.ended_at <= now)
        .where(sa.func.coalesce(visit.away_ms, 0) == 0)  # who was away says nothing of the pace
        .order_by(visit.entered_at.desc())
        .limit(KEPT_VISITS)
    )
