"""Who hears whom when agents are called in, who has the session afterwards, and what its end means for each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.domain import events as ev
from server.domain.deadlines import TALK_GRACE_MS, deadlines
from server.domain.effects import agent_events, media_plan, orders
from server.domain.endings import EndReason, SegmentEnd
from server.domain.machine import Refused, Stale
from server.domain.media import SendDigits
from server.domain.segment import Monitor, Segment, SegmentState
from server.domain.session import Session, SessionState
from server.domain.session_guests import MAX_AGENTS
from server.domain.session_step import step
from server.signaling.views import contact_view
from server.storage import codec

SALES = ev.QueueRules("que_sales", "Sales", 20, 60, True, True, 30, 2)
CLAIMS = ev.QueueRules("que_claims", "Claims", 20, 0, False, False)
ARRIVED = ev.CallArrived("ses_1", "default", "ept_1", SALES, ev.Customer("Li"), "media-1")
C, A, B, D = "leg_1_0", "leg_1_1", "leg_1_2", "leg_1_3"  # the customer's and, in the order of their coming, the agents'
ANA = ("seg_1_1", "usr_ana")
BO, DEE = "seg_1_2", "seg_1_3"
NOW = 1_000_000


def play(session: Session | None, *events: ev.Event, at: int = NOW) -> Session:
    for event in events:
        session = step(session, event, at)
    assert session is not None
    return session


def joins(number: int, name: str) -> tuple[ev.Event, ...]:
    leg = f"leg_1_{number}"
    return (
        ev.AgentAccepted(f"seg_1_{number}", f"usr_{name}"),
        ev.LegOffered(leg, 1),
        ev.LegAnswered(leg, 1, 1),
        ev.LegWentUp(leg, 1, 1),
    )


ENTERS = (ev.LegOffered(C, 1), ev.LegAnswered(C, 1, 1), ev.LegWentUp(C, 1, 1))
TALK = play(None, ARRIVED, *ENTERS, ev.AgentOffered("usr_ana", "Ana"), *joins(1, "ana"))
ASKED = play(TALK, ev.GuestInvited(*ANA, "usr_bo", "Bo"))
CONSULT = play(ASKED, *joins(2, "bo"))
SWAPPED = play(CONSULT, ev.ConsultSwapped(*ANA, to_customer=True))
CONFERENCE = play(CONSULT, ev.ConferenceBegun(*ANA))
FOUR = play(CONFERENCE, ev.GuestInvited(*ANA, "usr_dee", "Dee"), *joins(3, "dee"))


SAM = ("seg_1_2", "usr_sam")
ARRIVES = (ev.LegOffered(B, 1), ev.LegAnswered(B, 1, 1), ev.LegWentUp(B, 1, 1))
LISTEN = play(TALK, ev.SupervisionBegun("usr_sam", "Sam"), *ARRIVES)
COACH = play(LISTEN, ev.SupervisionChanged(*SAM, "coach"))
BARGE = play(LISTEN, ev.SupervisionChanged(*SAM, "barge"))


def hears(s: Session) -> dict[str, set[str]]:
    """By leg; nothing where only silence is."""
    found: dict[str, set[str]] = {}
    for route in media_plan(s).routes:
        found.setdefault(route.leg_id, set()).add(str(route.hears))
    return {leg: heard - {"silence"} for leg, heard in found.items()}


def of(s: Session, segment_id: str) -> Segment:
    segment = s.segment(segment_id)
    assert segment is not None
    return segment


@pytest.mark.parametrize(
    ("session", "heard"),
    [
        (TALK, {C: {A}, A: {C}}),
        (ASKED, {C: {"hold_music"}, A: {"ringback"}}),
        (CONSULT, {C: {"hold_music"}, A: {B}, B: {A}}),
        (SWAPPED, {C: {A}, A: {C}, B: {"hold_music"}}),
        (CONFERENCE, {C: {A, B}, A: {C, B}, B: {C, A}}),
        (FOUR, {C: {A, B, D}, A: {C, B, D}, B: {C, A, D}, D: {C, A, B}}),
        (play(FOUR, ev.MuteChanged(BO, "usr_bo", True)), {C: {A, D}, A: {C, D}, B: {C, A, D}, D: {C, A}}),
        (play(FOUR, ev.HoldChanged(*ANA, on=True)), {C: {"hold_music"}, A: {B, D}, B: {A, D}, D: {A, B}}),
        (play(TALK, ev.MuteChanged(*ANA, on=True)), {C: set(), A: {C}}),
        (play(CONSULT, ev.GuestReleased(*ANA, BO)), {C: {A}, A: {C}}),
        (play(CONSULT, ev.ConsultCompleted(*ANA, BO)), {C: {B}, B: {C}}),
        (play(SWAPPED, ev.ConsultCompleted(*ANA, BO)), {C: {B}, B: {C}}),
        (LISTEN, {C: {A}, A: {C}, B: {A, C}}),
        (COACH, {C: {A}, A: {C, B}, B: {A, C}}),
        (BARGE, {C: {A, B}, A: {C, B}, B: {A, C}}),
        (play(BARGE, ev.SupervisionChanged(*SAM, "listen")), {C: {A}, A: {C}, B: {A, C}}),
        (play(COACH, ev.HoldChanged(*ANA, on=True)), {C: {"hold_music"}, A: {B}, B: {A}}),
        (
            play(COACH, ev.GuestInvited(*ANA, "usr_dee", "Dee"), *joins(3, "dee")),
            {C: {"hold_music"}, A: {D, B}, D: {A}, B: {A, D}},
        ),
        (play(LISTEN, ev.SupervisorTookOver(*SAM)), {C: {B}, B: {C}}),
        (play(COACH, ev.AgentHungUp(*SAM)), {C: {A}, A: {C}}),
        (play(FOUR, ev.AgentHungUp(*ANA)), {C: {B, D}, B: {C, D}, D: {C, B}}),
    ],
)
def test_who_hears_whom(session: Session, heard: dict[str, set[str]]) -> None:
    assert hears(session) == heard


def test_what_agents_say_among_themselves_is_not_recorded() -> None:
    def apart(s: Session) -> bool:
        order = media_plan(s).recording
        assert order is not None
        return order.without_agent

    assert [apart(s) for s in (TALK, CONSULT, SWAPPED, CONFERENCE)] == [False, True, False, False]
    assert apart(play(TALK, ev.MuteChanged(*ANA, on=True)))


def test_a_transfer_to_a_queue_puts_the_customer_first_in_line_there() -> None:
    after = play(TALK, ev.Transferred(*ANA, CLAIMS), at=NOW + 5_000)
    assert (after.state, after.queue, after.order_key) == (SessionState.QUEUED, CLAIMS, TALK.order_key)
    assert [v.queue_id for v in after.visits] == ["que_sales", "que_claims"]
    assert (of(after, ANA[0]).state, of(after, ANA[0]).end_reason) == (SegmentState.WRAP_UP, SegmentEnd.TRANSFERRED)
    assert hears(after) == {C: {"queue_music"}}
    assert all(recording.state == "closing" for recording in after.recordings)


def test_a_transfer_to_an_agent_rings_there_and_comes_back_to_the_queue() -> None:
    ringing = play(TALK, ev.Transferred(*ANA, None), ev.AgentOffered("usr_bo", "Bo", {}, "Ana"))
    assert (of(ringing, BO).state, of(ringing, BO).invited_by) == (SegmentState.OFFERED, "Ana")
    (deadline,) = [d for d in deadlines(ringing) if d.kind == "offer"]
    missed = play(ringing, ev.DeadlinePassed("offer", BO, deadline.at), at=deadline.at)
    assert (missed.state, missed.unattended) == (SessionState.QUEUED, True)
    taken = play(ringing, *joins(2, "bo"))
    assert taken.owner is not None
    assert (taken.owner.agent_id, taken.state, len(taken.recordings)) == ("usr_bo", SessionState.CONNECTED, 2)


def test_only_the_last_who_transferred_is_not_asked_again_at_once_unless_by_a_person() -> None:
    by_bo = play(TALK, ev.Transferred(*ANA, None), ev.AgentOffered("usr_bo", "Bo", {}, "Ana"), *joins(2, "bo"))
    waits = play(by_bo, ev.Transferred(BO, "usr_bo", None))
    assert [rejection.agent_id for rejection in waits.rejections] == ["usr_bo"], "Ana may be asked"
    with pytest.raises(Refused, match="agent_declined"):
        play(waits, ev.AgentOffered("usr_bo", "Bo"))
    handed_back = play(waits, ev.AgentOffered("usr_bo", "Bo", {}, "Bo"))
    assert [segment.agent_id for segment in handed_back.ringing] == ["usr_bo"]


def test_who_is_called_in_and_does_not_come_leaves_the_others_as_they_are() -> None:
    (deadline,) = [d for d in deadlines(ASKED) if d.kind == "offer"]
    for event, why, missed in (
        (ev.AgentRejected(BO, "usr_bo"), SegmentEnd.REJECTED, False),
        (ev.AgentVanished(BO, "usr_bo"), SegmentEnd.WITHDRAWN, False),
        (ev.DeadlinePassed("offer", BO, deadline.at), SegmentEnd.MISSED, True),
    ):
        after = play(ASKED, event, at=deadline.at)
        assert (of(after, BO).state, of(after, BO).end_reason) == (SegmentState.DONE, why)
        assert (after.owner, after.state) == (ASKED.owner, SessionState.CONNECTED)
        assert after.rejections == (), "the customer may still be routed there"
        ((agent_id, told),) = agent_events(ASKED, after)
        assert (agent_id, getattr(told, "missed", None)) == ("usr_bo", missed)


def test_a_guest_has_no_wrap_up_until_the_session_is_theirs() -> None:
    left = play(CONSULT, ev.AgentHungUp(BO, "usr_bo"))
    assert of(left, BO).state is SegmentState.DONE
    assert of(left, ANA[0]).state is SegmentState.HELD, "it is for the owner to take the customer back"
    done = play(CONSULT, ev.ConsultCompleted(*ANA, BO), ev.CustomerHungUp())
    assert [of(done, x).state for x in (ANA[0], BO)] == [SegmentState.WRAP_UP, SegmentState.WRAP_UP]
    assert of(done, BO).disposition_required
    kept = play(CONSULT, ev.CustomerHungUp())
    assert [of(kept, x).state for x in (ANA[0], BO)] == [SegmentState.WRAP_UP, SegmentState.DONE]
    assert of(kept, BO).end_reason is SegmentEnd.CUSTOMER_HUNG_UP


def test_keys_go_where_the_voice_goes_and_are_not_kept() -> None:
    pressed = ev.DigitsSent(*ANA, "42#")
    for session in (TALK, CONFERENCE, SWAPPED):
        after = play(session, pressed)
        assert orders(session, after, pressed) == [SendDigits(C, "42#")]
        assert replace(after, version=session.version) == session
    for session in (ASKED, CONSULT, play(TALK, ev.HoldChanged(*ANA, on=True))):
        with pytest.raises(Refused, match="not_in_call"):
            play(session, pressed)
    name, body = codec.EVENTS.dump(pressed)
    assert "42" not in str(body)
    assert codec.EVENTS.load(name, body) == ev.DigitsSent(*ANA)


def test_each_owner_has_a_recording_of_their_own() -> None:
    after = play(CONSULT, ev.ConsultCompleted(*ANA, BO))
    assert [(r.segment_id, r.state) for r in after.recordings] == [(ANA[0], "closing"), (BO, "recording")]
    order = media_plan(after).recording
    assert order is not None
    assert (order.recording_id, order.agent_leg, order.without_agent) == ("rec_1_2", B, False)


def test_an_owner_does_not_hang_up_on_a_customer_on_hold_by_mistake() -> None:
    for session in (ASKED, CONSULT, SWAPPED):
        with pytest.raises(Refused, match="consulting"):
            play(session, ev.AgentHungUp(*ANA))
    assert play(TALK, ev.AgentHungUp(*ANA)).end_reason is EndReason.AGENT_HUNG_UP


@pytest.mark.parametrize("session", [CONSULT, SWAPPED, CONFERENCE], ids=["consult", "swapped", "conference"])
def test_a_guest_takes_over_from_an_owner_who_is_lost(session: Session) -> None:
    down = play(session, ev.LegWentDown(A, 1, 1, "ice_lost"))
    (deadline,) = [d for d in deadlines(down) if d.kind == "agent_grace"]
    assert deadline.at == NOW + TALK_GRACE_MS
    after = play(down, ev.DeadlinePassed(deadline.kind, deadline.key, deadline.at), at=deadline.at)
    assert after.owner is not None
    assert (after.owner.agent_id, after.state) == ("usr_bo", SessionState.CONNECTED)
    assert hears(after) == {C: {B}, B: {C}}


def test_a_guest_who_is_lost_is_missed_by_nobody_else() -> None:
    down = play(FOUR, ev.LegWentDown(B, 1, 1, "ice_lost"))
    (deadline,) = [d for d in deadlines(down) if d.kind == "agent_grace"]
    after = play(down, ev.DeadlinePassed(deadline.kind, deadline.key, deadline.at), at=deadline.at)
    assert hears(after) == {C: {A, D}, A: {C, D}, D: {C, A}}


def test_only_the_owner_directs() -> None:
    bo = (BO, "usr_bo")
    for event in (
        ev.HoldChanged(*bo, True),
        ev.Transferred(*bo, CLAIMS),
        ev.GuestInvited(*bo, "usr_dee", "Dee"),
        ev.ConferenceBegun(*bo),
        ev.ConsultSwapped(*bo, True),
        ev.ConsultCompleted(*bo, BO),
    ):
        with pytest.raises(Refused, match="not_the_owner"):
            play(CONSULT, event)


def test_what_does_not_fit_is_refused_and_what_is_done_is_stale() -> None:
    with pytest.raises(Refused, match="takes_part_already"):
        play(CONSULT, ev.GuestInvited(*ANA, "usr_bo", "Bo"))
    with pytest.raises(Refused, match="takes_part_already"):
        play(TALK, ev.GuestInvited(*ANA, "usr_ana", "Ana"))
    with pytest.raises(Refused, match="consulting"):
        play(CONSULT, ev.Transferred(*ANA, CLAIMS))
    for wish in (ev.ConsultSwapped(*ANA, True), ev.ConferenceBegun(*ANA), ev.ConsultCompleted(*ANA, BO)):
        with pytest.raises(Refused, match="nobody_consulted"):
            play(ASKED, wish)
    for held in (CONSULT, play(FOUR, ev.HoldChanged(*ANA, on=True))):
        with pytest.raises(Refused, match="consulting"):
            play(held, ev.HoldChanged(*ANA, on=False))
    repeated: tuple[tuple[Session, ev.Event], ...] = (
        (SWAPPED, ev.ConsultSwapped(*ANA, True)),
        (CONSULT, ev.ConsultSwapped(*ANA, False)),
        (CONFERENCE, ev.ConferenceBegun(*ANA)),
        (CONSULT, ev.MuteChanged(*ANA, on=False)),
        (TALK, ev.GuestReleased(*ANA, BO)),
    )
    for session, event in repeated:
        with pytest.raises(Stale, match="no_change"):
            play(session, event)


def test_a_supervisor_comes_with_the_microphone_off_and_goes_without_a_trace() -> None:
    begun = play(TALK, ev.SupervisionBegun("usr_sam", "Sam"))
    assert (of(begun, SAM[0]).muted, of(begun, SAM[0]).monitor, of(begun, SAM[0]).state) == (
        True,
        Monitor.LISTEN,
        SegmentState.CONNECTING,
    )
    ((agent_id, told),) = agent_events(TALK, begun)
    assert (agent_id, type(told).__name__) == ("usr_sam", "ContactJoined")
    assert [of(x, SAM[0]).muted for x in (LISTEN, COACH, BARGE)] == [True, False, False]
    gone = play(BARGE, ev.AgentHungUp(*SAM))
    assert (of(gone, SAM[0]).state, of(gone, ANA[0]).state) == (SegmentState.DONE, SegmentState.TALKING)
    ended = play(BARGE, ev.CustomerHungUp())
    assert [of(ended, x).state for x in (ANA[0], SAM[0])] == [SegmentState.WRAP_UP, SegmentState.DONE]


def test_a_supervisor_takes_over_with_a_wrap_up_and_a_recording_of_their_own() -> None:
    after = play(LISTEN, ev.SupervisorTookOver(*SAM))
    assert (of(after, ANA[0]).state, of(after, ANA[0]).end_reason) == (SegmentState.WRAP_UP, SegmentEnd.TAKEN_OVER)
    assert after.owner == of(after, SAM[0])
    assert (of(after, SAM[0]).muted, of(after, SAM[0]).monitor, of(after, SAM[0]).wrap_up_s) == (False, None, 60)
    assert [r.segment_id for r in after.recordings] == [ANA[0], SAM[0]]


def test_nobody_supervises_what_is_no_talk() -> None:
    waiting = play(None, ARRIVED, *ENTERS)
    for session in (waiting, play(TALK, ev.CustomerHungUp())):
        with pytest.raises(Refused, match="not_in_call"):
            play(session, ev.SupervisionBegun("usr_sam", "Sam"))
    with pytest.raises(Refused, match="takes_part_already"):
        play(LISTEN, ev.SupervisionBegun("usr_sam", "Sam"))
    with pytest.raises(Refused, match="not_a_supervisor"):
        play(LISTEN, ev.SupervisorTookOver(*ANA))
    with pytest.raises(Refused, match="not_your_contact"):
        play(LISTEN, ev.SupervisionChanged(SAM[0], "usr_ana", "barge"))
    with pytest.raises(Refused, match="not_the_owner"):
        play(LISTEN, ev.HoldChanged(*SAM, on=True))


def test_eight_take_part_at_most() -> None:
    full = CONFERENCE
    for number in range(3, MAX_AGENTS + 1):
        full = play(full, ev.GuestInvited(*ANA, f"usr_{number}", str(number)), *joins(number, str(number)))
    assert len(hears(full)) == 8
    assert all(len(heard) == 7 for heard in hears(full).values())
    with pytest.raises(Refused, match="too_many_take_part"):
        play(full, ev.GuestInvited(*ANA, "usr_late", "Late"))


def test_a_supervisor_is_seen_by_those_who_hear_them() -> None:
    def seen_by(session: Session, segment_id: str) -> list[tuple[str, str | None]]:
        return [(o.agent_name, o.monitor) for o in contact_view(session, of(session, segment_id)).others if o.monitor]

    joined = (ev.GuestInvited(*ANA, "usr_dee", "Dee"), *joins(3, "dee"), ev.ConferenceBegun(*ANA))
    for mode, by_ana, by_dee in (
        (LISTEN, [], []),
        (COACH, [("Sam", "coach")], []),
        (BARGE, [("Sam", "barge")], [("Sam", "barge")]),
    ):
        all_of_them = play(mode, *joined)
        assert (seen_by(all_of_them, ANA[0]), seen_by(all_of_them, DEE)) == (by_ana, by_dee)
