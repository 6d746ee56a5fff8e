"""The session's rules about parking: the owner leaves the customer on hold, and any agent of the queue may fetch them.

The one who parks is done with the customer, and goes to wrap-up as after a transfer. A parked session is in no queue
and rings for nobody. Who fetches has the session as one who accepted an offer: with a connection to come up, the same
deadlines and the same capacity; without a connection the customer is parked as before. Nobody in time: the customer
waits in the queue again, first in line by first arrival.
"""

from __future__ import annotations

from dataclasses import replace

from server.domain import events as ev
from server.domain import segment as segments
from server.domain.endings import SegmentEnd
from server.domain.leg import Leg
from server.domain.machine import Refused, Stale
from server.domain.queue_visit import QueueVisit
from server.domain.segment import Segment, SegmentState
from server.domain.session import Parked, Session, SessionState, derived_id
from server.domain.session_end import dismiss_guests, stop_recordings
from server.domain.session_guests import talking_owner

MAX_OFFERS = 100  # of a session that may still be parked or fetched: what comes after it must have room in the row


def park(s: Session, e: ev.SessionParked, now: int) -> Session:
    owner = talking_owner(s, e.segment_id, e.agent_id)
    if s.guests:
        raise Refused("consulting")
    _has_room(s)
    s = s.with_segment(segments.end(owner, SegmentEnd.PARKED, now))
    s = stop_recordings(dismiss_guests(s, SegmentEnd.RELEASED, now), now)
    parked = Parked(owner.agent_id, owner.agent_name, now, now + s.queue.park_limit_s * 1000)
    # Who had declined it did so before it was answered; where the queue asks for the last agent, that is this one.
    return replace(s, state=SessionState.PARKED, parked=parked, rejections=(), sticky_agent_id=owner.agent_id)


def fetch(s: Session, e: ev.SessionFetched, now: int) -> Session:
    """Of two agents who fetch at once the second reads who was first."""
    _nobodys(s, e)
    _has_room(s)
    number = s.offers + 1
    rules = s.queue
    segment = Segment(
        id=derived_id(s.id, "seg", number),
        number=number,
        agent_id=e.agent_id,
        agent_name=e.agent_name,
        queue_id=rules.queue_id,
        leg=Leg(derived_id(s.id, "leg", number), since=now),
        offered_at=now,
        offer_deadline_at=now,
        wrap_up_s=rules.wrap_up_s,
        disposition_required=rules.disposition_required,
        wrap_up_extend_s=rules.wrap_up_extend_s,
        wrap_up_extensions=rules.wrap_up_extensions,
        state=SegmentState.CONNECTING,
        accepted_at=now,
    )
    return replace(s, segments=(*s.segments, segment))


def not_parked(s: Session, e: ev.SessionFetched, now: int) -> Session:
    """Too late: another agent has it, it is back in its queue, or its customer has left."""
    if s.ended:
        raise Stale("customer_left")
    _nobodys(s, e)
    raise Stale("not_parked")


def parked_away(s: Session, e: ev.AgentOffered, now: int) -> Session:
    """A router whose index is late offers a session that was answered and parked meanwhile."""
    raise Stale("offer_withdrawn")


def back_to_queue(s: Session, now: int) -> Session:
    """Nobody has fetched it in time."""
    visit = QueueVisit(derived_id(s.id, "vis", len(s.visits) + 1), s.queue.queue_id, now)
    return replace(s, state=SessionState.QUEUED, parked=None, visits=(*s.visits, visit))


def _nobodys(s: Session, e: ev.SessionFetched) -> None:
    owner = s.owner
    if owner is None:
        return
    if owner.agent_id == e.agent_id:
        raise Stale("no_change")  # said twice, because the first answer was lost
    raise Stale("offer_taken", {"agent": owner.agent_name})


def _has_room(s: Session) -> None:
    if s.offers >= MAX_OFFERS:
        raise Refused("parked_too_often")
