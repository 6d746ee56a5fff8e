"""Figures of the whole center for the metrics, in one query: what is under way now, on whichever node.

Each part stands on an index of what is open, so that the query costs as much as the center holds, not what it held.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from server.services.ports import NODE_DEAD_MS, Clock
from server.storage.admin_repository import QUEUE
from server.storage.faults import translated
from server.storage.runtime_tables import agent, deadline, node, outbox, queue_visit, recording, session

OVERDUE_MS = 2_000  # a deadline is swept within half a second, one that another node left a little later
UNFINISHED = ("recording", "closing", "archiving")
NOBODY = sa.cast(sa.null(), sa.BigInteger)


@dataclass(frozen=True, slots=True)
class Counted:
    """How many there are, and for how long the oldest has been so, s (0 without one)."""

    number: int = 0
    oldest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CenterFigures:
    """`queues` are those in use, by id, with the sessions that wait there; `queue_names` by id."""

    sessions: Mapping[str, Counted] = field(default_factory=dict)  # by state
    agents: Mapping[str, Counted] = field(default_factory=dict)  # by state
    queues: Mapping[str, Counted] = field(default_factory=dict)
    queue_names: Mapping[str, str] = field(default_factory=dict)
    recordings: Mapping[str, Counted] = field(default_factory=dict)  # by state, those that are unfinished
    nodes: Mapping[str, Counted] = field(default_factory=dict)  # serving, draining
    outbox: Counted = Counted()
    overdue: Counted = Counted()


class StoredFigures:
    """Reads `CenterFigures`, with the queues' ids and names bounded by `most_queues`."""

    def __init__(self, engine: AsyncEngine, clock: Clock, most_queues: int = 200) -> None:
        self._engine = engine
        self._clock = clock
        self._most_queues = most_queues

    async def read(self) -> CenterFigures:
        """Raises StorageUnavailable."""
        now = self._clock.now_ms()
        queues = sa.select(QUEUE.c.id, QUEUE.c.name).where(QUEUE.c.active).order_by(QUEUE.c.id).limit(self._most_queues)
        with translated():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(_center_figures(now))).all()
                names = {row.id: row.name for row in await connection.execute(queues)}
        found: dict[str, dict[str, Counted]] = {}
        for what, key, number, since in rows:
            oldest_s = max(0.0, (now - since) / 1000) if since is not None else 0.0
            found.setdefault(what, {})[key] = Counted(int(number), oldest_s)
        waiting = found.get("queue", {})
        return CenterFigures(
            sessions=found.get("session", {}),
            agents=found.get("agent", {}),
            queues=dict.fromkeys(names, Counted()) | waiting,  # someone may still wait where a queue was switched off
            queue_names=names,
            recordings=found.get("recording", {}),
            nodes=found.get("node", {}),
            outbox=found["outbox"]["all"],
            overdue=found["overdue"]["all"],
        )


def _center_figures(now: int) -> sa.CompoundSelect[Any]:
    """Rows of (what, key, number, since when the oldest is so)."""
    is_open = ~session.c.done
    open_sessions = sa.select(session.c.id).where(is_open)
    serving = sa.case((node.c.draining, sa.literal_column("'draining'")), else_=sa.literal_column("'serving'"))
    return sa.union_all(
        _count("session", session.c.state, session.c.created_at).where(is_open).group_by(session.c.state),
        _count("queue", queue_visit.c.queue_id, queue_visit.c.entered_at)
        .where(queue_visit.c.session_id.in_(open_sessions), queue_visit.c.outcome.is_(None))
        .group_by(queue_visit.c.queue_id),
        _count("agent", agent.c.state).group_by(agent.c.state),
        _count("recording", recording.c.state, sa.func.coalesce(recording.c.ended_at, recording.c.started_at))
        .where(recording.c.state.in_(UNFINISHED))
        .group_by(recording.c.state),
        _count("node", serving).where(node.c.seen_at >= now - NODE_DEAD_MS).group_by(serving),
        _count("outbox", sa.literal_column("'all'"), outbox.c.created_at),
        _count("overdue", sa.literal_column("'all'"), deadline.c.at).where(deadline.c.at < now - OVERDUE_MS),
    )


def _count(what: str, key: Any, since: Any = None) -> sa.Select[Any]:
    oldest = sa.func.min(since) if since is not None else NOBODY
    return sa.select(sa.literal_column(f"'{what}'"), key, sa.func.count(), oldest)
