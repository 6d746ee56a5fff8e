"""What the router sees of the world: waiting sessions, agents on duty, claims. Values only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from server.domain.capacity import VOICE
from server.domain.directory import QueueConfig
from server.domain.queue_routing import PRIORITY
from server.domain.requirements import Requirement

DROPPED_KEPT = 10_000  # dropped entries of a tenant whose versions a store remembers: more than a busy hour's
LOG_KEPT = 20_000  # changes that a store keeps for nodes that are behind; who is further behind reads everything


@dataclass(frozen=True, slots=True)
class WaitingSession:
    """A queued session as the router sees it. `arrived_at` is its first arrival, `entered_at` that in this queue.
    `held`: it counts in the queue and is not to be offered now: it rings for as many as it may, or its customer is
    reconnecting. `ringing`: the agents for whom it rings. `asks` is asked beside what the queue asks. `preferred`
    agents are taken first, `excluded` ones never; `sticky_agent` is the one whom the customer last had.
    `away`: the place is kept for a customer who is not there, so nobody behind it waits for it."""

    session_id: str
    queue_id: str
    arrived_at: int
    entered_at: int
    priority: int = PRIORITY
    channel: str = VOICE
    held: bool = False
    rejected_by: tuple[tuple[str, int], ...] = ()  # (agent id, when)
    asks: Requirement | None = None
    preferred: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    sticky_agent: str | None = None
    ringing: tuple[str, ...] = ()
    away: bool = False
    version: int = 0  # of the session's row

    @property
    def order_key(self) -> tuple[int, int, str]:
        """The place in a queue whose priorities do not grow: priority, first arrival, id."""
        return (self.priority, self.arrived_at, self.session_id)


@dataclass(frozen=True, slots=True)
class PresentAgent:
    """An agent who is logged in. `state` as in `domain.agent.AgentState`; `channels` are those of which the agent may
    be offered a session now. The rest is what strategies compare, as in `domain.agent.Agent`."""

    agent_id: str
    state: str
    channels: tuple[str, ...]
    idle_since: int
    offered_at: int = 0
    busy_ms: int = 0
    ready_ms: int = 0
    handled: tuple[tuple[int, int], ...] = ()
    version: int = 0  # of the agent's row


@dataclass(frozen=True, slots=True)
class Gone:
    """A session that waits no more, or an agent who is not on duty."""

    kind: type[WaitingSession] | type[PresentAgent]
    id: str
    version: int


Entry = WaitingSession | PresentAgent
Word = WaitingSession | PresentAgent | Gone


@dataclass(frozen=True, slots=True)
class Claim:
    session_id: str
    agent_id: str
    request_id: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class RouterState:
    """One tenant's whole index: waiting sessions in their order, agents by id, live claims by request id. `position`
    is that of the newest change in it, `proof` what stands there."""

    waiting: tuple[WaitingSession, ...]
    agents: tuple[PresentAgent, ...]
    claims: tuple[Claim, ...]
    built: bool = True  # False: the index was never made, or is lost; make it from the database
    position: int = field(default=0, compare=False)
    proof: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed after a position, in its order. `lost`: that position is not in the log any more, or stands for
    something else since the store has gone back in time, or the index is lost: the whole state must be read.
    `proof` tells what stands at the new position."""

    position: int
    words: tuple[Word, ...]
    lost: bool = False
    proof: str = ""


def ordered(
    entries: Iterable[Entry], claims: Iterable[Claim], now: int, *, built: bool, position: int, proof: str
) -> RouterState:
    """The state that a store answers with: everything in its order, claims that are over left out."""
    waiting = [entry for entry in entries if isinstance(entry, WaitingSession)]
    agents = [entry for entry in entries if isinstance(entry, PresentAgent)]
    return RouterState(
        tuple(sorted(waiting, key=lambda w: w.order_key)),
        tuple(sorted(agents, key=lambda a: a.agent_id)),
        tuple(sorted((c for c in claims if c.expires_at > now), key=lambda c: c.request_id)),
        built,
        position,
        proof,
    )


@dataclass(frozen=True, slots=True)
class QueueLook:
    """`waiting` in its order; `ready`: how many agents are free for the queue."""

    queue: QueueConfig
    waiting: tuple[WaitingSession, ...]
    ready: int


def places(waiting: Iterable[WaitingSession]) -> Iterator[tuple[int, WaitingSession]]:
    """Each with its place, 1 for the first: those before it who are there, and itself. Who is away holds up nobody."""
    place = 1
    for one in waiting:
        yield place, one
        place += not one.away


class RoutingView(Protocol):
    """One tenant after a look of the router: for queue positions and the agents' queue strip. It shows the newest."""

    @property
    def tenant(self) -> str: ...

    def queues(self) -> Mapping[str, QueueLook]:
        """By queue id; inactive ones that somebody waits in, too."""
        ...

    def waiting(self) -> Iterable[WaitingSession]:
        """Whoever waits, in any order."""
        ...

    def staffed(self, queue_ids: Collection[str]) -> frozenset[str]:
        """Those of some queues that an agent serves who works now: ready, or with a contact. Not on a break."""
        ...

    def queues_of(self, agent_id: str) -> Sequence[str]:
        """The active queues that an agent serves, now or after some relaxing; nothing for who is unknown."""
        ...

    def knows(self, agent_id: str) -> bool:
        """Somebody of the staff, whatever they serve."""
        ...
