"""A queue that rings all: it is offered to everybody who is able, and the first who accepts has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.domain.machine import Refused, Stale
from server.domain.queue_life import QueueLife
from server.domain.queue_routing import QueueRouting, Strategy
from server.services.tokens import CustomerToken
from tests.helpers import invariants as inv
from tests.helpers.deployments import Deployment
from tests.helpers.world import World, profile, world, worlds

ENDS = "SELECT agent_id, end_reason FROM segment ORDER BY number"


def ring_all(w: World, life: QueueLife | None = None) -> None:
    """Sales rings all; three people serve it."""
    w.directory.queue_list = [
        replace(q, routing=QueueRouting(strategy=Strategy.RING_ALL), life=life or q.life)
        if q.queue_id == "que_sales"
        else q
        for q in w.directory.queue_list
    ]
    w.directory.profiles = [*w.directory.profiles, profile("dora", "skl_sales"), profile("eve", "skl_sales")]


@pytest.fixture
async def w(tmp_path: Path, own_or_shared: Deployment) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        ring_all(made)
        yield made


async def answer(w: World, call: CustomerToken, name: str) -> None:
    """What the agent's screen does on "accept", whatever became of the offer."""
    session = await w.session(call)
    offered = next(s for s in reversed(session.segments) if s.agent_id == f"usr_{name}")
    await w.core.sessions.accept(w.user(name), call.session_id, offered.id, "v=0 offer")


async def ended(w: World, name: str) -> dict[str, object]:
    """The last that the agent was told of a contact."""
    told = [p["contact"] for p in await w.pushes(f"usr_{name}") if p["type"] == "contact.changed"]
    return {key: told[-1][key] for key in ("state", "end_reason", "taken_by")}


async def test_three_ring_one_accepts_and_the_others_are_free_and_told_who_has_it(w: World) -> None:
    await w.ready("ana", "bo", "dora")
    call = await w.call()
    assert await w.rings_for(call) == ["ana", "bo", "dora"], "longest idle first, and all at once"
    idle = {name: await idle_since(w, name) for name in ("bo", "dora")}
    w.clock.advance(5)
    await w.accept(call, "ana")
    session = await w.session(call)
    assert session.owner is not None
    assert (session.state, session.owner.agent_id, session.ringing) == ("connected", "usr_ana", ())
    assert [await w.agent_state(name) for name in ("ana", "bo", "dora")] == ["on_contact", "ready", "ready"]
    for name in ("bo", "dora"):
        assert await ended(w, name) == {"state": "done", "end_reason": "taken", "taken_by": "Ana"}
        assert await idle_since(w, name) == idle[name], "who was not first stands where they stood"
        with pytest.raises(Stale, match="offer_taken") as late:
            await answer(w, call, name)
        assert late.value.params == {"agent": "Ana"}
    assert await w.rows(ENDS) == [("usr_ana", None), ("usr_bo", "taken"), ("usr_dora", "taken")]
    assert await w.rows("SELECT COUNT(*) FROM deadline WHERE kind = 'offer'") == [(0,)]
    again = await w.call()
    assert await w.rings_for(again) == ["bo", "dora"], "the next one rings for them"
    assert inv.rows_are_folds(inv.read_log(w.database)).holds


async def idle_since(w: World, name: str) -> int:
    agent = await w.store.agent(f"usr_{name}")
    assert agent is not None
    return agent.idle_since


async def test_who_is_told_late_learns_the_name_when_the_talk_is_over_too(w: World) -> None:
    await w.ready("ana", "bo")
    call = await w.call()
    await w.accept(call, "ana")
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    with pytest.raises(Stale, match="offer_taken") as late:
        await answer(w, call, "bo")
    assert late.value.params == {"agent": "Ana"}


async def test_of_accepts_on_two_nodes_at_once_exactly_one_wins(tmp_path: Path, own_or_shared: Deployment) -> None:
    async with worlds(tmp_path, ("node-a", "node-b")) as (a, b):
        ring_all(a)
        await a.ready("ana", "dora")
        await b.ready("bo", "eve")
        call = await a.call()
        await b.settle()
        names = sorted(await a.rings_for(call))
        assert names == ["ana", "bo", "dora", "eve"]
        nodes = {"ana": a, "dora": a, "bo": b, "eve": b}
        results = await asyncio.gather(*(answer(nodes[n], call, n) for n in names), return_exceptions=True)
        won = [name for name, result in zip(names, results, strict=True) if result is None]
        lost = [result for result in results if result is not None]
        assert len(won) == 1
        assert all(isinstance(r, Stale) and r.code == "offer_taken" for r in lost), lost
        assert {str(r.params["agent"]).lower() for r in lost if isinstance(r, Stale)} == set(won)
        await a.settle()
        await b.settle()
        log = inv.read_log(a.database)
        for verdict in (inv.rows_are_folds(log), inv.only_allowed_steps(log), inv.order_kept(log, ())):
            assert verdict.holds, verdict


