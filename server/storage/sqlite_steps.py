"""Step and save on SQLite: hand-written statements, one transaction for everything that a step changes.

One connection writes, under a lock (SQLite has one writer anyway, and waiting here is fairer than its busy
handler); one reads. The guard is the row's version: an UPDATE that hits no row is a Conflict.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from server.domain.agent import Agent
from server.domain.deadlines import Deadline
from server.domain.session import Session
from server.services.ports import (
    NODE_DEAD_MS,
    NODE_FORGOTTEN_MS,
    Conflict,
    Connection,
    DueDeadline,
    NodeRow,
    OutboxKey,
    OutboxRow,
    PersonRow,
    Push,
    Save,
    SeenAgent,
    StorageUnavailable,
    StreamMessage,
    StreamPart,
)
from server.storage import readable
from server.storage.step_rows import (
    HOLDS_CONTACT,
    STREAM_KEEP,
    Row,
    SaveRows,
    connection_of,
    joined_workers,
    load_outbox_row,
    node_row,
    order_keys,
    push_body,
    save_rows,
    stream_part,
)

T = TypeVar("T")

INSERT_SESSION = """
INSERT INTO session (id, tenant, version, state, done, channel, entry_point_id, queue_id, customer_name,
  worker_id, epoch, created_at, talk_started_at, ended_at, end_reason, body)
VALUES (:id, :tenant, :version, :state, :done, :channel, :entry_point_id, :queue_id, :customer_name,
  :worker_id, :epoch, :created_at, :talk_started_at, :ended_at, :end_reason, :body)"""
UPDATE_SESSION = """
UPDATE session SET version = :version, state = :state, done = :done, queue_id = :queue_id, worker_id = :worker_id,
  epoch = :epoch, talk_started_at = :talk_started_at, ended_at = :ended_at, end_reason = :end_reason, body = :body
WHERE id = :id AND version = :before"""
INSERT_EVENT = """
INSERT INTO session_event (session_id, version, tenant, at, type, body)
VALUES (:session_id, :version, :tenant, :at, :type, :body)"""
INSERT_ORDER = """
INSERT INTO outbox (session_id, version, idx, tenant, worker_id, epoch, body, created_at)
VALUES (:session_id, :version, :idx, :tenant, :worker_id, :epoch, :body, :created_at)"""
UPSERT_SEGMENT = """
INSERT INTO segment (id, tenant, session_id, number, agent_id, queue_id, state, offered_at, accepted_at,
  talk_started_at, talk_ended_at, hold_ms, done_at, end_reason, disposition_id, notes)
VALUES (:id, :tenant, :session_id, :number, :agent_id, :queue_id, :state, :offered_at, :accepted_at,
  :talk_started_at, :talk_ended_at, :hold_ms, :done_at, :end_reason, :disposition_id, :notes)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, accepted_at = excluded.accepted_at,
  talk_started_at = excluded.talk_started_at, talk_ended_at = excluded.talk_ended_at, hold_ms = excluded.hold_ms,
  done_at = excluded.done_at, end_reason = excluded.end_reason, disposition_id = excluded.disposition_id,
  notes = excluded.notes"""
UPSERT_VISIT = """
INSERT INTO queue_visit (id, tenant, session_id, queue_id, entered_at, ended_at, outcome, told_at, told_position,
  told_low_ms, told_high_ms, away_ms)
VALUES (:id, :tenant, :session_id, :queue_id, :entered_at, :ended_at, :outcome, :told_at, :told_position,
  :told_low_ms, :told_high_ms, :away_ms)
ON CONFLICT (id) DO UPDATE SET ended_at = excluded.ended_at, outcome = excluded.outcome, away_ms = excluded.away_ms,
  told_at = COALESCE(told_at, excluded.told_at), told_position = COALESCE(told_position, excluded.told_position),
  told_low_ms = COALESCE(told_low_ms, excluded.told_low_ms),
  told_high_ms = COALESCE(told_high_ms, excluded.told_high_ms)"""
UPSERT_RECORDING = """
INSERT INTO recording (id, tenant, session_id, segment_id, state, reason, started_at, ended_at, parts, duration_ms,
  size_bytes, archive)
