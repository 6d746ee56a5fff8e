"""The session's rules about supervisors who listen to a talk, coach its agent, barge in, and take it over.

A supervisor is no guest: nobody has called them in, the agent does not see one who only listens, and no wish of the
owner moves them. They begin with listening, their microphone off. While they are there they take no calls.
"""

from __future__ import annotations

from dataclasses import replace

from server.domain import events as ev
from server.domain.endings import SegmentEnd
from server.domain.leg import Leg
from server.domain.machine import Refused, Stale
from server.domain.segment import Monitor, Role, Segment, SegmentState
from server.domain.session import Session, derived_id
from server.domain.session_guests import MAX_AGENTS, hand_over, own

MAX_SUPERVISIONS = 100  # of one session, one after the other: its row must stay small


def supervise(s: Session, e: ev.SupervisionBegun, now: int) -> Session:
    owner = s.owner
    if owner is None or not owner.in_talk:
        raise Refused("not_in_call")
    present = [segment for segment in s.segments if segment.takes_part or segment.rings]
    if any(segment.agent_id == e.supervisor_id for segment in present):
        raise Refused("takes_part_already")
    earlier = sum(segment.role is Role.SUPERVISOR for segment in s.segments)
    if len(present) >= MAX_AGENTS or earlier >= MAX_SUPERVISIONS:
        raise Refused("too_many_take_part")
    number = s.offers + 1
    supervisor = Segment(
        id=derived_id(s.id, "seg", number),
        number=number,
        agent_id=e.supervisor_id,
        agent_name=e.supervisor_name,
        queue_id=owner.queue_id,
        leg=Leg(derived_id(s.id, "leg", number), since=now),
        offered_at=now,
        offer_deadline_at=now,
        wrap_up_s=0,
        disposition_required=False,
        state=SegmentState.CONNECTING,
        accepted_at=now,
        role=Role.SUPERVISOR,
        muted=True,
        monitor=Monitor.LISTEN,
    )
    return replace(s, segments=(*s.segments, supervisor))


def change_supervision(s: Session, e: ev.SupervisionChanged, now: int) -> Session:
    """The microphone is off while listening, and on otherwise."""
    segment = _supervisor(s, e.segment_id, e.agent_id)
    monitor = Monitor(e.monitor)
    if segment.monitor is monitor:
        raise Stale("no_change")
    return s.with_segment(replace(segment, monitor=monitor, muted=monitor is Monitor.LISTEN))


def take_over(s: Session, e: ev.SupervisorTookOver, now: int) -> Session:
    """The session is the supervisor's from now on, and its agent is done."""
    segment = _supervisor(s, e.segment_id, e.agent_id)
    if not segment.in_talk:
        raise Refused("not_in_call")
    return hand_over(s, replace(segment, monitor=None, muted=False), SegmentEnd.TAKEN_OVER, now)


def _supervisor(s: Session, segment_id: str, agent_id: str) -> Segment:
    segment = own(s, segment_id, agent_id)
    if segment.role is not Role.SUPERVISOR:
        raise Refused("not_a_supervisor")
    if not segment.takes_part:
        raise Stale("contact_over")
    return segment
