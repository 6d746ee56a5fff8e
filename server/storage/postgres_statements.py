"""The statements of step-and-save on PostgreSQL.

SAVE takes a whole save as one JSON document and is one statement: it happens, or it does not. It goes by this order:
1. Rows of sessions and agents are inserted, or updated where the version is still the one that the step began with.
2. `guard` counts them. One too few is a division by zero, which undoes everything; no other row is touched before.
   (So two steps of one session wait for each other at the session's row and nowhere else.)
3. `head` moves on the heads of the streams, persons in sorted order: two saves for the same people can't block each
   other. Messages get the seqs below.
4. The rest follows in any order.

JSON columns travel as JSON text within the document. A deadline that moves is updated, not deleted and inserted: all
parts of one statement see the same snapshot, in which the old row is still there.
"""

from __future__ import annotations

from server.storage.step_rows import HOLDS_CONTACT

SAVE = """
WITH new_session AS (
  INSERT INTO session (id, tenant, version, state, done, channel, entry_point_id, queue_id, customer_name, worker_id,
    epoch, created_at, talk_started_at, ended_at, end_reason, body)
  SELECT id, tenant, version, state, done, channel, entry_point_id, queue_id, customer_name, worker_id,
    epoch, created_at, talk_started_at, ended_at, end_reason, body::jsonb
  FROM jsonb_to_recordset($1::jsonb -> 'new_sessions') AS x(id text, tenant text, version bigint, state text,
    done boolean, channel text, entry_point_id text, queue_id text, customer_name text, worker_id text, epoch bigint,
    created_at bigint, talk_started_at bigint, ended_at bigint, end_reason text, body text)
  RETURNING 1
), changed_session AS (
  UPDATE session SET version = x.version, state = x.state, done = x.done, queue_id = x.queue_id,
    worker_id = x.worker_id, epoch = x.epoch, talk_started_at = x.talk_started_at, ended_at = x.ended_at,
    end_reason = x.end_reason, body = x.body::jsonb
  FROM jsonb_to_recordset($1 -> 'changed_sessions') AS x(id text, before bigint, version bigint, state text,
    done boolean, queue_id text, worker_id text, epoch bigint, talk_started_at bigint, ended_at bigint,
    end_reason text, body text)
  WHERE session.id = x.id AND session.version = x.before
  RETURNING 1
), new_agent AS (
  INSERT INTO agent (user_id, tenant, version, state, live, body)
  SELECT user_id, tenant, version, state, live, body::jsonb
  FROM jsonb_to_recordset($1 -> 'new_agents') AS x(user_id text, tenant text, version bigint, state text,
    live boolean, body text)
  RETURNING 1
), changed_agent AS (
  UPDATE agent SET version = x.version, state = x.state, live = x.live, body = x.body::jsonb
  FROM jsonb_to_recordset($1 -> 'changed_agents') AS x(user_id text, before bigint, version bigint, state text,
    live boolean, body text)
  WHERE agent.user_id = x.user_id AND agent.version = x.before
  RETURNING 1
), guard AS MATERIALIZED (
  SELECT 1 / (CASE WHEN
    (SELECT count(*) FROM new_session) = jsonb_array_length($1 -> 'new_sessions')
    AND (SELECT count(*) FROM changed_session) = jsonb_array_length($1 -> 'changed_sessions')
    AND (SELECT count(*) FROM new_agent) = jsonb_array_length($1 -> 'new_agents')
    AND (SELECT count(*) FROM changed_agent) = jsonb_array_length($1 -> 'changed_agents')
  THEN 1 ELSE 0 END) AS held
), head AS (
  INSERT INTO person (id, tenant, head)
  SELECT x.id, $2::text, x.pushes FROM guard, jsonb_to_recordset($1 -> 'persons') AS x(id text, pushes bigint)
  ORDER BY x.id
  ON CONFLICT (id) DO UPDATE SET head = person.head + excluded.head
  RETURNING id, head
), message AS (
  INSERT INTO stream_message (person_id, seq, tenant, at, body)
  SELECT head.id, head.head - x.later, $2::text, $3::bigint, x.body::jsonb
  FROM head JOIN jsonb_to_recordset($1 -> 'pushes') AS x(person_id text, later bigint, body text)
    ON x.person_id = head.id
), event AS (
  INSERT INTO session_event (session_id, version, tenant, at, type, body)
  SELECT session_id, version, tenant, at, type, body::jsonb
  FROM guard, jsonb_to_recordset($1 -> 'session_events') AS x(session_id text, version bigint, tenant text, at bigint,
    type text, body text)
), of_agent AS (
  INSERT INTO agent_event (user_id, version, tenant, at, type, body)
  SELECT user_id, version, tenant, at, type, body::jsonb
  FROM guard, jsonb_to_recordset($1 -> 'agent_events') AS x(user_id text, version bigint, tenant text, at bigint,
    type text, body text)
), consumed AS (
  DELETE FROM outbox
  USING guard, jsonb_to_recordset($1 -> 'consumed') AS x(session_id text, version bigint, idx integer)
  WHERE outbox.session_id = x.session_id AND outbox.version = x.version AND outbox.idx = x.idx
), ordered AS (
  INSERT INTO outbox (session_id, version, idx, tenant, worker_id, epoch, body, created_at)
  SELECT session_id, version, idx, tenant, worker_id, epoch, body::jsonb, created_at
  FROM guard, jsonb_to_recordset($1 -> 'orders') AS x(session_id text, version bigint, idx integer, tenant text,
    worker_id text, epoch bigint, body text, created_at bigint)
), dropped AS (
  DELETE FROM deadline
  USING guard, jsonb_to_recordset($1 -> 'dropped_deadlines') AS x(owner_id text, kind text, key text)
  WHERE deadline.owner_id = x.owner_id AND deadline.kind = x.kind AND deadline.key = x.key
), due AS (
  INSERT INTO deadline (owner_id, kind, key, tenant, at)
  SELECT owner_id, kind, key, tenant, at
  FROM guard, jsonb_to_recordset($1 -> 'deadlines') AS x(owner_id text, kind text, key text, tenant text, at bigint)
  ON CONFLICT (owner_id, kind, key) DO UPDATE SET at = excluded.at
), visited AS (
  INSERT INTO queue_visit (id, tenant, session_id, queue_id, entered_at, ended_at, outcome)
  SELECT id, tenant, session_id, queue_id, entered_at, ended_at, outcome
  FROM guard, jsonb_to_recordset($1 -> 'visits') AS x(id text, tenant text, session_id text, queue_id text,
    entered_at bigint, ended_at bigint, outcome text)
  ON CONFLICT (id) DO UPDATE SET ended_at = excluded.ended_at, outcome = excluded.outcome
), part AS (
  INSERT INTO segment (id, tenant, session_id, number, agent_id, queue_id, state, offered_at, accepted_at,
    talk_started_at, talk_ended_at, hold_ms, done_at, end_reason, disposition_id, notes)
  SELECT id, tenant, session_id, number, agent_id, queue_id, state, offered_at, accepted_at,
    talk_started_at, talk_ended_at, hold_ms, done_at, end_reason, disposition_id, notes
  FROM guard, jsonb_to_recordset($1 -> 'segments') AS x(id text, tenant text, session_id text, number integer,
    agent_id text, queue_id text, state text, offered_at bigint, accepted_at bigint, talk_started_at bigint,
    talk_ended_at bigint, hold_ms bigint, done_at bigint, end_reason text, disposition_id text, notes text)
  ON CONFLICT (id) DO UPDATE SET state = excluded.state, accepted_at = excluded.accepted_at,
    talk_started_at = excluded.talk_started_at, talk_ended_at = excluded.talk_ended_at, hold_ms = excluded.hold_ms,
    done_at = excluded.done_at, end_reason = excluded.end_reason, disposition_id = excluded.disposition_id,
    notes = excluded.notes
), recorded AS (
  INSERT INTO recording (id, tenant, session_id, segment_id, state, reason, started_at, ended_at, parts, duration_ms,
    size_bytes, archive)
  SELECT id, tenant, session_id, segment_id, state, reason, started_at, ended_at, parts, duration_ms, size_bytes,
    archive::jsonb
  FROM guard, jsonb_to_recordset($1 -> 'recordings') AS x(id text, tenant text, session_id text, segment_id text,
    state text, reason text, started_at bigint, ended_at bigint, parts integer, duration_ms bigint, size_bytes bigint,
    archive text)
  ON CONFLICT (id) DO UPDATE SET state = excluded.state, reason = excluded.reason, ended_at = excluded.ended_at,
    parts = excluded.parts, duration_ms = excluded.duration_ms,
    size_bytes = COALESCE(excluded.size_bytes, recording.size_bytes),
    archive = COALESCE(excluded.archive, recording.archive)
)
SELECT head.id, head.head FROM guard LEFT JOIN head ON true"""

