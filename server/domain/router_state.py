"""What the router sees of the world: waiting sessions, free agents, claims. Values only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from server.domain.directory import AgentProfile, QueueConfig

DROPPED_KEPT = 10_000  # dropped entries of a tenant whose versions a store remembers: more than a busy hour's


@dataclass(frozen=True, slots=True)
class WaitingSession:
    """A queued session as the router sees it. `order_key` sorts within a queue. `held`: it counts in the queue and is
    not to be offered now: it rings already, or its customer is reconnecting."""

    session_id: str
    queue_id: str
    order_key: tuple[int, int, str]
    rejected_by: tuple[tuple[str, int], ...] = ()  # (agent id, when)
    held: bool = False
    version: int = 0  # of the session's row


@dataclass(frozen=True, slots=True)
class FreeAgent:
    """An agent who may be offered a session now."""

    agent_id: str
    idle_since: int
    version: int = 0  # of the agent's row


@dataclass(frozen=True, slots=True)
class Claim:
    session_id: str
    agent_id: str
    request_id: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class RouterState:
    """One tenant's index: waiting sessions in their order, free agents by idle time, live claims by request id."""

    waiting: tuple[WaitingSession, ...]
    free: tuple[FreeAgent, ...]
    claims: tuple[Claim, ...]
    built: bool = True  # False: the index was never made, or is lost; make it from the database


def ordered(
    waiting: Iterable[WaitingSession], free: Iterable[FreeAgent], claims: Iterable[Claim], now: int, *, built: bool
) -> RouterState:
    """The state that a store answers with: everything in its order, claims that are over left out."""
    return RouterState(
        tuple(sorted(waiting, key=lambda w: (w.order_key, w.session_id))),
        tuple(sorted(free, key=lambda a: (a.idle_since, a.agent_id))),
        tuple(sorted((c for c in claims if c.expires_at > now), key=lambda c: c.request_id)),
        built,
    )


@dataclass(frozen=True, slots=True)
class RoutingView:
    """What one look at a tenant left: for queue positions and the agents' queue strip."""

    tenant: str
    state: RouterState
    queues: tuple[QueueConfig, ...]
    profiles: tuple[AgentProfile, ...]
