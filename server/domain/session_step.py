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
from server.domain.deadlines import Deadline, deadlines, on_deadline, wait_ends_at
from server.domain.endings import EndReason
from server.domain.leg import Leg
from server.domain.machine import IllegalTransition, Stale
from server.domain.queue_visit import ToldWait
from server.domain.session import (
    Session,
    SessionState,
    derived_id,
)
from server.domain.session_agents import (
    accept,
    agent_hang_up,
    change_hold,
    extend_wrap_up,
    offer,
    offer_callback,
    reject,
    save_notes,
    vanish,
    wrap_up,
)
from server.domain.session_end import end_session, flow_out
from server.domain.session_exits import (
    ask_callback,
    end_flow,
    miss_callback,
    no_call_now,
    no_callback,
    no_flow,
)
from server.domain.session_guests import (
    change_mute,
    complete,
    confer,
    invite,
    release_guest,
    send_digits,
    swap,
    transfer,
)
from server.domain.session_legs import (
    arrive_in_new_place,
    leg_answered,
    leg_down,
    leg_offered,
    leg_quiet,
    leg_refused,
    leg_up,
)
from server.domain.session_park import fetch, not_parked, park, parked_away
from server.domain.session_place import away, keep_place, not_over, not_waiting, nothing_new, pass_on, take_place
from server.domain.session_recording import ask_pause, broke, mark, pause_said
from server.domain.session_supervision import change_supervision, supervise, take_over
from server.domain.session_worker import (
    archive_failed,
    archived,
    lose_worker,
    move,
    part_closed,
    place,
)

Rule = Callable[[Session, Any, int], Session]


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


def change_routing(s: Session, e: ev.RoutingChanged, now: int) -> Session:
    """What rings goes on: it counts from the next offer on."""
    after = replace(s, priority=e.priority, asks=e.asks, preferred=e.preferred, excluded=e.excluded)
    if after == s:
        raise Stale("no_change")
    return after


def customer_hang_up(s: Session, e: ev.CustomerHungUp, now: int) -> Session:
    if s.state is SessionState.FLOW:
        return end_session(s, EndReason.LEFT_VOICEMAIL, now)
    reason = EndReason.CUSTOMER_HUNG_UP if s.state is SessionState.CONNECTED else EndReason.ABANDONED
    return end_session(s, reason, now)


def deadline_passed(s: Session, e: ev.DeadlinePassed, now: int) -> Session:
    if Deadline(e.kind, e.key, e.at) not in deadlines(s) or now < e.at:
        raise Stale("stale_deadline")
    return on_deadline(s, e, now)


def over(s: Session, e: Any, now: int) -> Session:
    raise Stale("session_ended")


# --- the table ---------------------------------------------------------------------------------------

ANY = tuple(SessionState)
_A, _F, _Q, _K, _C, _P, _E = SessionState
LIVE = (_A, _F, _Q, _K, _C, _P)


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
            ev.MuteChanged: change_mute,
            ev.DigitsSent: send_digits,
            ev.Transferred: transfer,
            ev.SessionParked: park,
            ev.SessionFetched: not_parked,
            ev.GuestInvited: invite,
            ev.GuestReleased: release_guest,
            ev.ConsultSwapped: swap,
            ev.ConferenceBegun: confer,
            ev.ConsultCompleted: complete,
            ev.SupervisionBegun: supervise,
            ev.SupervisionChanged: change_supervision,
            ev.SupervisorTookOver: take_over,
            ev.NotesSaved: save_notes,
            ev.WrapUpExtended: extend_wrap_up,
            ev.WrapUpDone: wrap_up,
            ev.WorkerLost: lose_worker,
            ev.RecordingPartClosed: part_closed,
            ev.RecordingBroke: broke,
            ev.RecordingPauseAsked: ask_pause,
            ev.RecordingPauseSaid: pause_said,
            ev.RecordingMarked: mark,
            ev.RecordingArchived: archived,
            ev.ArchiveFailed: archive_failed,
            ev.DeadlinePassed: deadline_passed,
        },
    ),
    (_Q, ev.AgentOffered): offer,
    (_F, ev.AgentOffered): away,
    (_K, ev.AgentOffered): offer_callback,
    (_C, ev.AgentOffered): offer,
    (_P, ev.AgentOffered): parked_away,
    (_P, ev.SessionFetched): fetch,
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


def _give_up(before: Session, after: Session, now: int) -> Session:
    """An offer that rings is seen through; when it ends without an answer after the queue's longest wait, no other
    agent is asked."""
    freed = not before.unattended and after.unattended and after.state is SessionState.QUEUED
    ends_at, visit = wait_ends_at(after), after.visit
    if not freed or visit is None or ends_at is None or now < ends_at:
        return after
    return flow_out(after, visit, EndReason.WAITED_TOO_LONG, now)
