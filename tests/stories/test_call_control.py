"""Handing over and calling in, as timelines: who is asked, who has the call then, and what becomes of everybody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from server.domain.administration import AuditEntry
from server.domain.directory import AuthedUser, Role
from server.domain.machine import Refused
from server.domain.media import Source
from server.domain.segment import Monitor
from server.services.arrivals import last_agent
from server.services.call_control import CallControl
from server.services.supervision import SupervisionService
from server.services.tokens import CustomerToken
from tests.helpers.deployments import Deployment
from tests.helpers.world import World, world


@pytest.fixture
async def w(tmp_path: Path, own_or_shared: Deployment) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def talk(w: World) -> tuple[CustomerToken, tuple[AuthedUser, str, str]]:
    """A customer who talks to Ana; and what each of her wishes begins with."""
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana")
    return call, (w.user("ana"), call.session_id, await segment(w, call, "ana"))


async def segment(w: World, call: CustomerToken, name: str) -> str:
    session = await w.session(call)
    return next(s.id for s in reversed(session.segments) if s.agent_id == f"usr_{name}")


async def hears(w: World, call: CustomerToken, who: str) -> set[str]:
    """What a leg hears on its worker: names, or a source."""
    session = await w.session(call)
    names = {s.leg.id: s.agent_id.removeprefix("usr_") for s in session.segments} | {
        session.customer_leg.id: "customer"
    }
    leg_id = next(leg for leg, name in names.items() if name == who)
    twin = w.engine.session(session.id)
    assert twin is not None
    return {names.get(route.hears, route.hears) for route in twin.plan.routes if route.leg_id == leg_id}


def calls(w: World) -> CallControl:
    return w.core.calls


async def test_a_transfer_to_a_queue_is_routed_there(w: World) -> None:
    call, ana = await talk(w)
    await w.ready("chen")
    await w.after(30)
    await calls(w).transfer_to_queue(*ana, "que_support")
    await w.settle()
    assert await w.offered_to(call) == "chen"
    assert await w.agent_state("ana") == "wrap_up"
    assert await hears(w, call, "customer") == {Source.QUEUE_MUSIC}
    await w.accept(call, "chen")
    assert await hears(w, call, "customer") == {"chen"}
    visits = await w.rows("SELECT queue_id, outcome FROM queue_visit ORDER BY entered_at")
    assert visits == [("que_sales", "answered"), ("que_support", "answered")]
    ended = await w.rows("SELECT agent_id, end_reason FROM segment ORDER BY number")
    assert ended == [("usr_ana", "transferred"), ("usr_chen", None)]


async def test_who_transferred_is_not_asked_again_at_once(w: World) -> None:
    call, ana = await talk(w)
    await calls(w).transfer_to_queue(*ana, "que_sales")
    await w.core.sessions.wrap_up(*ana, "", "dsp_sold")
    await w.settle()
    assert await w.agent_state("ana") == "ready"
    assert await w.offered_to(call) is None
    await w.after(30)
    assert await w.offered_to(call) == "ana", "and then better than nobody"


async def test_a_transfer_to_an_agent_who_does_not_answer_goes_on_in_the_queue(w: World) -> None:
    call, ana = await talk(w)
    await w.ready("chen", "bo")
    await calls(w).transfer_to_agent(*ana, "usr_chen")
    await w.settle()
    assert await w.offered_to(call) == "chen", "whom the queue itself would not have asked"
    offer = next(p for p in await w.pushes("usr_chen") if p["type"] == "offer.made")
    assert offer["contact"]["invited_by"] == "Ana"
    await w.after(20)
    assert await w.agent_state("chen") == "missed"
    assert await w.offered_to(call) == "bo"


async def test_what_a_transfer_may_not_do(w: World) -> None:
    call, ana = await talk(w)
    await w.ready("bo")
    stranger = AuthedUser("elsewhere", "usr_ana", "ana", "Ana", Role.AGENT, None)
    before = await w.session(call)
    for refused, code in (
        (calls(w).transfer_to_agent(*ana, "usr_chen"), "target_unavailable"),  # not here
        (calls(w).transfer_to_agent(*ana, "usr_nobody"), "target_unavailable"),
        (calls(w).transfer_to_agent(*ana, "usr_ana"), "target_unavailable"),
        (calls(w).transfer_to_queue(*ana, "que_nowhere"), "queue_closed"),
        (calls(w).transfer_to_queue(w.user("bo"), *ana[1:], "que_support"), "not_your_contact"),
        (calls(w).transfer_to_queue(stranger, *ana[1:], "que_support"), "not_your_contact"),
        (calls(w).transfer_to_queue(w.user("ana"), "ses_unknown", ana[2], "que_support"), "not_your_contact"),
        (calls(w).consult(*ana, "usr_chen"), "target_unavailable"),
    ):
        with pytest.raises(Refused, match=code):
            await refused
    assert await w.session(call) == before, "and nothing has changed: the talk goes on"


async def test_a_consult_and_then_a_transfer(w: World) -> None:
    call, ana = await talk(w)
    await w.ready("bo")
    await calls(w).consult(*ana, "usr_bo")
    await w.settle()
    assert await hears(w, call, "customer") == {Source.HOLD_MUSIC}
    assert await w.agent_state("bo") == "ringing"
    await w.accept(call, "bo")
    assert (await hears(w, call, "ana"), await hears(w, call, "bo")) == ({"bo"}, {"ana"})
    second = await w.call()
    assert await w.offered_to(second) is None, "a guest is busy"

    await calls(w).swap(*ana, to_customer=True)
    await w.settle()
    assert (await hears(w, call, "customer"), await hears(w, call, "bo")) == ({"ana"}, {Source.HOLD_MUSIC})
    await calls(w).complete(*ana, await segment(w, call, "bo"))
    await w.settle()
    assert (await hears(w, call, "customer"), await hears(w, call, "bo")) == ({"bo"}, {"customer"})
    assert (await w.agent_state("ana"), await w.agent_state("bo")) == ("wrap_up", "on_contact")
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    assert await w.agent_state("bo") == "wrap_up"
    assert await w.rows("SELECT state FROM recording") == [("ready",), ("ready",)], "one of each owner"


async def test_the_last_agent_is_who_had_the_customer_last(w: World) -> None:
    call, ana = await talk(w)
    await w.ready("bo")
    await calls(w).consult(*ana, "usr_bo")
    await w.settle()
    await w.accept(call, "bo")
    assert last_agent(await w.session(call)) == "usr_ana", "a guest was only asked"
    await calls(w).complete(*ana, await segment(w, call, "bo"))
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    assert last_agent(await w.session(call)) == "usr_bo"


async def test_a_consult_that_is_cancelled(w: World) -> None:
    call, ana = await talk(w)
    await w.ready("bo")
    await calls(w).consult(*ana, "usr_bo")
    await w.settle()
    await calls(w).release_guest(*ana, await segment(w, call, "bo"))
    await w.settle()
    assert await hears(w, call, "customer") == {"ana"}
    assert await w.agent_state("bo") == "ready", "who was asked and is not needed is free at once"
    last = (await w.pushes("usr_bo"))[-2:]
    assert [p["type"] for p in last] == ["contact.changed", "agent.changed"]
    assert last[0]["contact"]["end_reason"] == "withdrawn"


async def test_a_customer_who_hangs_up_during_a_consult_leaves_nobody_behind(w: World) -> None:
    call, ana = await talk(w)
    await w.ready("bo")
    await calls(w).consult(*ana, "usr_bo")
    await w.settle()
    await w.accept(call, "bo")
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    assert (await w.agent_state("ana"), await w.agent_state("bo")) == ("wrap_up", "ready")
    await w.core.sessions.wrap_up(*ana, "", "dsp_sold")
    await w.settle()
    assert (await w.session(call)).done
    assert await w.rows("SELECT COUNT(*) FROM deadline") == [(0,)]


async def test_a_guest_whose_tab_dies_while_it_rings_is_not_blamed(w: World) -> None:
    call, ana = await talk(w)
    await w.ready("bo")
    await calls(w).consult(*ana, "usr_bo")
    await w.settle()
    await w.tab("bo", live=False)
    await w.after(5)
    session = await w.session(call)
    assert session.guests == ()
    assert session.owner is not None
    assert session.owner.state == "held", "the customer is Ana's to take back"
    bo = await w.store.agent("usr_bo")
    assert bo is not None
    assert not bo.missed


async def test_mute_is_kept_by_the_server(w: World) -> None:
    call, ana = await talk(w)
    await calls(w).mute(*ana, on=True)
    await w.settle()
    assert (await hears(w, call, "customer"), await hears(w, call, "ana")) == ({Source.SILENCE}, {"customer"})
    await w.leg_down(call, "ana")
    await w.core.sessions.agent_leg(
        w.user("ana"), call.session_id, (await w.session(call)).segments[0].leg.id, 2, "v=0"
    )
    await w.settle()
    await w.leg_up(call, "ana")
    assert await hears(w, call, "customer") == {Source.SILENCE}, "also after a reload"
    await calls(w).mute(*ana, on=False)
    await w.settle()
    assert await hears(w, call, "customer") == {"ana"}


async def test_keys_reach_the_customers_leg_and_stay_out_of_the_log(w: World) -> None:
    call, ana = await talk(w)
    for digits in ("4", "2#"):
        await calls(w).send_digits(*ana, digits)
    await w.settle()
    session = await w.session(call)
    twin = w.engine.session(session.id)
    assert twin is not None
    assert twin.digits == {session.customer_leg.id: "42#"}
    logged = await w.rows("SELECT body FROM session_event WHERE type = 'DigitsSent'")
    assert len(logged) == 2
    assert not any("2#" in str(body) for (body,) in logged)
    await w.core.sessions.hold(*ana, on=True)
    with pytest.raises(Refused, match="not_in_call"):
        await calls(w).send_digits(*ana, "1")


class Noted:
    """`AdminRepository` whose audit lines come to a list."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Noted]:
        yield self

    async def audit(self, entry: AuditEntry) -> None:
        self.lines.append((entry.actor_id, entry.action, entry.target_id))


