"""An agent: what they chose, whether their tab lives, and the contacts they hold.

The shown state is derived: a contact that rings, talks or wraps up shows before the choice. A choice made
during a contact becomes the next state. `missed` is set by the system when an offer was not answered: nothing
is offered until the agent chooses Ready again. `live` is the tab's: an agent without a live tab gets no offer, nor
does one whose tab has no working microphone (`fault`).

A supervisor may force a choice. It is a choice like the agent's own, and `forced_by` tells whose it was until the
next one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from server.domain.capacity import CAPACITY, VOICE, Capacity
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
    channel: str = VOICE


class Fault(StrEnum):
    """Why a live tab can't take a call."""

    NO_MICROPHONE = "no_microphone"  # refused, unplugged, or another program has it
    MICROPHONE_MUTED = "microphone_muted"  # by the system or a switch on the headset
    NO_MEDIA = "no_media"  # the browser's media connections fail


@dataclass(frozen=True, slots=True)
class NextState:
    chosen: Chosen
    reason_id: str | None
    forced_by: str | None = None  # as in Agent


@dataclass(frozen=True, slots=True)
class Agent:
    """`since` is when the shown state began; `idle_since` when the agent was last freed (longest idle first).
    `forced_by` is the name of the supervisor who made the choice, None for the agent's own.

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
    capacity: Capacity = CAPACITY
    fault: Fault | None = None
    forced_by: str | None = None
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
    def open_channels(self) -> tuple[str, ...]:
        """The channels of which the agent may be offered a session now. Who is to leave after the contacts that are
        held gets no more of them: the break would never come."""
        leaves = self.next_state is not None and self.next_state.chosen is not Chosen.READY
        if self.chosen is not Chosen.READY or not self.live or self.fault or self.missed or leaves:
            return ()
        return self.capacity.open_over(contact.channel for contact in self.contacts)

    @property
    def available(self) -> bool:
        """May be offered a session of some channel now."""
        return bool(self.open_channels)


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
class StateForced:
    """A supervisor made the choice: `by` is the user, `by_name` what the agent reads."""

    chosen: Chosen
    reason_id: str | None
    by: str
    by_name: str


@dataclass(frozen=True, slots=True)
class CapacityChanged:
    """An admin saved the user, or the agent came back after one had."""

    capacity: Capacity


@dataclass(frozen=True, slots=True)
class EquipmentChanged:
    """What the tab says of its microphone and media; None: all is well."""

    fault: Fault | None


@dataclass(frozen=True, slots=True)
class ContactOffered:
    session_id: str
    segment_id: str
    channel: str = VOICE


@dataclass(frozen=True, slots=True)
class ContactJoined:
    """A supervisor goes into a session that others have; whatever state they are in."""

    session_id: str
    segment_id: str
    channel: str = VOICE


@dataclass(frozen=True, slots=True)
class ContactMoved:
    segment_id: str
    to: ContactState


@dataclass(frozen=True, slots=True)
class ContactReleased:
    """`taken`: another agent was first; nothing of it is held against this one, and the agent is idle as before."""

    segment_id: str
    missed: bool = False
    taken: bool = False


@dataclass(frozen=True, slots=True)
class AgentDeadlinePassed:
    kind: str
    at: int


AgentEvent = (
    AgentCreated
    | WentLive
    | WentDead
    | StateChosen
    | StateForced
    | CapacityChanged
    | EquipmentChanged
    | ContactOffered
    | ContactJoined
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
    return _chosen(a, NextState(e.chosen, e.reason_id), now)


def _force(a: Agent, e: StateForced, now: int) -> Agent:
    """Nobody is sent to work or to a break in an empty chair."""
    if not a.live and e.chosen is not Chosen.OFFLINE:
        raise Refused("agent_away")
    return _chosen(a, NextState(e.chosen, e.reason_id, e.by_name), now)


def _chosen(a: Agent, choice: NextState, now: int) -> Agent:
    if choice.chosen is Chosen.BREAK and choice.reason_id is None:
        raise Refused("reason_required")
    same = (choice.chosen, choice.reason_id) == (a.chosen, a.reason_id)
    if a.contacts and same:  # of several contacts one was missed, say, and others go on
        return replace(a, missed=False, next_state=None)
    if a.contacts:
        return replace(a, next_state=choice)
    return _settle(_taken(a, choice), now)


def _taken(a: Agent, choice: NextState) -> Agent:
    chosen, reason_id, forced_by = choice.chosen, choice.reason_id, choice.forced_by
    return replace(a, chosen=chosen, reason_id=reason_id, forced_by=forced_by, missed=False, next_state=None)


def _capacity(a: Agent, e: CapacityChanged, now: int) -> Agent:
    """What is held stays; with less room than that nothing comes until enough of it is over."""
    if a.capacity == e.capacity:
        raise Stale("no_change")
    return replace(a, capacity=e.capacity)


def _equipment(a: Agent, e: EquipmentChanged, now: int) -> Agent:
    if a.fault is e.fault:
        raise Stale("no_change")
    return replace(a, fault=e.fault)


def _offer(a: Agent, e: ContactOffered, now: int) -> Agent:
    if e.channel not in a.open_channels:
        raise Refused("agent_unavailable")
    contacts = (*a.contacts, Contact(e.session_id, e.segment_id, ContactState.RINGING, e.channel))
    return replace(a, contacts=contacts, offered_at=now)


def _join(a: Agent, e: ContactJoined, now: int) -> Agent:
    """One who holds nothing: a supervisor in a call of their own can't hear another one."""
    if a.contacts or not a.live:
        raise Refused("agent_unavailable")
    return replace(a, contacts=(Contact(e.session_id, e.segment_id, ContactState.ON_CONTACT, e.channel),))


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
    after = _settle(replace(a, contacts=rest, missed=a.missed or e.missed), now)
    return replace(after, idle_since=a.idle_since) if e.taken else after


def _deadline(a: Agent, e: AgentDeadlinePassed, now: int) -> Agent:
    if Deadline(e.kind, a.user_id, e.at) not in agent_deadlines(a) or now < e.at:
        raise Stale("stale_deadline")
    return _settle(_taken(a, NextState(Chosen.OFFLINE, None)), now)


def _settle(a: Agent, now: int) -> Agent:
    """A free agent takes the state picked during the contact, and is idle from now."""
    if a.contacts:
        return a
    if a.next_state is not None:
        a = _taken(a, a.next_state)
    return replace(a, idle_since=now)


RULES: dict[type, Callable[[Agent, Any, int], Agent]] = {
    WentLive: _live,
    WentDead: _dead,
    StateChosen: _choose,
    StateForced: _force,
    CapacityChanged: _capacity,
    EquipmentChanged: _equipment,
    ContactOffered: _offer,
    ContactJoined: _join,
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
