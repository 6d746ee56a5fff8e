"""The deadlines of a session are a function of its state: what is not due any more can't be forgotten.

`kind`: arrival, flow, max_wait, place, callback, offer, connect, customer_grace, agent_grace, placement, move, wrap_up,
pause, park. `key` names the segment, leg, queue visit, recording or session.
"""

from __future__ import annotations

from dataclasses import dataclass

from server.domain import leg as legs
from server.domain import segment as segments
from server.domain.endings import EndReason, SegmentEnd
from server.domain.events import DeadlinePassed
from server.domain.leg import LegState
from server.domain.machine import Stale
from server.domain.segment import SegmentState
from server.domain.session import Session, SessionState
from server.domain.session_end import end_session, flow_out, release_agent
from server.domain.session_guests import hand_over, next_owner
from server.domain.session_park import back_to_queue
from server.domain.session_recording import end_pause, pause_limit_at

ARRIVAL_MS = 30_000  # between the call request and the browser's SDP offer lies no human act
CONNECT_MS = 15_000  # ICE and DTLS take less than a second; a permission prompt may take a few
QUEUE_GRACE_MS = 30_000  # a waiting customer whose tab reloads or whose network changes keeps the place
TALK_GRACE_MS = 60_000  # RELIABILITY.md: a customer is not hung up on for 60 s
PLACEMENT_MS = 60_000  # a worker restarts in about a second; a minute without any is a dead machine
CALLBACK_MS = 8 * 3_600_000  # a working day; who was not called by then does not expect it any more
CALLBACK_CONNECT_MS = 60_000  # the customer's phone rings, for as long as their own grace lets it
FLOW_MS = 300_000  # greeting and message; the voicemail's own limit is shorter
MOVE_MS = 20_000  # a browser comes over within a second; by then its old place is about to go


@dataclass(frozen=True, slots=True)
class Deadline:
    kind: str
    key: str
    at: int  # UTC epoch ms


def deadlines(s: Session) -> frozenset[Deadline]:
    """Everything that the session waits for with a limit."""
    due: list[Deadline] = [
        Deadline("wrap_up", segment.id, segment.wrap_up_deadline_at)
        for segment in s.segments
        if segment.state is SegmentState.WRAP_UP and segment.wrap_up_deadline_at is not None
    ]
    if s.ended:
        return frozenset(due)
    if s.callback is not None and not s.callback.begun:
        return frozenset({*due, Deadline("callback", s.id, s.callback.asked_at + CALLBACK_MS)})
    if s.kept_since is not None:  # nobody and nothing else is waited for
        return frozenset({*due, Deadline("place", s.id, s.kept_since + s.queue.keep_place_s * 1000)})
    if s.state is SessionState.ARRIVING:
        due.append(Deadline("arrival", s.id, s.created_at + ARRIVAL_MS))
    if s.flow is not None:
        due.append(Deadline("flow", s.id, s.flow.since + FLOW_MS))
    customer = _customer_grace(s)
    if customer is not None:
        due.append(customer)
    if s.unplaced_since is not None:
        due.append(Deadline("placement", s.id, s.unplaced_since + PLACEMENT_MS))
    if s.former is not None:
        due.append(Deadline("move", s.id, s.placed_at + MOVE_MS))
    visit, ends_at = s.visit, wait_ends_at(s)
    if visit is not None and s.owner is None and ends_at is not None and (s.queue.ring_all or not s.ringing):
        # What rings is seen through. Where all are rung, agents who join must not put it off for ever.
        seen_through_s = s.queue.ring_timeout_s if s.ringing else 0
        due.append(Deadline("max_wait", visit.id, ends_at + seen_through_s * 1000))
    if s.parked is not None and s.owner is None:  # who has fetched it is seen through
        due.append(Deadline("park", s.id, s.parked.until))
    due += [Deadline("offer", segment.id, segment.offer_deadline_at) for segment in s.segments if segment.rings]
    for segment in s.segments:
        if segment.state is SegmentState.CONNECTING and segment.accepted_at is not None:
            began = max(segment.accepted_at, s.placed_at)  # a new placement is a new set-up
            limit_ms = CONNECT_MS if s.callback is None else CALLBACK_CONNECT_MS
            due.append(Deadline("connect", segment.id, began + limit_ms))
        elif segment.takes_part and segment.leg.down_since is not None:
            # With both away the customer's grace decides first: there is nobody to put back into the queue.
            after_customer = customer.at + 1 if customer is not None else 0
            at = max(segment.leg.down_since + TALK_GRACE_MS, after_customer)
            due.append(Deadline("agent_grace", segment.leg.id, at))
    for recording in s.recordings:
        pause_ends_at = pause_limit_at(s, recording)
        if pause_ends_at is not None:
            due.append(Deadline("pause", recording.id, pause_ends_at))
    return frozenset(due)


