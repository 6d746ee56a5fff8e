"""What PostgreSQL adds to the step store's contract: several nodes at once, faults of the server and of the wire."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import pytest
import sqlalchemy as sa

from server.clock import ManualClock
from server.domain import agent as ag
from server.domain.agent import Agent, step_agent
from server.domain.history import SessionFilter
from server.domain.session import Session
from server.domain.session_step import step
from server.services.ports import (
    AgentSave,
    Conflict,
    NodeRow,
    OutboxKey,
    Push,
    Save,
    SessionSave,
    StorageUnavailable,
    StreamMessage,
)
from server.storage import postgres_connections
from server.storage import postgres_statements as sql
from server.storage.admin_repository import StoredAdmin
from server.storage.directory import StoredDirectory
from server.storage.engine import create_engine
from server.storage.history import StoredHistory
from server.storage.postgres_connections import PLANNING
from server.storage.postgres_steps import PostgresSteps
from server.storage.step_rows import SaveRows
from tests.contract.test_step_store import ARRIVED, OFFERED, arrive, save_order
from tests.helpers.fuzz import examples
from tests.helpers.postgres import PostgresServer, postgres_server

NODES = 3
SAVES = examples(200)
SESSIONS = examples(80)
ORDERS = 3  # each session's last ones are what nobody would look for again
LEASED = 2
RECOVERY_S = 5.0


@asynccontextmanager
async def stores(url: str, count: int = NODES) -> AsyncIterator[list[PostgresSteps]]:
    """As many nodes on one database."""
    opened = [await PostgresSteps.open(url) for _ in range(count)]
    try:
        yield opened
    finally:
        for store in opened:
            await store.close()


def grown(session: Session) -> Session:
    return replace(session, version=session.version + 1)


# --- several nodes ---


async def test_of_two_steps_at_once_one_is_saved(postgres: PostgresServer) -> None:
    async with stores(await postgres.database(), 2) as nodes:
        session, save = arrive()
        await nodes[0].save(save)
        for version in range(1, 20):
            after = grown(session)
            attempts = [
                Save("default", 0, (SessionSave(session, after, ((after.version, OFFERED),), ()),),
                     pushes=(Push("usr_1", {"by": number, "version": version}),))
                for number in range(2)
            ]  # fmt: skip
            done = await asyncio.gather(
                *(node.save(attempt) for node, attempt in zip(nodes, attempts, strict=True)), return_exceptions=True
            )
            assert sorted(type(one).__name__ for one in done) == ["Conflict", "tuple"]
            session = after
        part = await nodes[0].stream("usr_1", 0)
        assert [message.body["version"] for message in part.messages] == list(range(1, 20))


async def test_of_two_arrivals_of_one_session_one_is_saved(postgres: PostgresServer) -> None:
    async with stores(await postgres.database(), 2) as nodes:
        for number in range(10):
            arrived = replace(ARRIVED, session_id=f"ses_{number}")
            save = Save("default", 0, (SessionSave(None, step(None, arrived, 0), ((1, arrived),), ()),))
            done = await asyncio.gather(*(node.save(save) for node in nodes), return_exceptions=True)
            assert sorted(type(one).__name__ for one in done) == ["Conflict", "tuple"]


async def test_random_saves_of_many_nodes_leave_whole_streams(postgres: PostgresServer) -> None:
    """Each save steps random sessions and agents and speaks to random people, in random order; a lost one is gone."""
    chance = random.Random(7)
    session_ids, agent_ids = [f"ses_{n}" for n in range(4)], [f"usr_{n}" for n in range(4)]
    everybody = session_ids + agent_ids
    saved: list[StreamMessage] = []
    conflicts = 0
    began = time.monotonic()
    async with stores(await postgres.database()) as nodes:
        for session_id in session_ids:
            arrived = replace(ARRIVED, session_id=session_id)
            await nodes[0].save(Save("default", 0, (SessionSave(None, step(None, arrived, 0), (), ()),)))
        for agent_id in agent_ids:
            agent = step_agent(None, ag.AgentCreated(agent_id, "default"), 0)
            await nodes[0].save(Save("default", 0, agents=(AgentSave(None, agent, ()),)))

        async def save_something(number: int) -> None:
            nonlocal conflicts
            store = chance.choice(nodes)
            sessions: list[Session | None] = []
            for session_id in chance.sample(session_ids, chance.randint(0, 2)):
                sessions.append(await store.session(session_id))
            agents: list[Agent | None] = []
            for agent_id in chance.sample(agent_ids, chance.randint(0, 2)):
                agents.append(await store.agent(agent_id))
            people = [chance.choice(everybody) for _ in range(chance.randint(0, 5))]
            save = Save(
                "default",
                number,
                tuple(SessionSave(s, grown(s), ((s.version + 1, OFFERED),), ()) for s in sessions if s),
                tuple(AgentSave(a, replace(a, version=a.version + 1), ()) for a in agents if a),
                tuple(Push(person, {"save": number, "nth": nth}) for nth, person in enumerate(people)),
            )
            try:
                saved.extend(await store.save(save))
            except Conflict:
                conflicts += 1

        await asyncio.gather(*(save_something(number) for number in range(SAVES)))
        expected: dict[str, list[StreamMessage]] = defaultdict(list)
        for message in saved:
            expected[message.person_id].append(message)
        for person in everybody:
            part = await nodes[0].stream(person, 0, limit=10**6)
            assert [message.seq for message in part.messages] == list(range(1, part.head + 1))
            assert list(part.messages) == sorted(expected[person], key=lambda message: message.seq)
            within = Counter((message.body["save"], message.body["nth"]) for message in part.messages)
            assert set(within.values()) <= {1}
            order = [(m.body["save"], m.body["nth"]) for m in part.messages]
            assert all(a[1] < b[1] for a, b in itertools.pairwise(order) if a[0] == b[0])
        for session_id in session_ids:
            session = await nodes[0].session(session_id)
            assert session is not None
            events = await nodes[0]._all("SELECT count(*) FROM session_event WHERE session_id = $1", session_id)
            assert events[0][0] == session.version - 1
    print(f"{SAVES} saves on {NODES} nodes, {conflicts} conflicts, {time.monotonic() - began:.1f} s")
    assert 0 < conflicts < SAVES


async def test_orders_have_one_holder_and_none_is_left_behind(postgres: PostgresServer) -> None:
    """As the dispatcher does it: who saves an order looks; who finds the lease taken trusts its holder's last look."""
    chance = random.Random(11)
    carried: list[OutboxKey] = []
    holders: dict[str, int] = {}
    async with stores(await postgres.database()) as nodes:
        for number in range(NODES):
            await nodes[number].beat(NodeRow(f"nod_{number}", f"{number}", 0, 0))

        async def carry_out(session_id: str, number: int) -> None:
            store, node_id = nodes[number], f"nod_{number}"
            while (rows := await store.lease_orders(session_id, node_id, 0, 10**6, limit=LEASED)) is not None:
                assert holders.setdefault(session_id, number) == number, "another node holds it"
                await asyncio.sleep(chance.random() * 0.05)  # the worker at work
                await store.drop_orders([row.key for row in rows])
                carried.extend(row.key for row in rows)
                if len(rows) < LEASED:
                    del holders[session_id]
                    if not await store.end_lease(session_id, node_id):
                        return

        async def save_order_by_order(session_id: str) -> None:
            # A node's own rounds follow one another.
            locks = [asyncio.Lock() for _ in range(NODES)]

            async def look(number: int) -> None:
                async with locks[number]:
                    await carry_out(session_id, number)

            async with asyncio.TaskGroup() as group:
                for version in range(1, ORDERS + 1):
                    number = chance.randrange(NODES)
                    await save_order(nodes[number], session_id, version)
                    group.create_task(look(number))

        ids = [f"ses_{number}" for number in range(SESSIONS)]
        await asyncio.gather(*(save_order_by_order(session_id) for session_id in ids))
        assert set(carried) == {OutboxKey(name, version, 0) for name in ids for version in range(1, ORDERS + 1)}
        assert await nodes[0]._all("SELECT * FROM outbox") == []
        assert await nodes[0]._all("SELECT * FROM order_lease") == []


