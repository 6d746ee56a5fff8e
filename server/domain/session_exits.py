"""The session's rules about ways out of a queue other than an answer there: being called back, and leaving a message.

A callback is a kept place whose customer waits for the phone to ring. Its turn has come when an agent is asked: from
then on it is like any other session that waits, with a leg that is to come up, and the customer is dialled, once.

A flow is what a customer does with a machine. Who leaves a message has left the queue; the flow has a limit of its own.
"""

from __future__ import annotations

from dataclasses import replace

from server.domain import events as ev
from server.domain.endings import EndReason, SegmentEnd
from server.domain.machine import Refused, Stale
from server.domain.queue_life import Exit
from server.domain.session import Callback, Session, SessionState
from server.domain.session_end import end_session, stop_ringing, wait_for_call
from server.domain.session_place import take_place


def ask_callback(s: Session, e: ev.CallbackAsked, now: int) -> Session:
    """The customer, who waits, or whose place is kept, wants to be called."""
    if s.queue.exit is not Exit.CALLBACK:
        raise Refused("callback_not_offered")
    if s.owner is not None:
        raise Refused("being_connected")
    if s.callback is not None:
        if s.callback.begun or s.callback.number == e.number:
            raise Stale("no_change")
        return replace(s, callback=Callback(e.number, now))
    if s.state is SessionState.PLACE_KEPT:
        return replace(s, callback=Callback(e.number, now))
    return wait_for_call(stop_ringing(s, SegmentEnd.WITHDRAWN, now), e.number, now)


def begin_callback(s: Session, now: int) -> Session:
    """The wait of a session whose customer is to be dialled now; a worker for it is still to be found. Raises Stale for
    one whose customer is merely away: a router whose index is late offers that."""
    callback = s.callback
    if callback is None:
        raise Stale("customer_away")
    s = take_place(replace(s, callback=None), ev.PlaceTaken(None), now)
    leg = replace(s.customer_leg, was_up=False)  # what was heard in the browser is no answer to this call
    return replace(s, customer_leg=leg, callback=replace(callback, begun=True))


def miss_callback(s: Session, e: ev.CallbackMissed, now: int) -> Session:
    if s.callback is None or not s.callback.begun:
        raise Stale("no_change")
    return end_session(s, EndReason.CALLBACK_UNANSWERED, now)


def no_callback(s: Session, e: ev.CallbackAsked, now: int) -> Session:
    raise Refused("not_waiting")


def no_call_now(s: Session, e: ev.CallbackMissed, now: int) -> Session:
    """A dialler's word is late."""
    raise Stale("no_change")


def end_flow(s: Session, e: ev.FlowEnded, now: int) -> Session:
    return end_session(s, EndReason.LEFT_VOICEMAIL, now)


def no_flow(s: Session, e: ev.FlowEnded, now: int) -> Session:
    raise Stale("no_change")
