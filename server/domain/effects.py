"""What follows from a step, as a function of the session before and after it: orders to the media worker and
words to the agents. Deadlines are in `deadlines.py`; what people see is drawn by signaling from the same pair.
"""

from __future__ import annotations

from server.domain import agent as ag
from server.domain.endings import SegmentEnd
from server.domain.events import DigitsSent, Event, LegOffered
from server.domain.leg import Leg, LegState
from server.domain.media import (
    ApplyPlan,
    MediaOrder,
    MediaPlan,
    OpenLeg,
    Placement,
    RecordingOrder,
    ReleaseSession,
    Route,
    SendDigits,
    Source,
)
from server.domain.recording import RecordingState, pause_change, wants_pause
from server.domain.segment import Monitor, Role, Segment, SegmentState
from server.domain.session import MAX_RINGING, Session

_CONTACT = {
    SegmentState.OFFERED: ag.ContactState.RINGING,
    SegmentState.CONNECTING: ag.ContactState.ON_CONTACT,
    SegmentState.TALKING: ag.ContactState.ON_CONTACT,
    SegmentState.HELD: ag.ContactState.ON_CONTACT,
    SegmentState.WRAP_UP: ag.ContactState.WRAP_UP,
}
_BLAMED = frozenset({SegmentEnd.MISSED, SegmentEnd.NO_MEDIA})


def media_plan(s: Session) -> MediaPlan:
    """What the session's worker should be doing, wholly. Of a leg that is not there yet nothing is to be heard, no
    comfort tone either: its listener stays where both are as long as nothing comes from here."""
    return _plan(s, s.epoch)


def former_plan(s: Session) -> MediaPlan:
    """What the former placement goes on doing until the last leg has left it."""
    return _plan(s, s.former.epoch) if s.former is not None else MediaPlan()


def _plan(s: Session, epoch: int) -> MediaPlan:
    if s.ended:
        return MediaPlan()
    here = epoch == s.epoch
    customer, owner = s.customer_leg, s.owner
    if s.flow is not None:  # the machine has its own sound
        return MediaPlan((Route(customer.id, Source.SILENCE),))
    waiting = Source.QUEUE_MUSIC if s.parked is None else Source.HOLD_MUSIC
    if owner is None:
        return MediaPlan((Route(customer.id, waiting),))
    agents = [segment for segment in s.segments if segment.takes_part and segment.role is not Role.SUPERVISOR]
    talking = [segment for segment in agents if segment.state is SegmentState.TALKING]
    match owner.state:
        case SegmentState.CONNECTING:  # the music plays until the agent is audible
            routes = [Route(customer.id, waiting)]
        case SegmentState.HELD:
            routes = [Route(customer.id, Source.HOLD_MUSIC)]
        case _:
            heard_by_all = [*talking, *_heard(s, Monitor.BARGE)]
            routes = _routes(customer, [segment.leg for segment in heard_by_all if not segment.muted], here)
    for agent in agents:
        above = _heard(s, Monitor.COACH, Monitor.BARGE) if agent is owner else _heard(s, Monitor.BARGE)
        heard = [other.leg for other in [*_speaks_with(agent, owner, talking), *above] if not other.muted]
        if agent.role is Role.GUEST and agent.state is SegmentState.HELD:
            routes.append(Route(agent.leg.id, Source.HOLD_MUSIC))
            continue
        if _with_customer(agent, owner):
            heard.append(customer)
        asking = agent is owner and not heard and any(guest.rings for guest in s.guests)
        routes += [Route(agent.leg.id, Source.RINGBACK)] if asking else _routes(agent.leg, heard, here)
    for supervisor in s.supervisors:  # what is said among the agents while the customer is on hold, too
        said = [owner.leg, *(other.leg for other in talking if other is not owner)]
        said += [customer] if owner.state is SegmentState.TALKING else []
        routes += _routes(supervisor.leg, said, here)
    return MediaPlan(tuple(routes), _recording_order(s, owner, epoch))


def _heard(s: Session, *monitors: Monitor) -> list[Segment]:
    return [x for x in s.supervisors if x.state is SegmentState.TALKING and x.monitor in monitors]


def _speaks_with(agent: Segment, owner: Segment, talking: list[Segment]) -> list[Segment]:
    """The other agents whom one hears; segment.py has the table."""
    if agent.state is SegmentState.TALKING and agent.role is Role.GUEST and owner.state is SegmentState.HELD:
        talking = [owner, *talking]
    if agent.state is SegmentState.TALKING or agent is owner:
        return [other for other in talking if other.id != agent.id]
    return []


