"""Sessions that leave a media worker which is to stop, and workers that are lost, as all nodes see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.domain import events as ev
from server.domain.history import RecordingRow
from server.domain.machine import Stale
from server.domain.media import ApplyPlan, LegDown, LegQuiet, LegUp, MediaPlan, Route, Source
from server.domain.recording import RecordingState
from server.domain.session import Session
from server.services import moves
from server.services.admin_ports import NotReady
from server.services.media_link import ABSENT_MS, MediaLink
from server.services.ports import Collected, Conflict, RecordingRef
from server.services.recordings import ANYBODYS_MS, RECORDING_LOST_MS, TURN_MS
from server.services.tokens import CustomerToken
from tests.helpers.world import TENANT, NoHistory, World, world


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def talk(w: World) -> CustomerToken:
    """A recorded call between a customer and Ana."""
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana")
    return call


async def drain(w: World, worker_id: str) -> None:
    """The worker is told to stop, and the next look sees it."""
    await w.engine.drain(worker_id)
    await w.core.link.mover.look()
    await w.settle()


async def come_over(w: World, call: CustomerToken, who: str) -> None:
    """The browser answers the view by a new generation, and it is up."""
    session = await w.session(call)
    if who == "customer":
        leg = session.customer_leg
        await w.core.sessions.customer_leg(call, leg.id, leg.generation + 1, "v=0 over there")
    else:
        leg = session.segments[-1].leg
        await w.core.sessions.agent_leg(w.user(who), session.id, leg.id, leg.generation + 1, "v=0 over there")
    await w.settle()
    assert session.worker_id is not None
    await w.engine.report(session.worker_id, session.id, LegUp(leg.id, leg.generation + 1))
    await w.settle()


def plans(w: World, worker_id: str) -> list[MediaPlan]:
    return [order.plan for to, _, order in w.engine.orders if to == worker_id and isinstance(order, ApplyPlan)]


async def where(w: World, call: CustomerToken) -> tuple[str, str]:
    """(from, to) of a session that moves."""
    session = await w.session(call)
    assert session.former is not None
    assert session.worker_id is not None
    return session.former.worker_id, session.worker_id


def legs_of(session: Session) -> tuple[str, str]:
    return session.customer_leg.id, session.segments[0].leg.id


# --- moving ------------------------------------------------------------------------------------------


async def test_both_come_over_and_the_recording_goes_on_there(w: World) -> None:
    call = await talk(w)
    before = await w.session(call)
    old = before.worker_id or ""
    await drain(w, old)
    session = await w.session(call)
    assert (session.epoch, session.worker_id) != (before.epoch, old)
    _, new = await where(w, call)
    customer, agent = legs_of(session)
    assert session.customer_leg.is_up, "it is heard where it was"
    assert plans(w, new)[-1] == MediaPlan((Route(customer, Source.SILENCE), Route(agent, Source.SILENCE)))
    twin = w.engine.session(session.id, old)
    assert twin is not None
    assert twin.plan.recording is not None
    views = [p["call"]["leg"] for p in await w.pushes(session.id) if p["type"] == "call.changed"]
    assert views[-1]["state"] == "up"
    assert views[-1]["generation"] > before.customer_leg.generation, "how the browser hears that it is to come over"

    await come_over(w, call, "customer")
    assert plans(w, new)[-1].routes == (Route(customer, Source.SILENCE), Route(agent, customer))
    assert w.engine.session(session.id, old) is not None, "the agent still hears the customer there"
    await come_over(w, call, "ana")
    arrived = await w.session(call)
    assert arrived.former is None
    assert w.engine.session(session.id, old) is None, "released"
    there = w.engine.session(session.id, new)
    assert there is not None
    assert there.plan.routes == (Route(customer, agent), Route(agent, customer))
    assert there.plan.recording is not None
    assert there.plan.recording.part == 2
    assert [(p.worker_id, p.closed, p.cut) for p in arrived.recordings[0].parts] == [
        (old, True, False),
        (new, False, False),
    ]
    contacts = [p["contact"] for p in await w.pushes("usr_ana") if p["type"] == "contact.changed"]
    assert not any(contact["customer_reconnecting"] for contact in contacts), "nobody is told of anything"
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    assert (await w.session(call)).recordings[0].state == "ready"


async def test_what_is_done_meanwhile_is_done_in_both_places(w: World) -> None:
    call = await talk(w)
    session = await w.session(call)
    old = session.worker_id or ""
    await drain(w, old)
    await w.core.sessions.hold(w.user("ana"), session.id, session.segments[0].id, True)
    await w.settle()
    _, new = await where(w, call)
    assert plans(w, old)[-1].routes == plans(w, new)[-1].routes
    assert plans(w, old)[-1].routes[0].hears == Source.HOLD_MUSIC
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    for worker_id in (old, new):
        assert w.engine.session(session.id, worker_id) is None
    assert (await w.session(call)).recordings[0].state == "ready"


async def test_a_waiting_customer_comes_over_and_keeps_the_place(w: World) -> None:
    call = await w.call()
    await drain(w, (await w.session(call)).worker_id or "")
    await w.ready("ana")
    assert await w.offered_to(call) == "ana"
    await w.accept(call, "ana")
    assert (await w.session(call)).state == "queued", "the agent is there, the customer is not yet"
    await come_over(w, call, "customer")
    assert (await w.session(call)).state == "connected"


async def test_who_does_not_come_over_has_the_usual_grace(w: World) -> None:
    call = await talk(w)
    session = await w.session(call)
    old = session.worker_id or ""
    await drain(w, old)
    await come_over(w, call, "ana")
    await w.after(20)
    session = await w.session(call)
    assert session.former is None
    assert session.customer_leg.state == "lost"
    assert w.engine.session(session.id, old) is None
    await w.after(59)
    assert not (await w.session(call)).ended
    await w.after(1)
    assert (await w.session(call)).end_reason == "customer_lost"


async def test_a_customer_who_leaves_from_the_old_place_is_missed_there(w: World) -> None:
    call = await talk(w)
    session = await w.session(call)
    old = session.worker_id or ""
    await drain(w, old)
    leg = session.customer_leg
    await w.engine.report(old, session.id, LegDown(leg.id, leg.generation, "dtls_closed"), session.epoch)
    await w.settle()
    assert (await w.session(call)).customer_leg.state == "lost"
    await come_over(w, call, "customer")
    await come_over(w, call, "ana")
    assert (await w.session(call)).former is None


async def test_an_attempt_that_fails_takes_nothing_away(w: World) -> None:
    call = await talk(w)
    old = (await w.session(call)).worker_id or ""
    await drain(w, old)
    session = await w.session(call)
    _, new = await where(w, call)
    leg = session.customer_leg
    await w.core.sessions.customer_leg(call, leg.id, leg.generation + 1, "v=0")
    await w.settle()
    await w.engine.report(new, session.id, LegDown(leg.id, leg.generation + 1, "setup_timeout"))
    await w.settle()
    assert (await w.session(call)).customer_leg.is_up
    await w.core.sessions.customer_leg(call, leg.id, leg.generation + 2, "v=0")
    await w.settle()
    await w.engine.report(new, session.id, LegUp(leg.id, leg.generation + 2))
    await w.settle()
    assert not (await w.session(call)).customer_leg.former


async def test_the_old_worker_dies_before_everybody_has_left(w: World) -> None:
    call = await talk(w)
    old = (await w.session(call)).worker_id or ""
    await drain(w, old)
    _, new = await where(w, call)
    await come_over(w, call, "ana")
    await w.engine.kill(old)
    await w.settle()
    session = await w.session(call)
    assert (session.worker_id, session.former, session.epoch) == (new, None, 2)
    assert session.customer_leg.state == "lost"
    assert session.segments[0].leg.is_up
    assert [(p.worker_id, p.cut) for p in session.recordings[0].parts] == [(old, True), (new, False)]


async def test_the_new_worker_dies_before_everybody_has_come(tmp_path: Path) -> None:
    async with world(tmp_path, ("media-1", "media-2", "media-3")) as w:
        call = await talk(w)
        old = (await w.session(call)).worker_id or ""
        await drain(w, old)
        _, new = await where(w, call)
        await come_over(w, call, "ana")
        await w.engine.kill(new)
        await w.settle()
        session = await w.session(call)
        assert session.former is not None
        assert (session.former.worker_id, session.epoch) == (old, 3)
        assert session.customer_leg.is_up, "still where it was"
        assert session.segments[0].leg.state == "lost"
        for who in ("ana", "customer"):
            await come_over(w, call, who)
        assert (await w.session(call)).former is None
        assert [p.worker_id for p in (await w.session(call)).recordings[0].parts] == [old, session.worker_id]


async def test_nothing_moves_while_there_is_no_room(tmp_path: Path) -> None:
    async with world(tmp_path, ("media-1",)) as w:
        call = await talk(w)
        await drain(w, "media-1")
        session = await w.session(call)
        assert (session.epoch, session.former) == (1, None)
        assert w.engine.session(session.id) is not None


async def test_a_few_at_a_time(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "MOVES_PER_LOOK", 3)
    calls = [await w.call() for _ in range(8)]
    for call in calls:  # all on one worker
        assert (await w.session(call)).worker_id
    held = [(await w.session(call)).worker_id for call in calls]
    busiest = max(("media-1", "media-2"), key=held.count)
    expected = held.count(busiest)
    for look in range(1, 4):
        await drain(w, busiest)
        moved = [call for call in calls if (await w.session(call)).epoch == 2]
        assert len(moved) == min(expected, 3 * look)


async def test_a_leg_that_is_being_set_up_gets_its_time(w: World) -> None:
    call = await w.call(up=False)
    worker = (await w.session(call)).worker_id or ""
    await drain(w, worker)
    assert (await w.session(call)).worker_id == worker
    w.clock.advance(moves.PATIENCE_MS / 1000)
    await drain(w, worker)
    session = await w.session(call)
    assert session.worker_id != worker
    assert (session.former, session.customer_leg.state) == (None, "lost"), "its sender must offer again"


async def test_another_nodes_session_is_left_to_it_for_a_while(w: World) -> None:
    call = await w.call()
    worker = (await w.session(call)).worker_id or ""
    other = moves.Mover(w.store, w.core.stepper, w.engine, w.clock, lambda key: False)
    await w.engine.drain(worker)
    await other.look()
    assert (await w.session(call)).epoch == 1
    w.clock.advance(moves.TURN_MS / 1000)
    await other.look()
    assert (await w.session(call)).epoch == 2


async def test_legs_on_their_way_are_no_orphans(w: World) -> None:
    call = await talk(w)
    session = await w.session(call)
    old = session.worker_id or ""
    await drain(w, old)
    w.engine.age_s = 100.0
    await w.core.link.look()
    await w.settle()
    twin = w.engine.session(session.id, old)
    assert twin is not None
    assert len(twin.legs) == 2
    assert (await w.session(call)).former is not None


# --- losing ------------------------------------------------------------------------------------------


async def test_what_several_nodes_say_of_one_loss_counts_once(w: World) -> None:
    call = await talk(w)
    session = await w.session(call)
    lost = ev.WorkerLost(session.worker_id or "", session.worker_id, session.epoch)
    await w.core.stepper.apply(session.id, lost)
    with pytest.raises(Stale):
        await w.core.stepper.apply(session.id, lost)
    assert (await w.session(call)).epoch == 2


async def test_a_node_that_slept_does_not_lose_what_was_placed_since(w: World) -> None:
    """The worker died and was started again while a node was stopped; others have placed the call anew, on it."""
    call = await talk(w)
    session = await w.session(call)
    worker = session.worker_id or ""
    for other in {"media-1", "media-2"} - {worker}:
        await w.engine.drain(other)
    dead = session.incarnation
    assert dead is not None
    await w.engine.kill(worker)
    await w.engine.revive(worker)
    await w.settle()
    placed = await w.session(call)
    assert (placed.worker_id, placed.epoch) == (worker, 2)
    assert placed.incarnation != dead
    late = MediaLink(w.store, w.core.stepper, w.engine, w.clock)
    await late.on_worker_down(worker, dead)
    assert await w.session(call) == placed


async def test_a_worker_that_only_this_node_can_not_reach_is_not_lost(w: World) -> None:
    call = await talk(w)
    session = await w.session(call)
    worker = session.worker_id or ""
    reached = {worker}

    async def others_reach(worker_id: str) -> bool:
        return worker_id in reached

    w.core.link._others_reach = others_reach
    await w.engine.kill(worker, silent=True)
    for _ in range(3):
        w.clock.advance(ABSENT_MS / 1000)
        await w.core.link.look()
    assert (await w.session(call)).epoch == 1
    reached.clear()
    await w.core.link.look()
    assert (await w.session(call)).epoch == 2


async def test_a_worker_that_refuses_is_lost_whatever_others_said_a_second_ago(w: World) -> None:
    call = await talk(w)

    async def others_reach(worker_id: str) -> bool:
        return True

    w.core.link._others_reach = others_reach
    await w.engine.kill((await w.session(call)).worker_id or "")
    await w.settle()
    assert (await w.session(call)).epoch == 2


async def test_an_open_part_on_a_worker_that_forgot_it_is_closed(w: World) -> None:
    """The old worker was restarted, and nobody saw it: the call has left it, but its part waits to be closed."""
    call = await talk(w)
    session = await w.session(call)
    old = session.worker_id or ""
    await drain(w, old)
    w.engine._workers[old].sessions.clear()  # what a restart does
    for who in ("ana", "customer"):
        await come_over(w, call, who)
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    assert (await w.session(call)).recordings[0].state == "closing"
    for _ in range(2):
        await w.core.link.look()
        w.clock.advance(6)
    await w.core.link.look()
    await w.settle()
    recording = (await w.session(call)).recordings[0]
    assert [part.cut for part in recording.parts] == [True, False]
    assert recording.state == "ready"


# --- reports that come twice -------------------------------------------------------------------------


async def test_reports_that_a_second_node_brings_late_change_nothing(w: World) -> None:
    call = await talk(w)
    session = await w.session(call)
    worker, leg = session.worker_id or "", session.customer_leg
    for report in (LegQuiet(leg.id, 1, True, 1), LegQuiet(leg.id, 1, False, 2), LegQuiet(leg.id, 1, True, 1)):
        await w.engine.report(worker, session.id, report)
    assert not (await w.session(call)).customer_leg.quiet
    await w.engine.report(worker, session.id, LegDown(leg.id, 1, "dtls_closed"))
    await w.engine.report(worker, session.id, LegUp(leg.id, 1))
    assert (await w.session(call)).customer_leg.state == "lost"


# --- parts on other machines -------------------------------------------------------------------------


async def test_a_recording_waits_a_day_for_a_machine_that_is_away(w: World) -> None:
    call = await talk(w)
    w.archiver.elsewhere = Collected(away=(1,))
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    recording = (await w.session(call)).recordings[0]
    assert recording.state == "archiving"
    w.clock.advance(RECORDING_LOST_MS / 1000 - 1)
    await w.core.recordings.look()
    await w.settle()
    assert (await w.session(call)).recordings[0].state == "archiving"
    w.clock.advance(2)
    await w.core.recordings.look()
    await w.settle()
    recording = (await w.session(call)).recordings[0]
    assert (recording.state, recording.reason) == ("ready", "parts_lost")
    assert w.archiver.discarded == {recording.id: (recording.parts[0].worker_id,)}


async def test_a_recording_of_which_nothing_is_left_says_so(w: World) -> None:
    call = await talk(w)
    w.archiver.elsewhere, w.archiver.fault = Collected(missing=(1,)), "no_capture"
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    recording = (await w.session(call)).recordings[0]
    assert (recording.state, recording.reason) == ("failed", "parts_lost")


async def test_parts_that_another_node_has_just_archived_are_not_lost(w: World) -> None:
    call = await talk(w)
    w.archiver.elsewhere = Collected(missing=(1,))
    session = await w.session(call)
    recording_id = session.recordings[0].id

    async def collect_too_late() -> None:
        await w.core.stepper.apply(session.id, ev.RecordingArchived(recording_id, 7000, {}))

    w.archiver.before_collecting = collect_too_late
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    recording = (await w.session(call)).recordings[0]
    assert (recording.state, recording.duration_ms, recording.reason) == ("ready", 7000, None)
    assert w.archiver.joined == {}, "the other node's file is not written over"


@pytest.mark.parametrize("sealed", [True, False])
async def test_a_row_says_that_its_files_were_sealed_and_so_must_they_be_when_they_are_opened(
    w: World, monkeypatch: pytest.MonkeyPatch, sealed: bool
) -> None:
    """Rows of before say nothing."""
    archive = {"size_bytes": 1} | ({"sealed": True} if sealed else {})
    row = RecordingRow("rec_1", "ses_1", RecordingState.READY, None, 1000, 0, 1, 1, archive, ())

    class OneRow(NoHistory):
        async def recording(self, tenant: str, recording_id: str) -> RecordingRow | None:
            return row

    monkeypatch.setattr(w.core.recordings, "_history", OneRow())
    with pytest.raises(NotReady):  # the twin keeps no sound
        await w.core.recordings.file(TENANT, "rec_1", "agent")
    assert w.archiver.opened == RecordingRef(TENANT, "ses_1", "rec_1", sealed)


async def test_half_made_archives_are_swept_by_one_of_the_nodes(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await w.core.recordings.sweep_spool()
    assert w.archiver.swept == 1
    monkeypatch.setattr(w.core.nodes, "mine", lambda key: False)
    await w.core.recordings.sweep_spool()
    assert w.archiver.swept == 1


async def test_other_nodes_archives_are_theirs_for_a_while(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    call = await talk(w)
    w.archiver.fault = "disk_full"  # passes: it is left waiting, as if its node had died
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    w.archiver.fault = None
    nodes = w.core.nodes
    monkeypatch.setattr(nodes, "_living", (nodes.node_id, "nod_other"))

    async def ready_after(ms: int, mine: bool) -> bool:
        w.clock.advance(ms / 1000)
        monkeypatch.setattr(nodes, "mine", lambda key: mine)
        await w.core.recordings.look()
        await w.settle()
        return (await w.session(call)).recordings[0].state == "ready"

    assert not await ready_after(TURN_MS - 1000, mine=True)
    assert not await ready_after(2000, mine=False)
    assert not await ready_after(ANYBODYS_MS - TURN_MS - 2000, mine=False)
    assert await ready_after(2000, mine=False)


async def test_one_session_that_cannot_move_holds_up_no_other(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [await w.call() for _ in range(4)]
    where_each = {call.session_id: (await w.session(call)).worker_id for call in calls}
    worker_id = where_each[calls[0].session_id]
    stuck, *others = [call for call in calls if where_each[call.session_id] == worker_id]
    assert others
    assert worker_id is not None
    apply = w.core.stepper.apply

    async def broken_for_one(session_id: str, *events: ev.Event) -> Session:
        if session_id == stuck.session_id:
            raise Conflict("20 attempts lost")
        return await apply(session_id, *events)

    await w.engine.drain(worker_id)
    w.clock.advance(60)
    monkeypatch.setattr(w.core.stepper, "apply", broken_for_one)
    await w.core.link.mover.look()  # the oldest session, which is stuck, is the first in turn
    w.clock.advance(moves.PATIENCE_MS / 1000)
    await w.core.link.mover.look()
    assert (await w.session(stuck)).worker_id == worker_id
    for call in others:
        assert (await w.session(call)).worker_id != worker_id