# --- sessions, agents, deadlines, streams ---

SESSION = "SELECT body FROM session WHERE id = $1"
AGENT = "SELECT body FROM agent WHERE user_id = $1"
AGENTS = "SELECT body FROM agent ORDER BY user_id"
OPEN_SESSIONS = """
SELECT body FROM session WHERE NOT done AND ($1::text IS NULL OR worker_id = $1) ORDER BY created_at, id"""
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
SELECT agent.body, person.node_id, person.tab_id FROM person JOIN agent ON agent.user_id = person.id
WHERE person.node_id = $1
UNION ALL
SELECT agent.body, person.node_id, person.tab_id FROM agent LEFT JOIN person ON person.id = agent.user_id
WHERE (agent.live OR agent.state IN {HOLDS_CONTACT}) AND (person.node_id IS NULL OR person.node_id <> $1)
  AND NOT EXISTS (SELECT 1 FROM node WHERE node.id = person.node_id AND node.seen_at >= $2)"""
NODES = "SELECT id, name, started_at, seen_at, draining FROM node ORDER BY id"
# Gives the other nodes that live; $6 and $7 are since when a node is forgotten or dead. Rows that another node's beat
# removes at this moment are left to it.
BEAT = """
WITH gone AS (
  DELETE FROM node WHERE id IN (
    SELECT id FROM node WHERE id <> $1 AND (seen_at < $6 OR name = $2 AND started_at <= $3) FOR UPDATE SKIP LOCKED)
  RETURNING id
), mine AS (
  INSERT INTO node (id, name, started_at, seen_at, draining) VALUES ($1, $2, $3, $4, $5)
  ON CONFLICT (id) DO UPDATE SET name = excluded.name, started_at = excluded.started_at, seen_at = excluded.seen_at,
    draining = excluded.draining
), free AS (
  DELETE FROM order_lease WHERE session_id IN (
    SELECT session_id FROM order_lease AS held WHERE held.node_id <> $1 AND (held.node_id IN (SELECT id FROM gone)
      OR NOT EXISTS (SELECT 1 FROM node WHERE node.id = held.node_id))
    FOR UPDATE OF held SKIP LOCKED)
)
SELECT id, name, started_at, seen_at, draining FROM node
WHERE id <> $1 AND seen_at >= $7 AND NOT EXISTS (SELECT 1 FROM gone WHERE gone.id = node.id)"""
LEAVE = "WITH free AS (DELETE FROM order_lease WHERE node_id = $1) DELETE FROM node WHERE id = $1"
TIME_MS = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