def _with_customer(agent: Segment, owner: Segment) -> bool:
    if agent is owner:
        return agent.state is not SegmentState.HELD
    return agent.state is SegmentState.TALKING and owner.state is SegmentState.TALKING


def _routes(leg: Leg, others: list[Leg], here: bool) -> list[Route]:
    heard = [Route(leg.id, other.id) for other in others if not (here and other.former)]
    return heard or [Route(leg.id, Source.SILENCE)]


def _recording_order(s: Session, owner: Segment, epoch: int) -> RecordingOrder | None:
    for recording in s.recordings:
        part = recording.parts[-1]
        if recording.segment_id != owner.id or recording.state is not RecordingState.RECORDING:
            continue
        held_by = part.epoch or (s.former or s).epoch
        if held_by == epoch:
            apart = owner.muted or (owner.state is SegmentState.HELD and bool(s.guests))
            legs = s.customer_leg.id, owner.leg.id
            return RecordingOrder(
                recording.id,
                part.number,
                *legs,
                paused=wants_pause(recording),
                started_at=recording.started_at,
                change=pause_change(recording),
                without_agent=apart,
            )
    return None


def orders(before: Session | None, after: Session, event: Event) -> list[MediaOrder]:
    """The orders that make the worker's state follow the session's, in sequence."""
    if after.ended:
        had_worker = before is not None and not before.ended and before.worker_id is not None
        return [ReleaseSession()] if had_worker else []
    if after.worker_id is None:
        return []
    found: list[MediaOrder] = []
    moved = before is None or before.epoch != after.epoch
    opens = isinstance(event, LegOffered)
    # The plan goes before each opening, too: a worker that was restarted behind our back knows nothing else of us.
    if moved or opens or (before is not None and media_plan(before) != media_plan(after)):
        found.append(ApplyPlan(media_plan(after)))
    if isinstance(event, LegOffered):
        found.append(OpenLeg(event.leg_id, event.generation, event.sdp))
    if isinstance(event, DigitsSent):
        found.append(SendDigits(after.customer_leg.id, event.digits))
    return found


def former_orders(before: Session | None, after: Session) -> list[tuple[Placement, MediaOrder]]:
    """The orders to a placement that the session is leaving: it follows the session, and is released at the end. When
    its customer goes away for a while it leaves all of them."""
    if before is None:
        return []
    here: list[tuple[Placement, MediaOrder]] = []
    if before.worker_id is not None and before.kept_since is None and after.kept_since is not None:
        here = [(Placement(before.worker_id, before.epoch, before.incarnation), ReleaseSession())]
    former = before.former
    if former is None:
        return here
    if after.former != former:
        return [*here, (former, ReleaseSession())]
    return [(former, ApplyPlan(former_plan(after)))] if former_plan(before) != former_plan(after) else []


def agent_events(before: Session | None, after: Session) -> list[tuple[str, ag.AgentEvent]]:
    """(agent id, event) for each segment whose state changed, in the order of the segments."""
    known = {segment.id: segment for segment in before.segments} if before is not None else {}
    found: list[tuple[str, ag.AgentEvent]] = []
    for segment in after.segments:
        old = known.get(segment.id)
        if old is None and segment.role is Role.SUPERVISOR:
            found.append((segment.agent_id, ag.ContactJoined(after.id, segment.id, after.channel)))
        elif old is None:
            found.append((segment.agent_id, ag.ContactOffered(after.id, segment.id, after.channel)))
            if segment.takes_part:  # fetched: asked and answered at once
                found.append((segment.agent_id, ag.ContactMoved(segment.id, ag.ContactState.ON_CONTACT)))
        elif old.state is segment.state:
            continue
        elif segment.state is SegmentState.DONE:
            missed = segment.end_reason in _BLAMED and segment.role is not Role.SUPERVISOR
            taken = segment.end_reason is SegmentEnd.TAKEN
            found.append((segment.agent_id, ag.ContactReleased(segment.id, missed, taken)))
        elif _CONTACT[old.state] is not _CONTACT[segment.state]:
            found.append((segment.agent_id, ag.ContactMoved(segment.id, _CONTACT[segment.state])))
    return found


def routable(s: Session) -> bool:
    """Waits for an agent, or for one more where it rings for all; its customer is there to be connected, and a worker
    holds it; or its customer is to be called as soon as an agent is asked."""
    there = s.customer_leg.state in (LegState.OPENING, LegState.UP) and s.worker_id is not None
    there = there or (s.callback is not None and not s.callback.begun)
    room = s.owner is None and len(s.ringing) < (MAX_RINGING if s.queue.ring_all else 1)
    return s.visit is not None and room and not s.ended and there
