"""How sessions end, and how a session goes on without the agent it had."""

from __future__ import annotations

from dataclasses import replace

from server.domain import leg as legs
from server.domain import recording as recordings
from server.domain import segment as segments
from server.domain.endings import SEGMENT_END, VERDICTS, EndReason, SegmentEnd, VisitOutcome
from server.domain.hours import is_open
from server.domain.queue_life import Exit
from server.domain.queue_visit import QueueVisit
from server.domain.queue_visit import close as close_visit
from server.domain.segment import Role, Segment
from server.domain.session import Callback, Flow, Session, SessionState, derived_id

VOICEMAIL = "voicemail"


def end_session(s: Session, reason: EndReason, now: int) -> Session:
    """The one terminal transition. A talk goes to wrap-up; a set-up ends as the customer's leaving, and so does what
    rings, unless the queue has given up."""
    owner, verdict = s.owner, SEGMENT_END[reason]
    if owner is not None:
        s = s.with_segment(segments.end(owner, verdict if owner.in_talk else SegmentEnd.CUSTOMER_LEFT, now))
    s = dismiss_guests(s, verdict, now)
    s = stop_ringing(s, verdict if verdict is SegmentEnd.WITHDRAWN else SegmentEnd.CUSTOMER_LEFT, now)
    visit = s.visit
    if visit is not None:
        s = _close_visit(s, visit, VERDICTS[reason].waiting, now)
    s = stop_recordings(s, now)
    return replace(
        s,
        state=SessionState.ENDED,
        customer_leg=legs.closed(s.customer_leg, now),
        unplaced_since=None,
        kept_since=None,
        callback=None,
        flow=None,
        parked=None,
        ended_at=now,
        end_reason=reason,
    )


def release_agent(s: Session, segment: Segment, why: SegmentEnd, now: int) -> Session:
    """The agent is out, the customer waits on, first in line: the order key is that of the first arrival.

    Before the talk the same queue visit goes on; after a talk (the agent was lost) a new one begins. A guest who goes
    leaves the others as they are."""
    s = s.with_segment(segments.end(segment, why, now))
    if s.state is not SessionState.CONNECTED or segment.role is not Role.OWNER:
        return s
    s = stop_recordings(dismiss_guests(s, SegmentEnd.RELEASED, now), now)
    visit = QueueVisit(derived_id(s.id, "vis", len(s.visits) + 1), s.queue.queue_id, now)
    return replace(s, state=SessionState.QUEUED, visits=(*s.visits, visit))


def stop_ringing(s: Session, why: SegmentEnd, now: int) -> Session:
    """Every offer that waits for its agent's answer is over."""
    for segment in s.ringing:
        s = s.with_segment(segments.end(segment, why, now))
    return s


def dismiss_guests(s: Session, why: SegmentEnd, now: int) -> Session:
    """Nobody is called in any more, and there is nothing to listen to. What rings for a guest is withdrawn."""
    for other in (*s.guests, *s.supervisors):
        s = s.with_segment(segments.end(other, SegmentEnd.WITHDRAWN if other.rings else why, now))
    return s


def flow_out(s: Session, visit: QueueVisit, otherwise: EndReason, now: int) -> Session:
    """The queue gives up: the session leaves by its exit, or goes on in the first queue on the way of its overflows
    that is open now, or ends where there is none. It keeps its first arrival, so it comes before those there who came
    later."""
    if s.queue.exit is Exit.CALLBACK and s.customer.number:
        return wait_for_call(stop_ringing(s, SegmentEnd.WITHDRAWN, now), s.customer.number, now)
    if s.queue.exit is Exit.VOICEMAIL:
        s = _close_visit(stop_ringing(s, SegmentEnd.WITHDRAWN, now), visit, VisitOutcome.FLOWED_OUT, now)
        return replace(s, state=SessionState.FLOW, flow=Flow(VOICEMAIL, now))
    next_queue = s.queue.overflow
    while next_queue is not None and next_queue.hours is not None and not is_open(next_queue.hours, now):
        next_queue = next_queue.overflow
    if next_queue is None:
        return end_session(s, otherwise, now)
    s = _close_visit(stop_ringing(s, SegmentEnd.WITHDRAWN, now), visit, VisitOutcome.FLOWED_OUT, now)
    begun = QueueVisit(derived_id(s.id, "vis", len(s.visits) + 1), next_queue.queue_id, now)
    return replace(s, queue=next_queue, visits=(*s.visits, begun))


def go_away(s: Session, now: int) -> Session:
    """The customer holds nothing any more, and keeps the place. Nothing rings."""
    return replace(
        s,
        state=SessionState.PLACE_KEPT,
        kept_since=now,
        customer_leg=legs.closed(s.customer_leg, now),
        worker_id=None,
        incarnation=None,
        epoch=s.epoch + 1,
        former=None,
        unplaced_since=None,
    )


def wait_for_call(s: Session, number: str, now: int) -> Session:
    return replace(go_away(s, now), callback=Callback(number, now))


def _close_visit(s: Session, visit: QueueVisit, outcome: VisitOutcome, now: int) -> Session:
    closed = close_visit(visit, outcome, now)
    return replace(s, visits=tuple(closed if v.id == visit.id else v for v in s.visits))


def stop_recordings(s: Session, now: int) -> Session:
    for recording in s.recordings:
        s = s.with_recording(recordings.stop(recording, now))
    return s
