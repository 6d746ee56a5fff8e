"""A leg: one participant's media connection in a session, through all its peer connections.

`wanted` waits for the participant's SDP offer, `opening` for the worker's word that sound arrives, `up` is
audible both ways as far as this leg goes, `lost` waits for a re-anchor until its grace ends, `closed` is over.
A higher generation than the newest is a re-anchor; the same or a lower one is late, hence stale.
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
    or was never up. `was_up` tells a leg that never worked from one that was lost. `up_generation` is the one that was
    audible last: it carries the sound until a newer one does."""

    id: str
    since: int
    generation: int = 0
    state: LegState = LegState.WANTED
    was_up: bool = False
    up_generation: int = 0
    down_since: int | None = None
    quiet: bool = False

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
    return replace(leg, generation=generation, state=state, since=now if state is not leg.state else leg.since)


def up(leg: Leg, now: int) -> Leg:
    return replace(
        leg, state=LegState.UP, since=now, was_up=True, up_generation=leg.generation, down_since=None, quiet=False
    )


def down(leg: Leg, now: int) -> Leg:
    """The newest peer connection is gone, or could not be opened."""
    since = leg.down_since if leg.down_since is not None else now
    return replace(leg, state=LegState.LOST, since=now, down_since=since, quiet=False)


def refused(leg: Leg, now: int) -> Leg:
    """The newest offer can't be served. A leg that is up goes back to the generation that is: else the worker's word
    that this one is lost would count as old news, and the leg would stay up for ever."""
    return replace(leg, generation=leg.up_generation or leg.generation) if leg.is_up else down(leg, now)


def closed(leg: Leg, now: int) -> Leg:
    return leg if leg.state is LegState.CLOSED else replace(leg, state=LegState.CLOSED, since=now, quiet=False)