async def test_beats_of_many_nodes_do_not_stand_in_each_others_way(postgres: PostgresServer) -> None:
    async with stores(await postgres.database()) as nodes:
        await asyncio.gather(
            *(
                store.beat(NodeRow(f"nod_{round_}_{number}", f"name_{number}", round_, round_))
                for round_ in range(20)
                for number, store in enumerate(nodes)
            )
        )
        left = await nodes[0].nodes()
        assert {row.name for row in left} == {f"name_{number}" for number in range(NODES)}
        await asyncio.gather(
            *(store.beat(NodeRow(f"nod_last_{n}", f"name_{n}", 99, 99)) for n, store in enumerate(nodes))
        )
        for number, store in enumerate(nodes):
            await store.beat(NodeRow(f"nod_last_{number}", f"name_{number}", 99, 100))
        assert [row.node_id for row in await nodes[0].nodes()] == [f"nod_last_{number}" for number in range(NODES)]


async def test_no_plan_reads_whole_tables(postgres: PostgresServer) -> None:
    """Plans are made while the tables are empty, and kept."""
    url = await postgres.database()
    connection = await asyncpg.connect(url.replace("+asyncpg", ""), server_settings=PLANNING)
    try:
        for name, statement, values in (
            ("save", sql.save(frozenset(vars(SaveRows())) | {"pushes", "persons"}), "'{}'"),
            ("drop", sql.DROP_ORDERS, "'{}'"),
            ("seen", sql.SEEN_AGENTS, "'nod_1', 0"),
            ("lease", sql.LEASE_ORDERS, "'ses_1', 'nod_1', 0, 0, 0, 4"),
            ("stream", sql.STREAM, "'usr_1', 0, 500"),
            ("persons", sql.PERSONS, "'{usr_1}'"),
            ("due", sql.DUE, "0, 200"),
            ("open", sql.OPEN_SESSIONS, "NULL"),
        ):
            await connection.execute(f"PREPARE {name} AS {statement}")
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE {name} ({values})"))
            assert "Seq Scan on" not in plan, f"{name}\n{plan}"
    finally:
        await connection.close()