def wait_ends_at(s: Session) -> int | None:
    """When the queue gives the session up; None: never, or not now. Time away with the place kept does not count, and
    who is being called back is not given up."""
    visit = s.visit
    if visit is None or not s.queue.max_wait_s or s.kept_since is not None or s.callback is not None:
        return None
    return visit.entered_at + visit.away_ms + s.queue.max_wait_s * 1000


def _customer_grace(s: Session) -> Deadline | None:
    """How long a customer who can't be heard keeps the place or the call; None while nothing runs."""
    leg = s.customer_leg
    if s.state is SessionState.ARRIVING or leg.is_up:
        return None
    if s.unplaced_since is not None and s.callback is None:
        return None  # it can't be up where no worker holds it: the placement's own limit decides
    grace = TALK_GRACE_MS if s.state is SessionState.CONNECTED else QUEUE_GRACE_MS
    return Deadline("customer_grace", leg.id, (leg.down_since if leg.down_since is not None else leg.since) + grace)


def on_deadline(s: Session, e: DeadlinePassed, now: int) -> Session:
    """What follows when a current deadline has passed. Raises Stale for one that is not."""
    visit = s.visit
    match e.kind:
        case "wrap_up":
            segment = s.segment(e.key)
            if segment is None:
                raise Stale("stale_deadline")
            return s.with_segment(segments.finish(segment, now))
        case "arrival":
            return end_session(s, EndReason.NO_MEDIA, now)
        case "placement":
            return end_session(s, EndReason.SYSTEM_FAILED if s.customer_leg.was_up else EndReason.NO_LINES, now)
        case "move":  # who has not come over has its own grace from now on
            for leg in s.live_legs:
                if leg.former:
                    s = s.with_leg(legs.lost(leg, now))
            return s
        case "flow":
            return end_session(s, EndReason.LEFT_VOICEMAIL, now)
        case "customer_grace" if s.flow is not None:
            return end_session(s, EndReason.LEFT_VOICEMAIL, now)
        case "customer_grace" if s.callback is not None and not s.customer_leg.was_up:
            dialled = s.worker_id is not None and s.customer_leg.state is not LegState.WANTED
            return end_session(s, EndReason.CALLBACK_UNANSWERED if dialled else EndReason.SYSTEM_FAILED, now)
        case "callback":
            return end_session(s, EndReason.CALLBACK_NOT_MADE, now)
        case "customer_grace":
            lost = EndReason.CUSTOMER_LOST if s.customer_leg.was_up else EndReason.NO_MEDIA
            return end_session(s, lost, now)
        case "max_wait" if visit is not None:
            return flow_out(s, visit, EndReason.WAITED_TOO_LONG, now)
        case "pause":
            return end_pause(s, e.key, now)
        case "park":
            return back_to_queue(s, now)
        case "place":
            return end_session(s, EndReason.PLACE_EXPIRED, now)
        case "offer":
            segment = s.segment(e.key)
            if segment is None:
                raise Stale("stale_deadline")
            return release_agent(s, segment, SegmentEnd.MISSED, now)
        case "agent_grace":
            gone = next(segment for segment in s.segments if segment.leg.id == e.key)
            guest = next_owner(s) if gone.owns else None
            if guest is not None:
                return hand_over(s, guest, SegmentEnd.AGENT_LOST, now)
            return release_agent(s, gone, SegmentEnd.AGENT_LOST, now)
        case "connect":
            return _not_connected(s, e.key, now)
        case _:
            raise Stale("stale_deadline")


def _not_connected(s: Session, segment_id: str, now: int) -> Session:
    segment = s.segment(segment_id)
    assert segment is not None
    if s.worker_id is None:  # ours, not the agent's
        return release_agent(s, segment, SegmentEnd.WITHDRAWN, now)
    if not segment.leg.is_up:
        return release_agent(s, segment, SegmentEnd.NO_MEDIA, now)
    if s.customer_leg.was_up:  # a reload, say: the customer's own grace decides
        return release_agent(s, segment, SegmentEnd.WITHDRAWN, now)
    return end_session(s, EndReason.NO_MEDIA, now)
