"""What happened, as the lists and detail screens read it: sessions, their segments and visits, recordings.

Times are UTC epoch milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from server.domain.reports import VisitFilter

# The events that begin a segment, and so count its number up: how its agent came into the session.
CAME_AS = {"AgentOffered": "owner", "GuestInvited": "guest", "SupervisionBegun": "supervisor"}


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions to list; None means any. `since` ≤ created_at < `until`. `text` is found in the
    customer's name, or is a session id. `visits`: those with such a queue visit."""

    state: str | None = None
    queue_id: str | None = None
    agent_id: str | None = None
    since: int | None = None
    until: int | None = None
    text: str | None = None
    visits: VisitFilter | None = None


@dataclass(frozen=True, slots=True)
class RecordingBrief:
    recording_id: str
    duration_ms: int | None
    state: str


@dataclass(frozen=True, slots=True)
class SessionRow:
    """`agents` are those who accepted the session, as (user_id, name), in order. `talk_ms`: how long somebody of us was
    in the talk, over finished talks; None when there is none. `matching_visits`: how many of its queue visits the
    filter wants; None when it asks for none."""

    session_id: str
    channel: str
    state: str
    customer_name: str
    queue_id: str
    queue_name: str
    agents: tuple[tuple[str, str], ...]
    created_at: int
    queued_at: int
    talk_started_at: int | None
    ended_at: int | None
    talk_ms: int | None
    end_reason: str | None
    disposition_name: str | None
    recordings: tuple[RecordingBrief, ...]
    matching_visits: int | None = None


@dataclass(frozen=True, slots=True)
class SegmentRow:
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


@dataclass(frozen=True, slots=True)
class VisitRow:
    visit_id: str
    queue_id: str
    queue_name: str
    entered_at: int
    ended_at: int | None
    outcome: str | None


@dataclass(frozen=True, slots=True)
class EventRow:
    version: int
    at: int
    type: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SessionDetail:
    row: SessionRow
    segments: tuple[SegmentRow, ...]
    visits: tuple[VisitRow, ...]
    events: tuple[EventRow, ...]


@dataclass(frozen=True, slots=True)
class RecordingRow:
    """`agent_ids` are those who accepted its session, for visibility. `archive` as in the table `recording`."""

    recording_id: str
    session_id: str
    state: str
    reason: str | None
    duration_ms: int | None
    started_at: int
    parts: int
    size_bytes: int | None
    archive: Mapping[str, Any] | None
    agent_ids: tuple[str, ...]


def covered_ms(spans: Iterable[tuple[int, int]]) -> int:
    """How long at least one of these spans (begin, end) was going on: guests and supervisors talk beside the owner."""
    covered, until = 0, 0
    for begin, end in sorted(spans):
        covered += max(0, end - max(begin, until))
        until = max(until, end)
    return covered
