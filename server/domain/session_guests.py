"""The session's rules about agents who are called in: consulting, conference, and handing the customer over.

Each segment's own state says who hears whom (segment.py), so there is no state of the consultation beside it:

    owner      guests     customer
    held       talking    hears music: the agents speak among themselves
    talking    held       speaks with the owner; the guests hear music
    talking    talking    everybody hears everybody: a conference

Whoever is called in must be free, like for any offer: the step of their row says so. A guest who declines, or does not
answer, leaves all others as they are.
"""

from __future__ import annotations

from dataclasses import replace

from server.domain import events as ev
from server.domain import segment as segments
from server.domain.endings import SegmentEnd
from server.domain.leg import Leg
from server.domain.machine import Refused, Stale
from server.domain.segment import Role, Segment, SegmentState
from server.domain.session import KEPT_REJECTIONS, Rejection, Session, derived_id
from server.domain.session_end import release_agent, stop_recordings
from server.domain.session_legs import begin_recording

MAX_AGENTS = 7  # with the customer eight take part
MAX_GUESTS = 100  # of one session, one after the other: its row must stay small


def own(s: Session, segment_id: str, agent_id: str) -> Segment:
    """Raises Refused(not_your_contact)."""
    segment = s.segment(segment_id)
    if segment is None or segment.agent_id != agent_id:
        raise Refused("not_your_contact")
    return segment


def declined(s: Session, agent_id: str, now: int) -> Session:
    """The agent is not asked for this session again at once."""
    return replace(s, rejections=(*s.rejections[1 - KEPT_REJECTIONS :], Rejection(agent_id, now)))


def change_mute(s: Session, e: ev.MuteChanged, now: int) -> Session:
    segment = own(s, e.segment_id, e.agent_id)
    if not segment.takes_part:
        raise Refused("not_in_call")
    if segment.muted == e.on:
        raise Stale("no_change")
    return s.with_segment(replace(segment, muted=e.on))


def send_digits(s: Session, e: ev.DigitsSent, now: int) -> Session:
    """They go where the agent's voice goes: not to a customer on hold."""
    segment = own(s, e.segment_id, e.agent_id)
    owner = s.owner
    if segment.state is not SegmentState.TALKING or owner is None or owner.state is not SegmentState.TALKING:
        raise Refused("not_in_call")
    return s


def invite(s: Session, e: ev.GuestInvited, now: int) -> Session:
    """The customer hears music from now on; in a conference the talk goes on, and the new one joins it."""
    owner = talking_owner(s, e.segment_id, e.agent_id)
    present = [segment for segment in s.segments if segment.takes_part or segment.rings]
    if any(segment.agent_id == e.guest_id for segment in present):
        raise Refused("takes_part_already")
    guests = sum(segment.role is Role.GUEST for segment in s.segments)
    if len(present) >= MAX_AGENTS or guests >= MAX_GUESTS:
        raise Refused("too_many_take_part")
    if not s.in_conference and owner.state is SegmentState.TALKING:
        s = s.with_segment(segments.hold(owner, now))
    number = s.offers + 1
    guest = Segment(
        id=derived_id(s.id, "seg", number),
        number=number,
        agent_id=e.guest_id,
        agent_name=e.guest_name,
        queue_id=owner.queue_id,
        leg=Leg(derived_id(s.id, "leg", number), since=now),
        offered_at=now,
        offer_deadline_at=now + s.queue.ring_timeout_s * 1000,
        wrap_up_s=0,
        disposition_required=False,
        role=Role.GUEST,
        invited_by=owner.agent_name,
    )
    return replace(s, segments=(*s.segments, guest))


def release_guest(s: Session, e: ev.GuestReleased, now: int) -> Session:
    """With the last one gone the owner is back with the customer."""
    owner = talking_owner(s, e.segment_id, e.agent_id)
    guest = s.segment(e.guest_segment_id)
    if guest is None or guest not in s.guests:
        raise Stale("no_change")
    s = s.with_segment(segments.end(guest, SegmentEnd.WITHDRAWN if guest.rings else SegmentEnd.RELEASED, now))
    if s.guests or owner.state is not SegmentState.HELD:
        return s
    return s.with_segment(segments.unhold(owner, now))