# --- faults ---


async def test_a_crash_under_load_loses_nothing_and_leaves_nothing_by_halves() -> None:
    """`pg_ctl restart -m immediate` while eight sessions step: what was confirmed is there, whole."""
    confirmed: dict[str, int] = {}
    refused = 0
    stop = False

    async def go_on(store: PostgresSteps, session_id: str) -> None:
        nonlocal refused
        arrived = replace(ARRIVED, session_id=session_id)
        session = step(None, arrived, 0)
        await store.save(Save("default", 0, (SessionSave(None, session, ((1, arrived),), ()),)))
        while not stop:
            after = grown(session)
            save = SessionSave(session, after, ((after.version, OFFERED),), ())
            try:
                await store.save(Save("default", 0, (save,), pushes=(Push(session_id, {"version": after.version}),)))
                session = after
                confirmed[session_id] = session.version
            except (StorageUnavailable, Conflict):
                refused += 1
                with contextlib.suppress(StorageUnavailable):
                    session = await store.session(session_id) or session
                await asyncio.sleep(0.01)

    with postgres_server() as server:
        url = await server.database()
        async with stores(url, 2) as nodes:
            ids = [f"ses_{number}" for number in range(8)]
            async with asyncio.TaskGroup() as group:
                for number, session_id in enumerate(ids):
                    group.create_task(go_on(nodes[number % 2], session_id))

                async def progress(by: int, within_s: float) -> float:
                    began, before = time.monotonic(), dict(confirmed)
                    async with asyncio.timeout(within_s):
                        while any(confirmed.get(name, 0) < before.get(name, 0) + by for name in ids):  # noqa: ASYNC110  # the work of eight tasks
                            await asyncio.sleep(0.01)
                    return time.monotonic() - began

                took = []
                for _ in range(3):
                    await progress(20, 30)
                    server.restart(immediate=True)
                    took.append(await progress(3, RECOVERY_S))
                stop = True
            assert refused > 0, "the crash was felt"
            for session_id in ids:
                session = await nodes[0].session(session_id)
                assert session is not None
                assert session.version >= confirmed[session_id]
                events = await nodes[0]._all(
                    "SELECT version FROM session_event WHERE session_id = $1 ORDER BY version", session_id
                )
                assert [row[0] for row in events] == list(range(1, session.version + 1))
                part = await nodes[0].stream(session_id, 0, limit=10**6)
                assert [m.body["version"] for m in part.messages] == list(range(2, session.version + 1))
    print(f"confirmed {sum(confirmed.values())}, refused {refused}, back after {[round(s, 2) for s in took]} s")


class Wire:
    """A way to the server that can go dead: bytes are taken, and come nowhere."""

    def __init__(self) -> None:
        self.dead = False
        self.port = 0

    @asynccontextmanager
    async def to(self, port: int) -> AsyncIterator[Wire]:
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there = await asyncio.open_connection("127.0.0.1", port)
            for source, target in ((reader, there[1]), (there[0], writer)):
                tasks.add(asyncio.create_task(self._carry(source, target)))

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if not self.dead:
                    target.write(data)
        target.close()


