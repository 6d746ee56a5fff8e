"""A whole control node in one process for story tests: real services, router and SQLite; twins for media,
recordings and the clock. Nothing runs by itself: `settle` lets everything that is due happen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from server.clock import ManualClock
from server.core import Adapters, Core
from server.domain.directory import AgentProfile, AuthedUser, EntryPoint, QueueConfig, Role
from server.domain.events import Customer
from server.domain.history import RecordingRow, SessionDetail, SessionFilter, SessionRow
from server.domain.recording import Part
from server.domain.session import Session
from server.domain.waits import PastVisit
from server.ids import new_id
from server.media.memory import MemoryEngine
from server.routing.memory_bus import MemoryExchange
from server.routing.memory_store import MemoryRouterStore
from server.routing.redis_connection import connect_redis
from server.routing.redis_store import RedisRouterStore
from server.services.admin_ports import WaitHistory
from server.services.exits import Exits
from server.services.ports import (
    Archived,
    ArchiveFault,
    Collected,
    Connection,
    LeftParts,
    RecordingRef,
    RouterStore,
    Sound,
    StepStore,
    StorageUnavailable,
)
from server.services.tokens import CustomerToken
from server.storage import admin_tables  # noqa: F401  # fills the metadata
from server.storage.engine import create_engine
from server.storage.postgres_steps import PostgresSteps
from server.storage.runtime_tables import metadata
from server.storage.sqlite_steps import SqliteSteps
from server.storage.waits import StoredWaits
from tests.helpers.database import Database, PostgresDatabase, SqliteFile
from tests.helpers.deployments import CHOICE

TENANT = "default"
SETTLE_S = 10.0
NO_EXITS = Exits()


@dataclass
class FixedDirectory:
    """`Directory` from plain lists."""

    queue_list: list[QueueConfig] = field(default_factory=list)
    profiles: list[AgentProfile] = field(default_factory=list)
    entries: list[EntryPoint] = field(default_factory=list)

    def forget(self, tenant: str) -> None:
        """Nothing is cached."""

    async def queues(self, tenant: str) -> tuple[QueueConfig, ...]:
        return tuple(self.queue_list)

    async def queue(self, tenant: str, queue_id: str) -> QueueConfig | None:
        return next((q for q in self.queue_list if q.queue_id == queue_id), None)

    async def agents(self, tenant: str) -> tuple[AgentProfile, ...]:
        return tuple(self.profiles)

    async def agent(self, tenant: str, user_id: str) -> AgentProfile | None:
        return next((p for p in self.profiles if p.user_id == user_id), None)

    async def entry_point_by_key(self, key: str) -> EntryPoint | None:
        return next((e for e in self.entries if e.key == key), None)

    async def entry_point(self, tenant: str, entry_point_id: str) -> EntryPoint | None:
        return next((e for e in self.entries if e.entry_point_id == entry_point_id), None)

    async def disposition_ids(self, tenant: str) -> frozenset[str]:
        return frozenset({"dsp_sold"})

    async def break_reason_ids(self, tenant: str) -> frozenset[str]:
        return frozenset({"brk_lunch"})


class NoHistory:
    async def sessions(
        self, tenant: str, wanted: SessionFilter, limit: int, before: tuple[int, str] | None
    ) -> tuple[SessionRow, ...]:
        return ()

    async def session(self, tenant: str, session_id: str) -> SessionDetail | None:
        return None

    async def recording(self, tenant: str, recording_id: str) -> RecordingRow | None:
        return None


class NoWaits:
    async def lately(self, tenant: str, queue_id: str, now: int) -> Sequence[PastVisit]:
        return ()


class TwinArchiver:
    """`Archiver` that remembers what it was asked to join; every archive is 1 s long."""

    def __init__(self) -> None:
        self.joined: dict[str, tuple[int, ...]] = {}
        self.talk_ms: dict[str, int | None] = {}  # what each was told
        self.discarded: dict[str, tuple[str, ...]] = {}
        self.elsewhere = Collected()
        self.before_collecting: Callable[[], Awaitable[None]] | None = None
        self.opened: RecordingRef | None = None  # the last one
        self.swept = 0  # times
        self.fault: str | None = None  # of the next archive; disk_full passes

    async def archive(self, recording: RecordingRef, parts: Sequence[int], talk_ms: int | None = None) -> Archived:
        if self.fault is not None:
            raise ArchiveFault(self.fault, passing=self.fault == "disk_full")
        self.joined[recording.recording_id] = tuple(parts)
        self.talk_ms[recording.recording_id] = talk_ms
        return Archived(1000, {"size_bytes": 1})

    async def stereo(self, recording: RecordingRef) -> Path:
        return Path(recording.recording_id)

    def open(self, recording: RecordingRef, side: str) -> Sound | None:
        self.opened = recording
        return None

    async def collect(self, recording: RecordingRef, parts: Sequence[Part]) -> Collected:
        if self.before_collecting is not None:
            await self.before_collecting()
        return self.elsewhere

    async def left_parts(self) -> Sequence[LeftParts]:
        return ()

    async def discard_parts(self, recording: RecordingRef, worker_ids: Collection[str]) -> None:
        self.discarded[recording.recording_id] = tuple(sorted(worker_ids))

    async def sweep(self) -> int:
        self.swept += 1
        return 0


class World:
    def __init__(
        self,
        core: Core,
        store: StepStore,
        engine: MemoryEngine,
        clock: ManualClock,
        directory: FixedDirectory,
        live: set[str],
        database: Database,
        archiver: TwinArchiver,
    ) -> None:
        self.core = core
        self.store = store
        self.engine = engine
        self.clock = clock
        self.directory = directory
        self.live = live
        self.database = database
        self.archiver = archiver
        self._tabs: dict[str, Connection] = {}  # the newest of each agent

    # --- actors ---

    def user(self, name: str) -> AuthedUser:
        return AuthedUser(TENANT, f"usr_{name}", name, name.title(), Role.AGENT, None)

    async def ready(self, *names: str) -> None:
        for name in names:
            await self.tab(name, live=True)
            await self.core.agents.choose(self.user(name), "ready", None)
            self.clock.advance(0.001)  # a definite order of idleness
        await self.settle()

    async def tab(self, name: str, *, live: bool) -> None:
        """The agent's tab connects, or is gone."""
        user_id, before = f"usr_{name}", self._tabs.get(name)
        if live:
            self.live.add(user_id)
            self._tabs[name] = Connection(self.core.nodes.node_id, new_id("tab"))
            await self.store.connect(TENANT, user_id, self._tabs[name])
        else:
            self.live.discard(user_id)
            if before is not None:
                with suppress(StorageUnavailable):  # as the hub does
                    await self.store.disconnect(user_id, before)
        await self.core.presence.settle(TENANT, f"usr_{name}")

    async def call(
        self, *, up: bool = True, entry: str = "ept_sales", earlier: CustomerToken | None = None
    ) -> CustomerToken:
        token = CustomerToken(TENANT, new_id("ses"), entry, self.clock.now_ms() + 10**9)
        earlier_id = None if earlier is None else earlier.session_id
        await self.core.sessions.call(token, Customer("Li"), "v=0 offer", earlier_id)
        await self.settle()
        if up:
            await self.leg_up(token, "customer")
        return token

    async def accept(self, token: CustomerToken, name: str, *, up: bool = True) -> None:
        session = await self.session(token)
        offered = next(s for s in reversed(session.segments) if s.agent_id == f"usr_{name}")
        await self.core.sessions.accept(self.user(name), token.session_id, offered.id, "v=0 offer")
        await self.settle()
        if up:
            await self.leg_up(token, name)

    async def leg_up(self, token: CustomerToken, who: str) -> None:
        await self.engine.report_up(token.session_id, await self._leg(token, who))
        await self.settle()

    async def leg_down(self, token: CustomerToken, who: str) -> None:
        await self.engine.report_down(token.session_id, await self._leg(token, who))
        await self.settle()

    async def _leg(self, token: CustomerToken, who: str) -> str:
        session = await self.session(token)
        if who == "customer":
            return session.customer_leg.id
        return next(s.leg.id for s in reversed(session.segments) if s.agent_id == f"usr_{who}")

    # --- time ---

    async def after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.settle()

    async def settle(self) -> None:
        """Until nothing more happens: deadlines swept, sessions routed, orders carried out, archives made."""
        core = self.core
        async with asyncio.timeout(SETTLE_S):
            while True:
                before = await self._counts()
                await core.presence.look()
                await core.sweep.sweep()
                await core.router.look()
                while core.dispatcher.busy or core.recordings.busy or core.exits.busy or self.engine._reporting:  # noqa: ASYNC110
                    await asyncio.sleep(0)  # let the tasks run; the timeout above bounds it
                if await self._counts() == before:
                    return

    async def _counts(self) -> tuple[Any, ...]:
        rows = await self.rows(
            "SELECT (SELECT COUNT(*) FROM session_event), (SELECT COUNT(*) FROM agent_event), "
            "(SELECT COUNT(*) FROM outbox)"
        )
        return rows[0]

    # --- looking ---

    async def session(self, token: CustomerToken) -> Session:
        session = await self.store.session(token.session_id)
        assert session is not None
        return session

    async def agent_state(self, name: str) -> str:
        agent = await self.store.agent(f"usr_{name}")
        assert agent is not None
        return agent.state.value

    async def offered_to(self, token: CustomerToken) -> str | None:
        """Who has it, or is asked first."""
        session = await self.session(token)
        found = next(iter(session.ringing), session.owner)
        return found.agent_id.removeprefix("usr_") if found is not None else None

    async def rings_for(self, token: CustomerToken) -> list[str]:
        """In the order in which they were asked."""
        return [segment.agent_id.removeprefix("usr_") for segment in (await self.session(token)).ringing]

    async def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self.database.rows(query, *values)

    async def pushes(self, person_id: str) -> list[dict[str, Any]]:
        return [dict(m.body) for m in (await self.store.stream(person_id, 0)).messages]


