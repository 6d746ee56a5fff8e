"""The router's rounds: what is slow or wrong with one session is no other session's matter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from server.domain.events import AgentOffered, Customer
from server.domain.machine import Refused
from server.domain.router_state import Entry
from server.domain.session import Session
from server.ids import new_id
from server.routing.router import MAX_REFUSED
from server.services.ports import Notice, Save, StorageUnavailable, StreamMessage, Unreadable
from server.services.tokens import CustomerToken
from tests.helpers.deployments import Deployment
from tests.helpers.system import until
from tests.helpers.world import TENANT, World, world


@pytest.fixture
async def w(tmp_path: Path, own_or_shared: Deployment) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def test_one_slow_commit_delays_nobody_else(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await w.call(), await w.call()
    for name in ("ana", "bo"):
        await w.tab(name, live=True)
    save, goes_on, held = w.store.save, asyncio.Event(), asyncio.Event()

    async def slow_for_the_first(what: Save) -> tuple[StreamMessage, ...]:
        for session in what.sessions:
            if session.after.id == first.session_id and any(isinstance(e, AgentOffered) for _, e in session.events):
                held.set()
                await goes_on.wait()
        return await save(what)

    monkeypatch.setattr(w.store, "save", slow_for_the_first)
    routing = asyncio.create_task(w.core.router.run())
    try:
        await w.core.agents.choose(w.user("ana"), "ready", None)
        await asyncio.wait_for(held.wait(), 5)
        await w.core.agents.choose(w.user("bo"), "ready", None)
        await until(lambda: w.offered_to(second), 5, "the second call is offered")
        assert await w.offered_to(first) is None
        goes_on.set()
        await until(lambda: w.offered_to(first), 5, "the first call is offered")
        assert (await w.offered_to(first), await w.offered_to(second)) == ("ana", "bo")
    finally:
        goes_on.set()
        routing.cancel()
        with suppress(asyncio.CancelledError):
            await routing


async def test_rows_that_refuse_for_ever_are_tried_a_few_times_between_two_ticks(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, tried = await w.call(), 0
    await w.tab("ana", live=True)
    await w.core.agents.choose(w.user("ana"), "ready", None)
    assign = w.core.router._assign

    async def refuses(session_id: str, event: AgentOffered) -> Session:
        nonlocal tried
        tried += 1
        raise Refused("agent_unavailable")

    monkeypatch.setattr(w.core.router, "_assign", refuses)
    async with asyncio.timeout(5):
        await w.core.router.look()
    assert tried == MAX_REFUSED
    monkeypatch.setattr(w.core.router, "_assign", assign)
    await w.core.router.look()
    assert await w.offered_to(call) is None, "left alone until the next tick"
    w.clock.advance(1.1)
    await w.core.router.look()
    assert await w.offered_to(call) == "ana"


async def test_an_assignment_without_an_answer_is_looked_up_in_the_rows(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await w.call()
    await w.tab("ana", live=True)
    await w.core.agents.choose(w.user("ana"), "ready", None)
    save = w.store.save

    async def saved_and_lost(what: Save) -> tuple[StreamMessage, ...]:
        await save(what)
        raise StorageUnavailable("the connection broke")

    with monkeypatch.context() as patched:
        patched.setattr(w.store, "save", saved_and_lost)
        with pytest.raises(StorageUnavailable):
            await w.core.router.look()
    w.core.router._start_over()
    await w.core.router.look()
    assert await w.rings_for(call) == ["ana"], "once"


async def test_a_node_that_ends_leaves_no_claim_behind(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    call, held = await w.call(), asyncio.Event()
    await w.tab("ana", live=True)

    async def never(what: Save) -> tuple[StreamMessage, ...]:
        if any(isinstance(event, AgentOffered) for session in what.sessions for _, event in session.events):
            held.set()
            await asyncio.Event().wait()
        return await save(what)

    save = w.store.save
    with monkeypatch.context() as patched:
        patched.setattr(w.store, "save", never)
        routing = asyncio.create_task(w.core.router.run())
        await w.core.agents.choose(w.user("ana"), "ready", None)
        await asyncio.wait_for(held.wait(), 5)
        routing.cancel()
        with suppress(asyncio.CancelledError):
            await routing
    w.core.router._start_over()  # as another node, which knows nothing of this one's reservations
    await w.core.router.look()
    assert await w.offered_to(call) == "ana", "at once, not when the claim has run out"


async def test_a_row_that_can_t_be_read_holds_up_no_other(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, whole = await w.call(), await w.call()
    for name in ("ana", "bo"):
        await w.tab(name, live=True)
        await w.core.agents.choose(w.user(name), "ready", None)
    read = w.store.session

    async def unreadable(session_id: str) -> Session | None:
        if session_id == broken.session_id:
            raise Unreadable("session", session_id)
        return await read(session_id)

    with monkeypatch.context() as patched:
        patched.setattr(w.store, "session", unreadable)
        await w.core.router.look()
    assert await w.offered_to(broken) is None
    assert await w.offered_to(whole) is not None


async def test_a_doubt_that_comes_amid_a_rebuild_stands(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was saved after the rows were read, and whose answer got lost, is in nobody's index."""
    router = w.core.router
    await w.ready("ana")
    replace_all, save, lost = router._store.replace_all, w.store.save, False

    async def no_answer(what: Save) -> tuple[StreamMessage, ...]:
        await save(what)
        raise StorageUnavailable("the connection broke after the commit")

    async def meanwhile(tenant: str, mark: int, entries: Sequence[Entry]) -> None:
        nonlocal lost
        if not lost:
            lost = True
            with monkeypatch.context() as patch, suppress(StorageUnavailable):
                patch.setattr(w.store, "save", no_answer)
                await w.core.sessions.call(token, Customer("Li"), "v=0 offer")
        await replace_all(tenant, mark, entries)

    token = CustomerToken(TENANT, new_id("ses"), "ept_sales", w.clock.now_ms() + 10**9)
    monkeypatch.setattr(router._store, "replace_all", meanwhile)
    router.doubt()
    await router.look()
    assert lost
    await w.settle()
    assert await w.offered_to(token) == "ana"


async def test_a_tenant_that_is_heard_of_amid_a_rebuild(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    router = w.core.router
    await router.look()
    mark = router._store.mark

    async def meanwhile(tenant: str) -> int:
        router.on_notice(Notice(routing=("another",)))
        return await mark(tenant)

    monkeypatch.setattr(router._store, "mark", meanwhile)
    await router.rebuild()
    await w.ready("ana")
    assert await w.offered_to(await w.call()) == "ana"
