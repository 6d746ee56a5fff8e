"""Where the routing storm plays: three control nodes on PostgreSQL and Redis behind HAProxy, a center with five queues
of different strategies, agents with skills, and customers who never run out."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.chaos.people import Entrance
from tests.chaos.routing_people import Guest, Seat
from tests.chaos.stage import now_ms
from tests.helpers.cluster import Cluster, answers, cluster
from tests.helpers.database import PostgresDatabase
from tests.helpers.postgres import postgres_server
from tests.helpers.redis_server import RedisServer, redis_server
from tests.helpers.scripted_agent import ScriptedAgent
from tests.helpers.staff import Hired, hire
from tests.helpers.system import PASSWORD, until

NODES = 3
SKILLS = ("Sales", "Support", "English")  # of the demo
PATIENCE_S = (20.0, 240.0)
# The requirement of "Skilled" and what is asked instead after some seconds; each asks less than the one before.
SKILLED_STEPS: tuple[tuple[int, Mapping[str, int]], ...] = (
    (0, {"English": 6, "Sales": 1}),
    (8, {"English": 3}),
    (16, {}),
)
PLAIN = {"ring_timeout_s": 6, "wrap_up_s": 10, "disposition_required": False, "record": False}


def text(asked: Mapping[str, int]) -> str:
    """As an admin writes it."""
    return " and ".join(f"{skill} >= {level}" for skill, level in asked.items()) or "anyone"


@dataclass(frozen=True)
class Queue:
    """What it lists, its routing, its life. `flows_to` is another one's name; `share` of the calls."""

    name: str
    listed: Mapping[str, int]
    routing: Mapping[str, Any]
    life: Mapping[str, Any] = field(default_factory=dict)
    flows_to: str = ""
    share: int = 20


QUEUES = (
    Queue("Longest", {"Sales": 1}, {"strategy": "longest_idle"}),
    Queue("Fewest", {"Support": 3}, {"strategy": "fewest_sessions"}),
    Queue(
        "Robin", {"Sales": 3}, {"strategy": "round_robin", "weight": 20, "priority": 3}, {"max_wait_s": 15}, "Longest"
    ),
    Queue("Occupied", {"Support": 1}, {"strategy": "least_occupied"}, {"max_length": 12}, "Fewest"),
    Queue(
        "Skilled",
        {},
        {
            "strategy": "best_skill",
            "requirement": text(SKILLED_STEPS[0][1]),
            "steps": [{"after_s": after, "requirement": text(asked)} for after, asked in SKILLED_STEPS[1:]],
        },
        {},
        "",
        10,
    ),
)


@dataclass
class Center:
    """`disturbed`: (from, to) in UTC ms of kills of nodes and restarts of Redis. `levels`: by user, by skill's name."""

    folder: Path
    patchbay: Cluster
    redis: RedisServer
    http: aiohttp.ClientSession
    dice: random.Random
    group: asyncio.TaskGroup
    entrances: dict[str, Entrance]
    queue_ids: dict[str, str]
    levels: dict[str, Mapping[str, int]]
    seats: list[Seat]
    guests: list[Guest] = field(default_factory=list)
    kills: list[int] = field(default_factory=list)
    disturbed: list[tuple[int, int]] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def waiting(self) -> list[Guest]:
        return [guest for guest in self.guests if guest.waits]

    def comes(self) -> None:
        """One more customer."""
        queue = self.dice.choices(QUEUES, [queue.share for queue in QUEUES])[0]
        patience_s = self.dice.uniform(*PATIENCE_S)
        guest = Guest(self.http, self.entrances[queue.name], next(self.numbers), patience_s)
        self.guests.append(guest)
        self.group.create_task(guest.live())

    async def nodes_ready(self) -> list[str]:
        ready = await asyncio.gather(*(answers(url) for url in self.patchbay.node_urls))
        return [name for name, says in zip(self.patchbay.control_parts, ready, strict=True) if says]

    def kill(self, victim: str) -> None:
        self.kills.append(now_ms())
        self.disturbed.append((now_ms(), now_ms()))
        self.patchbay.parts[victim].process.kill()  # type: ignore[union-attr]  # it runs

    def restart_redis(self, *, empty: bool) -> None:
        """As a power failure does: what was written within the last second may be lost. `empty`: all is."""
        began = now_ms()
        if empty:
            self.redis.flush()
        self.redis.restart()
        self.disturbed.append((began, now_ms()))

    async def one(self, query: str, *values: object) -> Any:
        """One value from the database, without holding up the people of this process."""
        return (await asyncio.to_thread(self.patchbay.rows, query, *values))[0][0]


