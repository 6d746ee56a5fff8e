"""Sessions and recordings for lists and detail screens: reads over the tables that steps write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from server.domain.history import (
    EventRow,
    RecordingBrief,
    RecordingRow,
    SegmentRow,
    SessionDetail,
    SessionFilter,
    SessionRow,
    VisitRow,
    covered_ms,
)
from server.storage.admin_repository import DISPOSITION, QUEUE, USER
from server.storage.faults import translated
from server.storage.reports import visits_per_session, wanted_visits
from server.storage.runtime_tables import queue_visit, recording, segment, session, session_event

MAX_EVENTS = 2000  # a session has tens; the bound keeps one broken session from filling the memory
_Row = Mapping[Any, Any]


class StoredHistory:
    """`History` over a database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        with translated():
            async with self._engine.connect() as connection:
                yield connection

    async def sessions(
        self, tenant: str, wanted: SessionFilter, limit: int, before: tuple[int, str] | None
    ) -> tuple[SessionRow, ...]:
        query = (
            sa.select(session, QUEUE.c.name.label("queue_name"))
            .join(QUEUE, QUEUE.c.id == session.c.queue_id, isouter=True)
            .where(session.c.tenant == tenant, *_conditions(tenant, wanted))
            .order_by(session.c.created_at.desc(), session.c.id.desc())
            .limit(limit)
        )
        if before is not None:
            at, last_id = before
            query = query.where(
                sa.or_(session.c.created_at < at, sa.and_(session.c.created_at == at, session.c.id < last_id))
            )
        async with self._reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
            ids = [row["id"] for row in rows]
            parts = await _parts(connection, ids)
            found = tuple(_session_row(row, parts) for row in rows)
            if wanted.visits is None:
                return found
            counts = await visits_per_session(connection, tenant, wanted.visits, ids)
        return tuple(replace(row, matching_visits=counts.get(row.session_id, 0)) for row in found)

    async def session(self, tenant: str, session_id: str) -> SessionDetail | None:
        query = (
            sa.select(session, QUEUE.c.name.label("queue_name"))
            .join(QUEUE, QUEUE.c.id == session.c.queue_id, isouter=True)
            .where(session.c.tenant == tenant, session.c.id == session_id)
        )
        events = (
            sa.select(session_event)
            .where(session_event.c.session_id == session_id, session_event.c.tenant == tenant)
            .order_by(session_event.c.version)
            .limit(MAX_EVENTS)
        )
        async with self._reading() as connection:
            row = (await connection.execute(query)).mappings().first()
            if row is None:
                return None
            parts = await _parts(connection, [session_id])
            happened = (await connection.execute(events)).mappings().all()
        return SessionDetail(
            row=_session_row(row, parts),
            segments=tuple(_segment_row(part) for part in parts.segments[session_id]),
            visits=tuple(_visit_row(part) for part in parts.visits[session_id]),
            events=tuple(EventRow(event["version"], event["at"], event["type"], event["body"]) for event in happened),
        )

    async def recording(self, tenant: str, recording_id: str) -> RecordingRow | None:
        query = sa.select(recording).where(recording.c.tenant == tenant, recording.c.id == recording_id)
        async with self._reading() as connection:
            row = (await connection.execute(query)).mappings().first()
            if row is None:
                return None
            agents = sa.select(segment.c.agent_id).where(
                segment.c.session_id == row["session_id"], segment.c.accepted_at.is_not(None)
            )
            agent_ids = tuple((await connection.execute(agents)).scalars())
        return RecordingRow(
            recording_id=row["id"],
            session_id=row["session_id"],
            state=row["state"],
            reason=row["reason"],
            duration_ms=row["duration_ms"],
            started_at=row["started_at"],
            parts=row["parts"],
            size_bytes=row["size_bytes"],
            archive=row["archive"],
            agent_ids=agent_ids,
        )


class _Parts:
    """What belongs to some sessions, by session id, each in order."""

    def __init__(self) -> None:
        self.segments: dict[str, list[_Row]] = defaultdict(list)
        self.visits: dict[str, list[_Row]] = defaultdict(list)
        self.recordings: dict[str, list[_Row]] = defaultdict(list)


