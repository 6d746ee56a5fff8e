"""Step and save on SQLite: hand-written statements, one transaction for everything that a step changes.

One connection writes, under a lock (SQLite has one writer anyway, and waiting here is fairer than its busy
handler); one reads. The guard is the row's version: an UPDATE that hits no row is a Conflict.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import aiosqlite

from server.domain.agent import Agent, agent_deadlines
from server.domain.deadlines import Deadline, deadlines
from server.domain.recording import Recording, RecordingState
from server.domain.segment import Segment
from server.domain.session import Session
from server.services.ports import (
    AgentSave,
    Conflict,
    DueDeadline,
    OutboxKey,
    OutboxRow,
    Push,
    Save,
    SessionSave,
    StorageUnavailable,
    StreamMessage,
    StreamPart,
)
from server.storage import codec

STREAM_KEEP = 500  # messages fetched at most in one answer; older ones are pruned by age
T = TypeVar("T")
_SHOWN_STATE = {RecordingState.CLOSING: RecordingState.ARCHIVING}

INSERT_SESSION = """
INSERT INTO session (id, tenant, version, state, done, channel, entry_point_id, queue_id, customer_name,
  worker_id, epoch, created_at, talk_started_at, ended_at, end_reason, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
UPDATE_SESSION = """
UPDATE session SET version = ?, state = ?, done = ?, queue_id = ?, worker_id = ?, epoch = ?, talk_started_at = ?,
  ended_at = ?, end_reason = ?, body = ? WHERE id = ? AND version = ?"""
INSERT_EVENT = "INSERT INTO session_event (session_id, version, tenant, at, type, body) VALUES (?, ?, ?, ?, ?, ?)"
INSERT_OUTBOX = """
INSERT INTO outbox (session_id, version, idx, tenant, worker_id, epoch, body, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
UPSERT_SEGMENT = """
INSERT INTO segment (id, tenant, session_id, number, agent_id, queue_id, state, offered_at, accepted_at,
  talk_started_at, talk_ended_at, hold_ms, done_at, end_reason, disposition_id, notes)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, accepted_at = excluded.accepted_at,
  talk_started_at = excluded.talk_started_at, talk_ended_at = excluded.talk_ended_at, hold_ms = excluded.hold_ms,
  done_at = excluded.done_at, end_reason = excluded.end_reason, disposition_id = excluded.disposition_id,
  notes = excluded.notes"""
UPSERT_VISIT = """
INSERT INTO queue_visit (id, tenant, session_id, queue_id, entered_at, ended_at, outcome)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET ended_at = excluded.ended_at, outcome = excluded.outcome"""
UPSERT_RECORDING = """
INSERT INTO recording (id, tenant, session_id, segment_id, state, reason, started_at, ended_at, parts, duration_ms,
  size_bytes, archive)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, reason = excluded.reason, ended_at = excluded.ended_at,
  parts = excluded.parts, duration_ms = excluded.duration_ms,
  size_bytes = COALESCE(excluded.size_bytes, recording.size_bytes),
  archive = COALESCE(excluded.archive, recording.archive)"""
INSERT_AGENT = "INSERT INTO agent (user_id, tenant, version, state, body) VALUES (?, ?, ?, ?, ?)"
UPDATE_AGENT = "UPDATE agent SET version = ?, state = ?, body = ? WHERE user_id = ? AND version = ?"
INSERT_AGENT_EVENT = "INSERT INTO agent_event (user_id, version, tenant, at, type, body) VALUES (?, ?, ?, ?, ?, ?)"
DELETE_DEADLINE = "DELETE FROM deadline WHERE owner_id = ? AND kind = ? AND key = ?"
INSERT_DEADLINE = "INSERT INTO deadline (owner_id, kind, key, tenant, at) VALUES (?, ?, ?, ?, ?)"
NEXT_SEQ = """
INSERT INTO person (id, tenant, head) VALUES (?, ?, 1)
ON CONFLICT (id) DO UPDATE SET head = person.head + 1 RETURNING head"""
INSERT_MESSAGE = "INSERT INTO stream_message (person_id, seq, tenant, at, body) VALUES (?, ?, ?, ?, ?)"
DELETE_OUTBOX = "DELETE FROM outbox WHERE session_id = ? AND version = ? AND idx = ?"


class SqliteSteps:
    """`StepStore` on SQLite through aiosqlite. Open with `await SqliteSteps.open(path)`, end with `close()`."""

    def __init__(self, writer: aiosqlite.Connection, reader: aiosqlite.Connection) -> None:
        self._writer = writer
        self._reader = reader
        self._lock = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path) -> SqliteSteps:
        connections = []
        for _ in range(2):
            connection = await aiosqlite.connect(path, isolation_level=None)
            for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "busy_timeout = 5000", "foreign_keys = ON"):
                await connection.execute(f"PRAGMA {pragma}")
            connections.append(connection)
        return cls(*connections)

    async def close(self) -> None:
        await self._writer.close()
        await self._reader.close()

    # --- reading ---

    async def session(self, session_id: str) -> Session | None:
        rows = await self._all("SELECT body FROM session WHERE id = ?", (session_id,))
        return codec.SESSION.validate_json(rows[0][0]) if rows else None

    async def agent(self, user_id: str) -> Agent | None:
        rows = await self._all("SELECT body FROM agent WHERE user_id = ?", (user_id,))
        return codec.AGENT.validate_json(rows[0][0]) if rows else None

    async def agents(self) -> Sequence[Agent]:
        return [codec.AGENT.validate_json(row[0]) for row in await self._all("SELECT body FROM agent", ())]

    async def open_sessions(self, *, worker_id: str | None = None) -> Sequence[Session]:
        query = "SELECT body FROM session WHERE done = 0"
        if worker_id is None:
            rows = await self._all(f"{query} ORDER BY created_at, id", ())
        else:
            rows = await self._all(f"{query} AND worker_id = ? ORDER BY created_at, id", (worker_id,))
        return [codec.SESSION.validate_json(row[0]) for row in rows]

    async def outbox(self, session_id: str, limit: int = 16) -> Sequence[OutboxRow]:
        rows = await self._all(
            "SELECT version, idx, tenant, worker_id, epoch, body FROM outbox WHERE session_id = ? "
            "ORDER BY version, idx LIMIT ?",
            (session_id, limit),
        )
        return [
            OutboxRow(OutboxKey(session_id, version, index), tenant, worker_id, epoch, codec.load_order(body))
            for version, index, tenant, worker_id, epoch, body in rows
        ]

    async def outbox_sessions(self) -> Sequence[str]:
        return [row[0] for row in await self._all("SELECT DISTINCT session_id FROM outbox", ())]

    async def due(self, now: int, limit: int = 200) -> Sequence[DueDeadline]:
        rows = await self._all(
            "SELECT tenant, owner_id, kind, key, at FROM deadline WHERE at <= ? ORDER BY at LIMIT ?", (now, limit)
        )
        return [DueDeadline(tenant, owner, Deadline(kind, key, at)) for tenant, owner, kind, key, at in rows]

    async def next_deadline(self) -> int | None:
        rows = await self._all("SELECT MIN(at) FROM deadline", ())
        return rows[0][0] if rows else None

    async def stream(self, person_id: str, after: int, limit: int = STREAM_KEEP) -> StreamPart:
        head_rows = await self._all("SELECT head FROM person WHERE id = ?", (person_id,))
        head = head_rows[0][0] if head_rows else 0
        rows = await self._all(
            "SELECT seq, at, body FROM stream_message WHERE person_id = ? AND seq > ? AND seq <= ? "
            "ORDER BY seq LIMIT ?",
            (person_id, after, head, limit),
        )
        complete = after >= head or (bool(rows) and rows[0][0] == after + 1 and len(rows) == head - after)
        if not complete or after > head:
            return StreamPart(head, True, ())
        messages = tuple(StreamMessage(person_id, seq, at, json.loads(body)) for seq, at, body in rows)
        return StreamPart(head, False, messages)

    # --- writing ---

    async def save(self, save: Save) -> tuple[StreamMessage, ...]:
        async with self._transaction():
            for session in save.sessions:
                await self._save_session(session, save.now)
            for agent in save.agents:
                await self._save_agent(agent, save.now)
            if save.consumed:
                await self._writer.executemany(
                    DELETE_OUTBOX, [(k.session_id, k.version, k.index) for k in save.consumed]
                )
            return tuple([await self._push(push, save) for push in save.pushes])

    async def drop_orders(self, keys: Sequence[OutboxKey]) -> None:
        async with self._transaction():
            await self._writer.executemany(DELETE_OUTBOX, [(k.session_id, k.version, k.index) for k in keys])

    async def prune_streams(self, before: int) -> int:
        async with self._transaction():
            cursor = await self._writer.execute("DELETE FROM stream_message WHERE at < ?", (before,))
            return cursor.rowcount

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        async with self._lock:
            try:
                await self._writer.execute("BEGIN IMMEDIATE")
                try:
                    yield
                except BaseException:
                    # Shielded: a cancelled caller must not leave the transaction open for the next one.
                    if self._writer.in_transaction:  # a full disk makes SQLite roll back by itself
                        await asyncio.shield(self._writer.execute("ROLLBACK"))
                    raise
                await self._writer.execute("COMMIT")
            except sqlite3.IntegrityError as error:  # the same insert by another step: load again
                raise Conflict(str(error)) from error
            except sqlite3.OperationalError as error:
                if self._writer.in_transaction:
                    await asyncio.shield(self._writer.execute("ROLLBACK"))
                raise StorageUnavailable(str(error)) from error

    async def _save_session(self, save: SessionSave, now: int) -> None:
        s, before = save.after, save.before
        body = codec.SESSION.dump_json(s).decode()
        if before is None:
            await self._writer.execute(
                INSERT_SESSION,
                (s.id, s.tenant, s.version, s.state, s.done, s.channel, s.entry_point_id, s.queue.queue_id,
                 s.customer.name, s.worker_id, s.epoch, s.created_at, s.talk_started_at, s.ended_at, s.end_reason,
                 body),
            )  # fmt: skip
        else:
            cursor = await self._writer.execute(
                UPDATE_SESSION,
                (s.version, s.state, s.done, s.queue.queue_id, s.worker_id, s.epoch, s.talk_started_at, s.ended_at,
                 s.end_reason, body, s.id, before.version),
            )  # fmt: skip
            if cursor.rowcount != 1:
                raise Conflict(f"session {s.id} is past version {before.version}")
        await self._writer.executemany(
            INSERT_EVENT,
            [(s.id, version, s.tenant, now, *codec.EVENTS.dump(event)) for version, event in save.events],
        )
        if save.orders:
            await self._writer.executemany(INSERT_OUTBOX, [_outbox_values(row, now) for row in save.orders])
        await self._upsert(
            UPSERT_SEGMENT, [_segment_values(s, x) for x in _changed(before.segments if before else (), s.segments)]
        )
        await self._upsert(
            UPSERT_VISIT,
            [
                (v.id, s.tenant, s.id, v.queue_id, v.entered_at, v.ended_at, v.outcome)
                for v in _changed(before.visits if before else (), s.visits)
            ],
        )
        await self._upsert(
            UPSERT_RECORDING,
            [_recording_values(s, r, save) for r in _changed(before.recordings if before else (), s.recordings)],
        )
        await self._save_deadlines(s.id, s.tenant, deadlines(before) if before else frozenset(), deadlines(s))

    async def _save_agent(self, save: AgentSave, now: int) -> None:
        a, before = save.after, save.before
        body = codec.AGENT.dump_json(a).decode()
        if before is None:
            await self._writer.execute(INSERT_AGENT, (a.user_id, a.tenant, a.version, a.state, body))
        else:
            cursor = await self._writer.execute(UPDATE_AGENT, (a.version, a.state, body, a.user_id, before.version))
            if cursor.rowcount != 1:
                raise Conflict(f"agent {a.user_id} is past version {before.version}")
        await self._writer.executemany(
            INSERT_AGENT_EVENT,
            [(a.user_id, version, a.tenant, now, *codec.AGENT_EVENTS.dump(event)) for version, event in save.events],
        )
        was_due = agent_deadlines(before) if before else frozenset()
        await self._save_deadlines(a.user_id, a.tenant, was_due, agent_deadlines(a))

    async def _save_deadlines(
        self, owner_id: str, tenant: str, before: frozenset[Deadline], after: frozenset[Deadline]
    ) -> None:
        await self._upsert(DELETE_DEADLINE, [(owner_id, d.kind, d.key) for d in before - after])
        await self._upsert(INSERT_DEADLINE, [(owner_id, d.kind, d.key, tenant, d.at) for d in after - before])

    async def _push(self, push: Push, save: Save) -> StreamMessage:
        cursor = await self._writer.execute(NEXT_SEQ, (push.person_id, save.tenant))
        row = await cursor.fetchone()
        assert row is not None
        seq = int(row[0])
        await self._writer.execute(
            INSERT_MESSAGE, (push.person_id, seq, save.tenant, save.now, json.dumps(push.body, ensure_ascii=False))
        )
        return StreamMessage(push.person_id, seq, save.now, push.body)

    async def _upsert(self, statement: str, rows: list[tuple[object, ...]]) -> None:
        if rows:
            await self._writer.executemany(statement, rows)

    async def _all(self, query: str, values: tuple[object, ...]) -> list[sqlite3.Row]:
        try:
            return list(await self._reader.execute_fetchall(query, values))
        except sqlite3.OperationalError as error:
            raise StorageUnavailable(str(error)) from error


def _changed(before: Iterable[T], after: Iterable[T]) -> list[T]:
    known = list(before)
    return [item for item in after if item not in known]


def _outbox_values(row: OutboxRow, now: int) -> tuple[object, ...]:
    key = row.key
    return (
        key.session_id,
        key.version,
        key.index,
        row.tenant,
        row.worker_id,
        row.epoch,
        codec.dump_order(row.order),
        now,
    )


def _segment_values(s: Session, x: Segment) -> tuple[object, ...]:
    return (
        x.id, s.tenant, s.id, x.number, x.agent_id, x.queue_id, x.state, x.offered_at, x.accepted_at,
        x.talk_started_at, x.talk_ended_at, x.hold_ms, x.done_at, x.end_reason, x.disposition_id, x.notes,
    )  # fmt: skip


def _recording_values(s: Session, r: Recording, save: SessionSave) -> tuple[object, ...]:
    archive = save.archives.get(r.id)
    size = archive.get("size_bytes") if archive else None
    return (r.id, s.tenant, s.id, r.segment_id, _SHOWN_STATE.get(r.state, r.state), r.reason or r.broken, r.started_at,
            r.ended_at, len(r.parts), r.duration_ms, size, json.dumps(archive) if archive else None)  # fmt: skip
