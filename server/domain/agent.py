"""An agent: what they chose, whether their tab lives, and the contacts they hold.

The shown state is derived: a contact that rings, talks or wraps up shows before the choice. A choice made
during a contact becomes the next state. `missed` is set by the system when an offer was not answered: nothing
is offered until the agent chooses Ready again. `live` is the tab's: an agent without a live tab gets no offer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from server.domain.capacity import VOICE
from server.domain.deadlines import Deadline
from server.domain.machine import IllegalTransition, Refused, Stale

HOUR_MS = 3_600_000
HANDLED_HOURS = 26  # a day of any time zone, and the hours that it begins and ends in
OFFLINE_MS = 60_000  # a tab that was gone this long is not coming back from a reload


class Chosen(StrEnum):
    OFFLINE = "offline"
    READY = "ready"
    BREAK = "break"


class AgentState(StrEnum):
    OFFLINE = "offline"
    READY = "ready"
    BREAK = "break"
    RINGING = "ringing"
    ON_CONTACT = "on_contact"
    WRAP_UP = "wrap_up"
    MISSED = "missed"


class ContactState(StrEnum):
    RINGING = "ringing"
    ON_CONTACT = "on_contact"
    WRAP_UP = "wrap_up"


@dataclass(frozen=True, slots=True)
class Contact:
    session_id: str
    segment_id: str
    state: ContactState


@dataclass(frozen=True, slots=True)
class NextState:
    chosen: Chosen
    reason_id: str | None


@dataclass(frozen=True, slots=True)
class Agent:
    """`since` is when the shown state began; `idle_since` when the agent was last freed (longest idle first).

    What strategies compare: `offered_at` is the last offer; `busy_ms` (on contact and wrap-up) and `ready_ms` add up
    the states that ended since the last login; `handled` counts answered sessions by the hour (number since the epoch)
    of the last day and a bit."""

    user_id: str
    tenant: str
    version: int
    since: int
    idle_since: int
    chosen: Chosen = Chosen.OFFLINE
    reason_id: str | None = None
    missed: bool = False
    next_state: NextState | None = None
    live: bool = False
    dead_since: int | None = None
    contacts: tuple[Contact, ...] = ()
    voice_capacity: int = 1
    offered_at: int = 0
    busy_ms: int = 0
    ready_ms: int = 0
    handled: tuple[tuple[int, int], ...] = ()

    @property
    def state(self) -> AgentState:
        held = {contact.state for contact in self.contacts}
        for contact_state in (ContactState.ON_CONTACT, ContactState.RINGING, ContactState.WRAP_UP):
            if contact_state in held:
                return AgentState(contact_state.value)
        return AgentState.MISSED if self.missed else AgentState(self.chosen.value)

    @property
    def available(self) -> bool:
        """May be offered a session now."""
        return (
            self.chosen is Chosen.READY and self.live and not self.missed and len(self.contacts) < self.voice_capacity
        )

    @property
    def open_channels(self) -> tuple[str, ...]:
        """The channels of which the agent may be offered a session now."""
        return (VOICE,) if self.available else ()


# --- events ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AgentCreated:
    user_id: str
    tenant: str


@dataclass(frozen=True, slots=True)
class WentLive:
    pass


@dataclass(frozen=True, slots=True)
class WentDead:
    """The tab closed its socket, or left two pings unanswered."""


@dataclass(frozen=True, slots=True)
class StateChosen:
    chosen: Chosen
    reason_id: str | None = None


@dataclass(frozen=True, slots=True)
class ContactOffered:
    session_id: str
    segment_id: str


@dataclass(frozen=True, slots=True)
class ContactMoved:
    segment_id: str
    to: ContactState


@dataclass(frozen=True, slots=True)
class ContactReleased:
    segment_id: str
    missed: bool = False


@dataclass(frozen=True, slots=True)
class AgentDeadlinePassed:
    kind: str
    at: int


AgentEvent = (
    AgentCreated
    | WentLive
    | WentDead
    | StateChosen
    | ContactOffered
    | ContactMoved
    | ContactReleased
    | AgentDeadlinePassed
)

# --- rules -------------------------------------------------------------------------------------------


def _live(a: Agent, e: WentLive, now: int) -> Agent:
    if a.live:
        raise Stale("no_change")
    return replace(a, live=True, dead_since=None)


def _dead(a: Agent, e: WentDead, now: int) -> Agent:
    if not a.live:
        raise Stale("no_change")
    return replace(a, live=False, dead_since=now)


def _choose(a: Agent, e: StateChosen, now: int) -> Agent:
    if e.chosen is Chosen.BREAK and e.reason_id is None:
        raise Refused("reason_required")
    if a.contacts:
        same = (e.chosen, e.reason_id) == (a.chosen, a.reason_id) and not a.missed
        return replace(a, next_state=None if same else NextState(e.chosen, e.reason_id))
    return _settle(replace(a, chosen=e.chosen, reason_id=e.reason_id, missed=False, next_state=None), now)


def _offer(a: Agent, e: ContactOffered, now: int) -> Agent:
    if not a.available:
        raise Refused("agent_unavailable")
    contacts = (*a.contacts, Contact(e.session_id, e.segment_id, ContactState.RINGING))
    return replace(a, contacts=contacts, offered_at=now)


def _move(a: Agent, e: ContactMoved, now: int) -> Agent:
    if all(contact.segment_id != e.segment_id for contact in a.contacts):
        raise Stale("no_change")
    if e.to is ContactState.ON_CONTACT:
        a = replace(a, handled=_one_more(a.handled, now // HOUR_MS))
    return replace(a, contacts=tuple(replace(c, state=e.to) if c.segment_id == e.segment_id else c for c in a.contacts))


def _release(a: Agent, e: ContactReleased, now: int) -> Agent:
    rest = tuple(contact for contact in a.contacts if contact.segment_id != e.segment_id)
    if rest == a.contacts:
        raise Stale("no_change")
    return _settle(replace(a, contacts=rest, missed=a.missed or e.missed), now)


def _deadline(a: Agent, e: AgentDeadlinePassed, now: int) -> Agent:
    if Deadline(e.kind, a.user_id, e.at) not in agent_deadlines(a) or now < e.at:
        raise Stale("stale_deadline")
    return _settle(replace(a, chosen=Chosen.OFFLINE, reason_id=None, missed=False, next_state=None), now)


def _settle(a: Agent, now: int) -> Agent:
    """A free agent takes the state picked during the contact, and is idle from now."""
    if a.contacts:
        return a
    if a.next_state is not None:
        a = replace(a, chosen=a.next_state.chosen, reason_id=a.next_state.reason_id, missed=False, next_state=None)
    return replace(a, idle_since=now)


RULES: dict[type, Callable[[Agent, Any, int], Agent]] = {
    WentLive: _live,
    WentDead: _dead,
    StateChosen: _choose,
    ContactOffered: _offer,
    ContactMoved: _move,
    ContactReleased: _release,
    AgentDeadlinePassed: _deadline,
}


def agent_deadlines(a: Agent) -> frozenset[Deadline]:
    """An agent whose tab stays away goes offline: nobody is Ready in an empty chair."""
    if a.live or a.dead_since is None or a.chosen is Chosen.OFFLINE or a.contacts:
        return frozenset()
    return frozenset({Deadline("offline", a.user_id, a.dead_since + OFFLINE_MS)})


def step_agent(agent: Agent | None, event: AgentEvent, now: int) -> Agent:
    """The next agent, its version one higher. Raises Stale, Refused, IllegalTransition."""
    if isinstance(event, AgentCreated):
        if agent is not None:
            raise Stale("no_change")
        return Agent(event.user_id, event.tenant, version=1, since=now, idle_since=now)
    if agent is None:
        raise IllegalTransition(f"{type(event).__name__} before AgentCreated")
    after = RULES[type(event)](agent, event, now)
    if after.state is not agent.state:
        after = replace(_added_up(agent, after, max(0, now - agent.since)), since=now)
    return replace(after, version=agent.version + 1)


def _added_up(before: Agent, after: Agent, spent_ms: int) -> Agent:
    """The time in the state that ends counts for occupancy (docs/metrics.md), until the next login."""
    if before.state is AgentState.OFFLINE:
        return replace(after, busy_ms=0, ready_ms=0)
    if before.state in (AgentState.ON_CONTACT, AgentState.WRAP_UP):
        return replace(after, busy_ms=after.busy_ms + spent_ms)
    if before.state is AgentState.READY:
        return replace(after, ready_ms=after.ready_ms + spent_ms)
    return after


def _one_more(handled: tuple[tuple[int, int], ...], hour: int) -> tuple[tuple[int, int], ...]:
    counts = {past: count for past, count in handled if hour - HANDLED_HOURS < past <= hour}
    return tuple((counts | {hour: counts.get(hour, 0) + 1}).items())
