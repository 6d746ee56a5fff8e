"""A database that takes nothing more (its disk is full, or read-only): nothing is half-done, and nothing is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.domain.media import MediaOrder, OpenLeg
from server.services import dispatch
from server.services.ports import OrderResult, OrderStamp, OutboxRow, Push, Save, StorageUnavailable
from server.storage.sqlite_steps import SqliteSteps
from tests.contract.test_step_store import advanced, arrive
from tests.helpers.world import World, create_schema, world

TABLES = ("session", "session_event", "agent", "agent_event", "outbox", "deadline", "person", "stream_message")
FULL = ["no more pages", "read-only"]


@asynccontextmanager
async def full(store: SqliteSteps, how: str) -> AsyncIterator[None]:
    """While it lasts, SQLite answers each write as a full disk or a read-only one makes it."""
    writer = store._writer
    if how == "read-only":
        await writer.execute("PRAGMA query_only = ON")
        yield
        await writer.execute("PRAGMA query_only = OFF")
        return
    await writer.execute("PRAGMA max_page_count = 1")  # SQLite takes the present count instead
    await writer.execute("CREATE TABLE IF NOT EXISTS ballast (data BLOB)")
    for size in (4000, 400, 40, 4) * 3:  # what room its pages still have
        with suppress(sqlite3.OperationalError):
            while True:
                await writer.execute("INSERT INTO ballast VALUES (zeroblob(?))", (size,))
    yield
    await writer.execute("PRAGMA max_page_count = 1073741823")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteSteps]:
    create_schema(tmp_path / "test.db")
    opened = await SqliteSteps.open(tmp_path / "test.db")
    await opened._writer.execute("CREATE TABLE ballast (data BLOB)")
    yield opened
    await opened.close()


def sqlite_of(w: World) -> SqliteSteps:
    assert isinstance(w.store, SqliteSteps)
    return w.store


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        await sqlite_of(made)._writer.execute("CREATE TABLE ballast (data BLOB)")
        yield made


async def _contents(store: SqliteSteps) -> dict[str, Any]:
    return {table: [tuple(row) for row in await store._all(f"SELECT * FROM {table}", ())] for table in TABLES}


@pytest.mark.parametrize("how", FULL)
async def test_a_save_is_refused_whole_and_works_when_there_is_room(store: SqliteSteps, how: str) -> None:
    _, save = arrive()
    large = {"type": "x", "text": "x" * 20_000}
    save = replace(save, pushes=(Push("ses_1", {"type": "first"}), Push("usr_1", large)))
    before = await _contents(store)
    async with full(store, how):
        for _ in range(3):
            with pytest.raises(StorageUnavailable):
                await store.save(save)
        assert await _contents(store) == before
        assert await store.session("ses_1") is None
        assert list(await store.due(10**15)) == []
    messages = await store.save(save)
    assert [message.seq for message in messages] == [1, 1], "no seq was used up"
    assert await store.session("ses_1") is not None


@pytest.mark.parametrize("how", FULL)
async def test_what_was_saved_before_is_read_meanwhile(store: SqliteSteps, how: str) -> None:
    after = await advanced(store)
    async with full(store, how):
        with pytest.raises(StorageUnavailable):
            await store.save(Save("default", 1, pushes=(Push("ses_1", {"text": "x" * 20_000}),)))
        with pytest.raises(StorageUnavailable):
            await store.prune_streams(1) if how == "read-only" else await store.save(
                Save("default", 1, pushes=(Push("usr_9", {"text": "x" * 20_000}),))
            )
        assert await store.session("ses_1") == after
        assert len(await store.outbox("ses_1")) == 1


@pytest.mark.parametrize("how", FULL)
async def test_a_step_is_refused_and_done_later(w: World, how: str) -> None:
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana")
    before = await w.session(call)
    owner = before.owner
    assert owner is not None
    async with full(sqlite_of(w), how):
        with pytest.raises(StorageUnavailable):
            await w.core.sessions.save_notes(w.user("ana"), before.id, owner.id, "x" * 9_000, None)
        assert await w.session(call) == before
        assert await w.agent_state("ana") == "on_contact"
    await w.core.sessions.agent_hang_up(w.user("ana"), before.id, owner.id)
    await w.settle()
    assert await w.agent_state("ana") == "wrap_up"


async def test_an_order_whose_answer_can_not_be_saved_is_carried_out_again(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up between the order's row and the worker's answer: the customer gets the answer later."""
    monkeypatch.setattr(dispatch, "STORAGE_AWAY_S", 0.02)
    store = sqlite_of(w)
    given: list[OrderStamp] = []
    tries: list[str] = []
    order, lease = w.engine.order, store.lease_orders

    async def order_as_the_disk_fills(worker_id: str, stamp: OrderStamp, what: MediaOrder) -> OrderResult:
        if isinstance(what, OpenLeg):
            given.append(stamp)
            if len(given) == 1:
                await store._writer.execute("PRAGMA query_only = ON")
        return await order(worker_id, stamp, what)

    async def lease_until_there_is_room(session_id: str, *rest: Any) -> Sequence[OutboxRow] | None:
        tries.append(session_id)
        if len(given) == 1 and len(tries) > 4:
            await store._writer.execute("PRAGMA query_only = OFF")
        return await lease(session_id, *rest)

    monkeypatch.setattr(w.engine, "order", order_as_the_disk_fills)
    monkeypatch.setattr(store, "lease_orders", lease_until_there_is_room)
    call = await w.call(up=False)
    assert len(tries) > 4, "it was tried again while the disk was full"
    assert given == [given[0]] * 2, "under one stamp: the worker gives its first answer again"
    assert [p["type"] for p in await w.pushes(call.session_id)].count("leg.answer") == 1
    assert await w.rows("SELECT COUNT(*) FROM outbox") == [(0,)]


async def test_a_desk_that_goes_meanwhile_is_known_to_be_gone_afterwards(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    assert await w.offered_to(call) == "ana"
    async with full(sqlite_of(w), "read-only"):
        await w.tab("ana", live=False)
        ana = await w.store.agent("usr_ana")
        assert ana is not None
        assert ana.live
    await w.settle()
    ana = await w.store.agent("usr_ana")
    assert ana is not None
    assert not ana.live
    await w.after(3)
    assert await w.offered_to(call) is None
