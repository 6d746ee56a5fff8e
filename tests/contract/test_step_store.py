"""What every step store promises: all or nothing, versions, streams without gaps, orders and deadlines in order, and
what nodes know of each other."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from server import probes
from server.domain import agent as ag
from server.domain import events as ev
from server.domain.agent import Agent, AgentEvent, step_agent
from server.domain.media import OpenLeg
from server.domain.session import Session
from server.domain.session_step import step
from server.metrics import Metrics
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
    Unreadable,
)
from server.storage import codec, readable
from server.storage.migrate import upgrade
from server.storage.postgres_steps import PostgresSteps
from server.storage.sqlite_steps import SqliteSteps
from tests.helpers.postgres import PostgresServer
from tests.helpers.prometheus import read
from tests.simulation.store import MemorySteps

RULES = ev.QueueRules("que_1", "Sales", 20, 60, True, True, keep_place_s=60)
ARRIVED = ev.CallArrived("ses_1", "default", "ept_1", RULES, ev.Customer("李伟", context={"order": "42"}), "media-1")
OFFERED = ev.LegOffered("leg_1_0", 1, "v=0 secret-sdp")


Store = SqliteSteps | PostgresSteps | MemorySteps
SQL = ["sqlite", "postgres"]
sql = pytest.mark.parametrize("store", SQL, indirect=True)  # what is seen in tables alone


@pytest.fixture(params=[*SQL, "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened: Store
    if request.param == "memory":
        opened = MemorySteps()
    elif request.param == "sqlite":
        await upgrade(f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
        opened = await SqliteSteps.open(tmp_path / "test.db")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        opened = await PostgresSteps.open(await server.database())
    yield opened
    await opened.close()


async def rows_of(store: Store, query: str) -> list[tuple[object, ...]]:
    assert not isinstance(store, MemorySteps)
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


async def test_who_waits_in_a_queue_is_counted(store: Store) -> None:
    waiting = await advanced(store)
    arriving = step(None, replace(ARRIVED, session_id="ses_arriving"), 500)
    await store.save(Save("default", 500, (SessionSave(None, arriving, (), ()),)))
    assert await store.waiting("default", "que_1") == 1
    assert await store.waiting("default", "que_2") == 0
    assert await store.waiting("other", "que_1") == 0
    away = step(waiting, ev.PlaceKept(), 550)
    await store.save(Save("default", 550, (SessionSave(waiting, away, (), ()),)))
    assert await store.waiting("default", "que_1") == 1, "a kept place counts"
    assert [due.deadline.kind for due in await store.due(2**50) if due.owner_id == away.id] == ["place"]
    left = step(away, ev.CustomerHungUp(), 600)
    await store.save(Save("default", 600, (SessionSave(away, left, (), ()),)))
    assert await store.waiting("default", "que_1") == 0


@sql
async def test_the_first_range_that_was_told_stays(store: Store) -> None:
    """An older node's step drops it from the session, and a newer node tells another one."""
    before = await advanced(store)
    visit = before.visits[-1]
    for low_ms, after_old in ((10_000, False), (20_000, True)):
        if after_old:
            dropped = replace(before, version=before.version + 1, visits=(replace(visit, told=None),))
            await store.save(Save("default", 3000, (SessionSave(before, dropped, (), ()),)))
            before = dropped
        told = step(before, ev.WaitEstimated("que_1", visit.entered_at, 1, low_ms, 60_000), 3000 + low_ms)
        await store.save(Save("default", 3000, (SessionSave(before, told, (), ()),)))
        before = told
    rows = await rows_of(store, "SELECT told_at, told_position, told_low_ms, told_high_ms FROM queue_visit")
    assert rows == [(13_000, 1, 10_000, 60_000)]


@sql
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


async def test_a_deadline_that_moves_is_one_deadline(store: Store) -> None:
    after = await advanced(store)
    again = replace(after, version=3, customer_leg=replace(after.customer_leg, down_since=7000))
    await store.save(Save("default", 7000, (SessionSave(after, again, (), ()),)))
    assert [(d.deadline.kind, d.deadline.at) for d in await store.due(10**9)] == [("customer_grace", 37_000)]