def queue(queue_id: str, name: str, skill: str, **changed: Any) -> QueueConfig:
    values: dict[str, Any] = {
        "queue_id": queue_id, "tenant": TENANT, "name": name, "skills": ((skill, 1),), "ring_timeout_s": 20,
        "wrap_up_s": 60, "disposition_required": True, "record": True, "service_level_s": 20, "active": True,
    }  # fmt: skip
    return QueueConfig(**(values | changed))


def profile(name: str, *skills: str) -> AgentProfile:
    return AgentProfile(f"usr_{name}", TENANT, name.title(), True, Role.AGENT, tuple((s, 5) for s in skills))


def demo_directory() -> FixedDirectory:
    return FixedDirectory(
        [queue("que_sales", "Sales", "skl_sales"), queue("que_support", "Support", "skl_support", wrap_up_s=0)],
        [profile("ana", "skl_sales"), profile("bo", "skl_sales", "skl_support"), profile("chen", "skl_support")],
        [
            EntryPoint("ept_sales", TENANT, "wk_sales", "que_sales", "Shop", (), True),
            EntryPoint("ept_support", TENANT, "wk_support", "que_support", "Help", (), True),
        ],
    )


def create_schema(path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{path}")
    metadata.create_all(engine)
    engine.dispose()


@dataclass
class Stores:
    """What a world keeps its state in."""

    steps: StepStore
    router: RouterStore
    waits: WaitHistory
    database: Database


@asynccontextmanager
async def stores(folder: Path) -> AsyncIterator[Stores]:
    """As the test's deployment says: SQLite and the router's twin, or PostgreSQL and Redis. What an earlier world left
    in `folder` is there again."""
    chosen = CHOICE.now
    if chosen.postgres is None or chosen.redis is None:
        path = folder / "patchbay.db"
        if not path.exists():
            create_schema(path)
        engine = create_engine(f"sqlite+aiosqlite:///{path}")
        sqlite = await SqliteSteps.open(path)
        try:
            yield Stores(sqlite, MemoryRouterStore(), StoredWaits(engine), SqliteFile(path))
        finally:
            await sqlite.close()
            await engine.dispose()
        return
    note = folder / "database-url"
    if not note.exists():
        note.write_text(await chosen.postgres.database())
        chosen.redis.flush()
    url = note.read_text()
    engine = create_engine(url)
    postgres, redis = await PostgresSteps.open(url), connect_redis(chosen.redis.url)
    try:
        yield Stores(postgres, RedisRouterStore(redis), StoredWaits(engine), PostgresDatabase(url))
    finally:
        await engine.dispose()
        await postgres.close()
        await redis.aclose()


@asynccontextmanager
async def world(
    folder: Path, workers: Sequence[str] = ("media-1", "media-2"), exits: Exits = NO_EXITS
) -> AsyncIterator[World]:
    """A fresh world over empty stores in `folder`, or the ones that an earlier world left there."""
    async with worlds(folder, ("sole",), workers, exits) as (alone,):
        yield alone


@asynccontextmanager
async def worlds(
    folder: Path,
    names: Sequence[str],
    workers: Sequence[str] = ("media-1", "media-2"),
    exits: Exits = NO_EXITS,
) -> AsyncIterator[tuple[World, ...]]:
    """Control nodes on the same stores, clock and workers; each `World` is what happens at one of them. The workers'
    reports go to the last one."""
    clock, engine, directory, exchange = ManualClock(), MemoryEngine(workers), demo_directory(), MemoryExchange()
    async with stores(folder) as kept, asyncio.TaskGroup() as group:
        made = []
        for name in names:
            archiver = TwinArchiver()
            adapters = Adapters(
                kept.steps, kept.router, engine, directory, NoHistory(), kept.waits, archiver, clock, exchange.bus(),
                node_name=name, exits=exits,
            )  # fmt: skip
            live: set[str] = set()
            core = Core(adapters, group, live.__contains__)
            await core.start()
            made.append(World(core, kept.steps, engine, clock, directory, live, kept.database, archiver))
        yield tuple(made)
        for node in made:
            await node.core.hub.close()