@asynccontextmanager
async def center(folder: Path, seed: int, agents: int) -> AsyncIterator[Center]:
    """Started, staffed and Ready; everything ends with it."""
    dice = random.Random(seed)
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(postgres_server())
        (folder / "redis").mkdir()
        arguments = ("--appendfsync", "everysec")  # else each claim waits for the disk of this one machine
        redis = stack.enter_context(redis_server(folder / "redis", appendonly=True, arguments=arguments))
        database = PostgresDatabase(url := await postgres.database())
        settings = {"database_url": url, "redis_url": redis.url}
        patchbay = await stack.enter_async_context(
            cluster(folder, database, nodes=NODES, workers=1, balanced=True, mute=True, settings=settings)
        )
        queue_ids, skill_ids = await _set_up(patchbay)
        levels = [_levels(dice) for _ in range(agents)]
        hired = await hire(url, [{skill_ids[name]: level for name, level in has.items()} for has in levels])
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())
        )
        async with asyncio.TaskGroup() as group:
            made = Center(
                folder, patchbay, redis, http, dice, group,
                {queue.name: Entrance(patchbay, queue.name) for queue in QUEUES},
                queue_ids, {one.user_id: has for one, has in zip(hired, levels, strict=True)},
                _seats(http, patchbay, hired, dice),
            )  # fmt: skip
            lives = [group.create_task(work) for seat in made.seats for work in (seat.line.keep(), seat.work())]
            try:
                await _all_ready(made)
                yield made
            finally:
                for life in lives:
                    life.cancel()


def _levels(dice: random.Random) -> dict[str, int]:
    has = {skill: dice.randint(1, 10) for skill in SKILLS if dice.random() < 0.7}
    return has or {dice.choice(SKILLS[:2]): dice.randint(1, 10)}


def _seats(http: aiohttp.ClientSession, patchbay: Cluster, hired: list[Hired], dice: random.Random) -> list[Seat]:
    return [Seat(http, patchbay.url, one, number, random.Random(dice.random())) for number, one in enumerate(hired)]


async def _all_ready(made: Center) -> None:
    async def ready() -> bool:
        return all(seat.ready for seat in made.seats)

    await until(ready, 60, "every agent is Ready", every_s=0.1)


async def _set_up(patchbay: Cluster) -> tuple[dict[str, str], dict[str, str]]:
    """Queues and their entry points, as an admin makes them: ids of queues and skills by name."""
    admin = ScriptedAgent(patchbay.url, "admin", PASSWORD)
    await admin.log_in()
    skills = {skill["name"]: skill["skill_id"] for skill in (await admin.rest("GET", "/skills"))["items"]}
    queues: dict[str, str] = {}
    for queue in QUEUES:
        listed = [{"skill_id": skills[name], "min_level": level} for name, level in queue.listed.items()]
        life = {**queue.life, "overflow_queue_id": queues[queue.flows_to]} if queue.flows_to else dict(queue.life)
        body = {"name": queue.name, "skills": listed, "routing": dict(queue.routing), "life": life, **PLAIN}
        queues[queue.name] = (await admin.rest("POST", "/queues", body))["queue_id"]
        await admin.rest("POST", "/entry-points", {"name": queue.name, "queue_id": queues[queue.name]})
    return queues, skills
