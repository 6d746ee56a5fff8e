"""What a save writes, as rows: domain values to columns, the same for SQLite and PostgreSQL.

A row is a dict by column name; both databases' statements name their values. JSON columns hold JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic_core import to_json

from server.domain.agent import agent_deadlines
from server.domain.deadlines import Deadline, deadlines
from server.domain.queue_visit import QueueVisit
from server.domain.recording import Recording, RecordingState
from server.domain.segment import Segment
from server.domain.session import Session
from server.services.ports import (
    AgentSave,
    Connection,
    NodeRow,
    OutboxKey,
    OutboxRow,
    Push,
    Save,
    SessionSave,
    StreamMessage,
    StreamPart,
)
from server.storage import codec

STREAM_KEEP = 500  # messages fetched at most in one answer; older ones are pruned by age
# The states that an agent shows while a contact is held: `server.domain.agent.AgentState` derives them so.
HOLDS_CONTACT = "('ringing', 'on_contact', 'wrap_up')"

JSON_COLUMNS = frozenset({"body", "archive"})
Row = dict[str, Any]
T = TypeVar("T")
_SHOWN_STATE = {RecordingState.CLOSING: RecordingState.ARCHIVING}


@dataclass
class SaveRows:
    """A save without its pushes. In `changed_…` rows `before` is the version that must still be there."""

    new_sessions: list[Row] = field(default_factory=list)
    changed_sessions: list[Row] = field(default_factory=list)
    new_agents: list[Row] = field(default_factory=list)
    changed_agents: list[Row] = field(default_factory=list)
    session_events: list[Row] = field(default_factory=list)
    agent_events: list[Row] = field(default_factory=list)
    orders: list[Row] = field(default_factory=list)
    segments: list[Row] = field(default_factory=list)
    visits: list[Row] = field(default_factory=list)
    recordings: list[Row] = field(default_factory=list)
    dropped_deadlines: list[Row] = field(default_factory=list)
    deadlines: list[Row] = field(default_factory=list)
    consumed: list[Row] = field(default_factory=list)


def save_rows(save: Save) -> SaveRows:
    rows = SaveRows(consumed=order_keys(save.consumed))
    for session in save.sessions:
        _add_session(rows, session, save.now)
    for agent in sorted(save.agents, key=lambda saved: saved.after.user_id):  # rows are locked in this order
        _add_agent(rows, agent, save.now)
    return rows


def order_keys(keys: Iterable[OutboxKey]) -> list[Row]:
    return [{"session_id": key.session_id, "version": key.version, "idx": key.index} for key in keys]


def push_body(push: Push) -> str:
    return to_json(push.body).decode()


def load_outbox_row(
    session_id: str, version: int, index: int, tenant: str, worker_id: str, epoch: int, body: str
) -> OutboxRow:
    return OutboxRow(OutboxKey(session_id, version, index), tenant, worker_id, epoch, codec.load_order(body))


def stream_part(person_id: str, after: int, head: int, messages: list[tuple[int, int, str]]) -> StreamPart:
    """`messages` are (seq, at, body), those kept after `after` up to the head."""
    complete = after >= head or (bool(messages) and messages[0][0] == after + 1 and len(messages) == head - after)
    if not complete or after > head:
        return StreamPart(head, True, ())
    return StreamPart(
        head, False, tuple(StreamMessage(person_id, seq, at, json.loads(body)) for seq, at, body in messages)
    )


def connection_of(node_id: str | None, tab_id: str | None) -> Connection | None:
    return None if node_id is None or tab_id is None else Connection(node_id, tab_id)


def _add_session(rows: SaveRows, save: SessionSave, now: int) -> None:
    s, before = save.after, save.before
    if before is None:
        rows.new_sessions.append(_session_row(s))
    else:
        rows.changed_sessions.append(_session_row(s) | {"before": before.version})
    rows.session_events += [_event_row("session_id", s.id, s.tenant, version, now, *codec.EVENTS.dump(event))
                            for version, event in save.events]  # fmt: skip
    rows.orders += [_order_row(order, now) for order in save.orders]
    rows.segments += [_segment_row(s, x) for x in _changed(before.segments if before else (), s.segments)]
    rows.visits += [_visit_row(s, v) for v in _changed(before.visits if before else (), s.visits)]
    rows.recordings += [_recording_row(s, r, save) for r in _changed(before.recordings if before else (), s.recordings)]
    _add_deadlines(rows, s.id, s.tenant, deadlines(before) if before else frozenset(), deadlines(s))


def _add_agent(rows: SaveRows, save: AgentSave, now: int) -> None:
    a, before = save.after, save.before
    row = {"user_id": a.user_id, "tenant": a.tenant, "version": a.version, "state": a.state, "live": a.live,
           "body": codec.AGENT.dump_json(a).decode()}  # fmt: skip
    if before is None:
        rows.new_agents.append(row)
    else:
        rows.changed_agents.append(row | {"before": before.version})
    rows.agent_events += [_event_row("user_id", a.user_id, a.tenant, version, now, *codec.AGENT_EVENTS.dump(event))
                          for version, event in save.events]  # fmt: skip
    was_due = agent_deadlines(before) if before else frozenset()
    _add_deadlines(rows, a.user_id, a.tenant, was_due, agent_deadlines(a))


def _add_deadlines(
    rows: SaveRows, owner_id: str, tenant: str, before: frozenset[Deadline], after: frozenset[Deadline]
) -> None:
    kept = {(d.kind, d.key) for d in after}
    rows.dropped_deadlines += [
        {"owner_id": owner_id, "kind": d.kind, "key": d.key} for d in before if (d.kind, d.key) not in kept
    ]
    rows.deadlines += [
        {"owner_id": owner_id, "kind": d.kind, "key": d.key, "tenant": tenant, "at": d.at} for d in after - before
    ]


def _changed(before: Iterable[T], after: Iterable[T]) -> list[T]:
    known = list(before)
    return [item for item in after if item not in known]


def _session_row(s: Session) -> Row:
    return {
        "id": s.id, "tenant": s.tenant, "version": s.version, "state": s.state, "done": s.done, "channel": s.channel,
        "entry_point_id": s.entry_point_id, "queue_id": s.queue.queue_id, "customer_name": s.customer.name,
        "worker_id": s.worker_id, "epoch": s.epoch, "created_at": s.created_at,
        "talk_started_at": s.talk_started_at, "ended_at": s.ended_at, "end_reason": s.end_reason,
        "body": codec.SESSION.dump_json(s).decode(),
    }  # fmt: skip


def _event_row(owner: str, owner_id: str, tenant: str, version: int, now: int, kind: str, body: str) -> Row:
    return {owner: owner_id, "version": version, "tenant": tenant, "at": now, "type": kind, "body": body}


def _order_row(row: OutboxRow, now: int) -> Row:
    key = row.key
    return {"session_id": key.session_id, "version": key.version, "idx": key.index, "tenant": row.tenant,
            "worker_id": row.worker_id, "epoch": row.epoch, "body": codec.dump_order(row.order),
            "created_at": now}  # fmt: skip


def _segment_row(s: Session, x: Segment) -> Row:
    return {
        "id": x.id, "tenant": s.tenant, "session_id": s.id, "number": x.number, "agent_id": x.agent_id,
        "queue_id": x.queue_id, "state": x.state, "offered_at": x.offered_at, "accepted_at": x.accepted_at,
        "talk_started_at": x.talk_started_at, "talk_ended_at": x.talk_ended_at, "hold_ms": x.hold_ms,
        "done_at": x.done_at, "end_reason": x.end_reason, "disposition_id": x.disposition_id, "notes": x.notes,
    }  # fmt: skip


def _visit_row(s: Session, v: QueueVisit) -> Row:
    told = v.told
    return {
        "id": v.id, "tenant": s.tenant, "session_id": s.id, "queue_id": v.queue_id, "entered_at": v.entered_at,
        "ended_at": v.ended_at, "outcome": v.outcome, "told_at": told and told.at,
        "told_position": told and told.position, "told_low_ms": told and told.low_ms,
        "told_high_ms": told and told.high_ms, "away_ms": v.away_ms,
    }  # fmt: skip


def _recording_row(s: Session, r: Recording, save: SessionSave) -> Row:
    archive = save.archives.get(r.id)
    return {
        "id": r.id, "tenant": s.tenant, "session_id": s.id, "segment_id": r.segment_id,
        "state": _SHOWN_STATE.get(r.state, r.state), "reason": r.reason or r.broken, "started_at": r.started_at,
        "ended_at": r.ended_at, "parts": len(r.parts), "duration_ms": r.duration_ms,
        "size_bytes": archive.get("size_bytes") if archive else None,
        "archive": json.dumps(archive) if archive else None,
    }  # fmt: skip


def joined_workers(node: NodeRow) -> str:
    """The column `node.workers`: ids hold no commas."""
    return ",".join(node.workers)


def node_row(node_id: str, name: str, started_at: int, seen_at: int, draining: int, workers: str) -> NodeRow:
    return NodeRow(node_id, name, started_at, seen_at, bool(draining), tuple(workers.split(",")) if workers else ())
