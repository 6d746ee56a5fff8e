"""Random walks over the session machine: whatever peers send in whatever order, the invariants hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.domain import agent as ag
from server.domain import events as ev
from server.domain.agent import Agent, step_agent
from server.domain.deadlines import deadlines
from server.domain.effects import agent_events, former_orders, former_plan, media_plan, orders, routable
from server.domain.endings import VisitOutcome
from server.domain.machine import IllegalTransition, Refused, Stale
from server.domain.media import Placement, ReleaseSession, Source
from server.domain.queue_life import Exit
from server.domain.segment import NEXT, Monitor, Role, SegmentState
from server.domain.session import MAX_RINGING, Session, SessionState
from server.domain.session_step import TRANSITIONS, step
from server.storage import codec
from tests.helpers.fuzz import examples

LAST = ev.QueueRules("que_3", "Anybody", 20, 60, True, False, max_wait_s=40, keep_place_s=90)
NEXT_QUEUE = ev.QueueRules("que_2", "Help", 20, 0, False, True, max_wait_s=30, overflow=LAST)
RULES = ev.QueueRules("que_1", "Sales", 20, 60, True, True, 30, 2, max_wait_s=50, overflow=NEXT_QUEUE, keep_place_s=70)
CALLED_BACK = replace(RULES, exit=Exit.CALLBACK)
VOICEMAIL = replace(RULES, overflow=replace(NEXT_QUEUE, exit=Exit.VOICEMAIL))
RING_ALL = replace(RULES, ring_all=True, overflow=replace(NEXT_QUEUE, ring_all=True))
ELSEWHERE = replace(LAST, queue_id="que_9", name="Claims", record=True)
ARRIVED = ev.CallArrived(
    "ses_1", "default", "ept_1", RULES, ev.Customer("Li"), "media-1", priority=3, sticky_agent_id="usr_a", place_at=5
)
AGENTS = ("usr_a", "usr_b", "usr_c")
WAITS = SessionState.QUEUED, SessionState.PLACE_KEPT


def candidates(s: Session, pick: Any, now: int) -> ev.Event:
    """An event that a peer, a worker, the router or a timer could send now, right or wrong."""
    legs = [s.customer_leg, *(x.leg for x in s.segments)]
    leg = pick(st.sampled_from(legs))
    generation = max(1, leg.generation + pick(st.sampled_from((-1, 0, 0, 0, 1))))
    epoch = max(0, s.epoch + pick(st.sampled_from((-1, -1, 0, 0, 0))))
    segment_id = pick(st.sampled_from([x.id for x in s.segments])) if s.segments else "seg_none"
    agent_id = pick(st.sampled_from(AGENTS))
    due = sorted(deadlines(s), key=lambda d: d.at)
    choices: list[ev.Event] = [
        ev.LegOffered(leg.id, leg.generation + 1, "v=0"),
        ev.LegAnswered(leg.id, generation, epoch, "v=0"),
        ev.LegRefused(leg.id, generation, epoch, "bad_sdp"),
        ev.LegWentUp(leg.id, generation, epoch),
        ev.LegWentUp(leg.id, leg.generation, s.epoch),
        ev.LegWentDown(leg.id, generation, epoch, "dtls_closed"),
        ev.LegFellQuiet(leg.id, generation, epoch, pick(st.booleans())),
        ev.AgentAccepted(segment_id, agent_id),
        ev.AgentRejected(segment_id, agent_id),
        ev.AgentVanished(segment_id, agent_id),
        ev.AgentHungUp(segment_id, agent_id),
        ev.HoldChanged(segment_id, agent_id, pick(st.booleans())),
        ev.RecordingPauseAsked(segment_id, agent_id, pick(st.booleans())),
        ev.RecordingPauseSaid(pick(st.sampled_from([r.id for r in s.recordings])), pick(st.integers(0, 4)))
        if s.recordings
        else ev.CustomerHungUp(),
        ev.RecordingMarked(segment_id, agent_id),
        ev.DigitsSent(segment_id, agent_id, "12#"),
        ev.MuteChanged(segment_id, agent_id, s.version % 2 == 0),
        ev.NotesSaved(segment_id, agent_id, pick(st.text(max_size=3)), None),
        ev.WrapUpExtended(segment_id, agent_id, pick(st.sampled_from([d.at for d in due] or [0]))),
        ev.WrapUpDone(segment_id, agent_id, "", pick(st.sampled_from((None, "dsp_1")))),
        ev.CustomerHungUp(),
        ev.PlaceKept(),
        ev.PlaceKept(),
        ev.PlaceTaken(pick(st.sampled_from((None, "media-1", "media-2")))),
        ev.PlaceTaken("media-3"),
        ev.CallbackAsked(pick(st.sampled_from(("+4930123456", "+4930654321")))),
        ev.CallbackMissed("no_answer"),
        ev.FlowEnded(),
        ev.PlacePassedOn(pick(st.sampled_from(("ses_2", "ses_3")))),
        ev.RoutingChanged(pick(st.integers(1, 3)), "", (agent_id,), (), "usr_sam"),
        ev.WaitEstimated("que_1", s.visit.entered_at if s.visit else now, 2, 10_000, 60_000),
        ev.QueueFull(pick(st.sampled_from(("que_1", "que_2", "que_3")))),
        ev.WorkerLost("media-1", pick(st.sampled_from((None, "media-2"))), epoch),
        ev.WorkerLost("media-2", "media-1", epoch),
        ev.WorkerLost("media-3", None),
        ev.SessionMoved(pick(st.sampled_from(("media-1", "media-2", "media-3"))), epoch),
        ev.Placed("media-2"),
    ]
    if s.owner is None and s.state in WAITS and (s.queue.ring_all or not s.ringing):
        choices += [ev.AgentOffered(agent_id, "Ana", {})] * 4
    yes = pick(st.booleans())  # of what is drawn for each candidate most is not used: few draws keep the walk fast
    supervisor = [(x.id, x.agent_id) for x in s.supervisors][:1] or [(segment_id, agent_id)]
    choices += [
        ev.SupervisionBegun(agent_id, "Sam"),
        ev.SupervisionChanged(*supervisor[0], monitor="coach" if yes else "barge"),
        ev.SupervisionChanged(*supervisor[0], monitor="listen"),
        ev.SupervisorTookOver(*supervisor[0]),
    ]
    if s.owner is not None and s.owner.in_talk:
        owns, guest = (s.owner.id, s.owner.agent_id), s.guests[-1].id if s.guests else "seg_none"
        choices += [
            ev.Transferred(*owns, ELSEWHERE if yes else None),
            ev.SessionParked(*owns),
            ev.SessionParked(*owns),
            ev.GuestInvited(*owns, agent_id, "Bo"),
            ev.GuestInvited(*owns, agent_id, "Bo"),
            ev.GuestReleased(*owns, guest),
            ev.ConsultSwapped(*owns, yes),
            ev.ConferenceBegun(*owns),
            ev.ConsultCompleted(*owns, guest),
        ]
    if s.parked is not None:
        choices += [ev.SessionFetched(agent_id, "Ana")] * 6
    if due:
        choices += [ev.DeadlinePassed(due[0].kind, due[0].key, due[0].at)] * 2
    for recording in s.recordings:
        choices += [
            ev.RecordingPartClosed(recording.id, pick(st.integers(1, len(recording.parts)))),
            ev.RecordingBroke(recording.id, len(recording.parts), "disk_full"),
        ]
        if recording.state == "archiving":
            choices += [ev.RecordingArchived(recording.id, 5, {}), ev.ArchiveFailed(recording.id, "no_capture")]
    chosen: ev.Event = pick(st.sampled_from(choices))
    return chosen


def check(before: Session | None, after: Session) -> None:
    owners, ringing = [x for x in after.segments if x.owns], [x.agent_id for x in after.ringing]
    assert len(owners) <= 1
    assert not (after.guests or after.supervisors) or owners[0].in_talk, "nobody is there without an owner"
    present = [x.agent_id for x in after.segments if x.rings or x.takes_part]
    assert len(set(present)) == len(present), "nobody takes part twice"
    for guest in after.guests:
        assert guest.state in (SegmentState.OFFERED, SegmentState.CONNECTING) or guest.talk_started_at is not None
    heard(after)
    assert not (owners and ringing), "the first who accepts has it"
    assert len(set(ringing)) == len(ringing) <= (MAX_RINGING if after.queue.ring_all else 1)
    assert (after.state is SessionState.CONNECTED) == bool(owners and owners[0].in_talk)
    waiting = [v for v in after.visits if v.outcome is None]
    assert len(waiting) == (1 if after.state in WAITS else 0)
    assert (after.state is SessionState.PLACE_KEPT) == (after.kept_since is not None)
    if after.kept_since is not None:  # who is away holds nothing
        assert not ringing
        assert (after.owner, after.worker_id, after.former, after.customer_leg.state) == (None, None, None, "closed")
        kind = "place" if after.callback is None else "callback"
        assert {d.kind for d in deadlines(after)} - {"wrap_up"} == {kind}
    assert (after.parked is not None) == (after.state is SessionState.PARKED)
    if after.parked is not None:
        assert not ringing
        assert not routable(after)
        heard_by_customer = {r.hears for r in media_plan(after).routes if r.leg_id == after.customer_leg.id}
        assert heard_by_customer == {Source.HOLD_MUSIC}, "nobody talks over a customer who is parked"
        assert ("park" in {d.kind for d in deadlines(after)}) == (after.owner is None), "nobody is parked for ever"
    assert (after.flow is not None) == (after.state is SessionState.FLOW)
    assert after.callback is None or after.state in WAITS
    if after.callback is not None:
        assert after.callback.begun == (after.state is SessionState.QUEUED)
    if after.ended:
        assert after.end_reason is not None
        assert not owners
        assert not ringing
        assert not media_plan(after).routes
    if before is not None:
        assert after.epoch >= before.epoch
        assert after.version == before.version + 1
        assert not before.ended or after.ended, "an end is final"
        assert before.passed_to in (None, after.passed_to), "a place is passed on once"
        assert before.order_key[1:] == after.order_key[1:], "only a supervisor changes the priority"
        assert after.queue in (before.queue, before.queue.overflow, ELSEWHERE)
        assert [v.queue_id for v in after.visits if v.outcome is None] in ([], [after.queue.queue_id])
        for old, new in zip(before.segments, after.segments, strict=False):
            assert new.state is old.state or new.state in NEXT[old.state]
            assert new.role is old.role or (old.role is not Role.OWNER and new.owns), (
                "who is there may become the owner"
            )
        for was, now_is in zip(before.visits, after.visits, strict=False):
            assert was.outcome in (None, now_is.outcome), "a visit ends once"
            assert was.told in (None, now_is.told), "only the first promise is kept"
    moving = [x for x in after.live_legs if x.former]
    assert (after.former is not None) == bool(moving), "a former placement is kept as long as a leg is there"
    assert all(x.is_up for x in moving)
    if after.former is not None:
        assert after.former.epoch < after.epoch
    for recording in after.recordings:
        epochs = [part.epoch for part in recording.parts]
        assert epochs == sorted(set(epochs)), "one part a placement"
        plans = [plan for plan in (media_plan(after), former_plan(after)) if plan.recording is not None]
        assert len(plans) <= 1, "nothing is recorded twice"
    for x in after.live_legs:
        assert x.former or not (x.is_up and x.gone >= x.generation), "what went down never comes up again"
    assert len({d.kind + d.key for d in deadlines(after)}) == len(deadlines(after))
    assert not (routable(after) and (owners or (ringing and not after.queue.ring_all)))
    if not after.done:  # somebody is always expected to do something, or a limit is running
        held = after.state is SessionState.QUEUED and after.customer_leg.is_up
        talking = after.state is SessionState.CONNECTED
        finishing = after.ended and any(r.state in ("closing", "archiving") for r in after.recordings)
        assert deadlines(after) or held or talking or finishing


def heard(s: Session) -> None:
    """Each leg that is open is in the plan, hears nobody twice nor itself, and nobody who is muted; what an agent says
    to a guest alone is not for the customer, nor for the recording."""
    plan, routes = media_plan(s), media_plan(s).routes
    assert len(set(routes)) == len(routes)
    assert s.ended or {route.leg_id for route in routes} == {leg.id for leg in s.live_legs}
    owner, muted = s.owner, {x.leg.id for x in s.segments if x.takes_part and x.muted}
    for route in routes:
        assert route.leg_id != route.hears
        assert route.hears not in muted
        assert route.hears in {leg.id for leg in s.live_legs} | set(Source)
    for supervisor in s.supervisors:
        listeners = {route.leg_id for route in routes if route.hears == supervisor.leg.id}
        may = {Monitor.LISTEN: set(), Monitor.COACH: {owner.leg.id} if owner else set()}
        assert supervisor.monitor is Monitor.BARGE or listeners <= may[supervisor.monitor or Monitor.LISTEN]
    if owner is not None and owner.state is SegmentState.HELD:
        assert [route.hears for route in routes if route.leg_id == s.customer_leg.id] == [Source.HOLD_MUSIC]
        if s.guests and plan.recording is not None:
            assert plan.recording.without_agent


@settings(max_examples=examples(300), deadline=None)
@given(st.data(), st.sampled_from((RULES, RING_ALL, CALLED_BACK, VOICEMAIL)), st.sampled_from(("", "+4930123456")))
def test_any_history_keeps_the_invariants_and_folds_to_the_same_session(
    data: st.DataObject, rules: ev.QueueRules, number: str
) -> None:
    now, arrived = 1_000_000, replace(ARRIVED, queue=rules, customer=ev.Customer("Li", number=number))
    session = step(None, arrived, now)
    check(None, session)
    log: list[tuple[int, ev.Event]] = [(now, arrived)]
    agents: dict[str, Agent] = {}
    for user_id in AGENTS:
        agent = step_agent(None, ag.AgentCreated(user_id, "default"), now)
        for readied in (ag.WentLive(), ag.StateChosen(ag.Chosen.READY)):
            agent = step_agent(agent, readied, now)
        agents[user_id] = agent
    for _ in range(data.draw(st.integers(0, 40))):
        event = candidates(session, data.draw, now)
        now += data.draw(st.sampled_from((0, 1, 500, 20_000, 61_000)))
        if isinstance(event, ev.DeadlinePassed):
            now = max(now, event.at)
        try:
            after = step(session, event, now)
            told = agent_events(session, after)
            stepped = dict(agents)
            for agent_id, said in told:
                stepped[agent_id] = step_agent(stepped[agent_id], said, now)
        except (Stale, Refused):
            continue
        check(session, after)
        orders(session, after, event)
        released = [place for place, order in former_orders(session, after) if order == ReleaseSession()]
        left = [session.former] if session.former not in (None, after.former) else []
        if session.worker_id is not None and session.kept_since is None and after.kept_since is not None:
            left = [Placement(session.worker_id, session.epoch, session.incarnation), *left]
        assert released == left
        agents, session = stepped, after
        log.append((now, event))
        for agent in agents.values():
            assert len(agent.contacts) <= agent.capacity.most("voice")
        if session.done:
            assert all(not agent.contacts for agent in agents.values())

    again: Session | None = None
    for at, event in log:
        name, body = codec.EVENTS.dump(event)
        again = step(again, codec.EVENTS.load(name, body), at)
    assert again == session, "the row is the fold of the logged events"
    assert codec.SESSION.validate_json(codec.SESSION.dump_json(session)) == session
    for visit in session.visits:
        assert visit.outcome in (None, *VisitOutcome)


def test_the_table_names_every_event_in_every_state() -> None:
    known = {event for _, event in TRANSITIONS}
    assert known == set(ev.Event.__args__) - {ev.CallArrived}
    for state in SessionState:
        missing = {e.__name__ for e in known if (state, e) not in TRANSITIONS}
        assert missing <= {"AgentOffered"}, (state, missing)


def test_a_pair_outside_the_table_is_a_bug() -> None:
    arriving = step(None, ARRIVED, 1)
    with pytest.raises(IllegalTransition, match="AgentOffered in arriving"):
        step(arriving, ev.AgentOffered("usr_a", "Ana"), 2)
