"""The session's rules about legs: offers of participants, words of workers, and what begins when both are audible."""

from __future__ import annotations

from dataclasses import replace

from server.domain import events as ev
from server.domain import leg as legs
from server.domain import recording as recordings
from server.domain import segment as segments
from server.domain.endings import VisitOutcome
from server.domain.leg import Leg, LegState
from server.domain.machine import Refused, Stale
from server.domain.queue_visit import QueueVisit
from server.domain.queue_visit import close as close_visit
from server.domain.recording import Part, Recording
from server.domain.segment import Segment, SegmentState
from server.domain.session import Session, SessionState, derived_id


def leg_offered(s: Session, e: ev.LegOffered, now: int) -> Session:
    leg = _open_leg(s, e.leg_id)
    if e.generation == leg.generation:
        raise Stale("no_change")  # sent again because its answer was lost
    if e.generation < leg.generation:
        raise Stale("stale_generation")
    s = s.with_leg(legs.offered(leg, e.generation, now))
    if s.state is not SessionState.ARRIVING:
        return s
    return _enqueue(s, now)


def leg_answered(s: Session, e: ev.LegAnswered, now: int) -> Session:
    leg = _reported(s, e.leg_id, e.generation, e.epoch)
    return s.with_leg(legs.answered(leg, e.generation))


def leg_refused(s: Session, e: ev.LegRefused, now: int) -> Session:
    leg = _reported(s, e.leg_id, e.generation, e.epoch)
    if e.generation != leg.generation:
        raise Stale("stale_generation")
    return s.with_leg(legs.refused(leg, now))


def leg_up(s: Session, e: ev.LegWentUp, now: int) -> Session:
    leg = _reported(s, e.leg_id, e.generation, e.epoch)
    if e.generation <= leg.gone:  # said twice, by two nodes, and the leg went down in between
        raise Stale("stale_generation")
    s = s.with_leg(legs.up(leg, e.generation, now))
    for other in (*s.guests, *s.supervisors):
        if other.state is SegmentState.CONNECTING and other.leg.is_up and not other.leg.former:
            s = s.with_segment(segments.begin_talk(other, now))
    owner = s.owner
    if owner is None or owner.state is not SegmentState.CONNECTING:
        return s
    if not all(leg.is_up and not leg.former for leg in (owner.leg, s.customer_leg)):
        return s
    return _begin_talk(s, owner, now)


def leg_down(s: Session, e: ev.LegWentDown, now: int) -> Session:
    if _is_formers(s, e.leg_id, e.epoch):
        leg = _known_leg(s, e.leg_id)
        return s.with_leg(legs.lost_in_former_place(leg, e.generation, now))
    leg = _reported(s, e.leg_id, e.generation, e.epoch)
    leg = replace(legs.answered(leg, e.generation), gone=max(leg.gone, e.generation))
    if leg.former:  # an attempt to come over; it is still heard where it was
        return s.with_leg(legs.refused(leg, now))
    return s.with_leg(legs.down(leg, now))


def leg_quiet(s: Session, e: ev.LegFellQuiet, now: int) -> Session:
    formers = _is_formers(s, e.leg_id, e.epoch)
    leg = _known_leg(s, e.leg_id) if formers else _reported(s, e.leg_id, e.generation, e.epoch)
    if leg.former and not formers:
        raise Stale("no_change")
    if (leg.quiet, leg.silent) == (e.quiet, e.silent) or (e.change and e.change <= leg.quiet_change):
        raise Stale("no_change")
    return s.with_leg(replace(leg, quiet=e.quiet, silent=e.silent, quiet_change=e.change))


# --- moving ------------------------------------------------------------------------------------------


def arrive_in_new_place(s: Session) -> Session:
    """After any step: once no leg is on its way from the former placement any more, that one is done with, and the
    recordings go on here."""
    if s.former is None or (not s.ended and any(leg.former for leg in s.live_legs)):
        return s
    s = replace(s, former=None)
    return s if s.worker_id is None else carry_recordings(s, s.worker_id)


def placed(s: Session, worker_id: str, incarnation: str | None, now: int) -> Session:
    """A new placement, on that worker."""
    s = replace(s, worker_id=worker_id, incarnation=incarnation, epoch=s.epoch + 1, placed_at=now, unplaced_since=None)
    return s if s.former is not None else carry_recordings(s, worker_id)


def begin_recording(s: Session, owner: Segment, now: int) -> Session:
    """Of the owner's talk, where the queue wants one."""
    if not s.queue.record or s.worker_id is None:
        return s
    number = len(s.recordings) + 1
    begun = Recording(derived_id(s.id, "rec", number), owner.id, now, (Part(1, s.worker_id, epoch=s.epoch),))
    return replace(s, recordings=(*s.recordings, begun))


def carry_recordings(s: Session, worker_id: str) -> Session:
    for recording in s.recordings:
        s = s.with_recording(recordings.move(recording, worker_id, s.epoch))
    return s


# --- what they share ---------------------------------------------------------------------------------


def _enqueue(s: Session, now: int) -> Session:
    number = len(s.visits) + 1
    visit = QueueVisit(derived_id(s.id, "vis", number), s.queue.queue_id, now)
    return replace(s, state=SessionState.QUEUED, visits=(*s.visits, visit))


def _begin_talk(s: Session, owner: Segment, now: int) -> Session:
    """Both can hear each other: the wait is answered, and the recording begins where the queue wants one."""
    s = s.with_segment(segments.begin_talk(owner, now))
    visit = s.visit
    if visit is not None:
        outcome = VisitOutcome.ANSWERED if s.callback is None else VisitOutcome.CALLBACK
        closed = close_visit(visit, outcome, now)
        s = replace(s, visits=tuple(closed if v.id == visit.id else v for v in s.visits))
    s = begin_recording(s, owner, now)
    first = s.talk_started_at if s.talk_started_at is not None else now
    return replace(s, state=SessionState.CONNECTED, talk_started_at=first, callback=None, parked=None)


def _open_leg(s: Session, leg_id: str) -> Leg:
    """A leg that may carry media now. Raises Stale for one that is over, or whose offer is not accepted yet."""
    leg = s.leg(leg_id)
    if leg is None:
        raise Refused("unknown_leg")
    if leg.state is LegState.CLOSED:
        raise Stale("contact_over")
    if any(segment.rings and segment.leg.id == leg_id for segment in s.segments):
        raise Refused("not_accepted")
    return leg


def _known_leg(s: Session, leg_id: str) -> Leg:
    leg = s.leg(leg_id)
    if leg is None or leg.state is LegState.CLOSED:
        raise Stale("contact_over")
    return leg


def _is_formers(s: Session, leg_id: str, epoch: int) -> bool:
    """A word of the former placement about a leg that it carries."""
    return s.former is not None and epoch == s.former.epoch and _known_leg(s, leg_id).former


def _reported(s: Session, leg_id: str, generation: int, epoch: int) -> Leg:
    """The leg that a worker's word is about, if the word is of this placement and not about an older generation.

    One that was offered and not yet answered counts: the worker's report may overtake its answer."""
    leg = _known_leg(s, leg_id)
    if epoch != s.epoch or s.worker_id is None:
        raise Stale("stale_epoch")
    if not leg.taken <= generation <= leg.generation:
        raise Stale("stale_generation")
    return leg
