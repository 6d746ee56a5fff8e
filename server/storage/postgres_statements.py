"""The statements of step-and-save on PostgreSQL.

`save` takes a whole save as one JSON document and is one statement: it happens, or it does not. It goes by this order:
1. Rows of sessions and agents are inserted, or updated where the version is still the one that the step began with.
2. `guard` counts them. One too few is a division by zero, which undoes everything; no other row is touched before.
   (So two steps of one session wait for each other at the session's row and nowhere else.)
3. `head` moves on the heads of the streams, persons in sorted order: two saves for the same people can't block each
   other. Messages get the seqs below.
4. The rest follows in any order.

Only tables that a save has rows for are part of its statement: setting up an empty part costs the server about 10 µs.
There are some thirty such shapes, each prepared once a connection.

JSON columns travel as JSON text within the document. A deadline that moves is updated, not deleted and inserted: all
parts of one statement see the same snapshot, in which the old row is still there.
"""

from __future__ import annotations

from functools import cache

from server.storage.step_rows import HOLDS_CONTACT, JSON_COLUMNS

# (table, columns and their types) by the document's key
_SESSION = (
    "id text, tenant text, version bigint, state text, done boolean, channel text, entry_point_id text, queue_id text, "
    "customer_name text, worker_id text, epoch bigint, created_at bigint, talk_started_at bigint, ended_at bigint, "
    "end_reason text, body text"
)
_AGENT = "user_id text, tenant text, version bigint, state text, live boolean, body text"
_EVENT = "session_id text, version bigint, tenant text, at bigint, type text, body text"
_AGENT_EVENT = "user_id text, version bigint, tenant text, at bigint, type text, body text"
_ORDER = (
    "session_id text, version bigint, idx integer, tenant text, worker_id text, epoch bigint, body text, "
    "created_at bigint"
)
_ORDER_KEY = "session_id text, version bigint, idx integer"
_DEADLINE = "owner_id text, kind text, key text, tenant text, at bigint"
_DEADLINE_KEY = "owner_id text, kind text, key text"
_VISIT = (
    "id text, tenant text, session_id text, queue_id text, entered_at bigint, ended_at bigint, outcome text, "
    "told_at bigint, told_position bigint, told_low_ms bigint, told_high_ms bigint, away_ms bigint"
)
_TOLD = ("told_at", "told_position", "told_low_ms", "told_high_ms")
_SEGMENT = (
    "id text, tenant text, session_id text, number integer, agent_id text, queue_id text, state text, "
    "offered_at bigint, accepted_at bigint, talk_started_at bigint, talk_ended_at bigint, hold_ms bigint, "
    "done_at bigint, end_reason text, disposition_id text, notes text"
)
_RECORDING = (
    "id text, tenant text, session_id text, segment_id text, state text, reason text, started_at bigint, "
    "ended_at bigint, parts integer, duration_ms bigint, size_bytes bigint, archive text"
)


def _rows(key: str, columns: str) -> str:
    return f"jsonb_to_recordset($1::jsonb -> '{key}') AS x({columns})"


def _names(columns: str) -> list[str]:
    return [column.split()[0] for column in columns.split(", ")]


def _insert(key: str, table: str, columns: str, conflict: str = "", *, guarded: bool = True) -> str:
    names = _names(columns)
    values = [f"x.{name}::jsonb" if name in JSON_COLUMNS else f"x.{name}" for name in names]
    source = ("guard, " if guarded else "") + _rows(key, columns)
    returning = "" if guarded else "RETURNING 1"
    return f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(values)} FROM {source} {conflict} {returning}"


def _update(key: str, table: str, columns: str, *, by: str, fixed: frozenset[str]) -> str:
    assignments = [
        f"{name} = x.{name}" + ("::jsonb" if name in JSON_COLUMNS else "")
        for name in _names(columns)
        if name not in fixed
    ]
    return (
        f"UPDATE {table} SET {', '.join(assignments)} FROM {_rows(key, columns + ', before bigint')} "
        f"WHERE {table}.{by} = x.{by} AND {table}.version = x.before RETURNING 1"
    )


def _delete(key: str, table: str, columns: str) -> str:
    same = " AND ".join(f"{table}.{name} = x.{name}" for name in _names(columns))
    return f"DELETE FROM {table} USING guard, {_rows(key, columns)} WHERE {same}"


def _upsert(names: str) -> str:
    return "ON CONFLICT (id) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in names.split(", "))