async def test_one_declines_one_misses_and_the_others_ring_on(w: World) -> None:
    await w.ready("ana", "bo")
    call = await w.call()
    offered = (await w.session(call)).ringing[0]
    await w.core.sessions.reject(w.user("ana"), call.session_id, offered.id)
    await w.settle()
    assert await w.rings_for(call) == ["bo"]
    assert await w.agent_state("ana") == "ready"
    await w.after(10)
    await w.ready("dora")
    assert await w.rings_for(call) == ["bo", "dora"], "who becomes Ready joins"
    await w.after(10)
    assert await w.rings_for(call) == ["dora"]
    assert await w.agent_state("bo") == "missed"
    await w.after(9)
    await w.accept(call, "dora")
    assert await w.rows(ENDS) == [("usr_ana", "rejected"), ("usr_bo", "missed"), ("usr_dora", None)]


async def test_a_tab_that_goes_away_leaves_the_others_ringing(w: World) -> None:
    await w.ready("ana", "bo")
    call = await w.call()
    await w.tab("ana", live=False)
    await w.after(4)
    assert await w.rings_for(call) == ["bo"]
    assert await w.rows(ENDS) == [("usr_ana", "withdrawn"), ("usr_bo", None)]


async def test_the_customer_leaves_while_three_ring(w: World) -> None:
    await w.ready("ana", "bo", "dora")
    call = await w.call()
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    for name in ("ana", "bo", "dora"):
        assert await w.agent_state(name) == "ready"
        assert await ended(w, name) == {"state": "done", "end_reason": "customer_left", "taken_by": None}
    assert await w.rows("SELECT state, end_reason FROM session") == [("ended", "abandoned")]
    assert await w.rows("SELECT COUNT(*) FROM deadline") == [(0,)]


async def test_a_worker_dies_while_three_ring_and_they_ring_on(w: World) -> None:
    await w.ready("ana", "bo", "dora")
    call = await w.call()
    held_by = (await w.session(call)).worker_id
    assert held_by is not None
    await w.engine.kill(held_by)
    await w.settle()
    moved = await w.session(call)
    assert (moved.epoch, moved.worker_id != held_by, len(moved.ringing)) == (2, True, 3)
    leg = moved.customer_leg
    await w.core.sessions.customer_leg(call, leg.id, leg.generation + 1, "v=0")
    await w.settle()
    await w.leg_up(call, "customer")
    await w.accept(call, "bo")
    assert (await w.session(call)).state == "connected"


async def test_a_node_that_starts_anew_finds_it_ringing(tmp_path: Path, own_or_shared: Deployment) -> None:
    async with world(tmp_path) as before:
        ring_all(before)
        await before.ready("ana", "bo", "dora")
        call = await before.call()
    async with world(tmp_path) as after:
        ring_all(after)
        after.clock.advance(1)
        await after.settle()
        assert await after.rings_for(call) == ["ana", "bo", "dora"]
        await answer(after, call, "dora")
        await after.settle()
        assert await after.rings_for(call) == []
        assert inv.rows_are_folds(inv.read_log(after.database)).holds


async def test_a_ring_takes_no_agent_from_one_that_nobody_was_asked_for(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    assert await w.rings_for(call) == ["ana"]
    other = await w.call(entry="ept_support")
    await w.ready("bo")  # serves both queues
    assert await w.offered_to(other) == "bo"
    assert await w.rings_for(call) == ["ana"]


async def test_the_maximum_wait_sees_what_rings_through_and_no_more(tmp_path: Path, own_or_shared: Deployment) -> None:
    async with world(tmp_path) as w:
        ring_all(w, QueueLife(max_wait_s=30, overflow_queue_id="que_support"))
        call = await w.call()
        await w.after(25)
        await w.ready("ana")
        await w.after(15)
        await w.ready("dora")
        assert await w.rings_for(call) == ["ana", "dora"], "40 s, and ana was asked before the limit"
        await w.after(9)
        assert (await w.session(call)).queue.queue_id == "que_sales"
        await w.after(1)
        session = await w.session(call)
        assert (session.queue.queue_id, session.ringing) == ("que_support", ())
        assert await w.rows(ENDS) == [("usr_ana", "missed"), ("usr_dora", "withdrawn")]
        assert await w.agent_state("dora") == "ready"


async def test_an_old_offer_that_the_row_let_go_of_is_nobodys(w: World) -> None:
    """The row keeps the newest offers only; the others have rows of their own, and numbers go on."""
    names = [f"n{number}" for number in range(25)]
    w.directory.profiles = [*w.directory.profiles, *(profile(name, "skl_sales") for name in names)]
    await w.ready(*names)
    call = await w.call()
    assert len(await w.rings_for(call)) == 20, "so many at once"
    first = (await w.session(call)).ringing[0]
    for _ in range(4):
        for offered in (await w.session(call)).ringing:
            await w.core.sessions.reject(w.user(offered.agent_id.removeprefix("usr_")), call.session_id, offered.id)
        await w.after(31)
    session = await w.session(call)
    assert session.offers > 80
    assert len(session.segments) == 40 + len(session.ringing)
    numbers = [number for (number,) in await w.rows("SELECT number FROM segment ORDER BY number")]
    assert numbers == list(range(1, session.offers + 1))
    with pytest.raises(Refused, match="not_your_contact"):
        await w.core.sessions.accept(w.user("n0"), call.session_id, first.id, "v=0 offer")
    log = inv.read_log(w.database)
    for verdict in (inv.rows_are_folds(log), inv.only_allowed_steps(log)):
        assert verdict.holds, verdict
