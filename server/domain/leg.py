"""A leg: one participant's media connection in a session, through all its peer connections.

`wanted` waits for the participant's SDP offer, `opening` for the worker's word that sound arrives, `up` is
audible both ways as far as this leg goes, `lost` waits for a re-anchor until its grace ends, `closed` is over.
A higher generation than the newest is a re-anchor; the same or a lower one is late, hence stale.

When its session moves to another worker a leg that is up stays so where it was, `former`, until the participant's next
generation is up in the new place: make before break. A view with a generation that the participant did not make is
how it hears that a new one is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class LegState(StrEnum):
    WANTED = "wanted"
    OPENING = "opening"
    UP = "up"
    LOST = "lost"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Leg:
    """`since` is when the state began (ms); `down_since` when the leg was last audible, None while it is up
    or was never up. `was_up` tells a leg that never worked from one that was lost.

    `generation` is the newest that the participant offered and never falls; `taken` is the newest that the worker
    took, the one its words are about: an offer that it refuses must not turn them into old news. `pending`: the newest
    offer has neither been taken nor refused."""

    id: str
    since: int
    generation: int = 0
    taken: int = 0
    pending: bool = False
    state: LegState = LegState.WANTED
    was_up: bool = False
    down_since: int | None = None
    quiet: bool = False
    quiet_change: int = 0
    silent: bool = False  # it was never heard
    gone: int = 0
    former: bool = False

    @property
    def is_up(self) -> bool:
        return self.state is LegState.UP

    @property
    def reconnecting(self) -> bool:
        """Was audible and is not now: what the other side reads as "reconnecting"."""
        return self.was_up and self.state is not LegState.CLOSED and (not self.is_up or self.quiet)


def offered(leg: Leg, generation: int, now: int) -> Leg:
    """The participant sent an SDP offer. While an older generation is up the leg stays up (re-anchor)."""
    state = LegState.UP if leg.is_up else LegState.OPENING
    since = now if state is not leg.state else leg.since
    return replace(leg, generation=generation, pending=True, state=state, since=since)


def answered(leg: Leg, generation: int) -> Leg:
    """The worker took this generation."""
    return replace(leg, taken=generation, pending=leg.pending and generation != leg.generation)


def up(leg: Leg, generation: int, now: int) -> Leg:
    leg = answered(leg, generation)
    return replace(
        leg,
        state=LegState.UP,
        since=now,
        was_up=True,
        down_since=None,
        quiet=False,
        quiet_change=0,
        silent=False,
        former=False,
    )


def down(leg: Leg, now: int) -> Leg:
    """The peer connection is gone. With a newer offer on its way the leg is opening, else its owner must offer."""
    since = leg.down_since if leg.down_since is not None else now
    state = LegState.OPENING if leg.pending else LegState.LOST
    return replace(leg, state=state, since=now, down_since=since, quiet=False, silent=False, former=False)


def refused(leg: Leg, now: int) -> Leg:
    """The newest offer can't be served. A leg that is up goes on with the generation that is."""
    leg = replace(leg, pending=False)
    return leg if leg.is_up else down(leg, now)


def lost(leg: Leg, now: int) -> Leg:
    """Its worker is gone, and with it whatever was offered."""
    return down(replace(leg, pending=False), now)


def lost_in_former_place(leg: Leg, generation: int, now: int) -> Leg:
    """The former placement's connection is gone, before or while the new one takes over."""
    under_way = leg.pending or leg.taken > generation
    return replace(down(replace(leg, pending=under_way), now), pending=leg.pending)


def moved(leg: Leg, now: int) -> Leg:
    """The session has a new placement. A leg that is up is carried on by the former one, and a new generation is wanted
    of its owner; two above the newest, so that an offer of the next one, made for the old place, is told it is late."""
    if leg.is_up:
        return replace(leg, generation=leg.generation + 2, pending=False, former=True)
    return lost(leg, now) if leg.state is LegState.OPENING else leg


def wanted(leg: Leg, now: int) -> Leg:
    """Its participant, who was away on purpose, is here again: the next generation is to be offered."""
    return replace(leg, state=LegState.WANTED, since=now, pending=False, down_since=None, quiet_change=0)


def closed(leg: Leg, now: int) -> Leg:
    if leg.state is LegState.CLOSED:
        return leg
    return replace(leg, state=LegState.CLOSED, since=now, quiet=False, silent=False, former=False)
