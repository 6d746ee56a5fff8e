"""Parking and fetching as timelines: who may, who is first, what the customer hears, and what becomes of who stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.domain.directory import AuthedUser, Role
from server.domain.machine import Refused, Stale
from server.domain.media import Source
from server.domain.session import Session
from server.services.tokens import CustomerToken
from tests.helpers.deployments import Deployment
from tests.helpers.world import World, world
from tests.stories.test_call_control import hears, segment, talk


@pytest.fixture
async def w(tmp_path: Path, own_or_shared: Deployment) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def parked(w: World) -> CustomerToken:
    """A customer whom Ana has parked."""
    call, ana = await talk(w)
    await w.core.calls.park(*ana)
    await w.settle()
    return call


async def fetch(w: World, call: CustomerToken, name: str) -> Session:
    return await w.core.calls.fetch(w.user(name), call.session_id)


async def connects(w: World, call: CustomerToken, name: str) -> None:
    leg = (await w.session(call)).segment(await segment(w, call, name))
    assert leg is not None
    await w.core.sessions.agent_leg(w.user(name), call.session_id, leg.leg.id, 1, "v=0")
    await w.settle()
    await w.leg_up(call, name)


async def test_a_call_is_parked_and_another_agent_fetches_it(w: World) -> None:
    call = await parked(w)
    assert (await w.session(call)).state == "parked"
    assert await hears(w, call, "customer") == {Source.HOLD_MUSIC}
    assert await w.agent_state("ana") == "wrap_up"
    await w.ready("bo")
    assert await w.offered_to(call) is None, "it rings for nobody"
    view = (await w.pushes(call.session_id))[-1]["call"]
    assert (view["state"], view["agent_name"]) == ("held", None)

    await fetch(w, call, "bo")
    await w.settle()
    assert await w.agent_state("bo") == "on_contact"
    second = await w.call()
    assert await w.offered_to(second) is None, "who fetches is busy"
    await connects(w, call, "bo")
    assert (await hears(w, call, "customer"), await hears(w, call, "bo")) == ({"bo"}, {"customer"})
    ended = await w.rows("SELECT agent_id, end_reason FROM segment ORDER BY offered_at, number")
    assert ("usr_ana", "parked") in ended
    visits = await w.rows("SELECT outcome FROM queue_visit WHERE session_id = ?", call.session_id)
    assert visits == [("answered",)], "time parked is no wait in the queue"
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    assert await w.rows("SELECT state FROM recording") == [("ready",), ("ready",)], "one of each talk"


async def test_of_two_who_fetch_at_once_one_has_it(w: World) -> None:
    call = await parked(w)
    await w.core.sessions.wrap_up(w.user("ana"), call.session_id, await segment(w, call, "ana"), "", "dsp_sold")
    await w.ready("bo")
    both = await asyncio.gather(fetch(w, call, "ana"), fetch(w, call, "bo"), return_exceptions=True)
    won = [one for one in both if isinstance(one, Session)]
    lost = [one for one in both if isinstance(one, Stale)]
    assert (len(won), len(lost)) == (1, 1)
    owner = won[0].owner
    assert owner is not None
    assert (lost[0].code, lost[0].params) == ("offer_taken", {"agent": owner.agent_name})
    states = {name: await w.agent_state(name) for name in ("ana", "bo")}
    assert sorted(states.values()) == ["on_contact", "ready"]


async def test_who_may_not_fetch(w: World) -> None:
    call = await parked(w)
    stranger = AuthedUser("elsewhere", "usr_bo", "bo", "Bo", Role.AGENT, None)
    before = await w.session(call)
    await w.ready("chen")
    with pytest.raises(Refused, match="forbidden"):  # serves another queue
        await fetch(w, call, "chen")
    with pytest.raises(Refused, match="agent_unavailable"):  # is not here
        await fetch(w, call, "bo")
    with pytest.raises(Refused, match="agent_unavailable"):  # has a wrap-up to finish
        await fetch(w, call, "ana")
    for user, session_id in ((stranger, call.session_id), (w.user("ana"), "ses_unknown")):
        with pytest.raises(Stale, match="not_parked"):
            await w.core.calls.fetch(user, session_id)
    assert await w.session(call) == before


async def test_who_has_parked_it_may_fetch_it_without_serving_the_queue(w: World) -> None:
    call, ana = await talk(w)
    await w.ready("chen")
    await w.core.calls.transfer_to_agent(*ana, "usr_chen")
    await w.settle()
    await w.accept(call, "chen")
    mine = w.user("chen"), call.session_id, await segment(w, call, "chen")
    await w.core.calls.park(*mine)
    await w.core.sessions.wrap_up(*mine, "", "dsp_sold")
    await w.settle()
    await fetch(w, call, "chen")
    await connects(w, call, "chen")
    assert await hears(w, call, "customer") == {"chen"}


async def test_nobody_fetches_and_the_queue_has_the_customer_again_first_in_line(w: World) -> None:
    w.directory.queue_list = [replace(q, life=replace(q.life, park_limit_s=15)) for q in w.directory.queue_list]
    call = await parked(w)
    later = await w.call()
    await w.after(14)
    assert (await w.session(call)).state == "parked"
    await w.after(2)
    assert (await w.session(call)).state == "queued"
    assert await hears(w, call, "customer") == {Source.QUEUE_MUSIC}
    await w.ready("bo")
    assert (await w.offered_to(call), await w.offered_to(later)) == ("bo", None)
    with pytest.raises(Stale, match="not_parked"):
        await fetch(w, call, "bo")


async def test_an_agent_who_fetches_and_never_connects_leaves_the_customer_parked(w: World) -> None:
    call = await parked(w)
    await w.ready("bo")
    await fetch(w, call, "bo")
    await w.after(16)
    assert ((await w.session(call)).state, (await w.session(call)).owner) == ("parked", None)
    assert await hears(w, call, "customer") == {Source.HOLD_MUSIC}


async def test_a_parked_customer_who_reloads_is_parked_still_and_who_leaves_leaves_nothing(w: World) -> None:
    call = await parked(w)
    await w.leg_down(call, "customer")
    await w.after(10)
    leg = (await w.session(call)).customer_leg
    await w.core.sessions.customer_leg(call, leg.id, leg.generation + 1, "v=0")
    await w.settle()
    await w.leg_up(call, "customer")
    assert (await w.session(call)).state == "parked"
    await w.core.sessions.customer_hang_up(call)
    await w.after(61)
    assert (await w.session(call)).done
    assert await w.rows("SELECT COUNT(*) FROM deadline") == [(0,)]
    with pytest.raises(Stale, match="customer_left"):
        await fetch(w, call, "ana")
