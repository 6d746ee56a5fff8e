"""Where a chaos run plays: PostgreSQL, Redis, control nodes, media workers and HAProxy as processes, agents at their
desks, customers on the line."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.people import FIRST_AGENT, Desk, Entrance, Patient
from tests.helpers.cluster import Cluster, answers, cluster
from tests.helpers.database import PostgresDatabase
from tests.helpers.light_peer import LightPeers, light_peers
from tests.helpers.postgres import PostgresServer, postgres_server
from tests.helpers.redis_server import RedisServer, redis_server
from tests.helpers.system import until

NODES, WORKERS = 3, 2
# Each part is thought to have a machine of its own. Here all share a few cores, and a node that starts would take a
# media worker's: the scheduler is told who goes first, where the system lets us; else the nodes step back a little.
ABLE = os.geteuid() == 0
CONTROL_NICENESS, MEDIA_NICENESS = (0, -10) if ABLE else (5, 0)
AT_ONCE = 12  # set-ups at a time: each costs two DTLS handshakes
COPY_USER = (
    'INSERT INTO "user" (id, tenant, login, name, role, active, locale, password_hash, created_at, version)'
    " SELECT ?, tenant, ?, ?, role, active, locale, password_hash, created_at, 1 FROM \"user\" WHERE login = 'ana'"
)
COPY_SKILLS = (
    "INSERT INTO user_skill (user_id, skill_id, level)"
    " SELECT ?, s.skill_id, s.level FROM user_skill s JOIN \"user\" u ON u.id = s.user_id WHERE u.login = 'ana'"
)


@dataclass
class Stage:
    """`outages`: (from, to) in UTC ms when the database was down; `kills`: UTC ms of killed control nodes."""

    folder: Path
    patchbay: Cluster
    postgres: PostgresServer
    redis: RedisServer
    peers: LightPeers
    entrance: Entrance
    disposition_id: str
    dice: random.Random
    threads: ThreadPoolExecutor
    desks: list[Desk] = field(default_factory=list)
    customers: dict[str, Patient] = field(default_factory=dict)  # by session id: all that ever called
    outages: list[tuple[int, int]] = field(default_factory=list)
    kills: list[int] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def staff(self, agents: int) -> None:
        """So many agents log in and are Ready."""
        for number in range(agents):
            login, user_id = f"agent{number}", f"usr_chaos_{number:03}"
            self.patchbay.rows(COPY_USER, user_id, login, login)
            self.patchbay.rows(COPY_SKILLS, user_id)
            self.patchbay.rows("UPDATE tenant SET set_up = set_up + 1")  # as the product does with a change
            self.desks.append(Desk(self.patchbay, login, user_id, FIRST_AGENT + number, self.peers))

        async def begin(desk: Desk) -> None:
            await desk.connect()
            await desk.set_state("ready")

        await in_turns((begin(desk) for desk in self.desks), 4)

    async def callers(self, count: int) -> list[Patient]:
        """So many more customers call; they are in the order of their numbers, though not of their arrival."""
        made = [Patient(self.entrance, next(self.numbers), self.peers) for _ in range(count)]
        self.customers |= {customer.session_id: customer for customer in made}
        await in_turns((customer.begin() for customer in made), AT_ONCE)
        return made

    @property
    def waiting(self) -> list[Patient]:
        return [c for c in self.customers.values() if c.view and c.view["state"] == "queued"]

    @property
    def gone(self) -> list[Patient]:
        return [c for c in self.customers.values() if c.ended.is_set()]

    @property
    def talks(self) -> int:
        return sum(desk.talking() is not None for desk in self.desks)

    async def restart_postgres(self, *, immediate: bool) -> None:
        began = now_ms()
        await asyncio.get_running_loop().run_in_executor(
            self.threads, lambda: self.postgres.restart(immediate=immediate)
        )
        self.outages.append((began, now_ms()))

    async def nodes_ready(self) -> list[str]:
        """Names of the control nodes that say they are ready."""
        names = self.patchbay.control_parts
        ready = await asyncio.gather(*(answers(url) for url in self.patchbay.node_urls))
        return [name for name, says in zip(names, ready, strict=True) if says]

    async def all_done(self, timeout_s: float) -> None:
        """Nothing is open any more: calls, wrap-ups, archives."""

        async def none_open() -> bool:
            return bool(await self.one("SELECT COUNT(*) FROM session WHERE NOT done") == 0)

        await until(none_open, timeout_s, "every session done", every_s=0.5)

    async def one(self, query: str, *values: object) -> Any:
        """One value from the database, without holding up the people of this process."""
        rows = await asyncio.to_thread(self.patchbay.rows, query, *values)
        return rows[0][0]


@asynccontextmanager
async def stage(folder: Path, seed: int, *, drain_s: int | None = None, nodes: int = NODES) -> AsyncIterator[Stage]:
    """Started and empty; everything ends with it."""
    async with AsyncExitStack() as stack:
        # PostgreSQL's parent is a thread that lives as long as it: a restart then holds up nobody.
        threads = stack.enter_context(ThreadPoolExecutor(1))
        servers = ExitStack()
        loop = asyncio.get_running_loop()
        postgres = await loop.run_in_executor(threads, lambda: servers.enter_context(postgres_server()))
        stack.push_async_callback(lambda: loop.run_in_executor(threads, servers.close))
        (folder / "redis").mkdir()
        redis = stack.enter_context(redis_server(folder / "redis"))
        database = PostgresDatabase(url := await postgres.database())
        settings = {"database_url": url, "redis_url": redis.url}
        if drain_s is not None:
            settings["drain_s"] = str(drain_s)
        patchbay = await stack.enter_async_context(
            cluster(folder, database, nodes=nodes, workers=WORKERS, settings=settings)
        )
        peers = await stack.enter_async_context(light_peers())
        for name, part in patchbay.parts.items():
            part.niceness = MEDIA_NICENESS if name.startswith("media") else CONTROL_NICENESS
            set_niceness(part.pid, part.niceness)
        set_niceness(peers.process.pid, MEDIA_NICENESS)
        disposition_id = patchbay.rows("SELECT id FROM disposition ORDER BY position")[0][0]
        made = Stage(
            folder, patchbay, postgres, redis, peers, Entrance(patchbay), disposition_id, random.Random(seed), threads
        )  # fmt: skip
        try:
            yield made
        finally:
            people: list[Desk | Patient] = [*made.desks, *made.customers.values()]
            await asyncio.gather(*(person.close() for person in people))


async def in_turns(works: Iterable[Awaitable[object]], at_once: int) -> None:
    """Do them all, so many at a time. The first failure is raised."""
    room = asyncio.Semaphore(at_once)

    async def one(work: Awaitable[object]) -> None:
        async with room:
            await work

    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(one(work))


async def seen(what: Callable[[], bool], timeout_s: float, name: str) -> None:
    """Wait for what people of this process see."""

    async def look() -> bool:
        return what()

    await until(look, timeout_s, name, every_s=0.1)


def set_niceness(pid: int, niceness: int) -> None:
    """Of a process and all its threads."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(PermissionError, ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, int(thread.name), niceness)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