# Of an older node's step beside ours, the first range that was told stays.
_FIRST_TOLD = "".join(f", {name} = COALESCE(queue_visit.{name}, excluded.{name})" for name in _TOLD)
_FIXED = frozenset({"id", "user_id", "tenant", "channel", "entry_point_id", "customer_name", "created_at"})
_GUARDED = {
    "new_sessions": _insert("new_sessions", "session", _SESSION, guarded=False),
    "changed_sessions": _update("changed_sessions", "session", _SESSION, by="id", fixed=_FIXED),
    "new_agents": _insert("new_agents", "agent", _AGENT, guarded=False),
    "changed_agents": _update("changed_agents", "agent", _AGENT, by="user_id", fixed=_FIXED),
}
_HEAD = f"""
INSERT INTO person (id, tenant, head)
SELECT x.id, x.tenant, x.pushes FROM guard, {_rows("persons", "id text, tenant text, pushes bigint")}
ORDER BY x.id
ON CONFLICT (id) DO UPDATE SET head = person.head + excluded.head
RETURNING id, head"""
_MESSAGES = f"""
INSERT INTO stream_message (person_id, seq, tenant, at, body)
SELECT head.id, head.head - x.later, x.tenant, x.at, x.body::jsonb
FROM head JOIN {_rows("pushes", "person_id text, tenant text, at bigint, later bigint, body text")}
  ON x.person_id = head.id"""
_REST = {
    "session_events": _insert("session_events", "session_event", _EVENT),
    "agent_events": _insert("agent_events", "agent_event", _AGENT_EVENT),
    "consumed": _delete("consumed", "outbox", _ORDER_KEY),
    "orders": _insert("orders", "outbox", _ORDER),
    "dropped_deadlines": _delete("dropped_deadlines", "deadline", _DEADLINE_KEY),
    "deadlines": _insert(
        "deadlines", "deadline", _DEADLINE, "ON CONFLICT (owner_id, kind, key) DO UPDATE SET at = excluded.at"
    ),
    "visits": _insert("visits", "queue_visit", _VISIT, _upsert("ended_at, outcome, away_ms") + _FIRST_TOLD),
    "segments": _insert(
        "segments",
        "segment",
        _SEGMENT,
        _upsert(
            "state, accepted_at, talk_started_at, talk_ended_at, hold_ms, done_at, end_reason, disposition_id, notes"
        ),
    ),
    "recordings": _insert(
        "recordings",
        "recording",
        _RECORDING,
        _upsert("state, reason, ended_at, parts, duration_ms")
        + ", size_bytes = COALESCE(excluded.size_bytes, recording.size_bytes)"
        + ", archive = COALESCE(excluded.archive, recording.archive)",
    ),
}


@cache
def save(keys: frozenset[str]) -> str:
    """The statement for a document with these keys (those of `SaveRows`, `persons` and `pushes`), each with rows. It
    gives the new heads: (person id, seq)."""
    parts = {key: text for key, text in _GUARDED.items() if key in keys}
    counted = [f"(SELECT count(*) FROM {key}) = jsonb_array_length($1::jsonb -> '{key}')" for key in parts]
    held = " AND ".join(counted) or "$1::jsonb IS NOT NULL"
    guard = f"guard AS MATERIALIZED (SELECT 1 / (CASE WHEN {held} THEN 1 ELSE 0 END) AS held)"
    rest = {"head": _HEAD, "message": _MESSAGES} if "pushes" in keys else {}
    rest |= {key: text for key, text in _REST.items() if key in keys}
    heads = "head.id, head.head FROM guard, head" if "pushes" in keys else "held FROM guard"
    ctes = [*_named(parts), guard, *_named(rest)]
    return "WITH " + ",\n".join(ctes) + f"\nSELECT {heads}"


def _named(parts: dict[str, str]) -> list[str]:
    return [f"{name} AS ({text})" for name, text in parts.items()]


# --- sessions, agents, deadlines, streams ---

SESSION = "SELECT body FROM session WHERE id = $1"
AGENT = "SELECT body FROM agent WHERE user_id = $1"
AGENTS = "SELECT user_id, body FROM agent ORDER BY user_id"
OPEN_SESSIONS = """
SELECT id, body FROM session WHERE NOT done AND ($1::text IS NULL OR worker_id = $1) ORDER BY created_at, id"""
PARKED = """
SELECT id, body FROM session WHERE tenant = $1 AND NOT done AND state = 'parked' ORDER BY created_at, id"""
WAITING = """
SELECT count(*) FROM session
WHERE tenant = $1 AND NOT done AND state IN ('queued', 'place_kept') AND queue_id = $2"""
DUE = "SELECT tenant, owner_id, kind, key, at FROM deadline WHERE at <= $1 ORDER BY at LIMIT $2"
NEXT_DEADLINE = "SELECT min(at) FROM deadline"
STREAM = """
SELECT person.head, kept.seq, kept.at, kept.body FROM person LEFT JOIN LATERAL (
  SELECT seq, at, body FROM stream_message WHERE person_id = person.id AND seq > $2 AND seq <= person.head
  ORDER BY seq LIMIT $3
) kept ON true WHERE person.id = $1 ORDER BY kept.seq"""
# Two nodes may prune at once: each takes what the other has not.
PRUNE_STREAMS = """
WITH pruned AS (
  DELETE FROM stream_message WHERE (person_id, seq) IN (
    SELECT person_id, seq FROM stream_message WHERE at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED)
  RETURNING 1
)
SELECT count(*) FROM pruned"""

