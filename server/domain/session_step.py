"""The session's transitions: a table picks a rule, small rules decide. No rule does more than give the next
session; what follows from it is derived in `effects.py`.

A pair that the table does not hold raises `IllegalTransition`: that is a bug. What peers may well send late,
twice or out of order has a rule in every state, which raises `Stale` or `Refused` where it can't be done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from server.domain import events as ev
from server.domain import leg as legs
from server.domain import recording as recordings
from server.domain import segment as segments
from server.domain.deadlines import Deadline, deadlines, on_deadline, wait_ends_at
from server.domain.endings import EndReason, SegmentEnd
from server.domain.leg import Leg, LegState
from server.domain.machine import IllegalTransition, Refused, Stale
from server.domain.media import Placement
from server.domain.queue_visit import ToldWait
from server.domain.recording import Recording
from server.domain.segment import Segment, SegmentState
from server.domain.session import (
    KEPT_OFFERS,
    KEPT_REJECTIONS,
    MAX_RINGING,
    REJECT_PAUSE_MS,
    Rejection,
    Session,
    SessionState,
    derived_id,
)
from server.domain.session_end import end_session, flow_out, release_agent, stop_ringing
from server.domain.session_exits import (
    ask_callback,
    begin_callback,
    end_flow,
    miss_callback,
    no_call_now,
    no_callback,
    no_flow,
)
from server.domain.session_legs import (
    arrive_in_new_place,
    leg_answered,
    leg_down,
    leg_offered,
    leg_quiet,
    leg_refused,
    leg_up,
    placed,
)
from server.domain.session_place import away, keep_place, not_over, not_waiting, nothing_new, pass_on, take_place

Rule = Callable[[Session, Any, int], Session]
MAX_SEGMENTS = 200  # a session that was offered this often has a configuration fault; the row must stay small
MAX_OFFERS = MAX_SEGMENTS * MAX_RINGING  # the same where all are rung: so many rounds


def arrive(event: ev.CallArrived, now: int) -> Session:
    """The first event: it makes the session."""
    return Session(
        id=event.session_id,
        tenant=event.tenant,
        version=0,
        state=SessionState.ARRIVING,
        channel=event.channel,
        entry_point_id=event.entry_point_id,
        queue=event.queue,
        customer=event.customer,
        created_at=now,
        customer_leg=Leg(derived_id(event.session_id, "leg", 0), since=now),
        worker_id=event.worker_id,
        epoch=1 if event.worker_id else 0,
        placed_at=now,
        incarnation=event.incarnation,
        unplaced_since=None if event.worker_id else now,
        priority=event.priority,
        sticky_agent_id=event.sticky_agent_id,
        place_at=event.place_at,
    )


def queue_full(s: Session, e: ev.QueueFull, now: int) -> Session:
    visit = s.visit
    if visit is None or visit.queue_id != e.queue_id or not s.unattended or s.state is SessionState.PLACE_KEPT:
        raise Stale("no_change")
    return flow_out(s, visit, EndReason.QUEUE_FULL, now)


def wait_estimated(s: Session, e: ev.WaitEstimated, now: int) -> Session:
    visit = s.visit
    if visit is None or (visit.queue_id, visit.entered_at) != (e.queue_id, e.entered_at) or visit.told is not None:
        raise Stale("no_change")
    told = replace(visit, told=ToldWait(now, e.position, e.low_ms, e.high_ms))
    return replace(s, visits=tuple(told if v.id == visit.id else v for v in s.visits))


# --- agents ------------------------------------------------------------------------------------------


def offer(s: Session, e: ev.AgentOffered, now: int) -> Session:
    ringing = s.ringing
    taken = s.owner if s.queue.ring_all else next(iter(ringing), s.owner)
    if taken is not None:
        raise Stale("offer_taken", {"agent": taken.agent_name})
    if len(ringing) >= MAX_RINGING or any(segment.agent_id == e.agent_id for segment in ringing):
        raise Refused("rings_already")
    if any(r.agent_id == e.agent_id and now - r.at < REJECT_PAUSE_MS for r in s.rejections):
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
    )
    return replace(s, segments=(*s.segments, segment))


def offer_callback(s: Session, e: ev.AgentOffered, now: int) -> Session:
    return offer(begin_callback(s, now), e, now)


def change_routing(s: Session, e: ev.RoutingChanged, now: int) -> Session:
    """What rings goes on: it counts from the next offer on."""
    after = replace(s, priority=e.priority, asks=e.asks, preferred=e.preferred, excluded=e.excluded)
    if after == s:
        raise Stale("no_change")
    return after


def accept(s: Session, e: ev.AgentAccepted, now: int) -> Session:
    segment = _own(s, e.segment_id, e.agent_id)
    if segment.state is not SegmentState.OFFERED:
        raise _late_answer(s, segment)
    return stop_ringing(s.with_segment(segments.accept(segment, now)), SegmentEnd.TAKEN, now)


def reject(s: Session, e: ev.AgentRejected, now: int) -> Session:
    segment = _own(s, e.segment_id, e.agent_id)
    if segment.state is not SegmentState.OFFERED:
        raise _late_answer(s, segment)
    s = _declined(s, e.agent_id, now)
    return release_agent(s, segment, SegmentEnd.REJECTED, now)


def vanish(s: Session, e: ev.AgentVanished, now: int) -> Session:
    segment = _own(s, e.segment_id, e.agent_id)
    if segment.state is not SegmentState.OFFERED:
        raise Stale("no_change")
    return release_agent(s, segment, SegmentEnd.WITHDRAWN, now)


def customer_hang_up(s: Session, e: ev.CustomerHungUp, now: int) -> Session:
    if s.state is SessionState.FLOW:
        return end_session(s, EndReason.LEFT_VOICEMAIL, now)
    reason = EndReason.CUSTOMER_HUNG_UP if s.state is SessionState.CONNECTED else EndReason.ABANDONED
    return end_session(s, reason, now)


def agent_hang_up(s: Session, e: ev.AgentHungUp, now: int) -> Session:
    segment = _own(s, e.segment_id, e.agent_id)
    if segment.in_talk:
        return end_session(s, EndReason.AGENT_HUNG_UP, now)
    if segment.state is SegmentState.CONNECTING:  # nobody has spoken yet: the customer keeps the place
        s = _declined(s, e.agent_id, now)
        return release_agent(s, segment, SegmentEnd.REJECTED, now)
    raise Stale("contact_over")


def change_hold(s: Session, e: ev.HoldChanged, now: int) -> Session:
    segment = _own(s, e.segment_id, e.agent_id)
    if not segment.in_talk:
        raise Refused("not_in_call")
    if (segment.state is SegmentState.HELD) == e.on:
        raise Stale("no_change")
    return s.with_segment(segments.hold(segment, now) if e.on else segments.unhold(segment, now))


def save_notes(s: Session, e: ev.NotesSaved, now: int) -> Session:
    segment = _own(s, e.segment_id, e.agent_id)
    if segment.state is SegmentState.DONE:
        raise Stale("contact_over")
    if (segment.notes, segment.disposition_id) == (e.notes, e.disposition_id):
        raise Stale("no_change")
    return s.with_segment(replace(segment, notes=e.notes, disposition_id=e.disposition_id))


def extend_wrap_up(s: Session, e: ev.WrapUpExtended, now: int) -> Session:
    segment = _own(s, e.segment_id, e.agent_id)
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
    segment = _own(s, e.segment_id, e.agent_id)
    if segment.state is SegmentState.DONE:
        raise Stale("contact_over")
    if segment.state is not SegmentState.WRAP_UP:
        raise Refused("not_in_wrap_up")
    if segment.disposition_required and e.disposition_id is None:
        raise Refused("disposition_required")
    return s.with_segment(segments.finish(replace(segment, notes=e.notes, disposition_id=e.disposition_id), now))


# --- placement and recording -------------------------------------------------------------------------


def lose_worker(s: Session, e: ev.WorkerLost, now: int) -> Session:
    """Everything that the worker held is gone. Parts of recordings are as complete as they will ever be."""
    epoch = s.epoch if e.epoch is None else e.epoch
    here = not s.ended and s.worker_id == e.worker_id and s.epoch <= epoch
    if not here and not s.has_left(e.worker_id, epoch):
        raise Stale("no_change")
    left = s.former is not None and s.former.worker_id == e.worker_id and s.former.epoch <= epoch
    for recording in s.recordings:
        s = s.with_recording(recordings.lose_worker(recording, e.worker_id, epoch))
    for leg in s.live_legs:
        if left if leg.former else here and leg.state is not LegState.WANTED:
            s = s.with_leg(legs.lost(leg, now))
    if not here:
        return s
    if e.replacement is None:
        return replace(s, worker_id=None, incarnation=None, unplaced_since=now)
    return placed(s, e.replacement, e.incarnation, now)


def place(s: Session, e: ev.Placed, now: int) -> Session:
    if s.worker_id is not None or s.state is SessionState.PLACE_KEPT:
        raise Stale("no_change")
    for leg in s.live_legs:  # what was offered meanwhile went nowhere: its sender must offer again
        if leg.state is LegState.OPENING:
            s = s.with_leg(legs.lost(leg, now))
    return placed(s, e.worker_id, e.incarnation, now)


def move(s: Session, e: ev.SessionMoved, now: int) -> Session:
    """The call leaves a worker that is to stop. Legs that are up stay there until they are up in the new place."""
    if s.worker_id is None or s.worker_id == e.worker_id or s.epoch != e.epoch:
        raise Stale("no_change")
    if s.former is None:
        s = replace(s, former=Placement(s.worker_id, s.epoch, s.incarnation))
        for leg in s.live_legs:
            s = s.with_leg(legs.moved(leg, now))
    else:  # it had not arrived here yet: what did begins anew, the rest stays where it was
        for leg in s.live_legs:
            if not leg.former and leg.state is not LegState.WANTED:
                s = s.with_leg(legs.lost(leg, now))
    return placed(s, e.worker_id, e.incarnation, now)


def part_closed(s: Session, e: ev.RecordingPartClosed, now: int) -> Session:
    recording = _recording(s, e.recording_id)
    changed = recordings.close_part(recording, e.part)
    if changed == recording:
        raise Stale("no_change")
    return s.with_recording(changed)


def recording_broke(s: Session, e: ev.RecordingBroke, now: int) -> Session:
    recording = _recording(s, e.recording_id)
    if recording.broken is not None or e.part != recording.parts[-1].number:
        raise Stale("no_change")
    return s.with_recording(replace(recording, broken=e.code))


def archived(s: Session, e: ev.RecordingArchived, now: int) -> Session:
    recording = _recording(s, e.recording_id)
    if recording.state in recordings.FINAL:
        raise Stale("no_change")
    return s.with_recording(recordings.archived(recording, e.duration_ms, e.reason))


def archive_failed(s: Session, e: ev.ArchiveFailed, now: int) -> Session:
    recording = _recording(s, e.recording_id)
    if recording.state in recordings.FINAL:
        raise Stale("no_change")
    return s.with_recording(recordings.failed(recording, e.reason))


def deadline_passed(s: Session, e: ev.DeadlinePassed, now: int) -> Session:
    if Deadline(e.kind, e.key, e.at) not in deadlines(s) or now < e.at:
        raise Stale("stale_deadline")
    return on_deadline(s, e, now)


def over(s: Session, e: Any, now: int) -> Session:
    raise Stale("session_ended")


# --- the table ---------------------------------------------------------------------------------------

ANY = tuple(SessionState)
_A, _F, _Q, _K, _C, _E = SessionState
LIVE = (_A, _F, _Q, _K, _C)


def _rows(states: tuple[SessionState, ...], rules: dict[type, Rule]) -> dict[tuple[SessionState, type], Rule]:
    return {(state, event): rule for state in states for event, rule in rules.items()}


TRANSITIONS: dict[tuple[SessionState, type], Rule] = {
    **_rows(
        LIVE,
        {
            ev.LegOffered: leg_offered,
            ev.LegAnswered: leg_answered,
            ev.LegRefused: leg_refused,
            ev.LegWentUp: leg_up,
            ev.LegWentDown: leg_down,
            ev.LegFellQuiet: leg_quiet,
            ev.QueueFull: queue_full,
            ev.WaitEstimated: wait_estimated,
            ev.RoutingChanged: change_routing,
            ev.CustomerHungUp: customer_hang_up,
            ev.Placed: place,
            ev.SessionMoved: move,
            ev.PlaceKept: not_waiting,
            ev.PlaceTaken: nothing_new,
            ev.PlacePassedOn: not_over,
            ev.CallbackAsked: no_callback,
            ev.CallbackMissed: no_call_now,
            ev.FlowEnded: no_flow,
        },
    ),
    **_rows(
        (_E,),
        dict.fromkeys(
            (
                ev.LegOffered,
                ev.LegAnswered,
                ev.LegRefused,
                ev.LegWentUp,
                ev.LegWentDown,
                ev.LegFellQuiet,
                ev.QueueFull,
                ev.WaitEstimated,
                ev.RoutingChanged,
                ev.CustomerHungUp,
                ev.Placed,
                ev.SessionMoved,
                ev.PlaceKept,
                ev.PlaceTaken,
                ev.CallbackAsked,
                ev.CallbackMissed,
                ev.FlowEnded,
                ev.AgentOffered,
            ),
            over,
        ),
    ),
    **_rows(
        ANY,
        {
            ev.AgentAccepted: accept,
            ev.AgentRejected: reject,
            ev.AgentVanished: vanish,
            ev.AgentHungUp: agent_hang_up,
            ev.HoldChanged: change_hold,
            ev.NotesSaved: save_notes,
            ev.WrapUpExtended: extend_wrap_up,
            ev.WrapUpDone: wrap_up,
            ev.WorkerLost: lose_worker,
            ev.RecordingPartClosed: part_closed,
            ev.RecordingBroke: recording_broke,
            ev.RecordingArchived: archived,
            ev.ArchiveFailed: archive_failed,
            ev.DeadlinePassed: deadline_passed,
        },
    ),
    (_Q, ev.AgentOffered): offer,
    (_F, ev.AgentOffered): away,
    (_K, ev.AgentOffered): offer_callback,
    (_C, ev.AgentOffered): offer,
    (_Q, ev.PlaceKept): keep_place,
    (_K, ev.PlaceKept): nothing_new,
    (_K, ev.PlaceTaken): take_place,
    (_Q, ev.CallbackAsked): ask_callback,
    (_K, ev.CallbackAsked): ask_callback,
    (_Q, ev.CallbackMissed): miss_callback,
    (_F, ev.FlowEnded): end_flow,
    (_E, ev.PlacePassedOn): pass_on,
}


def step(session: Session | None, event: ev.Event, now: int) -> Session:
    """The next session, its version one higher.

    Raises Stale (late or repeated: nothing changed), Refused (not allowed now), IllegalTransition (a bug)."""
    if isinstance(event, ev.CallArrived):
        if session is not None:
            raise Stale("no_change")
        return replace(arrive(event, now), version=1)
    if session is None:
        raise IllegalTransition(f"{type(event).__name__} before CallArrived")
    rule = TRANSITIONS.get((session.state, type(event)))
    if rule is None:
        raise IllegalTransition(f"{type(event).__name__} in {session.state}")
    after = arrive_in_new_place(_give_up(session, rule(session, event, now), now))
    return replace(after, version=session.version + 1)


# --- what the rules share ----------------------------------------------------------------------------


def _give_up(before: Session, after: Session, now: int) -> Session:
    """An offer that rings is seen through; when it ends without an answer after the queue's longest wait, no other
    agent is asked."""
    freed = not before.unattended and after.unattended and after.state is SessionState.QUEUED
    ends_at, visit = wait_ends_at(after), after.visit
    if not freed or visit is None or ends_at is None or now < ends_at:
        return after
    return flow_out(after, visit, EndReason.WAITED_TOO_LONG, now)


def _own(s: Session, segment_id: str, agent_id: str) -> Segment:
    segment = s.segment(segment_id)
    if segment is None or segment.agent_id != agent_id:
        raise Refused("not_your_contact")
    return segment


def _declined(s: Session, agent_id: str, now: int) -> Session:
    return replace(s, rejections=(*s.rejections[1 - KEPT_REJECTIONS :], Rejection(agent_id, now)))


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


def _recording(s: Session, recording_id: str) -> Recording:
    recording = next((r for r in s.recordings if r.id == recording_id), None)
    if recording is None:
        raise IllegalTransition(f"no recording {recording_id} in {s.id}")
    return recording
