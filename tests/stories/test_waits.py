"""What customers are told of their wait, and what is kept of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from server.domain import events as ev
from server.domain.queue_life import QueueLife
from server.domain.queue_visit import ToldWait
from server.domain.session_step import step
from server.services.ports import StorageUnavailable
from server.services.tokens import CustomerToken
from server.signaling.hub import Tab
from server.storage import codec
from tests.helpers.deployments import Deployment
from tests.helpers.system import until
from tests.helpers.world import TENANT, World, worlds
from tests.stories.test_kept_places import live

MINUTE = 60_000
TOLD = "SELECT COUNT(*) FROM session_event WHERE type = 'WaitEstimated'"


@pytest.fixture
async def nodes(tmp_path: Path, own_or_shared: Deployment) -> AsyncIterator[tuple[World, ...]]:
    async with worlds(tmp_path, ("one", "two")) as made:
        yield made


async def busy_morning(w: World, visits: int = 30) -> None:
    """Sales answered somebody each minute, and was never empty; Ana is in a call now."""
    await w.ready("ana")
    first = await w.call()
    await w.accept(first, "ana")
    now = w.clock.now_ms()
    for number in range(visits):
        ended = now - number * MINUTE
        await w.rows(
            "INSERT INTO queue_visit (id, tenant, session_id, queue_id, entered_at, ended_at, outcome) "
            f"VALUES ('vis_old{number}', '{TENANT}', 'ses_old', 'que_sales', {ended - 3 * MINUTE}, {ended}, 'answered')"
        )


async def tab(w: World, token: CustomerToken) -> list[dict[str, Any]]:
    """The customer's tab at this node: the places that it is told, as they come."""
    places: list[dict[str, Any]] = []

    async def emit(event: str, data: Any, sid: str, callback: Any) -> None:
        if event == "m" and data["body"]["type"] == "queue.position":
            places.append(data["body"])

    async def disconnect(sid: str) -> None:
        await w.core.hub.detach(token.session_id, sid)

    async def changed() -> None: ...

    async def yes() -> bool:
        return True

    await w.core.hub.attach(Tab(f"tab_{w.core.nodes.name}", token.session_id, TENANT, emit, disconnect, changed, yes))
    return places


async def look(w: World) -> None:
    """The node reads what queues did, looks, and tells people."""
    await w.settle()
    w.core.live_views.on_pause(False)
    await w.core.waits.look()
    w.core.live_views.on_pause(False)


@asynccontextmanager
async def keeping(w: World) -> AsyncIterator[None]:
    task = asyncio.create_task(w.core.waits.keep())
    try:
        yield
    finally:
        task.cancel()


async def newest(places: list[dict[str, Any]], wanted: int) -> dict[str, Any]:
    async def there() -> bool:
        return len(places) >= wanted

    await until(there, 5, f"{wanted} places told, {places}", 0.005)
    return places[-1]


async def kept(w: World, token: CustomerToken) -> ToldWait:
    async def there() -> ToldWait | None:
        return (await w.session(token)).visits[-1].told

    found: ToldWait = await until(there, 5, "the session keeps what was told", 0.005)
    return found


async def test_who_waits_is_told_a_range_and_the_first_one_is_kept_once(nodes: tuple[World, ...]) -> None:
    other, w = nodes  # the workers report to the last one
    await busy_morning(w)
    second, third = await w.call(), await w.call()
    places = await tab(w, third)
    async with keeping(w), keeping(other):
        await look(w)
        assert (await newest(places, 1))["wait_high_s"] is None, "most are answered within 2 s"
        await w.after(2)
        await look(w)
        told = await newest(places, 2)
        assert (told["position"], told["wait_low_s"], told["wait_high_s"]) == (2, 60, 180)
        promise = await kept(w, third)
        assert (promise.position, promise.at) == (2, w.clock.now_ms())
        assert MINUTE < promise.low_ms < 2 * MINUTE < promise.high_ms < 3 * MINUTE
        assert (await w.session(second)).visits[-1].told is None, "whose tab is nowhere was told nothing"

        await w.after(1)
        elsewhere = await tab(other, third)  # the tab comes back to another node
        await look(other)
        assert (await newest(elsewhere, 1))["position"] == 2
        await look(other)
        again = await newest(elsewhere, 2)
        assert again["wait_high_s"] is not None
        await w.core.sessions.customer_hang_up(second)
        await w.settle()
        await look(other)
        assert (await newest(elsewhere, 3))["position"] == 1
        assert elsewhere[-1]["wait_high_s"] < told["wait_high_s"], "a place nearer, at once"

        async def saved() -> bool:
            return not other.core.waits._unsaved

        await until(saved, 5, "the second node has said it, too", 0.005)
    assert await w.rows(TOLD) == [(1,)]
    assert (await w.session(third)).visits[-1].told == promise
    columns = "told_at, told_position, told_low_ms, told_high_ms"
    row = await w.rows(f"SELECT {columns} FROM queue_visit WHERE session_id = '{third.session_id}'")
    assert row == [(promise.at, 2, promise.low_ms, promise.high_ms)]