VALUES (:id, :tenant, :session_id, :segment_id, :state, :reason, :started_at, :ended_at, :parts, :duration_ms,
  :size_bytes, :archive)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, reason = excluded.reason, ended_at = excluded.ended_at,
  parts = excluded.parts, duration_ms = excluded.duration_ms,
  size_bytes = COALESCE(excluded.size_bytes, recording.size_bytes),
  archive = COALESCE(excluded.archive, recording.archive)"""
INSERT_AGENT = """
INSERT INTO agent (user_id, tenant, version, state, live, body)
VALUES (:user_id, :tenant, :version, :state, :live, :body)"""
UPDATE_AGENT = """
UPDATE agent SET version = :version, state = :state, live = :live, body = :body
WHERE user_id = :user_id AND version = :before"""
INSERT_AGENT_EVENT = """
INSERT INTO agent_event (user_id, version, tenant, at, type, body)
VALUES (:user_id, :version, :tenant, :at, :type, :body)"""
DELETE_DEADLINE = "DELETE FROM deadline WHERE owner_id = :owner_id AND kind = :kind AND key = :key"
UPSERT_DEADLINE = """
INSERT INTO deadline (owner_id, kind, key, tenant, at) VALUES (:owner_id, :kind, :key, :tenant, :at)
ON CONFLICT (owner_id, kind, key) DO UPDATE SET at = excluded.at"""
NEXT_SEQ = """
INSERT INTO person (id, tenant, head) VALUES (?, ?, 1)
ON CONFLICT (id) DO UPDATE SET head = person.head + 1 RETURNING head"""
INSERT_MESSAGE = "INSERT INTO stream_message (person_id, seq, tenant, at, body) VALUES (?, ?, ?, ?, ?)"
DELETE_ORDER = "DELETE FROM outbox WHERE session_id = :session_id AND version = :version AND idx = :idx"
SELECT_ORDERS = """
SELECT session_id, version, idx, tenant, worker_id, epoch, body FROM outbox WHERE session_id = ?
ORDER BY version, idx LIMIT ?"""
PARKED = """
SELECT id, body FROM session WHERE tenant = ? AND done = 0 AND state = 'parked' ORDER BY created_at, id"""
WAITING = """
SELECT COUNT(*) FROM session
WHERE tenant = ? AND done = 0 AND state IN ('queued', 'place_kept') AND queue_id = ?"""
TAKE_LEASE = """
INSERT INTO order_lease (session_id, node_id, expires_at) VALUES (:session_id, :node_id, :until)
ON CONFLICT (session_id) DO UPDATE SET node_id = excluded.node_id, expires_at = excluded.expires_at
WHERE order_lease.node_id = excluded.node_id OR order_lease.expires_at <= :now
  OR NOT EXISTS (SELECT 1 FROM node WHERE node.id = order_lease.node_id AND node.seen_at >= :alive)"""
CONNECT = """
INSERT INTO person (id, tenant, head, node_id, tab_id) VALUES (?, ?, 0, ?, ?)
ON CONFLICT (id) DO UPDATE SET node_id = excluded.node_id, tab_id = excluded.tab_id RETURNING head"""
DISCONNECT = "UPDATE person SET node_id = NULL, tab_id = NULL WHERE id = ? AND node_id = ? AND tab_id = ?"
SEEN_AGENTS = f"""
SELECT agent.user_id, agent.body, person.node_id, person.tab_id FROM person JOIN agent ON agent.user_id = person.id
WHERE person.node_id = :node_id
UNION ALL
SELECT agent.user_id, agent.body, person.node_id, person.tab_id FROM agent LEFT JOIN person ON person.id = agent.user_id
WHERE (agent.live OR agent.state IN {HOLDS_CONTACT}) AND (person.node_id IS NULL OR person.node_id <> :node_id)
  AND NOT EXISTS (SELECT 1 FROM node WHERE node.id = person.node_id AND node.seen_at >= :alive)"""
UPSERT_NODE = """
INSERT INTO node (id, name, started_at, seen_at, draining, workers)
VALUES (:id, :name, :started_at, :seen_at, :draining, :workers)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, started_at = excluded.started_at, seen_at = excluded.seen_at,
  draining = excluded.draining, workers = excluded.workers"""
DELETE_GONE_NODES = """
DELETE FROM node WHERE id <> :id AND (seen_at < :forgotten OR name = :name AND started_at <= :started_at)"""
DELETE_FREE_LEASES = "DELETE FROM order_lease WHERE node_id NOT IN (SELECT id FROM node)"
SELECT_NODES = "SELECT id, name, started_at, seen_at, draining, workers FROM node WHERE seen_at >= ? ORDER BY id"


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
        return readable.session(session_id, rows[0][0]) if rows else None

    async def agent(self, user_id: str) -> Agent | None:
        rows = await self._all("SELECT body FROM agent WHERE user_id = ?", (user_id,))
        return readable.agent(user_id, rows[0][0]) if rows else None

    async def agents(self) -> Sequence[Agent]:
        rows = await self._all("SELECT user_id, body FROM agent", ())
        return await readable.agents((row[0], row[1]) for row in rows)

    async def open_sessions(self, *, worker_id: str | None = None) -> Sequence[Session]:
        query = "SELECT id, body FROM session WHERE done = 0"
        if worker_id is None:
            rows = await self._all(f"{query} ORDER BY created_at, id", ())
        else:
            rows = await self._all(f"{query} AND worker_id = ? ORDER BY created_at, id", (worker_id,))
        return await readable.sessions((row[0], row[1]) for row in rows)

    async def parked(self, tenant: str) -> Sequence[Session]:
        return await readable.sessions((row[0], row[1]) for row in await self._all(PARKED, (tenant,)))

    async def waiting(self, tenant: str, queue_id: str) -> int:
        count: int = (await self._all(WAITING, (tenant, queue_id)))[0][0]
        return count

    async def outbox(self, session_id: str, limit: int = 16) -> Sequence[OutboxRow]:
        return [load_outbox_row(*row) for row in await self._all(SELECT_ORDERS, (session_id, limit))]

    async def outbox_sessions(self, before: int | None = None) -> Sequence[str]:
        if before is None:
            rows = await self._all("SELECT DISTINCT session_id FROM outbox", ())
        else:
            rows = await self._all("SELECT DISTINCT session_id FROM outbox WHERE created_at < ?", (before,))
        return [row[0] for row in rows]

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
        return stream_part(person_id, after, head, [(seq, at, body) for seq, at, body in rows])

    async def persons(self, person_ids: Sequence[str]) -> Sequence[PersonRow]:
        rows = await self._all(
            "SELECT id, head, node_id, tab_id FROM person WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(person_ids)),),
        )
        return [PersonRow(person_id, head, connection_of(*tab)) for person_id, head, *tab in rows]

    async def seen_agents(self, node_id: str, now: int) -> Sequence[SeenAgent]:
        rows = await self._all(SEEN_AGENTS, {"node_id": node_id, "alive": now - NODE_DEAD_MS})
        return readable.seen_agents((row[0], row[1], row[2], row[3]) for row in rows)

    async def nodes(self) -> Sequence[NodeRow]:
        return [node_row(*row) for row in await self._all(SELECT_NODES, (0,))]

    async def time_ms(self) -> int:
        return time.time_ns() // 1_000_000  # SQLite has no clock of its own

    # --- writing ---

    async def save(self, save: Save) -> tuple[StreamMessage, ...]:
        rows = save_rows(save)
        return await self._write(lambda connection: _save(connection, rows, save))

    async def drop_orders(self, keys: Sequence[OutboxKey]) -> None:
        await self._write(lambda connection: connection.executemany(DELETE_ORDER, order_keys(keys)))

    async def lease_orders(
        self, session_id: str, node_id: str, now: int, until: int, limit: int = 16
    ) -> Sequence[OutboxRow] | None:
        lease = {"session_id": session_id, "node_id": node_id, "now": now, "until": until, "alive": now - NODE_DEAD_MS}

        def take(connection: sqlite3.Connection) -> list[Any] | None:
            if connection.execute(TAKE_LEASE, lease).rowcount != 1:
                return None
            return connection.execute(SELECT_ORDERS, (session_id, limit)).fetchall()

        rows = await self._write(take)
        return None if rows is None else [load_outbox_row(*row) for row in rows]

    async def end_lease(self, session_id: str, node_id: str) -> bool:
        def end(connection: sqlite3.Connection) -> bool:
            connection.execute("DELETE FROM order_lease WHERE session_id = ? AND node_id = ?", (session_id, node_id))
            return bool(connection.execute(SELECT_ORDERS, (session_id, 1)).fetchall())

        return await self._write(end)

    async def prune_streams(self, before: int) -> int:
        return await self._write(
            lambda connection: connection.execute("DELETE FROM stream_message WHERE at < ?", (before,)).rowcount
        )

    async def connect(self, tenant: str, person_id: str, connection: Connection) -> int:
        tab = (person_id, tenant, connection.node_id, connection.tab_id)
        head: int = await self._write(lambda database: database.execute(CONNECT, tab).fetchone()[0])
        return head

    async def disconnect(self, person_id: str, connection: Connection) -> bool:
        tab = (person_id, connection.node_id, connection.tab_id)
        return await self._write(lambda database: database.execute(DISCONNECT, tab).rowcount == 1)

    async def beat(self, node: NodeRow) -> Sequence[NodeRow]:
        row = {"id": node.node_id, "name": node.name, "started_at": node.started_at, "seen_at": node.seen_at,
               "draining": node.draining, "workers": joined_workers(node),
               "forgotten": node.seen_at - NODE_FORGOTTEN_MS}  # fmt: skip

        def save_and_look(connection: sqlite3.Connection) -> list[Any]:
            connection.execute(DELETE_GONE_NODES, row)
            connection.execute(UPSERT_NODE, row)
            connection.execute(DELETE_FREE_LEASES)
            return connection.execute(SELECT_NODES, (node.seen_at - NODE_DEAD_MS,)).fetchall()

        return [node_row(*found) for found in await self._write(save_and_look)]

    async def leave(self, node_id: str) -> None:
        def remove(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM order_lease WHERE node_id = ?", (node_id,))
            connection.execute("DELETE FROM node WHERE id = ?", (node_id,))

        await self._write(remove)

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """One transaction in one piece on the connection's thread: a hop there and back costs about as much as all of
        its statements, and a caller who is cancelled meanwhile can't leave it open."""
        async with self._lock:
            try:
                # aiosqlite has no public way to run a function on its thread.
                done: T = await self._writer._execute(_transaction, self._writer._conn, work)  # type: ignore[no-untyped-call]
            except sqlite3.IntegrityError as error:  # the same insert by another step: load again
                raise Conflict(str(error)) from error
            except sqlite3.OperationalError as error:
                raise StorageUnavailable(str(error)) from error
            return done

    async def _all(self, query: str, values: tuple[object, ...] | Row) -> list[sqlite3.Row]:
        try:
            return list(await self._reader.execute_fetchall(query, values))
        except sqlite3.OperationalError as error:
            raise StorageUnavailable(str(error)) from error


