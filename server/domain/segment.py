"""A segment: one agent's part of a session. Wrap-up belongs to it and may outlive the session.

    offered ──accepted──► connecting ──both audible──► talking ⇄ held
       │                       │                          │
       └─ rejected, missed, …  └─ no media, left          └─ talk over ──► wrap_up ──► done

A segment that never talked goes to `done` directly: nobody writes notes about a call that did not happen.

The owner has the session. Guests are called in by the owner, to be asked or for a conference, and have no wrap-up. Who
hears whom follows from the states: an owner on `held` has put the customer on hold, and speaks with the guests who are
`talking`; a guest on `held` hears music while the owner speaks with the customer; where both talk, all do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from server.domain import leg as legs
from server.domain.endings import SegmentEnd
from server.domain.leg import Leg
from server.domain.machine import IllegalTransition


class SegmentState(StrEnum):
    OFFERED = "offered"  # the agent's answer, until the offer's deadline
    CONNECTING = "connecting"  # both legs, until the connect deadline
    TALKING = "talking"  # either side's hang-up, or a lost leg's grace
    HELD = "held"  # the agent, to take the customer back
    WRAP_UP = "wrap_up"  # the agent's disposition, until the wrap-up deadline
    DONE = "done"


S = SegmentState
NEXT: dict[SegmentState, frozenset[SegmentState]] = {
    S.OFFERED: frozenset({S.CONNECTING, S.DONE}),
    S.CONNECTING: frozenset({S.TALKING, S.DONE}),
    S.TALKING: frozenset({S.HELD, S.WRAP_UP, S.DONE}),
    S.HELD: frozenset({S.TALKING, S.WRAP_UP, S.DONE}),
    S.WRAP_UP: frozenset({S.DONE}),
    S.DONE: frozenset(),
}
OWNING = frozenset({S.CONNECTING, S.TALKING, S.HELD})  # the agent has accepted and has the session
IN_TALK = frozenset({S.TALKING, S.HELD})


class Role(StrEnum):
    OWNER = "owner"  # has the session, or is asked to take it
    GUEST = "guest"  # called in by the owner
    SUPERVISOR = "supervisor"  # came by themselves; `monitor` says for whom they are to be heard


class Monitor(StrEnum):
    LISTEN = "listen"  # nobody hears the supervisor
    COACH = "coach"  # the owner does
    BARGE = "barge"  # everybody does


@dataclass(frozen=True, slots=True)
class Segment:
    """All times are UTC epoch milliseconds unless the name ends in `_s`. `number` is 1-based within the session.
    `invited_by`: the name of the agent who hands the customer over, or calls this one in; empty: the router. `muted`:
    nobody hears the agent."""

    id: str
    number: int
    agent_id: str
    agent_name: str
    queue_id: str
    leg: Leg
    offered_at: int
    offer_deadline_at: int
    wrap_up_s: int
    disposition_required: bool
    wrap_up_extend_s: int = 0  # by which the agent may extend the wrap-up,
    wrap_up_extensions: int = 0  # so many times more
    state: SegmentState = SegmentState.OFFERED
    accepted_at: int | None = None
    talk_started_at: int | None = None
    held_since: int | None = None
    hold_ms: int = 0
    talk_ended_at: int | None = None
    wrap_up_deadline_at: int | None = None
    done_at: int | None = None
    end_reason: SegmentEnd | None = None
    disposition_id: str | None = None
    notes: str = ""
    role: Role = Role.OWNER
    invited_by: str = ""
    muted: bool = False
    monitor: Monitor | None = None  # of a supervisor

    @property
    def rings(self) -> bool:
        return self.state is S.OFFERED

    @property
    def takes_part(self) -> bool:
        """The agent has accepted, and is not done with the customer."""
        return self.state in OWNING

    @property
    def owns(self) -> bool:
        return self.takes_part and self.role is Role.OWNER

    @property
    def came_to_nothing(self) -> bool:
        """Over without a talk."""
        return self.state is S.DONE and self.talk_started_at is None

    @property
    def in_talk(self) -> bool:
        return self.state in IN_TALK


def _to(segment: Segment, state: SegmentState) -> None:
    if state not in NEXT[segment.state]:
        raise IllegalTransition(f"segment {segment.state} -> {state}")


def accept(segment: Segment, now: int) -> Segment:
    _to(segment, S.CONNECTING)
    return replace(segment, state=S.CONNECTING, accepted_at=now)


def begin_talk(segment: Segment, now: int) -> Segment:
    _to(segment, S.TALKING)
    return replace(segment, state=S.TALKING, talk_started_at=now)


def hold(segment: Segment, now: int) -> Segment:
    _to(segment, S.HELD)
    return replace(segment, state=S.HELD, held_since=now)


def unhold(segment: Segment, now: int) -> Segment:
    _to(segment, S.TALKING)
    return replace(_hold_over(segment, now), state=S.TALKING)


def end(segment: Segment, reason: SegmentEnd, now: int) -> Segment:
    """The agent's part is over: wrap-up if there was a talk and the queue gives time for it, else done."""
    ended = replace(_hold_over(segment, now), end_reason=reason, leg=legs.closed(segment.leg, now), muted=False)
    if not segment.in_talk:
        return finish(ended, now)
    ended = replace(ended, talk_ended_at=now)
    if segment.wrap_up_s == 0:
        return finish(ended, now)
    _to(segment, S.WRAP_UP)
    return replace(ended, state=S.WRAP_UP, wrap_up_deadline_at=now + segment.wrap_up_s * 1000)


def may_extend(segment: Segment) -> bool:
    return segment.state is S.WRAP_UP and segment.wrap_up_extensions > 0 and segment.wrap_up_extend_s > 0


def extend_wrap_up(segment: Segment) -> Segment:
    """The agent takes one of the extensions that the queue gives. The segment is in wrap-up."""
    assert segment.wrap_up_deadline_at is not None
    return replace(
        segment,
        wrap_up_deadline_at=segment.wrap_up_deadline_at + segment.wrap_up_extend_s * 1000,
        wrap_up_extensions=segment.wrap_up_extensions - 1,
    )


def finish(segment: Segment, now: int) -> Segment:
    _to(segment, S.DONE)
    return replace(segment, state=S.DONE, done_at=now, wrap_up_deadline_at=None)


def _hold_over(segment: Segment, now: int) -> Segment:
    if segment.held_since is None:
        return segment
    return replace(segment, held_since=None, hold_ms=segment.hold_ms + now - segment.held_since)
