"""A customer who waits goes away, and is served in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.domain.hours import Hours, Span
from server.domain.machine import Refused
from server.domain.queue_life import QueueLife
from server.domain.session import derived_id
from server.services.tokens import CustomerToken
from tests.helpers import invariants as inv
from tests.helpers.deployments import Deployment
from tests.helpers.world import World, world

KEEP_S = 600
DEADLINES = "SELECT kind FROM deadline ORDER BY kind"
OUTCOMES = "SELECT outcome FROM queue_visit ORDER BY entered_at, id"


@pytest.fixture
async def w(tmp_path: Path, own_or_shared: Deployment) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        live(made, "que_sales", QueueLife(keep_place_s=KEEP_S))
        yield made


def live(w: World, queue_id: str, life: QueueLife) -> None:
    found = w.directory.queue_list
    w.directory.queue_list = [replace(q, life=life) if q.queue_id == queue_id else q for q in found]


async def keep(w: World, call: CustomerToken) -> None:
    await w.core.sessions.keep_place(call)
    await w.settle()


async def come_back(w: World, call: CustomerToken) -> None:
    """As the widget does: the place first, then the next generation of the leg."""
    await w.core.sessions.take_place(call)
    leg = (await w.session(call)).customer_leg
    await w.core.sessions.customer_leg(call, leg.id, leg.generation + 1, "v=0 offer")
    await w.settle()
    await w.leg_up(call, "customer")


async def test_who_goes_away_and_comes_back_is_answered_before_who_came_later(w: World) -> None:
    first = await w.call()
    await w.after(5)
    second = await w.call()
    before = (await w.session(first)).order_key
    await keep(w, first)
    away = await w.session(first)
    assert (away.state, away.worker_id, away.customer_leg.state) == ("place_kept", None, "closed")
    assert await w.store.waiting("default", "que_sales") == 2, "the place counts"
    held = [leg.session_id for name in ("media-1", "media-2") for leg in await w.engine.list_legs(name)]
    assert held == [second.session_id], "no worker has it"
    view = (await w.pushes(first.session_id))[-1]["call"]
    assert (view["state"], view["place_until"]) == ("place_kept", w.clock.now_ms() + KEEP_S * 1000)

    await w.ready("ana")
    assert (await w.offered_to(first), await w.offered_to(second)) == (None, "ana"), "who is there is served"
    await w.after(300)
    await come_back(w, first)
    third = await w.call()
    back = await w.session(first)
    assert (back.state, back.order_key) == ("queued", before)
    await w.ready("bo")
    assert (await w.offered_to(first), await w.offered_to(third)) == ("bo", None)
    await w.accept(first, "bo")
    assert (await w.session(first)).state == "connected"
    log = inv.read_log(w.database)
    for verdict in (inv.rows_are_folds(log), inv.only_allowed_steps(log)):
        assert verdict.holds, verdict


async def test_what_rings_when_the_customer_goes_is_withdrawn_without_blame(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    assert await w.offered_to(call) == "ana"
    await keep(w, call)
    assert (await w.session(call)).segments[0].end_reason == "withdrawn"
    assert await w.agent_state("ana") == "ready"
    await come_back(w, call)
    assert await w.offered_to(call) == "ana"


async def test_who_is_being_connected_stays(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana", up=False)
    with pytest.raises(Refused, match="being_connected"):
        await w.core.sessions.keep_place(call)
    await w.leg_up(call, "ana")
    with pytest.raises(Refused, match="not_waiting"):
        await w.core.sessions.keep_place(call)


async def test_a_queue_that_keeps_no_places_says_so(w: World) -> None:
    call = await w.call(entry="ept_support")
    with pytest.raises(Refused, match="place_not_offered"):
        await w.core.sessions.keep_place(call)
    nobody = replace(call, session_id="ses_nobody")
    with pytest.raises(Refused, match="not_waiting"):
        await w.core.sessions.keep_place(nobody)


async def test_a_place_is_not_kept_for_ever(w: World) -> None:
    call = await w.call()
    await keep(w, call)
    await w.after(KEEP_S - 0.1)
    assert (await w.session(call)).state == "place_kept"
    await w.after(0.1)
    assert (await w.session(call)).end_reason == "place_expired"
    assert await w.rows(OUTCOMES) == [("abandoned",)]
    assert await w.rows("SELECT COUNT(*) FROM deadline") == [(0,)]


async def test_who_gives_it_up_has_left(w: World) -> None:
    call = await w.call()
    await keep(w, call)
    await w.core.sessions.customer_hang_up(call)
    assert (await w.session(call)).end_reason == "abandoned"


async def test_nothing_but_the_place_runs_meanwhile_and_the_time_away_is_no_waiting(w: World) -> None:
    life = QueueLife(keep_place_s=KEEP_S, max_wait_s=30, overflow_queue_id="que_support")
    live(w, "que_sales", life)
    call = await w.call()
    await w.after(20)
    await keep(w, call)
    assert await w.rows(DEADLINES) == [("place",)]
    await w.engine.kill("media-1")
    await w.engine.kill("media-2")
    await w.after(200)
    assert (await w.session(call)).state == "place_kept", "a place needs no worker"
    await w.core.link.look()
    assert (await w.session(call)).worker_id is None
    await w.engine.revive("media-1")
    await come_back(w, call)
    assert (await w.session(call)).queue.queue_id == "que_sales"
    await w.after(9.9)
    assert (await w.session(call)).queue.queue_id == "que_sales"
    await w.after(0.2)
    moved = await w.session(call)
    assert (moved.queue.queue_id, moved.visits[0].outcome) == ("que_support", "flowed_out")
    assert moved.place_at is None


async def test_who_comes_back_and_can_not_be_heard_is_lost_after_the_usual_grace(w: World) -> None:
    call = await w.call()
    await keep(w, call)
    await w.core.sessions.take_place(call)
    await w.after(29.9)
    assert (await w.session(call)).state == "queued"
    await w.after(0.2)
    assert (await w.session(call)).end_reason == "customer_lost"


async def test_what_is_said_twice_counts_once(w: World) -> None:
    call = await w.call()
    await keep(w, call)
    version = (await w.session(call)).version
    with pytest.raises(Exception, match="no_change"):
        await w.core.sessions.keep_place(call)
    leg_id = derived_id(call.session_id, "leg", 0)
    with pytest.raises(Exception, match="contact_over"):
        await w.core.sessions.customer_leg(call, leg_id, 2, "v=0 offer")
    assert (await w.session(call)).version == version
    await come_back(w, call)
    with pytest.raises(Exception, match="no_change"):
        await w.core.sessions.take_place(call)


async def test_who_comes_back_while_no_worker_runs_is_placed_as_soon_as_one_does(w: World) -> None:
    call = await w.call()
    await keep(w, call)
    for worker in ("media-1", "media-2"):
        await w.engine.kill(worker)
    await w.core.sessions.take_place(call)
    assert (await w.session(call)).worker_id is None
    await w.engine.revive("media-2")
    await w.core.link.look()
    leg = (await w.session(call)).customer_leg
    await w.core.sessions.customer_leg(call, leg.id, leg.generation + 1, "v=0 offer")
    await w.settle()
    await w.leg_up(call, "customer")
    assert ((await w.session(call)).worker_id, (await w.session(call)).customer_leg.state) == ("media-2", "up")


# --- places of who dropped out ---------------------------------------------------------------------------


async def test_a_dropped_place_is_had_once(w: World) -> None:
    live(w, "que_sales", QueueLife(return_s=60))
    first = await w.call()
    await w.after(10)
    await w.core.sessions.customer_hang_up(first)
    back = await w.call(earlier=first)
    beside = await w.call(earlier=first)
    arrived = (await w.session(first)).created_at
    assert [(await w.session(call)).place_at for call in (back, beside)] == [arrived, None]
    assert (await w.session(first)).passed_to == back.session_id
    log = inv.read_log(w.database)
    assert inv.rows_are_folds(log).holds


async def test_a_call_to_the_queue_that_keeps_a_place_has_that_place(w: World) -> None:
    """The page has forgotten its place; the queue gives none back to who merely drops out."""
    first = await w.call()
    await keep(w, first)
    await w.call()
    back = await w.call(earlier=first)
    assert (await w.session(back)).place_at == (await w.session(first)).created_at
    assert (await w.session(first)).end_reason == "abandoned"
    assert await w.store.waiting("default", "que_sales") == 2, "nobody stands in a queue twice"


async def test_a_call_to_another_queue_leaves_a_kept_place_alone(w: World) -> None:
    live(w, "que_support", QueueLife(return_s=60))
    first = await w.call()
    await keep(w, first)
    other = await w.call(entry="ept_support", earlier=first)
    assert (await w.session(other)).place_at is None
    assert (await w.session(first)).state == "place_kept"


async def test_a_call_request_that_is_sent_again_has_the_place_all_the_same(w: World) -> None:
    """The node died after it had noted whose the place is."""
    live(w, "que_sales", QueueLife(return_s=60))
    first = await w.call()
    await w.core.sessions.customer_hang_up(first)
    queue = await w.directory.queue("default", "que_sales")
    earlier = await w.session(first)
    assert queue is not None
    for _ in range(2):
        assert await w.core.sessions._place_at(queue, earlier, "ses_new") == earlier.created_at
    assert await w.core.sessions._place_at(queue, earlier, "ses_other") is None


async def test_who_is_back_in_time_is_let_into_a_full_queue(w: World) -> None:
    live(w, "que_sales", QueueLife(return_s=60, max_length=1))
    first = await w.call()
    await w.core.sessions.customer_hang_up(first)
    await w.call()
    turned_away = await w.call(up=False)
    assert (await w.session(turned_away)).end_reason == "queue_full"
    back = await w.call(earlier=first)
    assert (await w.session(back)).state == "queued"


async def test_a_kept_place_takes_room(w: World) -> None:
    live(w, "que_sales", QueueLife(keep_place_s=KEEP_S, max_length=1))
    await keep(w, await w.call())
    assert (await w.session(await w.call(up=False))).end_reason == "queue_full"


# --- when the queue gives up -----------------------------------------------------------------------------


async def test_a_queue_outside_its_hours_takes_no_overflow(w: World) -> None:
    live(w, "que_sales", QueueLife(max_wait_s=30, overflow_queue_id="que_support"))
    live(w, "que_support", QueueLife(hours=Hours("UTC", ((),) * 7)))
    closed = await w.call()
    live(w, "que_support", QueueLife(hours=Hours("UTC", ((Span(0, 1440),),) * 7)))
    open_ = await w.call()
    await w.after(30)
    assert (await w.session(closed)).end_reason == "waited_too_long"
    assert (await w.session(open_)).queue.queue_id == "que_support"


async def test_when_the_longest_wait_passes_while_it_rings_nobody_else_is_asked(w: World) -> None:
    live(w, "que_sales", QueueLife(max_wait_s=30, overflow_queue_id="que_support"))
    call = await w.call()
    await w.after(25)
    await w.ready("ana", "bo")
    (ringing,) = (await w.session(call)).ringing
    await w.after(10)
    name = ringing.agent_id.removeprefix("usr_")
    await w.core.sessions.reject(w.user(name), call.session_id, ringing.id)
    moved = await w.session(call)
    assert (moved.queue.queue_id, len(moved.segments)) == ("que_support", 1), "in the same step"
