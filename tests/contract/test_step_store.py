"""What every step store promises: all or nothing, versions, streams without gaps, orders and deadlines in order, and
what nodes know of each other."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.domain import agent as ag
from server.domain import events as ev
from server.domain.agent import Agent, AgentEvent, step_agent
from server.domain.media import OpenLeg
from server.domain.session import Session
from server.domain.session_step import step
from server.services.ports import (
    NODE_DEAD_MS,
    NODE_FORGOTTEN_MS,
    AgentSave,
    Conflict,
    Connection,
    NodeRow,
    OutboxKey,
    OutboxRow,
    PersonRow,
    Push,
    Save,
    SeenAgent,
    SessionSave,
    StepStore,
)
from server.storage.migrate import upgrade
from server.storage.postgres_steps import PostgresSteps
from server.storage.sqlite_steps import SqliteSteps
from tests.helpers.postgres import PostgresServer

RULES = ev.QueueRules("que_1", "Sales", 20, 60, True, True)
ARRIVED = ev.CallArrived("ses_1", "default", "ept_1", RULES, ev.Customer("李伟", context={"order": "42"}), "media-1")
OFFERED = ev.LegOffered("leg_1_0", 1, "v=0 secret-sdp")


Store = SqliteSteps | PostgresSteps


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened: Store
    if request.param == "sqlite":
        await upgrade(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
        opened = await SqliteSteps.open(tmp_path / "test.db")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        opened = await PostgresSteps.open(await server.database())
    yield opened
    await opened.close()


async def rows_of(store: Store, query: str) -> list[tuple[object, ...]]:
    found = await store._all(query, ()) if isinstance(store, SqliteSteps) else await store._all(query)
    return [tuple(row) for row in found]


def arrive() -> tuple[Session, Save]:
    session = step(None, ARRIVED, 1000)
    return session, Save("default", 1000, (SessionSave(None, session, ((1, ARRIVED),), ()),))


async def advanced(store: StepStore) -> Session:
    first, save = arrive()
    await store.save(save)
    after = step(first, OFFERED, 2000)
    order = OutboxRow(OutboxKey("ses_1", 2, 0), "default", "media-1", 1, OpenLeg("leg_1_0", 1, "v=0"))
    await store.save(Save("default", 2000, (SessionSave(first, after, ((2, OFFERED),), (order,)),)))
    return after


async def test_what_was_saved_is_loaded(store: Store) -> None:
    after = await advanced(store)
    assert await store.session("ses_1") == after
    assert await store.session("ses_2") is None
    assert list(await store.open_sessions()) == [after]
    assert list(await store.open_sessions(worker_id="media-1")) == [after]
    assert list(await store.open_sessions(worker_id="media-9")) == []


async def test_an_sdp_is_not_in_the_event_log(store: Store) -> None:
    await advanced(store)
    rows = await rows_of(store, "SELECT type, body FROM session_event ORDER BY version")
    assert [row[0] for row in rows] == ["CallArrived", "LegOffered"]
    assert "secret-sdp" not in str(rows[1][1])


async def test_an_older_version_conflicts_and_leaves_nothing(store: Store) -> None:
    after = await advanced(store)
    stale = replace(after, version=after.version)
    save = SessionSave(replace(after, version=1), stale, (), ())
    with pytest.raises(Conflict):
        await store.save(Save("default", 3000, (save,), pushes=(Push("usr_1", {"type": "x"}),)))
    assert (await store.stream("usr_1", 0)).head == 0, "nothing of the save is there"


async def test_the_same_insert_twice_conflicts(store: Store) -> None:
    _, save = arrive()
    await store.save(save)
    with pytest.raises(Conflict):
        await store.save(save)


async def test_an_agent_that_moved_on_undoes_the_session_too(store: Store) -> None:
    created = ag.AgentCreated("usr_1", "default")
    agent = step_agent(None, created, 1)
    await store.save(Save("default", 1, agents=(AgentSave(None, agent, ((1, created),)),)))
    _, save = arrive()
    outdated = AgentSave(replace(agent, version=7), replace(agent, version=8), ())
    with pytest.raises(Conflict):
        await store.save(replace(save, agents=(outdated,)))
    assert await store.session("ses_1") is None


async def test_orders_come_in_sequence_and_go_when_consumed(store: Store) -> None:
    after = await advanced(store)
    (row,) = await store.outbox("ses_1")
    assert row.order == OpenLeg("leg_1_0", 1, "v=0")
    assert list(await store.outbox_sessions()) == ["ses_1"]
    answered = step(after, ev.LegAnswered("leg_1_0", 1, 1, "v=0"), 3000)
    event = ev.LegAnswered("leg_1_0", 1, 1, "v=0")
    await store.save(Save("default", 3000, (SessionSave(after, answered, ((3, event),), ()),), consumed=(row.key,)))
    assert list(await store.outbox("ses_1")) == []


async def test_deadlines_follow_the_state(store: Store) -> None:
    first, save = arrive()
    await store.save(save)
    assert await store.next_deadline() == 31_000
    assert [d.deadline.kind for d in await store.due(31_000)] == ["arrival"]
    after = step(first, OFFERED, 2000)
    await store.save(Save("default", 2000, (SessionSave(first, after, ((2, OFFERED),), ()),)))
    assert [d.deadline.kind for d in await store.due(10**9)] == ["customer_grace"]


async def test_streams_have_no_gaps_and_tell_what_is_missing(store: Store) -> None:
    for number in range(3):
        saved = await store.save(
            Save("default", number, pushes=(Push("usr_1", {"n": number}), Push("usr_2", {"n": number})))
        )
        assert [m.seq for m in saved] == [number + 1, number + 1]
    part = await store.stream("usr_1", 1)
    assert ([m.seq for m in part.messages], part.head, part.reset) == ([2, 3], 3, False)
    assert (await store.stream("usr_1", 3)).messages == ()
    assert (await store.stream("usr_1", 9)).reset, "a client that knows more than we do starts anew"
    assert (await store.stream("nobody", 0)).head == 0
    await store.prune_streams(2)
    assert (await store.stream("usr_1", 0)).reset
    assert [m.seq for m in (await store.stream("usr_1", 2)).messages] == [3]
