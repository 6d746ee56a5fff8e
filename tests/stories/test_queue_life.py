"""Who is not answered: limits of a queue, where they lead, and what the books say of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.domain.hours import Hours, Span
from server.domain.machine import Refused
from server.domain.queue_life import QueueLife
from server.domain.queue_routing import QueueRouting
from tests.helpers import invariants as inv
from tests.helpers.deployments import Deployment
from tests.helpers.world import World, world

VISITS = "SELECT queue_id, outcome FROM queue_visit ORDER BY entered_at, id"


@pytest.fixture
async def w(tmp_path: Path, own_or_shared: Deployment) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def live(w: World, queue_id: str, life: QueueLife) -> None:
    found = w.directory.queue_list
    w.directory.queue_list = [replace(q, life=life) if q.queue_id == queue_id else q for q in found]


async def test_who_waits_too_long_goes_to_the_other_queue_and_comes_before_later_ones_there(w: World) -> None:
    live(w, "que_sales", QueueLife(max_wait_s=30, overflow_queue_id="que_support"))
    first = await w.call()
    await w.after(10)
    later = await w.call(entry="ept_support")
    await w.after(19.9)
    assert (await w.session(first)).queue.queue_id == "que_sales"
    await w.after(0.1)
    moved = await w.session(first)
    assert (moved.state, moved.queue.queue_id, moved.queue.wrap_up_s) == ("queued", "que_support", 0)
    assert [(v.queue_id, v.outcome) for v in moved.visits] == [("que_sales", "flowed_out"), ("que_support", None)]
    told = [p["call"]["queue_name"] for p in await w.pushes(first.session_id) if p["type"] == "call.changed"]
    assert told[-1] == "Support"

    await w.ready("chen")
    assert await w.offered_to(first) == "chen", "the first arrival comes first, wherever it waited"
    assert await w.offered_to(later) is None
    await w.accept(first, "chen")
    assert await w.rows(VISITS) == [("que_sales", "flowed_out"), ("que_support", None), ("que_support", "answered")]


async def test_without_another_queue_the_call_ends_and_says_why(w: World) -> None:
    live(w, "que_sales", QueueLife(max_wait_s=30))
    call = await w.call()
    await w.after(30)
    ended = await w.session(call)
    assert (ended.state, ended.end_reason) == ("ended", "waited_too_long")
    assert await w.rows(VISITS) == [("que_sales", "failed")], "our limit, so it counts against us"
    assert await w.rows("SELECT COUNT(*) FROM deadline") == [(0,)]
    assert (await w.pushes(call.session_id))[-1]["call"]["end_reason"] == "waited_too_long"


async def test_an_offer_that_rings_is_seen_through(w: World) -> None:
    live(w, "que_sales", QueueLife(max_wait_s=30))
    call = await w.call()
    await w.after(25)
    await w.ready("ana")
    await w.after(10)
    assert await w.offered_to(call) == "ana", "it rings for 20 s, five of them after the limit"
    await w.accept(call, "ana")
    await w.after(100)
    assert (await w.session(call)).state == "connected"


async def test_a_missed_offer_after_the_limit_ends_the_wait(w: World) -> None:
    live(w, "que_sales", QueueLife(max_wait_s=30))
    call = await w.call()
    await w.after(25)
    await w.ready("ana")
    await w.after(20)
    assert (await w.session(call)).end_reason == "waited_too_long"


async def test_a_full_queue_sends_on_and_the_last_one_turns_away(w: World) -> None:
    live(w, "que_sales", QueueLife(max_length=2, overflow_queue_id="que_support"))
    live(w, "que_support", QueueLife(max_length=1))
    calls = [await w.call() for _ in range(3)]
    assert [(await w.session(call)).queue.queue_id for call in calls] == ["que_sales", "que_sales", "que_support"]
    turned_away = await w.call(up=False)
    session = await w.session(turned_away)
    assert (session.state, session.end_reason) == ("ended", "queue_full")
    assert [(v.queue_id, v.outcome) for v in session.visits] == [("que_sales", "flowed_out"), ("que_support", "failed")]
    await w.core.sessions.customer_hang_up(calls[0])
    await w.settle()
    assert (await w.session(await w.call())).queue.queue_id == "que_sales", "somebody left: there is room"


async def test_the_rules_are_those_of_the_arrival(w: World) -> None:
    live(w, "que_sales", QueueLife(max_wait_s=30, overflow_queue_id="que_support"))
    call = await w.call()
    live(w, "que_sales", QueueLife())
    await w.after(30)
    assert (await w.session(call)).queue.queue_id == "que_support"
    assert (await w.session(await w.call())).queue.max_wait_s == 0


async def test_the_books_balance_whatever_ends_the_waits(w: World) -> None:
    live(w, "que_sales", QueueLife(max_wait_s=30, max_length=3, overflow_queue_id="que_support"))
    live(w, "que_support", QueueLife(max_wait_s=40, max_length=3))
    calls = [await w.call(up=number < 6) for number in range(8)]  # the last two are turned away
    await w.core.sessions.customer_hang_up(calls[1])
    await w.after(31)
    await w.ready("chen")
    await w.after(5)
    offered = [call for call in calls if await w.offered_to(call) is not None]
    await w.accept(offered[0], "chen")
    await w.after(60)
    await w.call()
    counted = dict(await w.rows("SELECT COALESCE(outcome, 'waiting'), COUNT(*) FROM queue_visit GROUP BY 1"))
    assert set(counted) == {"answered", "abandoned", "flowed_out", "failed", "waiting"}
    assert sum(counted.values()) == (await w.rows("SELECT COUNT(*) FROM queue_visit"))[0][0]
    began_again = [v for call in calls for v in (await w.session(call)).visits[1:]]
    assert counted["flowed_out"] == len(began_again), "each one that flowed out began another wait"


async def test_outside_its_hours_a_queue_takes_nobody_and_keeps_who_waits(w: World) -> None:
    waiting = await w.call()
    always_closed = Hours("UTC", ((),) * 7)
    live(w, "que_sales", QueueLife(hours=always_closed))
    with pytest.raises(Refused, match="outside_hours"):
        await w.call()
    assert await w.rows("SELECT COUNT(*) FROM session") == [(1,)]
    await w.ready("ana")
    assert await w.offered_to(waiting) == "ana"
    live(w, "que_sales", QueueLife(hours=Hours("UTC", ((Span(0, 1440),),) * 7)))
    assert (await w.session(await w.call())).state == "queued"


async def test_a_closed_queue_is_passed_over_on_the_way_out(w: World) -> None:
    live(w, "que_sales", QueueLife(max_wait_s=30, overflow_queue_id="que_night"))
    night = QueueLife(hours=Hours("UTC", ((),) * 7), overflow_queue_id="que_support")
    w.directory.queue_list.append(replace(w.directory.queue_list[0], queue_id="que_night", name="Night", life=night))
    call = await w.call()
    await w.after(30)
    moved = await w.session(call)
    assert (moved.state, moved.queue.queue_id) == ("queued", "que_support")


async def test_a_session_enters_with_its_queues_priority(w: World) -> None:
    urgent = replace(w.directory.queue_list[0], routing=QueueRouting(priority=2))
    w.directory.queue_list[0] = urgent
    assert (await w.session(await w.call())).priority == 2


async def test_who_comes_back_is_kept_for_the_agent_they_had_for_a_while(w: World) -> None:
    w.directory.queue_list[0] = replace(w.directory.queue_list[0], routing=QueueRouting(sticky_s=30), wrap_up_s=0)
    await w.ready("ana", "bo")
    first = await w.call()
    await w.accept(first, "ana")
    stranger = await w.call()
    assert await w.offered_to(stranger) == "bo"
    await w.accept(stranger, "bo")
    second = await w.call(earlier=first)
    assert (await w.session(second)).sticky_agent_id == "usr_ana"
    await w.core.sessions.customer_hang_up(stranger)
    await w.settle()
    assert await w.agent_state("bo") == "ready"
    assert await w.offered_to(second) is None, "kept for ana, who talks"
    await w.after(30)
    assert await w.offered_to(second) == "bo", "then anyone"


async def test_an_earlier_session_without_a_talk_or_one_that_is_not_there_names_nobody(w: World) -> None:
    await w.ready("ana")
    never_answered = await w.call()
    await w.core.sessions.customer_hang_up(never_answered)
    assert (await w.session(await w.call(earlier=never_answered))).sticky_agent_id is None
    other = replace(never_answered, session_id="ses_nowhere")
    assert (await w.session(await w.call(earlier=other))).sticky_agent_id is None


async def test_who_drops_out_and_is_back_in_time_has_the_old_place(w: World) -> None:
    live(w, "que_sales", QueueLife(return_s=60))
    first = await w.call()
    await w.after(10)
    second = await w.call()
    await w.core.sessions.customer_hang_up(first)
    await w.after(60)
    back = await w.call(earlier=first)
    assert (await w.session(back)).order_key < (await w.session(second)).order_key
    await w.ready("ana")
    assert await w.offered_to(back) == "ana", "before who came meanwhile"
    outcomes = await w.rows("SELECT outcome FROM queue_visit ORDER BY entered_at, id")
    assert outcomes == [("abandoned",), (None,), (None,)], "the drop counts as one, whatever follows"

    await w.core.sessions.customer_hang_up(back)
    await w.after(30)
    again = await w.call(earlier=back)
    assert (await w.session(again)).first_arrival == (await w.session(first)).created_at, "twice is as good as once"


async def test_who_is_back_too_late_or_talked_or_comes_for_another_queue_is_new(w: World) -> None:
    live(w, "que_sales", QueueLife(return_s=60))
    live(w, "que_support", QueueLife(return_s=60))
    await w.ready("ana")
    talked = await w.call()
    await w.accept(talked, "ana")
    await w.core.sessions.customer_hang_up(talked)
    late = await w.call(earlier=talked)
    assert (await w.session(late)).place_at is None
    await w.core.sessions.customer_hang_up(late)
    assert (await w.session(await w.call(earlier=late, entry="ept_support"))).place_at is None
    await w.after(60.1)
    assert (await w.session(await w.call(earlier=late))).place_at is None


async def test_a_browser_that_was_closed_leaves_nobody_behind_in_the_queue(w: World) -> None:
    live(w, "que_sales", QueueLife(return_s=60))
    closed = await w.call()
    await w.leg_down(closed, "customer")
    await w.after(5)
    back = await w.call(earlier=closed)
    assert (await w.session(closed)).end_reason == "abandoned"
    assert (await w.session(back)).first_arrival == (await w.session(closed)).created_at
    beside = await w.call(earlier=back)
    assert (await w.session(back)).state == "queued", "another tab of a customer who is still there takes no place"
    assert (await w.session(beside)).place_at is None


async def test_an_offer_in_a_queue_overtakes_nobody_who_came_into_it_later(w: World) -> None:
    """As the checker of the chaos runs reads it in the log."""
    live(w, "que_sales", QueueLife(max_wait_s=30, overflow_queue_id="que_support"))
    first = await w.call()
    await w.after(10)
    later = await w.call(entry="ept_support")
    await w.after(5)
    await w.ready("chen")
    assert await w.offered_to(later) == "chen"
    await w.accept(later, "chen")
    await w.after(30)
    assert (await w.session(first)).queue.queue_id == "que_support"
    await w.core.sessions.customer_hang_up(first)
    verdict = inv.order_kept(inv.read_log(w.database), ())
    assert verdict.holds, verdict