def swap(s: Session, e: ev.ConsultSwapped, now: int) -> Session:
    owner = talking_owner(s, e.segment_id, e.agent_id)
    _guests_in_talk(s)
    if e.to_customer == (owner.state is SegmentState.TALKING) and not s.in_conference:
        raise Stale("no_change")
    return _set_talk(s, owner, customer=e.to_customer, guests=not e.to_customer, now=now)


def confer(s: Session, e: ev.ConferenceBegun, now: int) -> Session:
    owner = talking_owner(s, e.segment_id, e.agent_id)
    guests = _guests_in_talk(s)
    if owner.state is SegmentState.TALKING and all(guest.state is SegmentState.TALKING for guest in guests):
        raise Stale("no_change")
    return _set_talk(s, owner, customer=True, guests=True, now=now)


def complete(s: Session, e: ev.ConsultCompleted, now: int) -> Session:
    talking_owner(s, e.segment_id, e.agent_id)
    guest = s.segment(e.guest_segment_id)
    if guest is None or guest.role is not Role.GUEST or not guest.in_talk:
        raise Refused("nobody_consulted")
    return hand_over(s, guest, SegmentEnd.TRANSFERRED, now)


def transfer(s: Session, e: ev.Transferred, now: int) -> Session:
    """The customer waits again, first in line: the order key is that of the first arrival."""
    owner = talking_owner(s, e.segment_id, e.agent_id)
    if s.guests:
        raise Refused("consulting")
    if e.queue is not None:
        s = replace(s, queue=e.queue, asks="", preferred=(), excluded=())  # said of the queue that they leave
    s = replace(s, sticky_agent_id=None, rejections=())  # who had declined it, did so before it was answered
    s = declined(s, e.agent_id, now)
    return release_agent(s, owner, SegmentEnd.TRANSFERRED, now)


def hand_over(s: Session, guest: Segment, why: SegmentEnd, now: int) -> Session:
    """The guest has the session from now on, and the customer to talk to. Other guests stay as they are."""
    owner = s.owner
    assert owner is not None
    s = stop_recordings(s.with_segment(segments.end(owner, why, now)), now)
    if guest.state is SegmentState.HELD:
        guest = segments.unhold(guest, now)
    rules = s.queue
    taken = replace(
        guest,
        role=Role.OWNER,
        wrap_up_s=rules.wrap_up_s,
        disposition_required=rules.disposition_required,
        wrap_up_extend_s=rules.wrap_up_extend_s,
        wrap_up_extensions=rules.wrap_up_extensions,
    )
    return begin_recording(s.with_segment(taken), taken, now)


def longest_present(s: Session) -> Segment:
    """Of the guests who are in the talk."""
    return min(_guests_in_talk(s), key=lambda guest: (guest.talk_started_at or 0, guest.number))


def next_owner(s: Session) -> Segment | None:
    """Who takes over from an owner who is lost: a guest who knows what it is about."""
    return longest_present(s) if any(guest.in_talk for guest in s.guests) else None


def talking_owner(s: Session, segment_id: str, agent_id: str) -> Segment:
    """The owner in talk whose wish it is. Raises Refused."""
    segment = own(s, segment_id, agent_id)
    if not segment.in_talk:
        raise Refused("not_in_call")
    if segment.role is not Role.OWNER:
        raise Refused("not_the_owner")
    return segment


def _guests_in_talk(s: Session) -> list[Segment]:
    """Raises Refused where there is none."""
    guests = [guest for guest in s.guests if guest.in_talk]
    if not guests:
        raise Refused("nobody_consulted")
    return guests


def _set_talk(s: Session, owner: Segment, *, customer: bool, guests: bool, now: int) -> Session:
    wanted = {owner.id: customer} | {guest.id: guests for guest in s.guests if guest.in_talk}
    for segment in s.segments:
        if segment.id in wanted and wanted[segment.id] != (segment.state is SegmentState.TALKING):
            s = s.with_segment((segments.unhold if wanted[segment.id] else segments.hold)(segment, now))
    return s