# --- orders ---

ORDERS = """
SELECT session_id, version, idx, tenant, worker_id, epoch, body FROM outbox WHERE session_id = $1
ORDER BY version, idx LIMIT $2"""
ORDER_SESSIONS = "SELECT DISTINCT session_id FROM outbox WHERE $1::bigint IS NULL OR created_at < $1"
DROP_ORDERS = """
DELETE FROM outbox USING jsonb_to_recordset($1::jsonb -> 'orders') AS x(session_id text, version bigint, idx integer)
WHERE outbox.session_id = x.session_id AND outbox.version = x.version AND outbox.idx = x.idx"""
# No row: another node holds the lease. One row of nulls: it is ours, and there are no orders. When this waited for a
# lease that was being given up, orders that its holder carried out last may be among those read: they are sent under
# the same stamp once more, to which the worker gives its first answer.
LEASE_ORDERS = """
WITH taken AS (
  INSERT INTO order_lease (session_id, node_id, expires_at) VALUES ($1, $2, $4)
  ON CONFLICT (session_id) DO UPDATE SET node_id = excluded.node_id, expires_at = excluded.expires_at
  WHERE order_lease.node_id = excluded.node_id OR order_lease.expires_at <= $3
    OR NOT EXISTS (SELECT 1 FROM node WHERE node.id = order_lease.node_id AND node.seen_at >= $5)
  RETURNING session_id
)
SELECT found.session_id, version, idx, tenant, worker_id, epoch, body FROM taken LEFT JOIN LATERAL (
  SELECT * FROM outbox WHERE outbox.session_id = taken.session_id ORDER BY version, idx LIMIT $6
) found ON true ORDER BY version, idx"""
END_LEASE = "DELETE FROM order_lease WHERE session_id = $1 AND node_id = $2"
HAS_ORDERS = "SELECT EXISTS (SELECT 1 FROM outbox WHERE session_id = $1)"

# --- tabs and nodes ---

CONNECT = """
INSERT INTO person (id, tenant, head, node_id, tab_id) VALUES ($1, $2, 0, $3, $4)
ON CONFLICT (id) DO UPDATE SET node_id = excluded.node_id, tab_id = excluded.tab_id RETURNING head"""
DISCONNECT = """
UPDATE person SET node_id = NULL, tab_id = NULL WHERE id = $1 AND node_id = $2 AND tab_id = $3 RETURNING 1"""
PERSONS = "SELECT id, head, node_id, tab_id FROM person WHERE id = ANY($1::text[])"
SEEN_AGENTS = f"""
SELECT agent.user_id, agent.body, person.node_id, person.tab_id FROM person JOIN agent ON agent.user_id = person.id
WHERE person.node_id = $1
UNION ALL
SELECT agent.user_id, agent.body, person.node_id, person.tab_id FROM agent LEFT JOIN person ON person.id = agent.user_id
WHERE (agent.live OR agent.state IN {HOLDS_CONTACT}) AND (person.node_id IS NULL OR person.node_id <> $1)
  AND NOT EXISTS (SELECT 1 FROM node WHERE node.id = person.node_id AND node.seen_at >= $2)"""
NODES = "SELECT id, name, started_at, seen_at, draining, workers FROM node ORDER BY id"
# Gives the other nodes that live; $7 and $8 are since when a node is forgotten or dead. Rows that another node's beat
# removes at this moment are left to it.
BEAT = """
WITH gone AS (
  DELETE FROM node WHERE id IN (
    SELECT id FROM node WHERE id <> $1 AND (seen_at < $7 OR name = $2 AND started_at <= $3) FOR UPDATE SKIP LOCKED)
  RETURNING id
), mine AS (
  INSERT INTO node (id, name, started_at, seen_at, draining, workers) VALUES ($1, $2, $3, $4, $5, $6)
  ON CONFLICT (id) DO UPDATE SET name = excluded.name, started_at = excluded.started_at, seen_at = excluded.seen_at,
    draining = excluded.draining, workers = excluded.workers
), free AS (
  DELETE FROM order_lease WHERE session_id IN (
    SELECT session_id FROM order_lease AS held WHERE held.node_id <> $1 AND (held.node_id IN (SELECT id FROM gone)
      OR NOT EXISTS (SELECT 1 FROM node WHERE node.id = held.node_id))
    FOR UPDATE OF held SKIP LOCKED)
)
SELECT id, name, started_at, seen_at, draining, workers FROM node
WHERE id <> $1 AND seen_at >= $8 AND NOT EXISTS (SELECT 1 FROM gone WHERE gone.id = node.id)"""
LEAVE = "WITH free AS (DELETE FROM order_lease WHERE node_id = $1) DELETE FROM node WHERE id = $1"
TIME_MS = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