async def test_what_was_told_is_a_fact_of_the_visit_whatever_comes_of_it(nodes: tuple[World, ...]) -> None:
    _, w = nodes
    await busy_morning(w)
    call = await w.call()
    await tab(w, call)
    async with keeping(w):
        await look(w)
        await w.after(2)
        await look(w)
        promise = await kept(w, call)
    await w.after(30)
    await w.ready("bo")
    await w.accept(call, "bo")
    session = await w.session(call)
    assert (session.visits[-1].outcome, session.visits[-1].told) == ("answered", promise)
    folded = None
    query = f"SELECT type, body, at FROM session_event WHERE session_id = '{call.session_id}' ORDER BY version"
    for kind, body, at in await w.rows(query):
        folded = step(folded, codec.EVENTS.load(kind, body), at)
    assert folded == session


async def test_nobody_on_duty_or_too_little_history_says_nothing(nodes: tuple[World, ...]) -> None:
    _, w = nodes
    await busy_morning(w, visits=5)
    call = await w.call()
    places = await tab(w, call)
    await w.after(3)
    await look(w)
    await look(w)
    assert (await newest(places, 1))["wait_high_s"] is None
    assert len(places) == 1

    support = await w.call(entry="ept_support")  # nobody serves it now
    places = await tab(w, support)
    await w.rows("UPDATE queue_visit SET queue_id = 'que_support' WHERE session_id = 'ses_old'")
    await w.after(3)
    await look(w)
    await look(w)
    assert [place["wait_high_s"] for place in places] == [None] * len(places)
    assert await w.rows(TOLD) == [(0,)]


async def test_an_estimate_that_comes_late_changes_nothing(nodes: tuple[World, ...]) -> None:
    _, w = nodes
    await busy_morning(w)
    call = await w.call()
    visit = (await w.session(call)).visits[-1]
    late = ev.WaitEstimated(visit.queue_id, visit.entered_at - 1, 1, 1_000, 2_000)
    version = (await w.session(call)).version
    await w.core.stepper.apply(call.session_id, late, skip_stale=True)
    assert (await w.session(call)).version == version, "of an earlier visit"
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    over = ev.WaitEstimated(visit.queue_id, visit.entered_at, 1, 1_000, 2_000)
    await w.core.stepper.apply(call.session_id, over, skip_stale=True)
    assert (await w.session(call)).visits[-1].told is None


async def test_a_database_that_is_away_for_a_moment_loses_no_promise(
    nodes: tuple[World, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, w = nodes
    monkeypatch.setattr("server.services.waits.SAVE_AGAIN_S", 0.01)
    await busy_morning(w)
    call = await w.call()
    await tab(w, call)
    save, away = w.store.save, [True]

    async def failing(*arguments: Any) -> Any:
        if away:
            away.pop()
            raise StorageUnavailable("away")
        return await save(*arguments)

    async with keeping(w):
        await look(w)
        await w.after(2)
        monkeypatch.setattr(w.store, "save", failing)
        await look(w)
        assert (await kept(w, call)).position == 1
    assert not away


async def test_nobody_waits_for_who_is_away(nodes: tuple[World, ...]) -> None:
    """A kept place holds up nobody: neither the place nor the range of who is there, nor of others who are away."""
    _, w = nodes
    for world in nodes:
        live(world, "que_sales", QueueLife(keep_place_s=28_800))
    await busy_morning(w)
    away, also_away, here = await w.call(), await w.call(), await w.call()
    alone = [await tab(w, token) for token in (also_away, here)]
    for token in (away, also_away):
        await w.core.sessions.keep_place(token)
    await w.after(2)
    await look(w)
    assert [(await newest(places, 1))["position"] for places in alone] == [1, 1]
    told = (await newest(alone[1], 2))["wait_high_s"]
    assert told is not None
    assert told <= 120, "the pace is an answer a minute"
