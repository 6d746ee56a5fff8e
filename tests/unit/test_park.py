"""A customer who is parked: what they hear, who may have them, and what becomes of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.domain import agent as ag
from server.domain import events as ev
from server.domain.deadlines import CONNECT_MS, QUEUE_GRACE_MS, Deadline, deadlines
from server.domain.effects import agent_events, media_plan, routable
from server.domain.endings import EndReason, SegmentEnd, VisitOutcome
from server.domain.machine import Refused, Stale
from server.domain.media import Route, Source
from server.domain.queue_life import QueueLife, life_from_json, life_to_json
from server.domain.recording import RecordingState
from server.domain.segment import SegmentState
from server.domain.session import Session, SessionState
from server.domain.session_park import MAX_OFFERS
from server.domain.session_step import step
from server.storage import codec
from tests.unit.test_call_control import ANA, ARRIVED, ASKED, CONFERENCE, CONSULT, LISTEN, NOW, SALES, TALK, B, C, play

LIMIT_MS = SALES.park_limit_s * 1000
PARKED = play(TALK, ev.SessionParked(*ANA))
FETCHED = play(PARKED, ev.SessionFetched("usr_bo", "Bo"), at=NOW + 5_000)
BO = ("seg_1_2", "usr_bo")
AUDIBLE = (ev.LegOffered(B, 1), ev.LegAnswered(B, 1, 1), ev.LegWentUp(B, 1, 1))
TALKS_AGAIN = play(FETCHED, *AUDIBLE, at=NOW + 6_000)


def park_is_over(s: Session) -> Session:
    return play(s, ev.DeadlinePassed("park", s.id, NOW + LIMIT_MS), at=NOW + LIMIT_MS)


def test_the_agent_who_parks_is_done_and_the_customer_hears_hold_music() -> None:
    assert (PARKED.state, PARKED.owner, PARKED.visit) == (SessionState.PARKED, None, None)
    assert media_plan(PARKED).routes == (Route(C, Source.HOLD_MUSIC),)
    assert media_plan(PARKED).recording is None, "music is no talk"
    assert [recording.state for recording in PARKED.recordings] == [RecordingState.CLOSING]
    parked = PARKED.segments[0]
    assert (parked.state, parked.end_reason) == (SegmentState.WRAP_UP, SegmentEnd.PARKED)
    assert Deadline("park", "ses_1", NOW + LIMIT_MS) in deadlines(PARKED)
    assert not routable(PARKED)


@pytest.mark.parametrize(
    ("before", "by", "code"),
    [
        (TALK, ("seg_1_1", "usr_bo"), "not_your_contact"),
        (TALK, ("seg_none", "usr_ana"), "not_your_contact"),
        (PARKED, ANA, "not_in_call"),
        (FETCHED, BO, "not_in_call"),
        (ASKED, ANA, "consulting"),
        (CONSULT, ANA, "consulting"),
        (CONFERENCE, ANA, "consulting"),
        (CONFERENCE, BO, "not_the_owner"),
    ],
)
def test_who_may_not_park(before: Session, by: tuple[str, str], code: str) -> None:
    with pytest.raises(Refused) as refused:
        step(before, ev.SessionParked(*by), NOW)
    assert refused.value.code == code


def test_a_call_on_hold_may_be_parked_and_its_supervisor_leaves() -> None:
    held = play(TALK, ev.HoldChanged(*ANA, on=True))
    assert play(held, ev.SessionParked(*ANA), at=NOW + 3_000).segments[0].hold_ms == 3_000
    left = play(LISTEN, ev.SessionParked(*ANA))
    assert (left.supervisors, left.segments[1].end_reason) == ((), SegmentEnd.RELEASED)


def test_who_fetches_has_the_session_once_both_are_audible() -> None:
    assert (FETCHED.state, FETCHED.owner is not None) == (SessionState.PARKED, True)
    assert Route(C, Source.HOLD_MUSIC) in media_plan(FETCHED).routes, "until the agent is audible"
    assert "park" not in {d.kind for d in deadlines(FETCHED)}, "who fetches it is seen through"
    assert Deadline("connect", "seg_1_2", NOW + 5_000 + CONNECT_MS) in deadlines(FETCHED)
    assert (TALKS_AGAIN.state, TALKS_AGAIN.parked) == (SessionState.CONNECTED, None)
    assert set(media_plan(TALKS_AGAIN).routes) == {Route(C, B), Route(B, C)}
    assert [recording.segment_id for recording in TALKS_AGAIN.recordings] == ["seg_1_1", "seg_1_2"]
    assert [visit.outcome for visit in TALKS_AGAIN.visits] == [VisitOutcome.ANSWERED], "parking is no wait in a queue"


def test_fetching_takes_the_agents_capacity_like_an_offer_that_is_accepted() -> None:
    assert agent_events(PARKED, FETCHED) == [
        ("usr_bo", ag.ContactOffered("ses_1", "seg_1_2")),
        ("usr_bo", ag.ContactMoved("seg_1_2", ag.ContactState.ON_CONTACT)),
    ]


def test_of_two_who_fetch_the_second_reads_who_was_first() -> None:
    for session in (FETCHED, TALKS_AGAIN):
        with pytest.raises(Stale) as late:
            step(session, ev.SessionFetched("usr_dee", "Dee"), NOW + 7_000)
        assert (late.value.code, late.value.params) == ("offer_taken", {"agent": "Bo"})
        with pytest.raises(Stale, match="no_change"):
            step(session, ev.SessionFetched("usr_bo", "Bo"), NOW + 7_000)


def test_what_is_not_parked_any_more_is_not_fetched() -> None:
    for session, code in (
        (park_is_over(PARKED), "not_parked"),
        (play(PARKED, ev.CustomerHungUp()), "customer_left"),
        (play(None, ARRIVED), "not_parked"),
    ):
        with pytest.raises(Stale) as late:
            step(session, ev.SessionFetched("usr_bo", "Bo"), NOW + LIMIT_MS)
        assert late.value.code == code


def test_nobody_in_time_and_the_customer_waits_first_in_line() -> None:
    after = park_is_over(PARKED)
    assert (after.state, after.parked, after.order_key) == (SessionState.QUEUED, None, TALK.order_key)
    assert [visit.outcome for visit in after.visits] == [VisitOutcome.ANSWERED, None]
    assert after.sticky_agent_id == "usr_ana"
    assert routable(after)
    assert media_plan(after).routes == (Route(C, Source.QUEUE_MUSIC),)
    with pytest.raises(Stale):
        step(PARKED, ev.DeadlinePassed("park", "ses_1", NOW + LIMIT_MS), NOW + LIMIT_MS - 1)


@pytest.mark.parametrize(
    "gone",
    [
        ev.AgentHungUp(*BO),
        ev.AgentRejected(*BO),
        ev.DeadlinePassed("connect", "seg_1_2", NOW + 5_000 + CONNECT_MS),
    ],
)
def test_a_fetch_without_a_connection_leaves_the_customer_parked(gone: ev.Event) -> None:
    if isinstance(gone, ev.AgentRejected):
        with pytest.raises(Stale, match="no_change"):
            step(FETCHED, gone, NOW + 20_000)
        return
    after = play(FETCHED, gone, at=NOW + 20_000)
    assert (after.state, after.owner, after.parked) == (SessionState.PARKED, None, PARKED.parked)
    assert Deadline("park", "ses_1", NOW + LIMIT_MS) in deadlines(after)


def test_a_late_router_offers_a_parked_session_to_nobody() -> None:
    with pytest.raises(Stale, match="offer_withdrawn"):
        step(PARKED, ev.AgentOffered("usr_bo", "Bo"), NOW)


def test_the_customer_may_leave_or_reload_while_parked() -> None:
    left = play(PARKED, ev.CustomerHungUp())
    assert (left.state, left.parked, left.end_reason) == (SessionState.ENDED, None, EndReason.ABANDONED)
    away = play(PARKED, ev.LegWentDown(C, 1, 1, "ice_failed"))
    assert Deadline("customer_grace", C, NOW + QUEUE_GRACE_MS) in deadlines(away)
    back = play(away, ev.LegOffered(C, 2), ev.LegAnswered(C, 2, 1), ev.LegWentUp(C, 2, 1))
    assert (back.state, back.customer_leg.is_up) == (SessionState.PARKED, True)
    lost = play(away, ev.DeadlinePassed("customer_grace", C, NOW + QUEUE_GRACE_MS), at=NOW + QUEUE_GRACE_MS)
    assert lost.end_reason is EndReason.CUSTOMER_LOST


def test_a_parked_customer_outlives_the_worker_and_its_drain() -> None:
    moved = play(PARKED, ev.WorkerLost("media-1", "media-2", 1))
    assert (moved.state, moved.worker_id, moved.epoch) == (SessionState.PARKED, "media-2", 2)
    assert media_plan(moved).routes == (Route(C, Source.HOLD_MUSIC),)
    drained = play(PARKED, ev.SessionMoved("media-2", 1))
    assert (drained.state, drained.former is not None) == (SessionState.PARKED, True)


def test_a_session_is_not_parked_and_fetched_for_ever() -> None:
    with pytest.raises(Refused, match="parked_too_often"):
        step(replace(TALK, folded=MAX_OFFERS), ev.SessionParked(*ANA), NOW)
    with pytest.raises(Refused, match="parked_too_often"):
        step(replace(PARKED, folded=MAX_OFFERS), ev.SessionFetched("usr_bo", "Bo"), NOW)


def test_rows_and_settings_of_before_there_was_parking_read_as_they_did() -> None:
    old = codec.SESSION.dump_python(TALK, mode="json")
    del old["parked"], old["queue"]["park_limit_s"]
    assert codec.SESSION.validate_python(old) == TALK
    assert life_from_json({"max_wait_s": 5}).park_limit_s == 120
    assert life_from_json(life_to_json(QueueLife(park_limit_s=15))).park_limit_s == 15
    assert "park_limit_s" not in life_to_json(QueueLife())
