"""The session's rules about its agents: offers and their answers, hold, and the work after the talk."""

from __future__ import annotations

from dataclasses import replace

from server.domain import events as ev
from server.domain import segment as segments
from server.domain.endings import EndReason, SegmentEnd
from server.domain.leg import Leg
from server.domain.machine import Refused, Stale
from server.domain.segment import Role, Segment, SegmentState
from server.domain.session import (
    KEPT_OFFERS,
    MAX_RINGING,
    REJECT_PAUSE_MS,
    Session,
    derived_id,
)
from server.domain.session_end import end_session, release_agent, stop_ringing
from server.domain.session_exits import begin_callback
from server.domain.session_guests import declined, hand_over, longest_present, own

MAX_SEGMENTS = 200  # a session that was offered this often has a configuration fault; the row must stay small
MAX_OFFERS = MAX_SEGMENTS * MAX_RINGING  # the same where all are rung: so many rounds


def offer(s: Session, e: ev.AgentOffered, now: int) -> Session:
    ringing = s.ringing
    taken = s.owner if s.queue.ring_all else next(iter(ringing), s.owner)
    if taken is not None:
        raise Stale("offer_taken", {"agent": taken.agent_name})
    if len(ringing) >= MAX_RINGING or any(segment.agent_id == e.agent_id for segment in ringing):
        raise Refused("rings_already")
    pausing = any(r.agent_id == e.agent_id and now - r.at < REJECT_PAUSE_MS for r in s.rejections)
    if pausing and not e.handed_over_by:  # a person may hand it back to whom it came from
        raise Refused("agent_declined")  # on another node, a moment ago
    if s.queue.ring_all:
        s = _fold_offers(s)
    if len(s.segments) >= MAX_SEGMENTS or s.offers >= MAX_OFFERS:
        return end_session(s, EndReason.SYSTEM_FAILED, now)
    number = s.offers + 1
    segment = Segment(
        id=derived_id(s.id, "seg", number),
        number=number,
        agent_id=e.agent_id,
        agent_name=e.agent_name,
        queue_id=s.queue.queue_id,
        leg=Leg(derived_id(s.id, "leg", number), since=now),
        offered_at=now,
        offer_deadline_at=now + s.queue.ring_timeout_s * 1000,
        wrap_up_s=s.queue.wrap_up_s,
        disposition_required=s.queue.disposition_required,
        wrap_up_extend_s=s.queue.wrap_up_extend_s,
        wrap_up_extensions=s.queue.wrap_up_extensions,
        invited_by=e.handed_over_by,
    )
    return replace(s, segments=(*s.segments, segment))


def offer_callback(s: Session, e: ev.AgentOffered, now: int) -> Session:
    return offer(begin_callback(s, now), e, now)


def accept(s: Session, e: ev.AgentAccepted, now: int) -> Session:
    segment = own(s, e.segment_id, e.agent_id)
    if segment.state is not SegmentState.OFFERED:
        raise _late_answer(s, segment)
    return stop_ringing(s.with_segment(segments.accept(segment, now)), SegmentEnd.TAKEN, now)


def reject(s: Session, e: ev.AgentRejected, now: int) -> Session:
    segment = own(s, e.segment_id, e.agent_id)
    if segment.state is not SegmentState.OFFERED:
        raise _late_answer(s, segment)
    if segment.role is Role.OWNER:
        s = declined(s, e.agent_id, now)
    return release_agent(s, segment, SegmentEnd.REJECTED, now)


def vanish(s: Session, e: ev.AgentVanished, now: int) -> Session:
    segment = own(s, e.segment_id, e.agent_id)
    if segment.state is not SegmentState.OFFERED:
        raise Stale("no_change")
    return release_agent(s, segment, SegmentEnd.WITHDRAWN, now)


