"""Random histories of whole calls: what usually comes next mixed with what may come at any time, so that many reach
an answer, a lost agent, a second wait and the end of a wrap-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from server.domain import events as ev
from server.domain.deadlines import deadlines
from server.domain.leg import Leg, LegState
from server.domain.machine import Refused, Stale
from server.domain.segment import SegmentState
from server.domain.session import Session, SessionState
from server.domain.session_step import step

STEPS_MS = (0, 0, 0, 1, 1_000, 4_999, 5_000, 20_000, 61_000)  # few and round, so that waits meet limits exactly


@dataclass(frozen=True, slots=True)
class History:
    """`session` is the fold of `log`: (UTC epoch milliseconds, event), without those that changed nothing."""

    session: Session
    log: tuple[tuple[int, ev.Event], ...]


def history(pick: Any, arrived: ev.CallArrived, now: int, most: int = 40) -> History:
    """One session's, from `now` on, with at most `most` events. `pick` is hypothesis' draw."""
    session = step(None, arrived, now)
    log: list[tuple[int, ev.Event]] = [(now, arrived)]
    for _ in range(pick(st.integers(0, most))):
        expected = _expected(session, pick)
        event = pick(st.sampled_from([*expected * 4, *_any_time(session)]))
        now += pick(st.sampled_from(STEPS_MS))
        if isinstance(event, ev.DeadlinePassed):
            now = max(now, event.at)
        try:
            session = step(session, event, now)
        except (Stale, Refused):
            continue
        log.append((now, event))
    return History(session, tuple(log))


def _expected(s: Session, pick: Any) -> list[ev.Event]:
    """What brings the call forward."""
    if s.callback is not None and not s.callback.begun:
        return [ev.AgentOffered(pick(st.sampled_from(("usr_a", "usr_b"))), "Ana")]
    if s.state is SessionState.PLACE_KEPT:
        return [ev.PlaceTaken("media-1")]
    if s.worker_id is None and not s.ended:
        return [ev.Placed("media-1")]
    if not s.customer_leg.is_up and s.customer_leg.state is not LegState.CLOSED:
        return [_forward(s, s.customer_leg)]
    owner = s.owner
    if s.parked is not None and owner is None:
        return [ev.SessionFetched(pick(st.sampled_from(("usr_a", "usr_b"))), "Ana")]
    if s.ringing:
        return [ev.AgentAccepted(x.id, x.agent_id) for x in s.ringing]
    if owner is None:
        wrap_ups = [x for x in s.segments if x.state is SegmentState.WRAP_UP]
        done: list[ev.Event] = [ev.WrapUpDone(x.id, x.agent_id, "", "dsp_1") for x in wrap_ups]
        offer = ev.AgentOffered(pick(st.sampled_from(("usr_a", "usr_b"))), "Ana")
        return [*done, offer] if s.state is SessionState.QUEUED else done
    if not owner.leg.is_up:
        return [_forward(s, owner.leg)]
    return [
        ev.SessionParked(owner.id, owner.agent_id),
        ev.AgentHungUp(owner.id, owner.agent_id),
        ev.LegWentDown(owner.leg.id, owner.leg.generation, s.epoch, "ice_failed"),
    ]


def _forward(s: Session, leg: Leg) -> ev.Event:
    if leg.state is LegState.OPENING:
        return ev.LegWentUp(leg.id, leg.generation, s.epoch)
    return ev.LegOffered(leg.id, leg.generation + 1, "v=0")


def _any_time(s: Session) -> list[ev.Event]:
    """What ends or disturbs it: a hang-up, a deadline, a lost worker."""
    due: list[ev.Event] = [ev.DeadlinePassed(d.kind, d.key, d.at) for d in sorted(deadlines(s), key=lambda d: d.at)]
    rejections: list[ev.Event] = [ev.AgentRejected(x.id, x.agent_id) for x in s.segments if x.rings or x.owns]
    told: list[ev.Event] = [
        ev.WaitEstimated(v.queue_id, v.entered_at, 1, *((0, 0), (0, 5_000), (20_000, 61_000))[s.version % 3])
        for v in s.visits
        if v.outcome is None and v.told is None
    ]
    lost = ev.WorkerLost(s.worker_id or "media-1", "media-2")
    away: list[ev.Event] = [ev.PlaceKept(), ev.CallbackAsked("+493012345678")]
    return [*told * 2, ev.CustomerHungUp(), *away, lost, *due, *rejections]
