"""PURE: who may take what, in the order in which they are asked.

A pool holds the agents who are free on a channel and meet a requirement, ranked by a strategy. A lane holds the
sessions of one queue that ask for the same pool, in the order of the queue. Both are sorted lists: what comes or goes
costs a few microseconds, however many there are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from sortedcontainers import SortedList

from server.domain.directory import QueueConfig
from server.domain.queue_routing import Strategy
from server.domain.requirements import Requirement
from server.domain.router_state import WaitingSession
from server.routing.scoring import Rank, Ranking, midnight_in, ranking

Place = tuple[int, int, str]  # in a queue; ends with the session's id
Urgency = tuple[bool, float, float, int, str]


class PoolKey(NamedTuple):
    """`only`: the one agent whom a sticky session waits for."""

    asked: Requirement
    channel: str
    strategy: Strategy
    time_zone: str
    only: str | None = None


@dataclass(slots=True, eq=False)
class Pool:
    key: PoolKey
    midnight: int  # when today began; of no meaning to strategies that do not count by the day
    rank: Ranking
    agents: SortedList[Rank] = field(default_factory=SortedList)
    lanes: dict[LaneKey, Lane] = field(default_factory=dict)
    lasting: bool = False  # a queue asks for it, whether somebody waits or not


class LaneKey(NamedTuple):
    """`rings`: of sessions that ring already, and for which one more agent is to be found."""

    queue_id: str
    pool: PoolKey
    rings: bool = False


@dataclass(slots=True, eq=False)
class Lane:
    key: LaneKey
    queue: QueueConfig
    step: int
    pool: Pool
    waiting: SortedList[Place] = field(default_factory=SortedList)
    first: Urgency | None = None  # of the first one that waits; None: not known, or it grows


def new_pool(key: PoolKey, now: int) -> Pool:
    midnight = midnight_in(key.time_zone, now) if key.strategy is Strategy.FEWEST_SESSIONS else 0
    return Pool(key, midnight, ranking(key.strategy, key.asked, midnight))


def place_in(session: WaitingSession, queue: QueueConfig | None) -> Place:
    """Where a session stands in its queue: by priority, then by first arrival.

    A priority that grows by one in `grow_s` is that of now minus waiting ÷ grow_s. Since all grow alike, their order
    never changes: it is that of arrival + priority × grow_s."""
    if queue is not None and queue.routing.grow_s:
        return (session.arrived_at + session.priority * queue.routing.grow_s * 1000, 0, session.session_id)
    return session.order_key


def urgency(session: WaitingSession, queue: QueueConfig, now: int) -> Urgency:
    """Which queue's first session goes first for an agent who serves both: the smallest. One that rings already comes
    after all that nobody was asked for yet: a ring that grows keeps no agent from them."""
    grow_ms = queue.routing.grow_s * 1000
    priority = session.priority - (now - session.arrived_at) / grow_ms if grow_ms else session.priority
    return (bool(session.ringing), -queue.routing.weight, priority, session.arrived_at, session.session_id)


def step_of(session: WaitingSession, queue: QueueConfig, now: int) -> tuple[int, int | None]:
    """How many relaxing steps a session has behind it, and when the next one comes (UTC epoch ms)."""
    begins = [session.entered_at + step.after_s * 1000 for step in queue.routing.steps]
    done = sum(1 for at in begins if at <= now)
    return done, min((at for at in begins if at > now), default=None)
