"""The session's rules about places in a queue: one that is kept while its customer is away, and one that a customer who
dropped out has again in another session.

A kept place costs nothing but a row: the worker is let go, and the epoch rises, so that whatever it says of the session
from then on is late. The queue visit goes on, and with it the order key; nothing else of the wait runs.
"""

from __future__ import annotations

from dataclasses import replace

from server.domain import events as ev
from server.domain import leg as legs
from server.domain.endings import SegmentEnd
from server.domain.machine import Refused, Stale
from server.domain.queue_visit import QueueVisit
from server.domain.session import Session, SessionState
from server.domain.session_end import go_away, stop_ringing
from server.domain.session_legs import placed


def keep_place(s: Session, e: ev.PlaceKept, now: int) -> Session:
    """What rings is withdrawn without blame; an agent who has accepted already is not left alone. Who is being called
    back has been away: there is no second place to keep."""
    if not s.queue.keep_place_s:
        raise Refused("place_not_offered")
    if s.owner is not None or s.callback is not None:
        raise Refused("being_connected")
    return go_away(stop_ringing(s, SegmentEnd.WITHDRAWN, now), now)


def take_place(s: Session, e: ev.PlaceTaken, now: int) -> Session:
    """Who would rather wait than be called may do so as long as anybody: the longest wait is over already, or might be
    at once."""
    assert s.kept_since is not None
    away_since = s.kept_since if s.callback is None else 0
    s = replace(
        s,
        state=SessionState.QUEUED,
        kept_since=None,
        callback=None,
        customer_leg=legs.wanted(s.customer_leg, now),
        visits=tuple(v if v.outcome is not None else _away(v, away_since, now) for v in s.visits),
    )
    if e.worker_id is None:
        return replace(s, unplaced_since=now)
    return placed(s, e.worker_id, e.incarnation, now)


def _away(visit: QueueVisit, since: int, now: int) -> QueueVisit:
    if since <= visit.entered_at:
        return replace(visit, away_ms=now - visit.entered_at)
    return replace(visit, away_ms=visit.away_ms + now - since)


def pass_on(s: Session, e: ev.PlacePassedOn, now: int) -> Session:
    if s.passed_to is not None:
        raise Stale("no_change" if s.passed_to == e.session_id else "place_taken")
    return replace(s, passed_to=e.session_id)


def not_over(s: Session, e: ev.PlacePassedOn, now: int) -> Session:
    """The customer is still in this session, so the place is nobody else's."""
    raise Stale("not_over")


def not_waiting(s: Session, e: ev.PlaceKept, now: int) -> Session:
    raise Refused("not_waiting")


def nothing_new(s: Session, e: ev.PlaceKept | ev.PlaceTaken, now: int) -> Session:
    """Said twice, because the first answer was lost."""
    raise Stale("no_change")


def away(s: Session, e: ev.AgentOffered, now: int) -> Session:
    """A router whose index is late offers a session whose customer is busy with a machine."""
    raise Stale("customer_away")
