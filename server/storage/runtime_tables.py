"""Tables that steps write: sessions and agents, their events, and what a step leaves to be done.

Step-and-save uses hand-written statements (sqlite_steps.py, postgres_steps.py); these definitions serve the migrations,
the reports' queries and the test that models and migrations agree. All times are UTC epoch milliseconds.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import SQLModel

Json = sa.JSON().with_variant(JSONB(), "postgresql")
metadata = SQLModel.metadata
_SEEN = sa.text("live OR state IN ('ringing', 'on_contact', 'wrap_up')")  # or holds a contact
_CONNECTED = sa.text("node_id IS NOT NULL")

session = sa.Table(
    "session",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("done", sa.Boolean, nullable=False),  # ended, and no segment or recording is open any more
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("entry_point_id", sa.Text, nullable=False),
    sa.Column("queue_id", sa.Text, nullable=False),
    sa.Column("customer_name", sa.Text, nullable=False),
    sa.Column("worker_id", sa.Text),  # placement
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("talk_started_at", sa.BigInteger),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("end_reason", sa.Text),
    sa.Column("body", Json, nullable=False),  # the whole aggregate, the fold of its events
    sa.Index("session_by_time", "tenant", "created_at", "id"),
    sa.Index("session_open", "tenant", "done", sqlite_where=sa.text("done = 0"), postgresql_where=sa.text("NOT done")),
)

session_event = sa.Table(
    "session_event",
    metadata,
    sa.Column("session_id", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("body", Json, nullable=False),
)

segment = sa.Table(
    "segment",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("session_id", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),  # 1-based within the session
    sa.Column("agent_id", sa.Text, nullable=False),
    sa.Column("queue_id", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("offered_at", sa.BigInteger, nullable=False),
    sa.Column("accepted_at", sa.BigInteger),
    sa.Column("talk_started_at", sa.BigInteger),
    sa.Column("talk_ended_at", sa.BigInteger),
    sa.Column("hold_ms", sa.BigInteger, nullable=False),
    sa.Column("done_at", sa.BigInteger),
    sa.Column("end_reason", sa.Text),
    sa.Column("disposition_id", sa.Text),
    sa.Column("notes", sa.Text, nullable=False),
    sa.Index("segment_by_session", "session_id"),
    sa.Index("segment_by_agent", "tenant", "agent_id", "offered_at"),
)

queue_visit = sa.Table(
    "queue_visit",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("session_id", sa.Text, nullable=False),
    sa.Column("queue_id", sa.Text, nullable=False),
    sa.Column("entered_at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("outcome", sa.Text),  # answered, abandoned, flowed_out, callback, failed; null: still waiting
    sa.Column("told_at", sa.BigInteger),  # the first range of the wait that the customer was told;
    sa.Column("told_position", sa.BigInteger),  # all four null: none
    sa.Column("told_low_ms", sa.BigInteger),
    sa.Column("told_high_ms", sa.BigInteger),
    sa.Column("away_ms", sa.BigInteger),  # null: of before places were kept
    sa.Index("queue_visit_by_queue", "tenant", "queue_id", "entered_at"),
    sa.Index("queue_visit_by_session", "session_id"),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("session_id", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("idx", sa.Integer, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("worker_id", sa.Text, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("body", Json, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
)

deadline = sa.Table(
    "deadline",
    metadata,
    sa.Column("owner_id", sa.Text, primary_key=True),  # a session or a user
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Index("deadline_at", "at"),
)

recording = sa.Table(
    "recording",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("session_id", sa.Text, nullable=False),
    sa.Column("segment_id", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),  # recording, archiving, ready, failed, lost
    sa.Column("reason", sa.Text),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("parts", sa.Integer, nullable=False),
    sa.Column("duration_ms", sa.BigInteger),
    sa.Column("size_bytes", sa.BigInteger),
    sa.Column("archive", Json),  # {customer: {file, sha256, size_bytes}, agent: {…}, peaks: {customer, agent}}
    sa.Index("recording_by_session", "session_id"),
    sa.Index("recording_unfinished", "state"),
)

agent = sa.Table(
    "agent",
    metadata,
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("body", Json, nullable=False),
    sa.Column("live", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index("agent_seen", "user_id", sqlite_where=_SEEN, postgresql_where=_SEEN),
)

agent_event = sa.Table(
    "agent_event",
    metadata,
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("body", Json, nullable=False),
    sa.Index("agent_event_by_time", "tenant", "at"),
)

person = sa.Table(
    "person",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # a user id, or a session id for its customer
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("head", sa.BigInteger, nullable=False),
    sa.Column("node_id", sa.Text),  # the newest tab: the control node that holds its socket,
    sa.Column("tab_id", sa.Text),  # and the socket's id there; both null: no tab
    sa.Index("person_by_node", "node_id", sqlite_where=_CONNECTED, postgresql_where=_CONNECTED),
)

stream_message = sa.Table(
    "stream_message",
    metadata,
    sa.Column("person_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("body", Json, nullable=False),
    sa.Index("stream_message_by_time", "at"),
)

node = sa.Table(
    "node",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # new with each start of a control node
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
    sa.Column("draining", sa.Boolean, nullable=False),
    sa.Column("workers", sa.Text, nullable=False),  # ids of the media workers that it reaches, with commas
)

order_lease = sa.Table(
    "order_lease",
    metadata,
    sa.Column("session_id", sa.Text, primary_key=True),  # whose orders are being carried out
    sa.Column("node_id", sa.Text, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
    sa.Index("order_lease_by_node", "node_id"),
)

secret = sa.Table(
    "secret",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),  # what all control nodes must share, such as a signing key
    sa.Column("value", sa.Text, nullable=False),  # hexadecimal
)