def agent_hang_up(s: Session, e: ev.AgentHungUp, now: int) -> Session:
    segment = own(s, e.segment_id, e.agent_id)
    if segment.role is not Role.OWNER and segment.takes_part:
        return release_agent(s, segment, SegmentEnd.AGENT_HUNG_UP, now)
    if segment.owns and s.in_conference:
        return hand_over(s, longest_present(s), SegmentEnd.AGENT_HUNG_UP, now)
    if segment.owns and s.guests:  # the customer is on hold, and must not be hung up on by mistake
        raise Refused("consulting")
    if segment.in_talk:
        return end_session(s, EndReason.AGENT_HUNG_UP, now)
    if segment.state is SegmentState.CONNECTING:  # nobody has spoken yet: the customer keeps the place
        s = declined(s, e.agent_id, now)
        return release_agent(s, segment, SegmentEnd.REJECTED, now)
    raise Stale("contact_over")


def change_hold(s: Session, e: ev.HoldChanged, now: int) -> Session:
    segment = own(s, e.segment_id, e.agent_id)
    if not segment.in_talk:
        raise Refused("not_in_call")
    if segment.role is not Role.OWNER:
        raise Refused("not_the_owner")
    if (segment.state is SegmentState.HELD) == e.on:
        raise Stale("no_change")
    if not e.on and any(guest.state is SegmentState.TALKING for guest in s.guests):
        raise Refused("consulting")  # back to the customer, alone or with the guests: that is to be said
    return s.with_segment(segments.hold(segment, now) if e.on else segments.unhold(segment, now))


def save_notes(s: Session, e: ev.NotesSaved, now: int) -> Session:
    segment = own(s, e.segment_id, e.agent_id)
    if segment.state is SegmentState.DONE:
        raise Stale("contact_over")
    if (segment.notes, segment.disposition_id) == (e.notes, e.disposition_id):
        raise Stale("no_change")
    return s.with_segment(replace(segment, notes=e.notes, disposition_id=e.disposition_id))


def extend_wrap_up(s: Session, e: ev.WrapUpExtended, now: int) -> Session:
    segment = own(s, e.segment_id, e.agent_id)
    if segment.state is SegmentState.DONE:
        raise Stale("contact_over")
    if segment.state is not SegmentState.WRAP_UP:
        raise Refused("not_in_wrap_up")
    if segment.wrap_up_deadline_at != e.deadline_at:
        raise Stale("no_change")
    if not segments.may_extend(segment):
        raise Refused("no_extension_left")
    return s.with_segment(segments.extend_wrap_up(segment))


def wrap_up(s: Session, e: ev.WrapUpDone, now: int) -> Session:
    segment = own(s, e.segment_id, e.agent_id)
    if segment.state is SegmentState.DONE:
        raise Stale("contact_over")
    if segment.state is not SegmentState.WRAP_UP:
        raise Refused("not_in_wrap_up")
    if segment.disposition_required and e.disposition_id is None:
        raise Refused("disposition_required")
    return s.with_segment(segments.finish(replace(segment, notes=e.notes, disposition_id=e.disposition_id), now))


# --- what they share ---------------------------------------------------------------------------------


def _fold_offers(s: Session) -> Session:
    """The row lets go of all but the newest offers that came to nothing. Each was over before this step, so its own row
    says how it ended."""
    over = [segment.id for segment in s.segments if segment.came_to_nothing][:-KEPT_OFFERS]
    if not over:
        return s
    kept = tuple(segment for segment in s.segments if segment.id not in over)
    return replace(s, segments=kept, folded=s.folded + len(over))


def _late_answer(s: Session, segment: Segment) -> Stale:
    """Why an accept or a reject comes too late, in the words that the agent needs."""
    if segment.state is not SegmentState.DONE:
        return Stale("no_change")
    if segment.end_reason is SegmentEnd.CUSTOMER_LEFT:
        return Stale("customer_left")
    taken = s.owner or s.taker(segment)
    if taken is not None:
        return Stale("offer_taken", {"agent": taken.agent_name})
    return Stale("offer_withdrawn" if segment.end_reason is SegmentEnd.WITHDRAWN else "offer_expired")