async def test_a_dead_wire_is_noticed_soon_and_forgotten_when_it_is_back(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STATEMENT_S", "CONNECT_S", "WAIT_S"):
        monkeypatch.setattr(postgres_connections, name, 0.5)
    url = await postgres.database()
    async with Wire().to(postgres.port) as wire, stores(url.replace(str(postgres.port), str(wire.port)), 1) as (store,):
        await store.save(arrive()[1])
        wire.dead = True
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(StorageUnavailable):
                await store.session("ses_1")
            assert time.monotonic() - began < 1.5
        wire.dead = False
        assert await store.session("ses_1") is not None


async def test_connections_are_few_and_survive_who_asked(postgres: PostgresServer) -> None:
    async with contextlib.AsyncExitStack() as stack:
        store = await PostgresSteps.open(await postgres.database(), pool_size=3)
        stack.push_async_callback(store.close)
        pids = [
            rows[0][0] for rows in await asyncio.gather(*(store._all("SELECT pg_backend_pid()") for _ in range(40)))
        ]
        assert 1 <= len(set(pids)) <= 3
        sleepers = [asyncio.create_task(store._all("SELECT pg_sleep(4)")) for _ in range(3)]
        waiting = asyncio.create_task(store.time_ms())
        while not store._connections._turns.locked():  # noqa: ASYNC110  # their first steps
            await asyncio.sleep(0)
        for sleeper in sleepers:
            sleeper.cancel()
        await asyncio.gather(*sleepers, return_exceptions=True)
        async with asyncio.timeout(2):
            assert await waiting > 0
            assert await store.time_ms() > 0
        await store.close()
        with pytest.raises(StorageUnavailable):
            await store.time_ms()


async def test_a_row_that_stays_locked_is_not_waited_for_for_ever(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_connections, "STATEMENT_S", 0.5)
    url = await postgres.database()
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    async with stores(url, 1) as (store,):
        session, save = arrive()
        await store.save(save)
        change = Save("default", 0, (SessionSave(session, grown(session), (), ()),))
        async with connection.transaction():
            await connection.execute("SELECT 1 FROM session FOR UPDATE")
            with pytest.raises(StorageUnavailable):
                await store.save(change)
        await store.save(change)
    await connection.close()


async def test_a_standby_takes_nothing(postgres: PostgresServer) -> None:
    url = await postgres.database()
    async with stores(url, 1) as (store,):
        await store._all(f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_read_only = on")
    async with stores(url, 1) as (store,):
        with pytest.raises(StorageUnavailable, match="read-only"):
            await store.save(arrive()[1])
        assert await store.session("ses_1") is None


async def test_a_server_that_is_not_there_is_said_at_once(postgres: PostgresServer) -> None:
    for url in (
        postgres.url("no_such"),
        postgres.url("postgres", password="wrong"),
        "postgresql+asyncpg://u:p@127.0.0.1:1/x",
    ):
        with pytest.raises(StorageUnavailable) as raised:
            await PostgresSteps.open(url)
        assert "wrong" not in str(raised.value)


async def test_the_set_up_and_the_reports_come_back_with_the_server() -> None:
    with postgres_server() as server:
        engine = create_engine(await server.database())
        admin, history = StoredAdmin(engine), StoredHistory(engine)
        directory = StoredDirectory(engine, ManualClock())

        async def read_all() -> None:
            async with admin.reading() as transaction:
                assert await transaction.user_by_login("ana") is None
            assert await history.sessions("default", SessionFilter(), 10, None) == ()
            assert await directory.entry_point_by_key("wk_1") is None

        await read_all()
        server.restart(immediate=True)
        await read_all()
        server.stop(immediate=True)
        with pytest.raises(StorageUnavailable):
            async with admin.writing() as transaction:
                await transaction.drop_expired_logins(0)
        with pytest.raises(StorageUnavailable):
            await history.session("default", "ses_1")
        with pytest.raises(StorageUnavailable):
            await directory.entry_point_by_key("wk_1")
        server.start()
        await read_all()

        async def crash_within() -> None:
            async with admin.writing() as transaction:
                await transaction.add_tenant("default", "Default", 0)
                server.restart(immediate=True)
                await transaction.add_tenant("other", "Other", 0)

        with pytest.raises(StorageUnavailable):
            await crash_within()
        async with engine.connect() as connection:
            assert (await connection.execute(sa.text("SELECT count(*) FROM tenant"))).scalar() == 0
        await engine.dispose()
