"""Planted bugs: each replaces one rule of the product, or of a store's twin, by a wrong one. The simulation has to
notice every one of them (test_mutations.py).

What the rows' versions or a later look make harmless would prove nothing, so each of these breaks an invariant or lets
somebody wait for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from server.domain import agent as ag
from server.domain import (
    effects,
    session_agents,
    session_end,
    session_guests,
    session_legs,
    session_park,
    session_place,
    session_step,
)
from server.domain import events as ev
from server.domain.agent import Agent
from server.domain.capacity import Capacity
from server.domain.deadlines import on_deadline
from server.domain.endings import SegmentEnd
from server.domain.router_state import Changes, Gone, WaitingSession
from server.domain.segment import Role, Segment
from server.domain.session import Session, SessionState
from server.routing import memory_store, pools, router, snapshot
from server.routing.memory_store import MemoryRouterStore
from server.routing.router import Router
from server.routing.snapshot import Snapshot
from server.services import stepper
from server.services.deadline_sweep import DeadlineSweep
from server.services.nodes import Nodes
from server.services.presence import Presence
from tests.simulation.store import MemorySteps

Plant = Callable[[], AbstractContextManager[Any]]

_claim = MemoryRouterStore._claim
_changes = MemoryRouterStore.changes
_hear = memory_store._hear
_waiting_word = router.waiting_word
_agent_events = effects.agent_events
_due = MemorySteps.due
_urgency = pools.urgency

# --- the router and its store ------------------------------------------------------------------------


def _grant(self: MemoryRouterStore, of: Any, claim: Any, now: int) -> bool:
    of.answers[claim.request_id] = (claim, True)
    of.claims[claim.request_id] = claim
    return True


def _grant_for_ever(self: MemoryRouterStore, of: Any, claim: Any, now: int) -> bool:
    return _claim(self, of, replace(claim, expires_at=2**60), now)


async def _release_nothing(self: MemoryRouterStore, tenant: str, request_ids: Any) -> None:
    """The claims stay until their end."""


def _flush_unnoticed(self: MemoryRouterStore) -> None:
    for of in self._tenants.values():
        of.present.clear()
        of.heard.clear()
        of.claims.clear()


def _hear_anything(of: Any, key: str, version: int) -> bool:
    of.heard.pop(key, None)
    return _hear(of, key, version)


async def _lose_a_change(self: MemoryRouterStore, tenant: str, after: int, proof: str) -> Changes:
    found = await _changes(self, tenant, after, proof)
    return replace(found, words=found.words[:1])


def _keep_reserved(self: Snapshot, match: Any, now: int) -> None:
    """Whoever was matched once is not matched again."""


def _place_by_id(s: Session) -> Any:
    word = _waiting_word(s)
    return word if isinstance(word, Gone) else replace(word, arrived_at=0)


def _place_by_last_wait(s: Session) -> Any:
    word = _waiting_word(s)
    back_at = max((segment.done_at or 0 for segment in s.segments), default=0)
    return word if isinstance(word, Gone) or not back_at else replace(word, arrived_at=back_at)


def _urgency_of_all(session: WaitingSession, queue: Any, now: int) -> Any:
    """One that rings comes before those that nobody was asked for."""
    return _urgency(replace(session, ringing=()), queue, now)


def _no_doubt(self: Router) -> None:
    """What a node left half-said stays so."""


# --- the machines ------------------------------------------------------------------------------------


def _open_channels(*ignored: str) -> property:
    """An agent's open channels, without a look at some of what closes them."""

    def open_channels(a: Agent) -> tuple[str, ...]:
        closed = {
            "paused": a.chosen is not ag.Chosen.READY,
            "dead": not a.live,
            "missed": a.missed,
        }
        if any(shut for why, shut in closed.items() if why not in ignored):
            return ()
        return a.capacity.open_over(contact.channel for contact in a.contacts)

    return property(open_channels)


def _one_more(self: Capacity, held: Any) -> tuple[str, ...]:
    loads = list(held)
    return tuple(channel for channel, most in self.channels if loads.count(channel) <= most)


def _any_deadline(s: Session, e: ev.DeadlinePassed, now: int) -> Session:
    return on_deadline(s, e, now)


def _back_at_the_end(s: Session, e: ev.PlaceTaken, now: int) -> Session:
    return replace(session_place.take_place(s, e, now), place_at=now)


def _any_leg(s: Session, leg_id: str, generation: int, epoch: int) -> Any:
    return session_legs._known_leg(s, leg_id)


def _keep_ringing(before: Session | None, after: Session) -> list[tuple[str, ag.AgentEvent]]:
    found = _agent_events(before, after)
    return [] if after.ended and before is not None and not before.ended else found


def _ring_on(s: Session, why: SegmentEnd, now: int) -> Session:
    """Somebody has accepted, and the others are not told."""
    return s


