"""/sessions: what happened. Agents see the sessions that they took; supervisors and admins see all."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from server.domain import history as past
from server.domain.directory import Role
from server.domain.reports import Counted, VisitFilter
from server.services.refusals import not_found
from server.signaling.access import STAFF
from server.signaling.rest.endpoint import Call, Endpoint, Endpoints, Nothing
from server.signaling.rest.models import Id, Ms, Page, PageQuery, RestModel, cursor_of, read_cursor


class SessionQuery(PageQuery):
    """`from` and `to` bound when the session began; `q` is part of the customer's name, or a session id.

    `counted_as`, `entered_from` and `entered_to` ask for sessions with such a queue visit, as the queue report counts
    them; `queue_id` is then the queue of that visit."""

    state: Annotated[str, Field(pattern=r"^[a-z_]{1,20}$")] | None = None
    queue_id: Id | None = None
    agent_id: Id | None = None
    since: Annotated[Ms | None, Field(alias="from")] = None
    until: Annotated[Ms | None, Field(alias="to")] = None
    q: Annotated[str, Field(max_length=100)] | None = None
    counted_as: Counted | None = None
    entered_from: Ms | None = None
    entered_to: Ms | None = None

    def visits(self, now: int) -> VisitFilter | None:
        if self.counted_as is None and self.entered_from is None and self.entered_to is None:
            return None
        counted_as = self.counted_as or Counted.OFFERED
        return VisitFilter(now, counted_as, self.queue_id, self.entered_from, self.entered_to)


class AgentName(RestModel):
    user_id: str
    name: str


class RecordingBrief(RestModel):
    recording_id: str
    duration_ms: int | None
    state: str


class SessionView(RestModel):
    session_id: str
    channel: str
    state: str
    customer_name: str
    queue_id: str
    queue_name: str
    agents: list[AgentName]
    queued_at: int
    talk_started_at: int | None
    ended_at: int | None
    talk_ms: int | None
    end_reason: str | None
    disposition_name: str | None
    recordings: list[RecordingBrief]
    matching_visits: int | None = Field(default=None, description="queue visits that the filter asks for")


class SegmentView(RestModel):
    segment_id: str
    number: int
    agent_id: str
    agent_name: str
    queue_id: str
    state: str
    offered_at: int
    accepted_at: int | None
    talk_started_at: int | None
    talk_ended_at: int | None
    hold_ms: int
    done_at: int | None
    end_reason: str | None
    disposition_id: str | None
    disposition_name: str | None
    notes: str
    came_as: str = Field(default="owner", description="owner: it was offered; guest: called in; supervisor: unasked")


class VisitView(RestModel):
    visit_id: str
    queue_id: str
    queue_name: str
    entered_at: int
    ended_at: int | None
    outcome: str | None


class EventView(RestModel):
    version: int
    at: int
    type: str
    body: dict[str, Any]


class SessionDetailView(SessionView):
    """`events`: for supervisors and admins, else null."""

    segments: list[SegmentView]
    visits: list[VisitView]
    events: list[EventView] | None


def _fields(row: past.SessionRow) -> dict[str, Any]:
    return {
        "session_id": row.session_id,
        "channel": row.channel,
        "state": row.state,
        "customer_name": row.customer_name,
        "queue_id": row.queue_id,
        "queue_name": row.queue_name,
        "agents": [AgentName(user_id=user_id, name=name) for user_id, name in row.agents],
        "queued_at": row.queued_at,
        "talk_started_at": row.talk_started_at,
        "ended_at": row.ended_at,
        "talk_ms": row.talk_ms,
        "end_reason": row.end_reason,
        "disposition_name": row.disposition_name,
        "recordings": [
            RecordingBrief(recording_id=part.recording_id, duration_ms=part.duration_ms, state=part.state)
            for part in row.recordings
        ],
        "matching_visits": row.matching_visits,
    }


def _segment(row: past.SegmentRow, came_as: str) -> SegmentView:
    fields = {name: getattr(row, name) for name in SegmentView.model_fields if name != "came_as"}
    return SegmentView(**fields, came_as=came_as)


def _visit(row: past.VisitRow) -> VisitView:
    return VisitView(**{name: getattr(row, name) for name in VisitView.model_fields})


async def list_sessions(call: Call[Nothing, SessionQuery]) -> Page[SessionView]:
    query = call.query
    own_only = call.user.role is Role.AGENT
    if own_only and query.agent_id not in (None, call.user.user_id):
        return Page[SessionView](items=[], next=None)
    visits = query.visits(call.deps.clock.now_ms())
    wanted = past.SessionFilter(
        state=query.state,
        queue_id=query.queue_id if visits is None else None,
        agent_id=call.user.user_id if own_only else query.agent_id,
        since=query.since,
        until=query.until,
        text=query.q,
        visits=visits,
    )
    before = read_cursor(query.cursor)
    found = await call.deps.history.sessions(call.user.tenant, wanted, query.limit + 1, before)
    shown = found[: query.limit]
    more = cursor_of(shown[-1].created_at, shown[-1].session_id) if len(found) > query.limit else None
    return Page[SessionView](items=[SessionView(**_fields(row)) for row in shown], next=more)


async def read_session(call: Call[Nothing, Nothing]) -> SessionDetailView:
    detail = await call.deps.history.session(call.user.tenant, call.part("session_id"))
    if detail is None:
        raise not_found("session")
    own_only = call.user.role is Role.AGENT
    if own_only and call.user.user_id not in dict(detail.row.agents):
        raise not_found("session")
    began = [past.CAME_AS[event.type] for event in detail.events if event.type in past.CAME_AS]
    came = dict(enumerate(began, 1))
    events = None
    if not own_only:
        events = [
            EventView(version=event.version, at=event.at, type=event.type, body=dict(event.body))
            for event in detail.events
        ]
    return SessionDetailView(
        **_fields(detail.row),
        segments=[_segment(row, came.get(row.number, "owner")) for row in detail.segments],
        visits=[_visit(row) for row in detail.visits],
        events=events,
    )


ENDPOINTS: Endpoints = (
    Endpoint(
        "GET",
        "/sessions",
        "List sessions, newest first; agents see their own",
        STAFF,
        list_sessions,
        query=SessionQuery,
        answer=Page[SessionView],
    ),
    Endpoint(
        "GET",
        "/sessions/{session_id}",
        "Read a session",
        STAFF,
        read_session,
        answer=SessionDetailView,
        codes=("not_found",),
    ),
)
