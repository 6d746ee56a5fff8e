"""The main job as timelines: who does what, and what the rows and the people then show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.domain.events import AgentOffered, MuteChanged
from server.domain.machine import Refused, Stale
from server.domain.media import LegDown, LegQuiet, LegUp, RecordingFailed, Route, Source
from server.domain.session import Session
from server.services.tokens import CustomerToken
from server.signaling.views import call_view, contact_view
from tests.helpers.deployments import Deployment
from tests.helpers.world import World, world


@pytest.fixture
async def w(tmp_path: Path, own_or_shared: Deployment) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def test_a_call_from_click_to_wrap_up(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    assert await w.offered_to(call) == "ana"
    assert await w.agent_state("ana") == "ringing"
    assert [p["type"] for p in await w.pushes("usr_ana")][-2:] == ["offer.made", "agent.changed"]

    await w.accept(call, "ana")
    session = await w.session(call)
    owner = session.owner
    assert owner is not None
    assert (session.state, owner.state) == ("connected", "talking")
    twin = w.engine.session(session.id)
    assert twin is not None
    assert set(twin.plan.routes) == {
        Route(session.customer_leg.id, owner.leg.id),
        Route(owner.leg.id, session.customer_leg.id),
    }
    assert twin.plan.recording is not None

    await w.after(30)
    await w.core.sessions.agent_hang_up(w.user("ana"), session.id, owner.id)
    await w.settle()
    assert await w.agent_state("ana") == "wrap_up"
    with pytest.raises(Refused, match="disposition_required"):
        await w.core.sessions.wrap_up(w.user("ana"), session.id, owner.id, "", None)
    await w.core.sessions.wrap_up(w.user("ana"), session.id, owner.id, "sold a lens", "dsp_sold")
    await w.settle()

    session = await w.session(call)
    assert session.done
    assert (session.end_reason, session.segments[0].notes) == ("agent_hung_up", "sold a lens")
    assert await w.agent_state("ana") == "ready"
    assert await w.rows("SELECT outcome FROM queue_visit") == [("answered",)]
    assert await w.rows("SELECT state, parts FROM recording") == [("ready", 1)]
    assert await w.rows("SELECT COUNT(*) FROM outbox") == [(0,)]
    assert await w.rows("SELECT COUNT(*) FROM deadline") == [(0,)]


async def test_a_missed_offer_goes_to_the_second_agent_at_the_deadline(w: World) -> None:
    await w.ready("ana", "bo")
    call = await w.call()
    assert await w.offered_to(call) == "ana"
    await w.after(19.9)
    assert await w.offered_to(call) == "ana"
    await w.after(0.1)
    assert await w.offered_to(call) == "bo"
    assert await w.agent_state("ana") == "missed"
    second = await w.call()
    assert await w.offered_to(second) is None, "a Missed agent gets nothing"
    await w.core.agents.choose(w.user("ana"), "ready", None)
    await w.settle()
    assert await w.offered_to(second) == "ana"


async def test_a_late_accept_reads_who_took_the_call(w: World) -> None:
    await w.ready("ana", "bo")
    call = await w.call()
    late = (await w.session(call)).segments[0]
    await w.after(20)
    await w.accept(call, "bo")
    with pytest.raises(Stale) as told:
        await w.core.sessions.accept(w.user("ana"), call.session_id, late.id, None)
    assert (told.value.code, told.value.params) == ("offer_taken", {"agent": "Bo"})


async def test_accept_against_hang_up_leaves_no_phantom_wrap_up(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    segment = (await w.session(call)).segments[0]
    await w.core.sessions.customer_hang_up(call)
    with pytest.raises(Stale, match="customer_left"):
        await w.core.sessions.accept(w.user("ana"), call.session_id, segment.id, None)
    await w.settle()
    assert await w.agent_state("ana") == "ready"
    assert await w.rows("SELECT outcome FROM queue_visit") == [("abandoned",)]
    assert (await w.session(call)).segments[0].end_reason == "customer_left"


async def test_a_repeated_accept_is_harmless(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana")
    segment = (await w.session(call)).segments[0]
    with pytest.raises(Stale, match="no_change"):
        await w.core.sessions.accept(w.user("ana"), call.session_id, segment.id, None)


async def test_a_rejected_session_keeps_its_place_and_passes_the_agent_by(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    segment = (await w.session(call)).segments[0]
    await w.core.sessions.reject(w.user("ana"), call.session_id, segment.id)
    await w.settle()
    assert await w.offered_to(call) is None
    later = await w.call()
    assert await w.offered_to(later) == "ana", "the next session is offered at once"
    await w.core.sessions.customer_hang_up(later)
    await w.after(30)
    assert await w.offered_to(call) == "ana", "nobody else came: asked again after the pause"


async def test_a_reloaded_tab_gets_the_same_contact_back(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana")
    started = (await w.session(call)).talk_started_at
    for generation in range(2, 22):
        await w.leg_down(call, "ana")
        assert w.engine.session(call.session_id) is not None
        leg = (await w.session(call)).segments[0].leg
        assert leg.reconnecting
        await w.core.sessions.agent_leg(w.user("ana"), call.session_id, leg.id, generation, "v=0 again")
        await w.settle()
        await w.leg_up(call, "ana")
    session = await w.session(call)
    assert (session.state, len(session.segments), session.talk_started_at) == ("connected", 1, started)
    assert len(session.recordings) == 1


async def test_a_lost_agent_gives_the_customer_back_first_in_line(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana")
    other = await w.call()
    await w.leg_down(call, "ana")
    await w.tab("ana", live=False)
    await w.after(59)
    assert (await w.session(call)).state == "connected"
    await w.after(1)
    session = await w.session(call)
    assert (session.state, session.segments[0].end_reason) == ("queued", "agent_lost")
    await w.ready("bo")
    assert await w.offered_to(call) == "bo"
    assert await w.offered_to(other) is None
    assert await w.rows("SELECT outcome FROM queue_visit WHERE session_id = ? ORDER BY id", call.session_id) == [
        ("answered",),
        (None,),
    ]


async def test_a_lost_customer_is_hung_up_after_the_grace(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana")
    await w.leg_down(call, "customer")
    await w.after(60)
    session = await w.session(call)
    assert (session.state, session.end_reason) == ("ended", "customer_lost")
    assert await w.agent_state("ana") == "wrap_up"
    await w.after(60)
    assert await w.agent_state("ana") == "ready", "the wrap-up ends at its deadline"


async def test_a_killed_worker_moves_both_legs_and_the_recording_goes_on(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana")
    before = await w.session(call)
    assert before.worker_id is not None
    await w.engine.kill(before.worker_id)
    await w.settle()
    moved = await w.session(call)
    assert moved.worker_id != before.worker_id
    assert moved.epoch == 2
    for who, person in (("customer", None), ("ana", w.user("ana"))):
        leg = moved.customer_leg if person is None else moved.segments[0].leg
        if person is None:
            await w.core.sessions.customer_leg(call, leg.id, leg.generation + 1, "v=0")
        else:
            await w.core.sessions.agent_leg(person, call.session_id, leg.id, leg.generation + 1, "v=0")
        await w.settle()
        await w.leg_up(call, who)
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    recording = (await w.session(call)).recordings[0]
    assert [(p.number, p.cut) for p in recording.parts] == [(1, True), (2, False)]
    assert recording.state == "ready"


async def test_without_any_worker_the_call_waits_a_minute(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana")
    await w.engine.kill("media-2")
    await w.engine.kill("media-1")
    await w.settle()
    assert (await w.session(call)).worker_id is None
    await w.engine.revive("media-2")
    await w.settle()
    assert (await w.session(call)).worker_id == "media-2"
    await w.engine.kill("media-2")
    await w.after(60)
    assert (await w.session(call)).end_reason in ("system_failed", "customer_lost")


async def test_a_call_that_came_before_any_worker_is_offered_again_by_its_caller(w: World) -> None:
    for worker in ("media-1", "media-2"):
        await w.engine.kill(worker)
    call = await w.call(up=False)
    assert (await w.session(call)).worker_id is None
    await w.engine.revive("media-1")
    await w.settle()
    session = await w.session(call)
    assert (session.worker_id, session.customer_leg.state) == ("media-1", "lost")
    await w.core.sessions.customer_leg(call, session.customer_leg.id, 2, "v=0 again")
    await w.settle()
    await w.leg_up(call, "customer")
    assert (await w.session(call)).customer_leg.is_up


async def test_a_dead_tab_gets_no_offer(w: World) -> None:
    await w.ready("ana", "bo")
    await w.tab("ana", live=False)
    await w.settle()
    call = await w.call()
    assert await w.offered_to(call) == "bo"


async def test_skills_are_never_bent(w: World) -> None:
    await w.ready("ana", "chen")
    call = await w.call(entry="ept_support")
    assert await w.offered_to(call) == "chen"
    second = await w.call(entry="ept_support")
    assert await w.offered_to(second) is None


async def test_the_longest_idle_agent_is_first(w: World) -> None:
    await w.ready("bo", "ana")
    call = await w.call()
    assert await w.offered_to(call) == "bo"
    second = await w.call()
    assert await w.offered_to(second) == "ana"


async def test_a_state_picked_in_a_call_comes_after_it(w: World) -> None:
    await w.ready("ana")
    call = await w.call(entry="ept_sales")
    await w.accept(call, "ana")
    await w.core.agents.choose(w.user("ana"), "break", "brk_lunch")
    assert await w.agent_state("ana") == "on_contact"
    await w.core.sessions.customer_hang_up(call)
    await w.after(60)
    assert await w.agent_state("ana") == "break"


async def test_an_agent_without_audio_is_passed_by_and_the_customer_keeps_the_place(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana", up=False)
    twin = w.engine.session(call.session_id)
    assert twin is not None
    assert twin.plan.routes[0].hears == Source.QUEUE_MUSIC, "music until the agent is audible"
    await w.after(15)
    assert await w.agent_state("ana") == "missed"
    assert (await w.session(call)).state == "queued"


async def test_a_refused_leg_offer_is_told_to_its_sender(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana", up=False)
    w.engine.fail_next_leg("bad_sdp")
    leg = (await w.session(call)).segments[0].leg
    await w.core.sessions.agent_leg(w.user("ana"), call.session_id, leg.id, leg.generation + 1, "v=0 broken")
    await w.settle()
    refused = [p for p in await w.pushes("usr_ana") if p["type"] == "leg.refused"]
    assert [(p["generation"], p["code"]) for p in refused] == [(2, "bad_sdp")]


async def test_a_recording_that_breaks_is_told_and_the_call_goes_on(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana")
    session = await w.session(call)
    assert session.worker_id is not None
    failed = RecordingFailed(session.recordings[0].id, 1, "disk_full")
    await w.engine.report(session.worker_id, session.id, failed)
    await w.settle()
    contact = [p["contact"] for p in await w.pushes("usr_ana") if p["type"] == "contact.changed"][-1]
    assert (contact["state"], contact["recording"]) == ("talking", "failed")


@pytest.mark.usefixtures("own_or_shared")
async def test_an_earlier_process_left_work_and_the_next_one_does_it(tmp_path: Path) -> None:
    async with world(tmp_path) as first:
        await first.ready("ana")
        call = await first.call()
    async with world(tmp_path) as second:
        assert await second.agent_state("ana") == "ringing"
        agent = await second.store.agent("usr_ana")
        assert agent is not None
        assert not agent.live
        await second.after(4)
        ended = (await second.session(call)).segments[0].end_reason
        assert ended == "withdrawn", "nobody is blamed for an offer in an empty chair"


async def test_somebody_elses_contact_can_not_be_touched(w: World) -> None:
    await w.ready("ana", "bo")
    call = await w.call()
    segment = (await w.session(call)).segments[0]
    for attempt in (
        w.core.sessions.accept(w.user("bo"), call.session_id, segment.id, None),
        w.core.sessions.hold(w.user("bo"), call.session_id, segment.id, True),
        w.core.sessions.agent_leg(w.user("bo"), call.session_id, segment.leg.id, 1, "v=0"),
        w.core.sessions.accept(w.user("bo"), "ses_unknown", "seg_unknown", None),
    ):
        with pytest.raises(Refused, match="not_your_contact"):
            await attempt


async def test_a_storm_of_reconnections_leaves_everybody_live(w: World) -> None:
    names = [f"storm{number}" for number in range(100)]
    for name in names:
        await w.tab(name, live=True)
    gone = [asyncio.create_task(w.tab(name, live=False)) for name in names]
    back = [asyncio.create_task(w.tab(name, live=True)) for name in names]
    await asyncio.gather(*gone, *back)
    assert all(agent.live for agent in await w.store.agents())


async def test_an_offer_in_an_empty_chair_is_withdrawn_without_blame(w: World) -> None:
    await w.ready("ana", "bo")
    call = await w.call()
    await w.tab("ana", live=False)
    await w.after(2.9)
    assert await w.offered_to(call) == "ana", "a reload takes about a second"
    await w.after(0.1)
    assert await w.offered_to(call) == "bo"
    assert await w.agent_state("ana") == "ready"


async def test_a_refused_reanchor_hides_no_later_loss(w: World) -> None:
    call = await w.call()
    leg = (await w.session(call)).customer_leg.id
    await w.core.sessions.customer_leg(call, leg, 2, "v=0")
    await w.settle()
    w.engine.fail_next_leg("no_ports")
    await w.core.sessions.customer_leg(call, leg, 3, "v=0")
    await w.settle()
    session = await w.session(call)
    assert session.worker_id is not None
    await w.engine.report(session.worker_id, session.id, LegUp(leg, 2))
    await w.engine.report(session.worker_id, session.id, LegDown(leg, 2, "dtls_closed"))
    await w.after(30)
    assert (await w.session(call)).ended


@pytest.mark.usefixtures("own_or_shared")
async def test_a_worker_that_never_comes_back_loses_its_calls(tmp_path: Path) -> None:
    async with world(tmp_path) as first:
        await first.ready("ana")
        call = await first.call()
        await first.accept(call, "ana")
        lost = (await first.session(call)).worker_id
    remaining = [name for name in ("media-1", "media-2") if name != lost]
    async with world(tmp_path, remaining) as second:
        second.clock.advance(5)
        await second.core.link.look()
        assert (await second.session(call)).worker_id == lost, "it may be restarting"
        second.clock.advance(11)
        await second.core.link.look()
        assert (await second.session(call)).worker_id == remaining[0]


async def test_a_call_for_which_no_line_becomes_free_ends_with_that_reason(w: World) -> None:
    for name in ("media-1", "media-2"):
        await w.engine.drain(name)
    call = await w.call(up=False)
    assert call_view(await w.session(call)).no_lines
    await w.after(59)
    assert not (await w.session(call)).ended, "the customer's own grace does not count what is our fault"
    await w.after(1)
    ended = await w.session(call)
    assert (ended.ended, ended.end_reason) == (True, "no_lines")
    assert not call_view(ended).no_lines


async def test_a_worker_that_is_full_after_all_refuses_and_the_call_goes_elsewhere(w: World) -> None:
    """Two nodes placed more there at one moment than it has room for."""
    await w.ready("ana")
    w.engine.fail_next_leg("worker_busy")
    call = await w.call(up=False)
    session = await w.session(call)
    assert (session.worker_id, session.epoch) == ("media-2", 2)
    assert session.customer_leg.state == "lost", "so the browser offers it anew"
    await w.core.sessions.customer_leg(call, session.customer_leg.id, 2, "v=0")
    await w.settle()
    await w.leg_up(call, "customer")
    assert await w.offered_to(call) == "ana"


async def test_a_call_that_found_no_room_is_placed_when_there_is_some(w: World) -> None:
    await w.ready("ana")
    for name in ("media-1", "media-2"):
        await w.engine.drain(name)
    call = await w.call(up=False)
    assert (await w.session(call)).worker_id is None
    assert await w.offered_to(call) is None, "nobody is rung for a call that can't connect"
    await w.engine.revive("media-1")
    await w.core.link.look()
    await w.settle()
    assert (await w.session(call)).worker_id == "media-1"


async def test_a_customer_who_reloads_while_connecting_keeps_the_place(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana", up=False)
    await w.leg_down(call, "customer")
    await w.leg_up(call, "ana")
    await w.after(15)
    session = await w.session(call)
    assert (session.state, session.segments[0].end_reason) == ("queued", "withdrawn")
    assert await w.agent_state("ana") == "ready"
    await w.after(15)
    assert (await w.session(call)).end_reason == "customer_lost"


async def test_a_worker_that_dies_while_connecting_is_not_the_agents_fault(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana", up=False)
    await w.after(14)
    worker = (await w.session(call)).worker_id
    assert worker is not None
    await w.engine.kill(worker)
    await w.after(1)
    assert await w.agent_state("ana") == "on_contact", "the set-up began anew with the placement"


async def test_both_sides_lost_at_once_end_the_call_and_invent_no_wait(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana")
    await w.leg_down(call, "ana")
    await w.after(20)
    await w.leg_down(call, "customer")
    await w.after(59)
    assert (await w.session(call)).state == "connected", "each side has its whole grace"
    await w.after(1)
    assert (await w.session(call)).end_reason == "customer_lost"
    assert await w.rows("SELECT outcome FROM queue_visit") == [("answered",)]


async def test_one_session_that_can_not_be_routed_stops_nobody_else(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await w.call(), await w.call()
    assign = w.core.router._assign

    async def broken(session_id: str, offer: AgentOffered) -> Session:
        if session_id == first.session_id:
            raise ValueError("a row that nobody can step")
        return await assign(session_id, offer)

    monkeypatch.setattr(w.core.router, "_assign", broken)
    await w.ready("ana")
    assert await w.offered_to(second) == "ana"


@pytest.mark.usefixtures("own_or_shared")
async def test_control_and_worker_restart_together_and_both_hear_each_other_again(tmp_path: Path) -> None:
    async with world(tmp_path) as first:
        await first.ready("ana")
        call = await first.call()
        await first.accept(call, "ana")
        await first.leg_down(call, "customer")
        await first.leg_down(call, "ana")
    async with world(tmp_path) as second:  # new workers, too: they know nothing, and nobody was told
        session = await second.session(call)
        await second.core.sessions.customer_leg(call, session.customer_leg.id, 2, "v=0")
        await second.core.sessions.agent_leg(second.user("ana"), session.id, session.segments[0].leg.id, 2, "v=0")
        await second.settle()
        twin = second.engine.session(session.id)
        assert twin is not None
        assert len(twin.plan.routes) == 2
        assert twin.plan.recording is not None


async def test_who_is_not_heard_is_named_to_the_agent(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    customer = (await w.session(call)).customer_leg.id
    await tell(w, call, LegQuiet(customer, 1, False, 1, silent=True))  # muted while waiting
    await w.accept(call, "ana")

    async def unheard() -> tuple[str | None, str | None]:
        session = await w.session(call)
        view = contact_view(session, session.segments[0])
        return view.customer_unheard, view.you_unheard

    assert await unheard() == ("silence", None)
    await tell(w, call, LegQuiet(customer, 1, True, 2))
    assert await unheard() == ("no_packets", None)
    await tell(w, call, LegQuiet(customer, 1, False, 1, silent=True))  # it comes late
    assert await unheard() == ("no_packets", None)
    await tell(w, call, LegQuiet(customer, 1, False, 3))
    segment = (await w.session(call)).segments[0]
    await tell(w, call, LegQuiet(segment.leg.id, 1, False, 1, silent=True))
    assert await unheard() == (None, "silence")
    await w.core.stepper.apply(call.session_id, MuteChanged(segment.id, segment.agent_id, True))
    assert await unheard() == (None, None), "who is muted knows it"


async def tell(w: World, call: CustomerToken, report: LegQuiet) -> None:
    session = await w.session(call)
    assert session.worker_id is not None
    await w.engine.report(session.worker_id, session.id, report)
    await w.settle()