async def test_several_messages_of_one_save_follow_one_another(store: Store) -> None:
    pushes = (Push("usr_b", {"n": 1}), Push("usr_a", {"n": 2}), Push("usr_b", {"n": 3}))
    for base in (0, 2):
        saved = await store.save(Save("default", 1, pushes=pushes))
        assert [(m.person_id, m.seq, m.body["n"]) for m in saved] == [
            ("usr_b", base + 1, 1),
            ("usr_a", base // 2 + 1, 2),
            ("usr_b", base + 2, 3),
        ]
    assert [m.body["n"] for m in (await store.stream("usr_b", 0)).messages] == [1, 3, 1, 3]
    assert (await store.stream("usr_b", 0, limit=3)).reset, "more than is fetched at once"


@sql
async def test_any_text_is_saved(store: Store) -> None:
    """PostgreSQL has no U+0000; what somebody typed that looks like an escape stays as it is."""
    typed = "\\u0000 \\ 'q\" {} $1 😀\u2028"
    customer = ev.Customer("nul\0", context={"order": f"{typed}\0\\\0"})
    arrived = replace(ARRIVED, customer=customer)
    session = step(None, arrived, 1000)
    push = Push("ses_1", {"text": f"\0{typed}"})
    await store.save(Save("default", 1000, (SessionSave(None, session, ((1, arrived),), ()),), pushes=(push,)))
    stand_in = "\0" if isinstance(store, SqliteSteps) else "\ufffd"
    found = await store.session("ses_1")
    assert found is not None
    assert found.customer == ev.Customer(f"nul{stand_in}", context={"order": f"{typed}{stand_in}\\{stand_in}"})
    assert (await store.stream("ses_1", 0)).messages[0].body == {"text": f"{stand_in}{typed}"}
    assert await rows_of(store, "SELECT customer_name FROM session") == [(f"nul{stand_in}",)]


# --- orders ---


async def save_order(store: StepStore, session_id: str, version: int, now: int = 0) -> None:
    """Orders alone, beside a session that nobody saved: what counts here is the outbox."""
    order = OutboxRow(OutboxKey(session_id, version, 0), "default", "media-1", 1, OpenLeg(f"leg_{version}", 1, "v=0"))
    session = replace(step(None, replace(ARRIVED, session_id=session_id), now), version=version)
    before = replace(session, version=version - 1) if version > 1 else None
    await store.save(Save("default", now, (SessionSave(before, session, (), (order,)),)))


async def test_old_orders_are_told_apart(store: Store) -> None:
    await save_order(store, "ses_1", 1, now=1000)
    await save_order(store, "ses_2", 1, now=2000)
    await save_order(store, "ses_1", 2, now=3000)
    assert sorted(await store.outbox_sessions()) == ["ses_1", "ses_2"]
    assert list(await store.outbox_sessions(1000)) == []
    assert list(await store.outbox_sessions(1001)) == ["ses_1"]
    assert sorted(await store.outbox_sessions(2001)) == ["ses_1", "ses_2"]
    await store.drop_orders([row.key for row in await store.outbox("ses_1")])
    assert list(await store.outbox_sessions()) == ["ses_2"]
    await store.drop_orders([])


async def leased(store: StepStore, node_id: str, now: int, until: int = 10**6) -> list[int] | None:
    rows = await store.lease_orders("ses_1", node_id, now, until, limit=2)
    return None if rows is None else [row.key.version for row in rows]


async def test_one_node_at_a_time_has_the_orders_of_a_session(store: Store) -> None:
    await store.beat(NodeRow("nod_a", "a", 0, 0))
    await store.beat(NodeRow("nod_b", "b", 0, 0))
    for version in (1, 2, 3):
        await save_order(store, "ses_1", version)
    assert await leased(store, "nod_a", 1) == [1, 2]
    assert await leased(store, "nod_b", 1) is None
    assert await leased(store, "nod_a", 2) == [1, 2], "it keeps its own"
    assert await store.end_lease("ses_1", "nod_b"), "which is not its own to end"
    assert await leased(store, "nod_b", 3) is None
    await store.drop_orders([row.key for row in await store.outbox("ses_1", 2)])
    assert await store.end_lease("ses_1", "nod_a"), "one is left"
    assert await leased(store, "nod_b", 4) == [3]
    await store.drop_orders([OutboxKey("ses_1", 3, 0)])
    assert not await store.end_lease("ses_1", "nod_b")
    assert await leased(store, "nod_a", 5) == []


async def test_a_lease_ends_at_its_time(store: Store) -> None:
    await store.beat(NodeRow("nod_a", "a", 0, 0))
    assert await leased(store, "nod_a", 0, until=100) == []
    assert await leased(store, "nod_b", 99) is None
    assert await leased(store, "nod_b", 100) == []


async def test_a_lease_ends_with_its_node(store: Store) -> None:
    await store.beat(NodeRow("nod_a", "a", 0, 0))
    assert await leased(store, "nod_a", 0) == []
    assert await leased(store, "nod_b", NODE_DEAD_MS) is None
    assert await leased(store, "nod_b", NODE_DEAD_MS + 1) == [], "it did not beat"
    await store.beat(NodeRow("nod_b", "b", 0, NODE_DEAD_MS))
    await store.leave("nod_b")
    assert await leased(store, "nod_c", NODE_DEAD_MS) == [], "it said good-bye"


# --- tabs ---


async def test_the_newest_tab_counts(store: Store) -> None:
    await store.save(Save("default", 1, pushes=(Push("usr_1", {"n": 1}),)))
    assert list(await store.persons(["usr_1", "usr_2"])) == [PersonRow("usr_1", 1, None)]
    first, second = Connection("nod_a", "tab_1"), Connection("nod_b", "tab_1")
    assert await store.connect("default", "usr_1", first) == 1
    assert await store.connect("default", "usr_2", first) == 0
    assert await store.connect("default", "usr_1", second) == 1
    assert sorted(await store.persons(["usr_1", "usr_2", "usr_3"]), key=lambda row: row.person_id) == [
        PersonRow("usr_1", 1, second),
        PersonRow("usr_2", 0, first),
    ]
    assert not await store.disconnect("usr_1", first)
    assert await store.disconnect("usr_1", second)
    assert not await store.disconnect("usr_1", second)
    assert list(await store.persons(["usr_1"])) == [PersonRow("usr_1", 1, None)]
    saved = await store.save(Save("default", 1, pushes=(Push("usr_2", {"n": 1}),)))
    assert saved[0].seq == 1
    assert list(await store.persons(["usr_2"])) == [PersonRow("usr_2", 1, first)], "a message leaves the tab as it is"
    assert list(await store.persons([])) == []


async def agent_with(store: StepStore, user_id: str, *events: AgentEvent) -> Agent:
    agent = step_agent(None, ag.AgentCreated(user_id, "default"), 0)
    await store.save(Save("default", 0, agents=(AgentSave(None, agent, ()),)))
    for event in events:
        after = step_agent(agent, event, 0)
        await store.save(Save("default", 0, agents=(AgentSave(agent, after, ((after.version, event),)),)))
        agent = after
    assert await store.agent(user_id) == agent
    return agent


async def test_agents_are_seen_by_the_node_of_their_tab_or_by_all(store: Store) -> None:
    ready = (ag.WentLive(), ag.StateChosen(ag.Chosen.READY))
    away = await agent_with(store, "usr_away")
    live = await agent_with(store, "usr_live", *ready)
    there = await agent_with(store, "usr_there", *ready)
    rung = await agent_with(store, "usr_rung", *ready, ag.ContactOffered("ses_1", "seg_1"), ag.WentDead())
    reading = await agent_with(store, "usr_reading")
    await store.beat(NodeRow("nod_a", "a", 0, 0))
    await store.beat(NodeRow("nod_b", "b", 0, 0))
    at_a, at_b = Connection("nod_a", "tab_1"), Connection("nod_b", "tab_2")
    await store.connect("default", "usr_reading", at_a)
    await store.connect("default", "ses_1", at_a)
    await store.connect("default", "usr_there", at_b)
    everybody = {agent.user_id: agent for agent in (away, live, there, rung, reading)}
    assert {agent.user_id: agent for agent in await store.agents()} == everybody

    async def seen(node_id: str, now: int) -> dict[str, SeenAgent]:
        found = await store.seen_agents(node_id, now)
        assert len({one.agent.user_id for one in found}) == len(found)
        return {one.agent.user_id: one for one in found}

    nobodys = {"usr_live": SeenAgent(live, None), "usr_rung": SeenAgent(rung, None)}
    assert await seen("nod_a", NODE_DEAD_MS) == nobodys | {"usr_reading": SeenAgent(reading, at_a)}
    assert await seen("nod_b", NODE_DEAD_MS) == nobodys | {"usr_there": SeenAgent(there, at_b)}
    await store.beat(NodeRow("nod_a", "a", 0, NODE_DEAD_MS + 1))
    orphan = {"usr_there": SeenAgent(there, at_b)}
    assert await seen("nod_a", NODE_DEAD_MS + 1) == nobodys | orphan | {"usr_reading": SeenAgent(reading, at_a)}


@sql
async def test_a_row_that_can_t_be_read_takes_no_other_with_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a newer version wrote, and one that a fault did."""
    monkeypatch.setattr(readable, "_told", {})
    registry = CollectorRegistry()
    whole = await advanced(store)
    away, live = [await agent_with(store, name, ag.WentLive()) for name in ("usr_away", "usr_live")]
    newer = step(None, replace(ARRIVED, session_id="ses_newer"), 500)
    await store.save(Save("default", 500, (SessionSave(None, newer, (), ()),)))
    assert [s.id for s in await store.open_sessions()] == ["ses_newer", "ses_1"]
    dreaming = codec.SESSION.dump_json(newer).decode().replace("arriving", "dreaming")
    await rows_of(store, f"UPDATE session SET body = '{dreaming}' WHERE id = 'ses_newer'")
    await rows_of(store, "UPDATE agent SET body = '{}' WHERE user_id = 'usr_away'")
    probes.listen(Metrics(registry))
    try:
        with capture_logs() as logs:
            assert list(await store.open_sessions()) == [whole]
            assert list(await store.open_sessions(worker_id="media-1")) == [whole]
            assert list(await store.agents()) == [live]
            assert [one.agent for one in await store.seen_agents("nod_a", 0)] == [live]
            with pytest.raises(Unreadable, match="session ses_newer"):
                await store.session("ses_newer")
            with pytest.raises(Unreadable, match="agent usr_away"):
                await store.agent(away.user_id)
    finally:
        probes.listen()
    assert [(e["event"], e.get("session_id"), e.get("agent_id")) for e in logs] == [
        ("row_unreadable", "ses_newer", None),
        ("row_unreadable", None, "usr_away"),
    ], "each is named once, not at each look"
    assert logs[0]["faults"] == [{"at": "state", "fault": "enum"}]
    counted = read(generate_latest(registry).decode()).by("patchbay_rows_unreadable_total", "table")
    assert counted == {"session": 3, "agent": 3}


# --- nodes ---


async def test_nodes_know_who_lives(store: Store) -> None:
    a, b = NodeRow("nod_a", "a", 100, 100), NodeRow("nod_b", "b", 200, 200, draining=True)
    assert list(await store.beat(b)) == [b]
    assert list(await store.beat(a)) == [a, b], "by node id"
    later = replace(a, seen_at=200 + NODE_DEAD_MS)
    assert list(await store.beat(later)) == [later, b]
    later = replace(a, seen_at=201 + NODE_DEAD_MS)
    assert list(await store.beat(later)) == [later]
    assert list(await store.nodes()) == [later, b]
    much_later = replace(a, seen_at=201 + NODE_FORGOTTEN_MS)
    assert list(await store.beat(much_later)) == [much_later]
    assert list(await store.nodes()) == [much_later], "forgotten"
    await store.leave("nod_a")
    assert list(await store.nodes()) == []


@sql
async def test_a_new_life_ends_the_earlier_one(store: Store) -> None:
    await store.beat(NodeRow("nod_1", "a", 100, 100))
    assert await leased(store, "nod_1", 100) == []
    second = NodeRow("nod_2", "a", 200, 200)
    assert list(await store.beat(second)) == [second]
    assert list(await store.nodes()) == [second]
    assert await rows_of(store, "SELECT * FROM order_lease") == []


async def test_a_late_beat_of_an_earlier_life_does_not_end_the_new_one(store: Store) -> None:
    second = NodeRow("nod_2", "a", 200, 200)
    await store.beat(second)
    first = NodeRow("nod_1", "a", 100, 250)
    assert list(await store.beat(first)) == [first, second]
    assert list(await store.beat(replace(second, seen_at=300))) == [replace(second, seen_at=300)]


async def test_the_database_has_the_time(store: Store) -> None:
    assert abs(await store.time_ms() - time.time_ns() // 1_000_000) < 2_000
