"""What people see of a session: the domain drawn as wire views, and the stream messages of a step. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel

from server.domain import segment as segments
from server.domain.agent import Agent
from server.domain.events import Event, LegAnswered, LegRefused
from server.domain.leg import Leg
from server.domain.recording import Recording, RecordingState, is_paused, wants_pause
from server.domain.segment import Monitor, Role, Segment, SegmentState
from server.domain.session import Session
from server.domain.session_recording import pause_limit_at
from server.services.ports import Push
from server.services.turn import IceAccess
from server.signaling import protocol as wire


def call_view(s: Session) -> wire.CallView:
    """A session as its customer sees it."""
    owner = s.owner
    state: wire.CallState = "queued"
    if s.ended:
        state = "ended"
    elif s.kept_since is not None:
        state = "place_kept"
    elif s.parked is not None:  # also while who fetches it is being connected
        state = "held"
    elif owner is not None:
        state = {"connecting": "connecting", "talking": "talking", "held": "held"}[owner.state.value]  # type: ignore[assignment]  # a literal of three
    return wire.CallView(
        session_id=s.id,
        version=s.version,
        state=state,
        queue_name=s.queue.name,
        queued_at=s.created_at,
        agent_name=owner.agent_name if owner is not None else None,
        talk_started_at=s.talk_started_at,
        ended_at=s.ended_at,
        end_reason=s.end_reason,
        recording=_recording_state(s, owner),
        leg=_leg_view(s.customer_leg),
        agent_reconnecting=owner is not None and owner.in_talk and owner.leg.reconnecting,
        may_keep_place=state == "queued" and s.visit is not None and s.queue.keep_place_s > 0,
        place_until=None if s.kept_since is None else s.kept_since + s.queue.keep_place_s * 1000,
        no_lines=s.unplaced_since is not None and not s.ended,
    )


def contact_view(s: Session, segment: Segment) -> wire.ContactView:
    """A segment as its agent sees it."""
    talks = segment.state is SegmentState.TALKING and segment.role is not Role.SUPERVISOR
    taker = s.taker(segment)
    return wire.ContactView(
        session_id=s.id,
        segment_id=segment.id,
        version=s.version,
        channel="voice",
        state=segment.state.value,
        customer=wire.CustomerView(
            name=s.customer.name,
            locale=s.customer.locale,
            page_url=s.customer.page_url,
            context=dict(s.customer.context),
        ),
        queue_id=s.queue.queue_id,
        queue_name=s.queue.name,
        queued_at=s.created_at,
        offered_at=segment.offered_at,
        offer_deadline_at=segment.offer_deadline_at if segment.rings else None,
        talk_started_at=segment.talk_started_at,
        ended_at=segment.talk_ended_at,
        wrap_up_deadline_at=segment.wrap_up_deadline_at,
        wrap_up_extend_s=segment.wrap_up_extend_s if segments.may_extend(segment) else None,
        end_reason=segment.end_reason,
        taken_by=taker.agent_name if taker is not None else None,
        customer_reconnecting=segment.in_talk and s.customer_leg.reconnecting,
        customer_unheard=_unheard(s.customer_leg) if talks else None,
        you_unheard=_unheard(segment.leg) if talks and not segment.muted else None,
        recording=_recording_state(s, segment),
        recording_change=_recording_change(s, segment),
        recording_resumes_at=_resumes_at(s, segment),
        leg=_leg_view(segment.leg),
        notes=segment.notes,
        disposition_id=segment.disposition_id,
        role=segment.role.value,
        invited_by=segment.invited_by,
        muted=segment.muted,
        customer_hears=_customer_hears(s, segment),
        others=[_other(other) for other in s.segments if _beside(segment, other)],
        monitor=segment.monitor.value if segment.monitor is not None else None,
        agent_name=s.owner.agent_name if s.owner is not None else "",
    )


def _unheard(leg: Leg) -> wire.Unheard | None:
    """Why the voice of a leg that is up does not reach us."""
    if not leg.is_up:
        return None
    return "no_packets" if leg.quiet else "silence" if leg.silent else None


def _beside(segment: Segment, other: Segment) -> bool:
    """Another agent who takes part, or is asked to, while this one does. Who only listens is seen by nobody, who
    coaches by the owner alone."""
    here = segment.rings or segment.takes_part
    asked = other.takes_part or (other.rings and other.role is Role.GUEST)
    heard = other.monitor in (None, Monitor.BARGE) or (other.monitor is Monitor.COACH and segment.role is Role.OWNER)
    return here and other.id != segment.id and asked and heard


def _other(segment: Segment) -> wire.OtherAgent:
    return wire.OtherAgent(
        segment_id=segment.id,
        agent_name=segment.agent_name,
        role=segment.role.value,
        state=segment.state.value,
        reconnecting=segment.in_talk and segment.leg.reconnecting,
        monitor=segment.monitor.value if segment.monitor is not None else None,
    )


def _customer_hears(s: Session, segment: Segment) -> bool:
    owner = s.owner
    talks = segment.state is SegmentState.TALKING and not segment.muted
    talks = talks and segment.monitor in (None, Monitor.BARGE)
    return talks and owner is not None and owner.state is SegmentState.TALKING


def agent_view(a: Agent) -> wire.AgentView:
    next_state = a.next_state
    return wire.AgentView(
        user_id=a.user_id,
        version=a.version,
        state=a.state.value,
        chosen=a.chosen.value,
        reason_id=a.reason_id,
        since=a.since,
        next_state=wire.NextState(
            state=next_state.chosen.value, reason_id=next_state.reason_id, forced_by=next_state.forced_by
        )
        if next_state
        else None,
        forced_by=a.forced_by,
        fault=a.fault.value if a.fault is not None else None,
    )


def _leg_view(leg: Leg) -> wire.LegView:
    return wire.LegView(leg_id=leg.id, generation=leg.generation, state=leg.state.value)


def _recording_state(s: Session, segment: Segment | None) -> wire.RecordingState:
    if segment is None:
        return "off"
    recording = _running(s, segment)
    if recording is None:
        return "off"
    return "failed" if recording.broken else "paused" if is_paused(recording) else "on"


def _running(s: Session, segment: Segment) -> Recording | None:
    for recording in s.recordings:
        if recording.segment_id == segment.id and recording.state is RecordingState.RECORDING:
            return recording
    return None


def _recording_change(s: Session, segment: Segment) -> Literal["pause", "resume"] | None:
    recording = _running(s, segment)
    if recording is None or recording.broken or wants_pause(recording) == is_paused(recording):
        return None
    return "pause" if wants_pause(recording) else "resume"


def _resumes_at(s: Session, segment: Segment) -> int | None:
    recording = _running(s, segment)
    return None if recording is None or recording.broken else pause_limit_at(s, recording)


def parked_view(s: Session) -> wire.ParkedCall:
    """A parked session as who may fetch it sees it."""
    assert s.parked is not None
    return wire.ParkedCall(
        session_id=s.id,
        customer_name=s.customer.name,
        queue_name=s.queue.name,
        parked_by=s.parked.agent_name,
        since=s.parked.since,
        until=s.parked.until,
    )


class WirePresenter:
    """`Presenter`: the pushes of a step are the differences of the views before and after it."""

    def session_pushes(self, before: Session | None, after: Session, event: Event) -> Sequence[Push]:
        pushes: list[Push] = []
        if isinstance(event, LegAnswered | LegRefused):
            pushes.append(_leg_push(after, event))
        call = call_view(after)
        if before is None or _differs(call_view(before), call):
            pushes.append(_push(after.id, wire.CallChanged(call=call)))
        for segment in after.segments:
            old = before.segment(segment.id) if before is not None else None
            contact = contact_view(after, segment)
            if old is None:
                pushes.append(_push(segment.agent_id, wire.OfferMade(contact=contact)))
            elif before is not None and _differs(contact_view(before, old), contact):
                if old.state is SegmentState.DONE:  # a contact that is over tells its agent nothing more
                    continue
                pushes.append(_push(segment.agent_id, wire.ContactChanged(contact=contact)))
        return pushes

    def agent_pushes(self, before: Agent | None, after: Agent) -> Sequence[Push]:
        view = agent_view(after)
        if before is not None and not _differs(agent_view(before), view):
            return []
        return [_push(after.user_id, wire.AgentChanged(agent=view))]


def ice_view(access: IceAccess) -> wire.IceServers:
    servers = [wire.IceServer(urls=list(s.urls), username=s.username, credential=s.credential) for s in access.servers]
    return wire.IceServers(ice_servers=servers, relay_only=access.relay_only, ice_expires_at=access.expires_at)


def _leg_push(s: Session, event: LegAnswered | LegRefused) -> Push:
    person = s.id
    for segment in s.segments:
        if segment.leg.id == event.leg_id:
            person = segment.agent_id
    common: dict[str, Any] = {"session_id": s.id, "leg_id": event.leg_id, "generation": event.generation}
    if isinstance(event, LegAnswered):
        return _push(person, wire.LegAnswer(**common, sdp=event.sdp))
    return _push(person, wire.LegRefused(**common, code=event.code))


def _push(person_id: str, body: BaseModel) -> Push:
    return Push(person_id, body.model_dump(mode="json"))


def _differs(before: BaseModel, after: BaseModel) -> bool:
    skipped = {"version"}
    return before.model_dump(exclude=skipped) != after.model_dump(exclude=skipped)
