"""Step and save on PostgreSQL, through asyncpg without anything in between: a save is one statement and one round trip.

Nothing waits for long: what can't be done within some seconds is StorageUnavailable. A save that ends so may have
happened; who steps on loads again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
from pydantic_core import to_json

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
    Save,
    SeenAgent,
    StreamMessage,
    StreamPart,
)
from server.storage import postgres_statements as sql
from server.storage import readable
from server.storage.faults import AWAY, storage_unavailable, unavailable
from server.storage.postgres_connections import POOL_SIZE, Connections
from server.storage.step_rows import (
    JSON_COLUMNS,
    STREAM_KEEP,
    Row,
    connection_of,
    joined_workers,
    load_outbox_row,
    node_row,
    order_keys,
    push_body,
    save_rows,
    stream_part,
)

PRUNE_ROWS = 5_000  # in one statement, well within its time
_NUL = "\\u0000"  # as JSON writes it
# An escape when an even number of backslashes precedes it.
_NUL_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_LOST = (
    asyncpg.DivisionByZeroError,  # the guard of sql.save
    asyncpg.UniqueViolationError,
    asyncpg.TransactionRollbackError,  # a deadlock, or a serialization failure
)


class PostgresSteps:
    """`StepStore` on PostgreSQL. Open with `await PostgresSteps.open(url)`, end with `close()`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @classmethod
    async def open(cls, url: str, *, pool_size: int = POOL_SIZE) -> PostgresSteps:
        """`url` as in PATCHBAY_DATABASE_URL. Raises StorageUnavailable."""
        store = cls(Connections(url, pool_size))
        try:
            await store.time_ms()
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        await self._connections.close()

    # --- reading ---

    async def session(self, session_id: str) -> Session | None:
        rows = await self._all(sql.SESSION, session_id)
        return readable.session(session_id, rows[0][0]) if rows else None

    async def agent(self, user_id: str) -> Agent | None:
        rows = await self._all(sql.AGENT, user_id)
        return readable.agent(user_id, rows[0][0]) if rows else None

    async def agents(self) -> Sequence[Agent]:
        return await readable.agents([(row[0], row[1]) for row in await self._all(sql.AGENTS)])

    async def open_sessions(self, *, worker_id: str | None = None) -> Sequence[Session]:
        return await readable.sessions([(row[0], row[1]) for row in await self._all(sql.OPEN_SESSIONS, worker_id)])

    async def parked(self, tenant: str) -> Sequence[Session]:
        return await readable.sessions([(row[0], row[1]) for row in await self._all(sql.PARKED, tenant)])

    async def waiting(self, tenant: str, queue_id: str) -> int:
        count: int = (await self._all(sql.WAITING, tenant, queue_id))[0][0]
        return count

    async def outbox(self, session_id: str, limit: int = 16) -> Sequence[OutboxRow]:
        return [load_outbox_row(*row) for row in await self._all(sql.ORDERS, session_id, limit)]

    async def outbox_sessions(self, before: int | None = None) -> Sequence[str]:
        return [row[0] for row in await self._all(sql.ORDER_SESSIONS, before)]

    async def due(self, now: int, limit: int = 200) -> Sequence[DueDeadline]:
        rows = await self._all(sql.DUE, now, limit)
        return [DueDeadline(tenant, owner, Deadline(kind, key, at)) for tenant, owner, kind, key, at in rows]

    async def next_deadline(self) -> int | None:
        at: int | None = (await self._all(sql.NEXT_DEADLINE))[0][0]
        return at

    async def stream(self, person_id: str, after: int, limit: int = STREAM_KEEP) -> StreamPart:
        rows = await self._all(sql.STREAM, person_id, after, limit)
        messages = [(seq, at, body) for _, seq, at, body in rows if seq is not None]
        return stream_part(person_id, after, rows[0][0] if rows else 0, messages)

    async def persons(self, person_ids: Sequence[str]) -> Sequence[PersonRow]:
        rows = await self._all(sql.PERSONS, list(person_ids))
        return [PersonRow(person_id, head, connection_of(*tab)) for person_id, head, *tab in rows]

    async def seen_agents(self, node_id: str, now: int) -> Sequence[SeenAgent]:
        rows = await self._all(sql.SEEN_AGENTS, node_id, now - NODE_DEAD_MS)
        return readable.seen_agents((row[0], row[1], row[2], row[3]) for row in rows)

    async def nodes(self) -> Sequence[NodeRow]:
        return [node_row(*row) for row in await self._all(sql.NODES)]

    async def time_ms(self) -> int:
        now: int = (await self._all(sql.TIME_MS))[0][0]
        return now

    # --- writing ---

    async def save(self, save: Save) -> tuple[StreamMessage, ...]:
        tables = {name: rows for name, rows in vars(save_rows(save)).items() if rows}
        pushes = _push_rows(save)
        if pushes:
            counts = Counter(push.person_id for push in save.pushes)
            tables["pushes"] = pushes
            tables["persons"] = [{"id": name, "tenant": save.tenant, "pushes": n} for name, n in counts.items()]
        try:
            rows = await self._connections.fetch(sql.save(frozenset(tables)), _json(tables))
        except _LOST as error:
            raise Conflict(str(error).partition("\n")[0]) from error
        except AWAY as error:
            raise _translated(error) from error
        heads = dict(rows) if pushes else {}
        return tuple(
            StreamMessage(push.person_id, heads[push.person_id] - row["later"], save.now, push.body)
            for push, row in zip(save.pushes, pushes, strict=True)
        )

    async def drop_orders(self, keys: Sequence[OutboxKey]) -> None:
        await self._all(sql.DROP_ORDERS, _json({"orders": order_keys(keys)}))

    async def lease_orders(
        self, session_id: str, node_id: str, now: int, until: int, limit: int = 16
    ) -> Sequence[OutboxRow] | None:
        rows = await self._all(sql.LEASE_ORDERS, session_id, node_id, now, until, now - NODE_DEAD_MS, limit)
        if not rows:
            return None
        return [load_outbox_row(*row) for row in rows if row[0] is not None]

    async def end_lease(self, session_id: str, node_id: str) -> bool:
        await self._all(sql.END_LEASE, session_id, node_id)
        # A statement of its own: it must see what was saved until the lease was given up.
        left: bool = (await self._all(sql.HAS_ORDERS, session_id))[0][0]
        return left

    async def prune_streams(self, before: int) -> int:
        pruned = 0
        while True:
            removed: int = (await self._all(sql.PRUNE_STREAMS, before, PRUNE_ROWS))[0][0]
            pruned += removed
            if removed < PRUNE_ROWS:
                return pruned

    async def connect(self, tenant: str, person_id: str, connection: Connection) -> int:
        rows = await self._all(sql.CONNECT, person_id, tenant, connection.node_id, connection.tab_id)
        head: int = rows[0][0]
        return head

    async def disconnect(self, person_id: str, connection: Connection) -> bool:
        return bool(await self._all(sql.DISCONNECT, person_id, connection.node_id, connection.tab_id))

    async def beat(self, node: NodeRow) -> Sequence[NodeRow]:
        others = await self._all(
            sql.BEAT,
            node.node_id,
            node.name,
            node.started_at,
            node.seen_at,
            node.draining,
            joined_workers(node),
            node.seen_at - NODE_FORGOTTEN_MS,
            node.seen_at - NODE_DEAD_MS,
        )
        return sorted([node, *(node_row(*row) for row in others)], key=lambda row: row.node_id)

    async def leave(self, node_id: str) -> None:
        await self._all(sql.LEAVE, node_id)

    # --- statements ---

    async def _all(self, statement: str, *values: object) -> list[Any]:
        try:
            return await self._connections.fetch(statement, *values)
        except AWAY as error:
            raise _translated(error) from error


def _translated(error: Exception) -> Exception:
    return storage_unavailable(error) if unavailable(error) else error


def _push_rows(save: Save) -> list[Row]:
    """`later`: how many follow for the same person."""
    left = Counter(push.person_id for push in save.pushes)
    rows = []
    for push in save.pushes:
        left[push.person_id] -= 1
        rows.append({"person_id": push.person_id, "tenant": save.tenant, "at": save.now,
                     "later": left[push.person_id], "body": push_body(push)})  # fmt: skip
    return rows


def _json(tables: Mapping[str, list[Row]]) -> str:
    text = to_json(tables).decode()
    if _NUL in text:
        text = to_json({table: [_without_nul(row) for row in rows] for table, rows in tables.items()}).decode()
    return text


def _without_nul(row: Row) -> Row:
    """PostgreSQL has no text with U+0000, which a visitor's page may well send: U+FFFD stands in for it."""
    clean = {name: value.replace("\0", "\ufffd") if isinstance(value, str) else value for name, value in row.items()}
    for name in JSON_COLUMNS & clean.keys():
        clean[name] = clean[name] and _NUL_ESCAPE.sub("\\1\ufffd", clean[name])
    return clean