async def test_a_supervisor_listens_coaches_and_takes_over_and_each_is_audited(w: World) -> None:
    call, _ = await talk(w)
    audited = Noted()
    service = SupervisionService(w.store, w.core.stepper, audited, w.clock)  # type: ignore[arg-type]  # as far as it writes
    sam = replace(w.user("sam"), role=Role.SUPERVISOR)
    with pytest.raises(Refused, match="agent_unavailable"):
        await service.begin(sam, call.session_id)  # no console is open
    await w.tab("sam", live=True)
    for user, session_id, code in (
        (w.user("bo"), call.session_id, "forbidden"),
        (replace(sam, tenant="elsewhere"), call.session_id, "not_in_call"),
        (sam, "ses_unknown", "not_in_call"),
    ):
        with pytest.raises(Refused, match=code):
            await service.begin(user, session_id)
    assert audited.lines == []

    await service.begin(sam, call.session_id)
    mine = await segment(w, call, "sam")
    leg_id = next(s.leg.id for s in (await w.session(call)).segments if s.id == mine)
    await w.core.sessions.agent_leg(sam, call.session_id, leg_id, 1, "v=0")
    await w.settle()
    await w.leg_up(call, "sam")
    assert await hears(w, call, "sam") == {"ana", "customer"}
    assert (await hears(w, call, "ana"), await hears(w, call, "customer")) == ({"customer"}, {"ana"})
    shown = [p["contact"]["others"] for p in await w.pushes("usr_ana") if p["type"] == "contact.changed"]
    assert not any(shown), "who only listens is not seen"
    assert await w.agent_state("sam") == "on_contact"

    await service.change(sam, call.session_id, mine, Monitor.COACH)
    await w.settle()
    assert (await hears(w, call, "ana"), await hears(w, call, "customer")) == ({"customer", "sam"}, {"ana"})
    await service.take_over(sam, call.session_id, mine)
    await w.settle()
    assert await hears(w, call, "customer") == {"sam"}
    assert await w.agent_state("ana") == "wrap_up"
    told = [action for _, action, about in audited.lines if about == call.session_id]
    assert told == ["supervision_begun", "supervision_coach", "supervision_taken_over"]
    await w.core.sessions.agent_hang_up(sam, call.session_id, mine)
    await w.core.sessions.wrap_up(sam, call.session_id, mine, "", "dsp_sold")
    await w.settle()
    assert await w.agent_state("sam") == "offline", "as before: a supervisor takes no calls by this"