def _rules(changed: Mapping[tuple[SessionState, type], Any]) -> Plant:
    return lambda: patch.dict(session_step.TRANSITIONS, changed)


# --- services ----------------------------------------------------------------------------------------


async def _due_without_offers(self: MemorySteps, now: int, limit: int = 200) -> Any:
    return [due for due in await _due(self, now, limit) if due.deadline.kind != "offer"]


async def _due_without_parks(self: MemorySteps, now: int, limit: int = 200) -> Any:
    return [due for due in await _due(self, now, limit) if due.deadline.kind != "park"]


def _fetch_beside(s: Session, e: ev.SessionFetched) -> None:
    """Nobody looks whether another agent was first."""


async def _sweep_nothing(self: DeadlineSweep) -> int:
    return 0


async def _look_away(self: Presence) -> None:
    """A tab that was not heard to close stays."""


def _nobodys(self: Nodes, key: str) -> bool:
    return False


def _save_blindly(self: MemorySteps, save: Any) -> None:
    """Whoever saves last wins."""


def _keep_guests(s: Session, why: SegmentEnd, now: int) -> Session:
    return s


def _share(s: Session, guest: Segment, why: SegmentEnd, now: int) -> Session:
    """The guest becomes an owner beside the one there is."""
    return s.with_segment(replace(guest, role=Role.OWNER))


MUTATIONS: dict[str, Plant] = {
    "a claim is granted without a look": lambda: patch.object(MemoryRouterStore, "_claim", _grant),
    "a claim's end is ignored": lambda: patch.object(MemoryRouterStore, "_claim", _grant_for_ever),
    "claims are not released": lambda: patch.object(MemoryRouterStore, "release", _release_nothing),
    "a flush is not noticed": lambda: patch.object(MemoryRouterStore, "flush", _flush_unnoticed),
    "older words count": lambda: patch.object(memory_store, "_hear", _hear_anything),
    "changes get lost on the way": lambda: patch.object(MemoryRouterStore, "changes", _lose_a_change),
    "a match stays reserved": lambda: patch.object(Snapshot, "settle", _keep_reserved),
    "order by id alone": lambda: patch.object(router, "waiting_word", _place_by_id),
    "who is put back goes to the end": lambda: patch.object(router, "waiting_word", _place_by_last_wait),
    "who declined is asked again": lambda: patch.object(snapshot, "verdict", lambda session, agent_id, now: "able"),
    "a ring grows before others are asked": lambda: patch.object(snapshot, "urgency", _urgency_of_all),
    "skills are not looked at": lambda: patch.object(snapshot, "meets", lambda asked, level: True),
    "nobody goes first, and ticks are rare": lambda: _both(
        patch.object(Nodes, "mine", _nobodys), patch.object(router, "TICK_S", 4.0)
    ),
    "what a dead node left half-said stays": lambda: _both(
        patch.object(Router, "doubt", _no_doubt), patch.object(router, "REBUILD_S", 1e9)
    ),
    "agents on a break get offers": lambda: patch.object(Agent, "open_channels", _open_channels("paused")),
    "agents without a tab get offers": lambda: patch.object(Agent, "open_channels", _open_channels("dead")),
    "agents who missed one get offers": lambda: patch.object(Agent, "open_channels", _open_channels("missed")),
    "capacity is one too many": lambda: patch.object(Capacity, "open_over", _one_more),
    "a deadline that is over counts": _rules({(state, ev.DeadlinePassed): _any_deadline for state in SessionState}),
    "a session ends twice": _rules({(SessionState.ENDED, ev.CustomerHungUp): session_step.customer_hang_up}),
    "a kept place loses its arrival": _rules({(SessionState.PLACE_KEPT, ev.PlaceTaken): _back_at_the_end}),
    "words of an older placement count": lambda: patch.object(session_legs, "_reported", _any_leg),
    "who rings when the customer leaves rings on": lambda: patch.object(stepper, "agent_events", _keep_ringing),
    "who was not first rings on": lambda: patch.object(session_agents, "stop_ringing", _ring_on),
    "guests stay when the owner goes": lambda: patch.object(session_end, "dismiss_guests", _keep_guests),
    "who hands over keeps the call, too": lambda: patch.object(session_guests, "hand_over", _share),
    "offers have no end": lambda: patch.object(MemorySteps, "due", _due_without_offers),
    "who is parked is parked for ever": lambda: patch.object(MemorySteps, "due", _due_without_parks),
    "two fetch one call": lambda: patch.object(session_park, "_nobodys", _fetch_beside),
    "nobody sweeps": lambda: patch.object(DeadlineSweep, "sweep", _sweep_nothing),
    "tabs that vanish are not missed": lambda: patch.object(Presence, "look", _look_away),
    "the store has no guard": lambda: patch.object(MemorySteps, "guard", _save_blindly),
}


def _both(one: AbstractContextManager[Any], other: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
    stack = ExitStack()
    stack.enter_context(one)
    stack.enter_context(other)
    return stack