def _transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    try:
        connection.execute("BEGIN IMMEDIATE")
        done = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk makes SQLite roll back by itself
            connection.execute("ROLLBACK")
        raise
    return done


def _save(connection: sqlite3.Connection, rows: SaveRows, save: Save) -> tuple[StreamMessage, ...]:
    for row in rows.changed_sessions:
        _guarded(connection, UPDATE_SESSION, row, f"session {row['id']}")
    for row in rows.changed_agents:
        _guarded(connection, UPDATE_AGENT, row, f"agent {row['user_id']}")
    for statement, values in (
        (INSERT_SESSION, rows.new_sessions),
        (INSERT_AGENT, rows.new_agents),
        (INSERT_EVENT, rows.session_events),
        (INSERT_AGENT_EVENT, rows.agent_events),
        (INSERT_ORDER, rows.orders),
        (UPSERT_SEGMENT, rows.segments),
        (UPSERT_VISIT, rows.visits),
        (UPSERT_RECORDING, rows.recordings),
        (DELETE_DEADLINE, rows.dropped_deadlines),
        (UPSERT_DEADLINE, rows.deadlines),
        (DELETE_ORDER, rows.consumed),
    ):
        if values:
            connection.executemany(statement, values)
    return tuple([_push(connection, push, save) for push in save.pushes])


def _guarded(connection: sqlite3.Connection, statement: str, row: Row, what: str) -> None:
    if connection.execute(statement, row).rowcount != 1:
        raise Conflict(f"{what} is past version {row['before']}")


def _push(connection: sqlite3.Connection, push: Push, save: Save) -> StreamMessage:
    (seq,) = connection.execute(NEXT_SEQ, (push.person_id, save.tenant)).fetchone()
    connection.execute(INSERT_MESSAGE, (push.person_id, seq, save.tenant, save.now, push_body(push)))
    return StreamMessage(push.person_id, seq, save.now, push.body)
