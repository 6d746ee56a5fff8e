"""The queue reports' numbers from the database: domain/reports.py in SQL, for SQLite and PostgreSQL.

`CONDITIONS` says in SQL what `RULES` says of one visit; both the sums and the lists behind them are made of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from server.domain.endings import VisitOutcome
from server.domain.reports import SHORT_ABANDON_MS, Counted, LongestWait, QueueNumbers, VisitFilter, longest
from server.domain.told_report import middle
from server.storage.admin_repository import QUEUE
from server.storage.faults import translated
from server.storage.runtime_tables import queue_visit, segment, session

Facts = sa.FromClause
Condition = Callable[[Any], sa.ColumnElement[bool]]


def _outcome(outcome: VisitOutcome) -> Condition:
    return lambda v: v.outcome == outcome.value


def _in_time(v: Any) -> sa.ColumnElement[bool]:
    found: sa.ColumnElement[bool] = v.wait_ms <= v.target_ms
    return found


def _short(v: Any) -> sa.ColumnElement[bool]:
    return sa.and_(v.outcome.is_not(None), v.outcome == VisitOutcome.ABANDONED.value, v.wait_ms < SHORT_ABANDON_MS)


def _answered_when_told(v: Any) -> sa.ColumnElement[bool]:
    return sa.and_(v.told_at.is_not(None), v.outcome.is_not(None), v.outcome == VisitOutcome.ANSWERED.value)


def _since_told(v: Any) -> Any:
    """From what was told to the end of the visit, ms."""
    return v.entered_at + v.wait_ms - v.told_at


def _off_ms(v: Any) -> Any:
    return sa.func.abs(_since_told(v) - (v.told_low_ms + v.told_high_ms) // 2)


# `_short` is false, never null, for a visit that waits: its negation holds.
CONDITIONS: dict[Counted, Condition] = {
    Counted.OFFERED: lambda v: sa.true(),
    Counted.ANSWERED: _outcome(VisitOutcome.ANSWERED),
    Counted.ABANDONED: _outcome(VisitOutcome.ABANDONED),
    Counted.FLOWED_OUT: _outcome(VisitOutcome.FLOWED_OUT),
    Counted.CALLBACK: _outcome(VisitOutcome.CALLBACK),
    Counted.FAILED: _outcome(VisitOutcome.FAILED),
    Counted.WAITING: lambda v: v.outcome.is_(None),
    Counted.ANSWERED_IN_TIME: lambda v: sa.and_(v.outcome == VisitOutcome.ANSWERED.value, _in_time(v)),
    Counted.LEFT_IN_TIME: lambda v: sa.and_(v.outcome.is_not(None), _in_time(v)),
    Counted.SERVICE_LEVEL_BASE: lambda v: sa.and_(~_short(v), ~sa.and_(v.outcome.is_(None), _in_time(v))),
    Counted.SHORT_ABANDONS: _short,
    Counted.LONG_ABANDONS: lambda v: sa.and_(v.outcome == VisitOutcome.ABANDONED.value, ~_short(v)),
    Counted.ABANDON_RATE_BASE: lambda v: ~_short(v),
    Counted.HANDLED: lambda v: v.handle_ms.is_not(None),
    Counted.TOLD: lambda v: v.told_at.is_not(None),
    Counted.TOLD_ANSWERED: _answered_when_told,
    Counted.TOLD_WITHIN: lambda v: sa.and_(_answered_when_told(v), _since_told(v) <= v.told_high_ms),
    Counted.TOLD_BELOW: lambda v: sa.and_(_answered_when_told(v), _since_told(v) <= v.told_low_ms),
    Counted.TOLD_ABANDONED: lambda v: sa.and_(v.told_at.is_not(None), v.outcome == VisitOutcome.ABANDONED.value),
}


class StoredReports:
    """`ReportSource` over a database."""

    def __init__(self, engine: AsyncEngine) -> None:
        # Two statements must see the same visits. A transaction of SQLite does so by itself.
        snapshot = engine.dialect.name == "postgresql"
        self._engine = engine.execution_options(isolation_level="REPEATABLE READ") if snapshot else engine

    async def numbers(self, tenant: str, wanted: VisitFilter) -> Mapping[str, QueueNumbers]:
        # Materialized: else handle_ms, a query of its own, is worked out wherever it is named.
        v = _wanted(tenant, wanted).cte("wanted_visit").prefix_with("MATERIALIZED")
        sums = sa.select(
            v.c.queue_id,
            *(_sum(condition(v.c), 1).label(counted.value) for counted, condition in CONDITIONS.items()),
            _sum(v.c.outcome == VisitOutcome.ANSWERED.value, v.c.wait_ms).label("answer_wait_ms"),
            sa.func.coalesce(sa.func.sum(v.c.handle_ms), 0).label("all_handle_ms"),
            sa.func.max(v.c.wait_ms).label("longest_ms"),
        ).group_by(v.c.queue_id)
        with translated():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(sums)).mappings().all()
                greatest = [(row["queue_id"], row["longest_ms"]) for row in rows]
                waits = await _longest(connection, wanted_visits(tenant, wanted), greatest)
        return {
            row["queue_id"]: QueueNumbers(
                counts={counted: int(row[counted.value]) for counted in Counted},
                answer_wait_ms=int(row["answer_wait_ms"]),
                handle_ms=int(row["all_handle_ms"]),
                longest=waits.get(row["queue_id"]),
            )
            for row in rows
        }

    async def off_ms(self, tenant: str, wanted: VisitFilter) -> Mapping[str | None, int]:
        v = wanted_visits(tenant, replace(wanted, counted_as=Counted.TOLD_ANSWERED)).c
        off = sa.select(v.queue_id, _off_ms(v).label("off_ms")).subquery("off")
        with translated():
            async with self._engine.connect() as connection:
                found = await connection.execute(
                    sa.union_all(_middle(off, by_queue=True), _middle(off, by_queue=False))
                )
                values: dict[str | None, list[int]] = defaultdict(list)
                for queue_id, off_ms in found:
                    values[queue_id].append(off_ms)
        return {queue_id: known for queue_id, two in values.items() if (known := middle(two)) is not None}


def _middle(off: sa.Subquery, *, by_queue: bool) -> sa.Select[Any]:
    """The one or two values in the middle: neither database is asked for a median, since SQLite has none."""
    queue_id = off.c.queue_id if by_queue else sa.null()
    of = off.c.queue_id if by_queue else None
    numbered = sa.select(
        queue_id.label("queue_id"),
        off.c.off_ms,
        sa.func.row_number().over(partition_by=of, order_by=off.c.off_ms).label("place"),
        sa.func.count().over(partition_by=of).label("number"),
    ).subquery("numbered")
    place, number = numbered.c.place, numbered.c.number
    return sa.select(numbered.c.queue_id, numbered.c.off_ms).where(place.in_([(number + 1) // 2, (number + 2) // 2]))


def wanted_visits(tenant: str, wanted: VisitFilter) -> Facts:
    """The visits of a filter, with the columns of `VisitFacts`."""
    return _wanted(tenant, wanted).subquery("wanted_visit")


def _wanted(tenant: str, wanted: VisitFilter) -> sa.Select[Any]:
    waiting = wanted.counted_as is Counted.WAITING
    v = _facts(tenant, wanted.now, open_only=waiting and wanted.entered_from is None)
    query = sa.select(v).where(CONDITIONS[wanted.counted_as](v.c))
    if wanted.queue_id is not None:
        query = query.where(v.c.queue_id == wanted.queue_id)
    if wanted.entered_from is not None:
        query = query.where(v.c.entered_at >= wanted.entered_from)
    if wanted.entered_to is not None:
        query = query.where(v.c.entered_at < wanted.entered_to)
    return query


async def visits_per_session(
    connection: AsyncConnection, tenant: str, wanted: VisitFilter, session_ids: Sequence[str]
) -> dict[str, int]:
    """How many of the wanted visits each of some sessions has."""
    v = wanted_visits(tenant, wanted)
    query = sa.select(v.c.session_id, sa.func.count().label("visits")).group_by(v.c.session_id)
    found = await connection.execute(query.where(v.c.session_id.in_(session_ids)))
    return {row.session_id: row.visits for row in found}


def _facts(tenant: str, now: int, open_only: bool) -> Facts:
    """Every visit of a tenant, or only those of open sessions: what waits is among few, and their index is small."""
    done_at = (
        sa.select(sa.func.max(segment.c.done_at))
        .where(segment.c.session_id == queue_visit.c.session_id, segment.c.talk_started_at == queue_visit.c.ended_at)
        .scalar_subquery()
    )
    answered = queue_visit.c.outcome == VisitOutcome.ANSWERED.value
    left_at = sa.func.coalesce(queue_visit.c.ended_at, sa.literal(now, sa.BigInteger))
    query = (
        sa.select(
            queue_visit.c.id,
            queue_visit.c.session_id,
            queue_visit.c.queue_id,
            queue_visit.c.entered_at,
            queue_visit.c.outcome,
            # Who was away meanwhile tells nothing of how right it was.
            sa.case((sa.func.coalesce(queue_visit.c.away_ms, 0) == 0, queue_visit.c.told_at)).label("told_at"),
            queue_visit.c.told_low_ms,
            queue_visit.c.told_high_ms,
            (left_at - queue_visit.c.entered_at).label("wait_ms"),
            (QUEUE.c.service_level_s * 1000).label("target_ms"),
            sa.case((answered, done_at - queue_visit.c.ended_at)).label("handle_ms"),
        )
        .join(QUEUE, QUEUE.c.id == queue_visit.c.queue_id)
        .where(QUEUE.c.tenant == tenant)
    )
    if open_only:  # names no tenant of the visit, or SQLite would go through all of the tenant's
        open_sessions = sa.select(session.c.id).where(session.c.tenant == tenant, ~session.c.done)
        query = query.where(queue_visit.c.session_id.in_(open_sessions))
    else:  # names the queues once more, so that SQLite takes the index for a span of time too
        queues = sa.select(QUEUE.c.id).where(QUEUE.c.tenant == tenant)
        query = query.where(queue_visit.c.tenant == tenant, queue_visit.c.queue_id.in_(queues))
    return query.subquery("visit")


def _sum(condition: sa.ColumnElement[bool], value: Any) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, value), else_=0)), 0)


async def _longest(connection: AsyncConnection, v: Facts, greatest: list[tuple[str, int]]) -> dict[str, LongestWait]:
    """By queue, whose greatest wait is known. Of equal ones all are read: databases do not sort ids as we do."""
    if not greatest:
        return {}
    query = sa.select(v.c.queue_id, v.c.wait_ms, v.c.id, v.c.session_id)
    query = query.where(sa.tuple_(v.c.queue_id, v.c.wait_ms).in_(greatest))
    waits: dict[str, list[LongestWait]] = defaultdict(list)
    for queue_id, wait_ms, visit_id, session_id in await connection.execute(query):
        waits[queue_id].append(LongestWait(wait_ms, visit_id, session_id))
    return {queue_id: found for queue_id, mine in waits.items() if (found := longest(mine)) is not None}
