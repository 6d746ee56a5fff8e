"""`StepStore` in plain dicts: the twin of SQLite and PostgreSQL in the simulation, under their contract test.

Rows are frozen values, so none is copied. Each method is atomic because it does not await.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from server.domain.agent import Agent, agent_deadlines
from server.domain.deadlines import Deadline, deadlines
from server.domain.session import Session, SessionState
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
    StreamMessage,
    StreamPart,
)


@dataclass(slots=True)
class _Person:
    head: int = 0
    connection: Connection | None = None
    messages: list[StreamMessage] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Lease:
    node_id: str
    expires_at: int


class MemorySteps:
    """`on_saved` is told of each save that took effect, within it."""

    def __init__(self, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self.on_saved: Callable[[Save], None] = lambda save: None
        self._now_ms = now_ms
        self._sessions: dict[str, Session] = {}
        self._open: dict[str, Session] = {}
        self._agents: dict[str, Agent] = {}
        self._outbox: dict[str, dict[tuple[int, int], tuple[OutboxRow, int]]] = {}  # by session; row, created_at
        self._deadlines: dict[str, tuple[str, frozenset[Deadline]]] = {}  # by owner: tenant, what is due
        self._people: dict[str, _Person] = {}
        self._nodes: dict[str, NodeRow] = {}
        self._leases: dict[str, _Lease] = {}

    @property
    def connections(self) -> dict[str, Connection]:
        """Each person's newest, as the rows name it."""
        return {person_id: p.connection for person_id, p in self._people.items() if p.connection is not None}

    # --- reading ---

    async def session(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id)

    async def agent(self, user_id: str) -> Agent | None:
        return self._agents.get(user_id)

    async def agents(self) -> Sequence[Agent]:
        return list(self._agents.values())

    async def open_sessions(self, *, worker_id: str | None = None) -> Sequence[Session]:
        found = [s for s in self._open.values() if worker_id is None or s.worker_id == worker_id]
        return sorted(found, key=lambda s: (s.created_at, s.id))

    async def parked(self, tenant: str) -> Sequence[Session]:
        found = [s for s in self._open.values() if s.tenant == tenant and s.state is SessionState.PARKED]
        return sorted(found, key=lambda s: (s.created_at, s.id))

    async def waiting(self, tenant: str, queue_id: str) -> int:
        waits = SessionState.QUEUED, SessionState.PLACE_KEPT
        places = [(s.tenant, s.queue.queue_id) for s in self._open.values() if s.state in waits]
        return places.count((tenant, queue_id))

    async def outbox(self, session_id: str, limit: int = 16) -> Sequence[OutboxRow]:
        rows = self._outbox.get(session_id, {})
        return [rows[key][0] for key in sorted(rows)[:limit]]

    async def outbox_sessions(self, before: int | None = None) -> Sequence[str]:
        return [
            session_id
            for session_id, rows in self._outbox.items()
            if before is None or any(created_at < before for _, created_at in rows.values())
        ]

    async def due(self, now: int, limit: int = 200) -> Sequence[DueDeadline]:
        found = [
            DueDeadline(tenant, owner_id, deadline)
            for owner_id, (tenant, waiting) in self._deadlines.items()
            for deadline in waiting
            if deadline.at <= now
        ]
        found.sort(key=lambda d: (d.deadline.at, d.owner_id, d.deadline.kind, d.deadline.key))
        return found[:limit]

    async def next_deadline(self) -> int | None:
        return min((d.at for _, waiting in self._deadlines.values() for d in waiting), default=None)

    async def stream(self, person_id: str, after: int, limit: int = 500) -> StreamPart:
        person = self._people.get(person_id, _Person())
        kept = tuple(m for m in person.messages if m.seq > after)
        if after > person.head or len(kept) != person.head - after or len(kept) > limit:
            return StreamPart(person.head, True, ())
        return StreamPart(person.head, False, kept)

    async def persons(self, person_ids: Sequence[str]) -> Sequence[PersonRow]:
        known = [(person_id, self._people[person_id]) for person_id in person_ids if person_id in self._people]
        return [PersonRow(person_id, person.head, person.connection) for person_id, person in known]

    async def seen_agents(self, node_id: str, now: int) -> Sequence[SeenAgent]:
        found = []
        for agent in self._agents.values():
            person = self._people.get(agent.user_id)
            tab = person.connection if person is not None else None
            if tab is not None and (tab.node_id == node_id or self._lives(tab.node_id, now)):
                wanted = tab.node_id == node_id
            else:
                wanted = agent.live or bool(agent.contacts)
            if wanted:
                found.append(SeenAgent(agent, tab))
        return found

    async def nodes(self) -> Sequence[NodeRow]:
        return [self._nodes[node_id] for node_id in sorted(self._nodes)]

    async def time_ms(self) -> int:
        return self._now_ms()

    # --- writing ---

    async def save(self, save: Save) -> tuple[StreamMessage, ...]:
        self.guard(save)
        for session in save.sessions:
            after = session.after
            self._sessions[after.id] = after
            if after.done:
                self._open.pop(after.id, None)
            else:
                self._open[after.id] = after
            self._expect(after.id, after.tenant, deadlines(after))
            for row in session.orders:
                self._outbox.setdefault(after.id, {})[(row.key.version, row.key.index)] = (row, save.now)
        for agent in save.agents:
            self._agents[agent.after.user_id] = agent.after
            self._expect(agent.after.user_id, agent.after.tenant, agent_deadlines(agent.after))
        self._drop(save.consumed)
        messages = tuple([self._push(push, save.now) for push in save.pushes])
        self.on_saved(save)
        return messages

    def guard(self, save: Save) -> None:
        """Raises Conflict when a row is not at the version that the step saw."""
        for session in save.sessions:
            _same_version(session.before, self._sessions.get(session.after.id), f"session {session.after.id}")
        for agent in save.agents:
            _same_version(agent.before, self._agents.get(agent.after.user_id), f"agent {agent.after.user_id}")

    async def drop_orders(self, keys: Sequence[OutboxKey]) -> None:
        self._drop(keys)

    async def lease_orders(
        self, session_id: str, node_id: str, now: int, until: int, limit: int = 16
    ) -> Sequence[OutboxRow] | None:
        lease = self._leases.get(session_id)
        if (
            lease is not None
            and lease.node_id != node_id
            and lease.expires_at > now
            and self._lives(lease.node_id, now)
        ):
            return None
        self._leases[session_id] = _Lease(node_id, until)
        return await self.outbox(session_id, limit)

    async def end_lease(self, session_id: str, node_id: str) -> bool:
        lease = self._leases.get(session_id)
        if lease is not None and lease.node_id == node_id:
            del self._leases[session_id]
        return bool(self._outbox.get(session_id))

    async def prune_streams(self, before: int) -> int:
        pruned = 0
        for person in self._people.values():
            kept = [m for m in person.messages if m.at >= before]
            pruned += len(person.messages) - len(kept)
            person.messages = kept
        return pruned

    async def connect(self, tenant: str, person_id: str, connection: Connection) -> int:
        person = self._people.setdefault(person_id, _Person())
        person.connection = connection
        return person.head

    async def disconnect(self, person_id: str, connection: Connection) -> bool:
        person = self._people.get(person_id)
        if person is None or person.connection != connection:
            return False
        person.connection = None
        return True

    async def beat(self, node: NodeRow) -> Sequence[NodeRow]:
        gone = [
            other.node_id
            for other in self._nodes.values()
            if other.node_id != node.node_id
            and (
                other.seen_at < node.seen_at - NODE_FORGOTTEN_MS
                or (other.name == node.name and other.started_at <= node.started_at)
            )
        ]
        for node_id in gone:
            del self._nodes[node_id]
        self._nodes[node.node_id] = node
        self._leases = {key: lease for key, lease in self._leases.items() if lease.node_id in self._nodes}
        return [row for row in await self.nodes() if row.seen_at >= node.seen_at - NODE_DEAD_MS]

    async def leave(self, node_id: str) -> None:
        self._leases = {key: lease for key, lease in self._leases.items() if lease.node_id != node_id}
        self._nodes.pop(node_id, None)

    async def close(self) -> None:
        """Nothing is open."""

    # --- what they share ---

    def _lives(self, node_id: str, now: int) -> bool:
        return node_id in self._nodes and self._nodes[node_id].seen_at >= now - NODE_DEAD_MS

    def _expect(self, owner_id: str, tenant: str, waiting: frozenset[Deadline]) -> None:
        if waiting:
            self._deadlines[owner_id] = (tenant, waiting)
        else:
            self._deadlines.pop(owner_id, None)

    def _drop(self, keys: Sequence[OutboxKey]) -> None:
        for key in keys:
            rows = self._outbox.get(key.session_id)
            if rows is not None and rows.pop((key.version, key.index), None) is not None and not rows:
                del self._outbox[key.session_id]

    def _push(self, push: Push, now: int) -> StreamMessage:
        person = self._people.setdefault(push.person_id, _Person())
        person.head += 1
        message = StreamMessage(push.person_id, person.head, now, push.body)
        # What is fetched later went through JSON, as it does in a database.
        kept = StreamMessage(push.person_id, person.head, now, json.loads(json.dumps(push.body)))
        person.messages.append(kept)
        return message


def _same_version(before: Session | Agent | None, stored: Session | Agent | None, what: str) -> None:
    if (before.version if before is not None else None) != (stored.version if stored is not None else None):
        raise Conflict(f"{what} is past version {before.version if before is not None else 'none'}")
