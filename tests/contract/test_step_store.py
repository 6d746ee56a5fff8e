"""What every step store promises: all or nothing, versions, streams without gaps, orders and deadlines in order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.domain import events as ev
from server.domain.agent import AgentCreated, step_agent
from server.domain.media import OpenLeg
from server.domain.session import Session
from server.domain.session_step import step
from server.services.ports import AgentSave, Conflict, OutboxKey, OutboxRow, Push, Save, SessionSave, StepStore
from server.storage.sqlite_steps import SqliteSteps
from tests.helpers.world import create_schema

RULES = ev.QueueRules("que_1", "Sales", 20, 60, True, True)
ARRIVED = ev.CallArrived("ses_1", "default", "ept_1", RULES, ev.Customer("李伟", context={"order": "42"}), "media-1")
OFFERED = ev.LegOffered("leg_1_0", 1, "v=0 secret-sdp")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteSteps]:
    create_schema(tmp_path / "test.db")
    opened = await SqliteSteps.open(tmp_path / "test.db")
    yield opened
    await opened.close()


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


async def test_what_was_saved_is_loaded(store: SqliteSteps) -> None:
    after = await advanced(store)
    assert await store.session("ses_1") == after
    assert await store.session("ses_2") is None
    assert list(await store.open_sessions()) == [after]
    assert list(await store.open_sessions(worker_id="media-1")) == [after]
    assert list(await store.open_sessions(worker_id="media-9")) == []


async def test_an_sdp_is_not_in_the_event_log(store: SqliteSteps) -> None:
    await advanced(store)
    rows = await store._all("SELECT type, body FROM session_event ORDER BY version", ())
    assert [row[0] for row in rows] == ["CallArrived", "LegOffered"]
    assert "secret-sdp" not in rows[1][1]


async def test_an_older_version_conflicts_and_leaves_nothing(store: SqliteSteps) -> None:
    after = await advanced(store)
    stale = replace(after, version=after.version)
    save = SessionSave(replace(after, version=1), stale, (), ())
    with pytest.raises(Conflict):
        await store.save(Save("default", 3000, (save,), pushes=(Push("usr_1", {"type": "x"}),)))
    assert (await store.stream("usr_1", 0)).head == 0, "nothing of the save is there"


async def test_the_same_insert_twice_conflicts(store: SqliteSteps) -> None:
    _, save = arrive()
    await store.save(save)
    with pytest.raises(Conflict):
        await store.save(save)


async def test_an_agent_that_moved_on_undoes_the_session_too(store: SqliteSteps) -> None:
    created = AgentCreated("usr_1", "default")
    agent = step_agent(None, created, 1)
    await store.save(Save("default", 1, agents=(AgentSave(None, agent, ((1, created),)),)))
    _, save = arrive()
    outdated = AgentSave(replace(agent, version=7), replace(agent, version=8), ())
    with pytest.raises(Conflict):
        await store.save(replace(save, agents=(outdated,)))
    assert await store.session("ses_1") is None


async def test_orders_come_in_sequence_and_go_when_consumed(store: SqliteSteps) -> None:
    after = await advanced(store)
    (row,) = await store.outbox("ses_1")
    assert row.order == OpenLeg("leg_1_0", 1, "v=0")
    assert list(await store.outbox_sessions()) == ["ses_1"]
    answered = step(after, ev.LegAnswered("leg_1_0", 1, 1, "v=0"), 3000)
    event = ev.LegAnswered("leg_1_0", 1, 1, "v=0")
    await store.save(Save("default", 3000, (SessionSave(after, answered, ((3, event),), ()),), consumed=(row.key,)))
    assert list(await store.outbox("ses_1")) == []


async def test_deadlines_follow_the_state(store: SqliteSteps) -> None:
    first, save = arrive()
    await store.save(save)
    assert await store.next_deadline() == 31_000
    assert [d.deadline.kind for d in await store.due(31_000)] == ["arrival"]
    after = step(first, OFFERED, 2000)
    await store.save(Save("default", 2000, (SessionSave(first, after, ((2, OFFERED),), ()),)))
    assert [d.deadline.kind for d in await store.due(10**9)] == ["customer_grace"]


async def test_streams_have_no_gaps_and_tell_what_is_missing(store: SqliteSteps) -> None:
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