async def _parts(connection: AsyncConnection, session_ids: Sequence[str]) -> _Parts:
    found = _Parts()
    if not session_ids:
        return found
    segments = (
        sa.select(segment, USER.c.name.label("agent_name"), DISPOSITION.c.name.label("disposition_name"))
        .join(USER, USER.c.id == segment.c.agent_id, isouter=True)
        .join(DISPOSITION, DISPOSITION.c.id == segment.c.disposition_id, isouter=True)
        .where(segment.c.session_id.in_(session_ids))
        .order_by(segment.c.number)
    )
    visits = (
        sa.select(queue_visit, QUEUE.c.name.label("queue_name"))
        .join(QUEUE, QUEUE.c.id == queue_visit.c.queue_id, isouter=True)
        .where(queue_visit.c.session_id.in_(session_ids))
        .order_by(queue_visit.c.entered_at, queue_visit.c.id)
    )
    recordings = (
        sa.select(recording)
        .where(recording.c.session_id.in_(session_ids))
        .order_by(recording.c.started_at, recording.c.id)
    )
    for query, by_session in (
        (segments, found.segments),
        (visits, found.visits),
        (recordings, found.recordings),
    ):
        for row in (await connection.execute(query)).mappings():
            by_session[row["session_id"]].append(row)
    return found


def _conditions(tenant: str, wanted: SessionFilter) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if wanted.state is not None:
        found.append(session.c.state == wanted.state)
    if wanted.queue_id is not None:
        found.append(session.c.queue_id == wanted.queue_id)
    if wanted.since is not None:
        found.append(session.c.created_at >= wanted.since)
    if wanted.until is not None:
        found.append(session.c.created_at < wanted.until)
    if wanted.agent_id is not None:
        of_agent = sa.select(segment.c.session_id).where(
            segment.c.agent_id == wanted.agent_id, segment.c.accepted_at.is_not(None)
        )
        found.append(session.c.id.in_(of_agent))
    if wanted.visits is not None:
        visits = wanted_visits(tenant, wanted.visits)
        found.append(session.c.id.in_(sa.select(visits.c.session_id)))
    if wanted.text:
        found.append(
            sa.or_(session.c.customer_name.icontains(wanted.text, autoescape=True), session.c.id == wanted.text)
        )
    return found


def _session_row(row: _Row, parts: _Parts) -> SessionRow:
    session_id = row["id"]
    segments, visits = parts.segments[session_id], parts.visits[session_id]
    talks = [
        (part["talk_started_at"], part["talk_ended_at"])
        for part in segments
        if part["talk_started_at"] is not None and part["talk_ended_at"] is not None
    ]
    picked = [part["disposition_name"] for part in segments if part["disposition_name"] is not None]
    return SessionRow(
        session_id=session_id,
        channel=row["channel"],
        state=row["state"],
        customer_name=row["customer_name"],
        queue_id=row["queue_id"],
        queue_name=row["queue_name"] or "",
        agents=tuple(
            {part["agent_id"]: part["agent_name"] or "" for part in segments if part["accepted_at"] is not None}.items()
        ),
        created_at=row["created_at"],
        queued_at=visits[0]["entered_at"] if visits else row["created_at"],
        talk_started_at=row["talk_started_at"],
        ended_at=row["ended_at"],
        talk_ms=covered_ms(talks) if talks else None,
        end_reason=row["end_reason"],
        disposition_name=picked[-1] if picked else None,
        recordings=tuple(
            RecordingBrief(part["id"], part["duration_ms"], part["state"]) for part in parts.recordings[session_id]
        ),
    )


def _segment_row(row: _Row) -> SegmentRow:
    return SegmentRow(
        segment_id=row["id"],
        number=row["number"],
        agent_id=row["agent_id"],
        agent_name=row["agent_name"] or "",
        queue_id=row["queue_id"],
        state=row["state"],
        offered_at=row["offered_at"],
        accepted_at=row["accepted_at"],
        talk_started_at=row["talk_started_at"],
        talk_ended_at=row["talk_ended_at"],
        hold_ms=row["hold_ms"],
        done_at=row["done_at"],
        end_reason=row["end_reason"],
        disposition_id=row["disposition_id"],
        disposition_name=row["disposition_name"],
        notes=row["notes"],
    )


def _visit_row(row: _Row) -> VisitRow:
    return VisitRow(
        visit_id=row["id"],
        queue_id=row["queue_id"],
        queue_name=row["queue_name"] or "",
        entered_at=row["entered_at"],
        ended_at=row["ended_at"],
        outcome=row["outcome"],
    )
