"""What routing costs as the center grows -> bench/out/router.json; `make bench-router`.

Centers of 1,000, 10,000 and 50,000 agents who are all free, each with 5 of the skills, in 10, 100 and 500 queues that
ask for one skill each at level 3. Redis and PostgreSQL are processes of the benchmark's own, on the same cores.

- A claim is: choose in the snapshot, reserve in Redis, release, and take in that both changed.
- An assignment is all that the product does for an offer: the router with its reasons, the claim, the session's step
  with the agent's, the event, the messages and the deadlines in PostgreSQL, and the new words in Redis.
- PostgreSQL has vacuumed and checkpointed what it was filled with, as of a database that grew over months.
- Enqueue to offer: sessions begin to wait on a node of its own (other_node.py), at half the rate of the assignments,
  and at half of what is wanted of it; from that step's commit there to the offer's commit here. That node has just
  started, and makes its connections within the first second, which is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvloop
from redis.asyncio import Redis

from server.clock import MonotonicClock
from server.domain import agent as ag
from server.domain import events as ev
from server.domain.directory import AgentProfile, QueueConfig, Role
from server.domain.router_state import Claim, PresentAgent, WaitingSession
from server.domain.session import Session
from server.domain.session_step import step
from server.ids import new_id
from server.routing.redis_bus import RedisBus
from server.routing.redis_connection import connect_bus
from server.routing.redis_store import RedisRouterStore
from server.routing.router import BATCH, Router
from server.routing.snapshot import Snapshot
from server.services.ports import AgentSave, Commit, Save, SessionSave
from server.services.stepper import Stepper
from server.signaling.views import WirePresenter
from server.storage.postgres_steps import PostgresSteps
from tests.bench.report import Figure, at_least, at_most, percentile, report
from tests.helpers.postgres import postgres_server
from tests.helpers.redis_server import RedisServer, redis_server

TENANT = "default"
CENTERS = {1_000: 10, 10_000: 100, 50_000: 500}  # agents -> queues
LARGEST, SMALLEST = max(CENTERS), min(CENTERS)
SKILLS_EACH = 5
WAITING = 2_000  # at once, while claims are counted
CLAIM_S = 2.0
ROUNDS = 5  # of each center, in turn: the machine is noisy
ASSIGNED = 6_000  # or as many as there are agents for
HALF_RATE_S = 16.0
WARM_UP_S = 1.0
WANTED = 400  # assignments a second: the peak of 50,000 seats is about 280
HALF_WANTED = WANTED / 2
REBUILT_WAITING = 5_000
SAVED_AT_ONCE = 250
SDP = "v=0\r\n" + "a=candidate:1 1 udp 2130706431 10.0.0.1 40000 typ host\r\n" * 20  # about 1 kB, as browsers send it


class Center:
    """Queues and people; the same for the same size."""

    def __init__(self, agents: int) -> None:
        queues = CENTERS[agents]
        self.random = random.Random(agents)
        skills = [f"skl_{number}" for number in range(queues)]
        self.queue_list = tuple(
            QueueConfig(f"que_{n}", TENANT, f"Queue {n}", ((skill, 3),), 20, 30, True, True, 20, True)
            for n, skill in enumerate(skills)
        )
        self.people = tuple(
            AgentProfile(f"usr_{n}", TENANT, f"Agent {n}", True, Role.AGENT, tuple(self._levels(skills)))
            for n in range(agents)
        )
        self.now = time.time_ns() // 1_000_000

    def _levels(self, skills: Sequence[str]) -> list[tuple[str, int]]:
        return [(skill, self.random.randint(1, 10)) for skill in self.random.sample(skills, SKILLS_EACH)]

    def present(self) -> list[PresentAgent]:
        return [
            PresentAgent(p.user_id, "ready", ("voice",), self.now - n, version=3) for n, p in enumerate(self.people)
        ]

    def waiting(self, number: int) -> WaitingSession:
        queue = self.random.choice(self.queue_list)
        return WaitingSession(f"ses_{number}", queue.queue_id, self.now + number, self.now + number, version=2)

    # --- as a Directory ---

    def forget(self, tenant: str) -> None:
        """Nothing changes."""

    async def queues(self, tenant: str) -> tuple[QueueConfig, ...]:
        return self.queue_list

    async def agents(self, tenant: str) -> tuple[AgentProfile, ...]:
        return self.people


@asynccontextmanager
async def connected(server: RedisServer) -> AsyncIterator[Redis]:
    """A client of a server that holds nothing."""
    server.flush()
    redis = connect_bus(server.url)
    try:
        yield redis
    finally:
        await redis.aclose()


def used_mb(server: RedisServer) -> float:
    line = next(line for line in server.command("INFO", "memory").splitlines() if line.startswith("used_memory:"))
    return int(line.removeprefix("used_memory:")) / 2**20


# --- claims ------------------------------------------------------------------------------------------


class Claims:
    """One center under claims."""

    def __init__(self, center: Center, store: RedisRouterStore) -> None:
        self.center, self.store = center, store
        self.snapshot = Snapshot(TENANT)
        self.next_number = 0

    async def prepare(self) -> None:
        self.snapshot.set_up(self.center.queue_list, self.center.people, self.center.now)
        sessions = [self.center.waiting(number) for number in range(WAITING)]
        self.next_number = WAITING
        await self.store.replace_all(TENANT, await self.store.mark(TENANT), [*self.center.present(), *sessions])
        state = await self.store.state(TENANT, self.center.now)
        self.snapshot.replace((*state.waiting, *state.agents), state.position, state.proof, self.center.now)

    async def per_second(self, seconds: float) -> float:
        """Claims granted in a second. Whoever was matched goes to the end: the session begins anew, the agent is idle
        from now on."""
        granted = 0
        began = time.perf_counter()
        while (took := time.perf_counter() - began) < seconds:
            now = self.center.now + self.next_number + round(took * 1000)
            matches = self.snapshot.choose(now, BATCH)
            claims = [Claim(m.session_id, m.agent_id, new_id("clm"), now + 5_000) for m in matches]
            answers = await self.store.claim(TENANT, claims, now)
            assert all(answers), "nobody else claims here"
            await self.store.release(TENANT, [claim.request_id for claim in claims])
            for match in matches:
                session, agent = (
                    self.snapshot._waits[match.session_id].entry,
                    self.snapshot._desks[match.agent_id].entry,
                )
                self.next_number += 1
                self.snapshot.take(replace(session, entered_at=now, arrived_at=now + self.next_number), now)
                self.snapshot.take(replace(agent, idle_since=now + self.next_number), now)
                self.snapshot.settle(match, now)
            granted += len(matches)
            assert matches, "somebody waits and everybody is free"
        return granted / took


async def measure_claims(server: RedisServer) -> tuple[dict[int, list[float]], float]:
    """Claims a second of each center, in turns; and what the largest one's index takes in Redis, MB."""
    rates: dict[int, list[float]] = {agents: [] for agents in CENTERS}
    memory = 0.0
    for _ in range(ROUNDS):
        for agents in CENTERS:
            async with connected(server) as redis:
                empty = used_mb(server)
                claims = Claims(Center(agents), RedisRouterStore(redis))
                await claims.prepare()
                if agents == LARGEST:
                    memory = used_mb(server) - empty
                gc.collect()
                gc.freeze()  # as a server does once it is up; a full collection would count as routing
                await claims.per_second(0.3)
                rates[agents].append(await claims.per_second(CLAIM_S))
                gc.unfreeze()
                print(f"{agents:6} agents: {rates[agents][-1]:7.0f} claims/s")
    return rates, memory


# --- assignments -------------------------------------------------------------------------------------


def waiting_session(center: Center, now: int) -> tuple[Session, tuple[tuple[int, ev.Event], ...]]:
    """A session that is about to wait: its customer has called and not offered a leg yet."""
    session_id = new_id("ses")
    queue = center.random.choice(center.queue_list)
    rules = ev.QueueRules(queue.queue_id, queue.name, 20, 30, True, True)
    arrived = ev.CallArrived(session_id, TENANT, "ept_1", rules, ev.Customer("Li Wei"), "media-1")
    return step(None, arrived, now), ((1, arrived),)


async def fill(store: PostgresSteps, center: Center, sessions: int) -> list[Session]:
    """Rows of all agents, ready and live, and of sessions that are about to wait."""
    now = center.now
    saves: list[AgentSave] = []
    for profile in center.people:
        created = ag.AgentCreated(profile.user_id, TENANT)
        told: list[ag.AgentEvent] = [created, ag.WentLive(), ag.StateChosen(ag.Chosen.READY)]
        agent: ag.Agent | None = None
        for event in told:
            agent = ag.step_agent(agent, event, now)
        assert agent is not None
        saves.append(AgentSave(None, agent, tuple(enumerate(told, 1))))
    made = [waiting_session(center, now) for _ in range(sessions)]
    for at in range(0, len(saves), SAVED_AT_ONCE):
        await store.save(Save(TENANT, now, agents=tuple(saves[at : at + SAVED_AT_ONCE])))
    for at in range(0, len(made), SAVED_AT_ONCE):
        rows = tuple(SessionSave(None, session, told, ()) for session, told in made[at : at + SAVED_AT_ONCE])
        await store.save(Save(TENANT, now, sessions=rows))
    for settle in ("VACUUM (ANALYZE)", "CHECKPOINT"):  # what a database that grew over months has behind it
        await store._connections.fetch(settle)
    return [session for session, _ in made]


class Offers:
    """`CommitListener`: when sessions began to wait here, and when they were offered here; s, by session id."""

    def __init__(self) -> None:
        self.queued: dict[str, float] = {}
        self.offered: dict[str, float] = {}

    def on_commit(self, commit: Commit) -> None:
        at = time.perf_counter()
        for save in commit.sessions:
            if any(isinstance(event, ev.LegOffered) for _, event in save.events):
                self.queued[save.after.id] = at
            if any(isinstance(event, ev.AgentOffered) for _, event in save.events):
                self.offered[save.after.id] = at


class Alone:
    """`Membership` of a node that is alone."""

    node_id = "nod_bench"

    def mine(self, key: str) -> bool:
        return True


def enqueue(customer_leg_id: str) -> ev.LegOffered:
    return ev.LegOffered(customer_leg_id, 1, SDP)


@asynccontextmanager
async def node(server: RedisServer, url: str, center: Center, nodes: Alone) -> AsyncIterator[Node]:
    """What routes on a node, over a new index and what is in the database."""
    store = await PostgresSteps.open(url)
    try:
        async with connected(server) as redis:
            clock, bus = MonotonicClock(), RedisBus(redis)
            stepper = Stepper(store, WirePresenter(), clock)
            router = Router(RedisRouterStore(redis), store, center, clock, nodes, bus, stepper.apply)  # type: ignore[arg-type]  # as far as it reads
            stepper.listen(router)
            yield Node(store, stepper, router, bus)
            gc.unfreeze()
    finally:
        await store.close()


@dataclass
class Node:
    store: PostgresSteps
    stepper: Stepper
    router: Router
    bus: RedisBus

    async def enqueue(self, sessions: Sequence[Session]) -> None:
        """They begin to wait."""
        for at in range(0, len(sessions), 32):
            some = sessions[at : at + 32]
            await asyncio.gather(*(self.stepper.apply(s.id, enqueue(s.customer_leg.id)) for s in some))


async def measure_assignments(
    server: RedisServer, url: str, agents: int
) -> tuple[float, tuple[list[float], list[float]]]:
    """Assignments a second; ms from waiting to offered at half that rate, and at HALF_WANTED."""
    center = Center(agents)
    async with node(server, url, center, Alone()) as here:
        assigned = min(ASSIGNED, agents // 2)
        arriving = round(HALF_RATE_S * 700) if agents == LARGEST else 0  # at a rate; more than there will be
        sessions = await fill(here.store, center, assigned + 2 * arriving)
        offers, router = Offers(), here.router
        here.stepper.listen(offers)
        await router.look()
        first, rest = sessions[:assigned], sessions[assigned:]
        await here.enqueue(first)
        gc.collect()
        gc.freeze()
        began = time.perf_counter()
        while len(offers.offered) < assigned:
            before = len(offers.offered)
            await router.look()
            assert len(offers.offered) > before, "somebody waits and somebody is free"
        per_second = assigned / (time.perf_counter() - began)
        latency: tuple[list[float], list[float]] = ([], [])
        if arriving:
            await here.bus.start(router.on_notice)
            other = f"{url}\n{server.url}\n{agents}"
            for rate, found in zip((per_second / 2, HALF_WANTED), latency, strict=True):
                coming, rest = rest[:arriving], rest[arriving:]
                found += await _arrive(router, offers, other, [s.id for s in coming], rate)
            await here.bus.stop()
        return per_second, latency


async def _arrive(router: Router, offers: Offers, other: str, sessions: list[str], rate: float) -> list[float]:
    """Sessions begin to wait at a Poisson rate on another node; ms from there to their offers, when all have one."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.other_node", *other.split("\n"),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**26,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    while await child.stdout.readline() != b"ready\n":  # it logs, too
        assert child.returncode is None, "the other node has ended"
    routing = asyncio.create_task(router.run())
    child.stdin.write(json.dumps({"sessions": sessions, "rate": rate, "seconds": HALF_RATE_S}).encode() + b"\n")
    queued = json.loads((await child.communicate())[0].splitlines()[-1])
    async with asyncio.timeout(30):
        while not queued.keys() <= offers.offered.keys():  # noqa: ASYNC110  # a benchmark looks
            await asyncio.sleep(0.05)
    routing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await routing
    counts_from = min(queued.values()) + WARM_UP_S
    return [(offers.offered[session_id] - at) * 1000 for session_id, at in queued.items() if at >= counts_from]


async def measure_rebuild(server: RedisServer, url: str, agents: int) -> float:
    """Seconds from a flush of Redis until the index is whole again, with REBUILT_WAITING in the old order."""
    center = Center(agents)
    async with node(server, url, center, Nobody()) as here:  # it routes nothing
        await here.enqueue(await fill(here.store, center, REBUILT_WAITING))
        await here.router._write()
        await here.router._snapshot(TENANT)
        before = (await here.router._store.state(TENANT, 0)).waiting
        assert len(before) == REBUILT_WAITING
        gc.collect()
        gc.freeze()
        server.flush()
        began = time.perf_counter()
        snapshot = await here.router._snapshot(TENANT)
        took = time.perf_counter() - began
        after = (await here.router._store.state(TENANT, 0)).waiting
        assert after == before, "the same sessions in the same order"
        assert sum(len(look.waiting) for look in snapshot.queues().values()) == len(before)
        return took


class Nobody(Alone):
    def mine(self, key: str) -> bool:
        return False


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        redis_server(Path(folder)) as redis,
        postgres_server() as postgres,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        rates, memory = runner.run(measure_claims(redis))
        assigned: dict[int, float] = {}
        latency: dict[int, tuple[list[float], list[float]]] = {}
        rebuilt: dict[int, float] = {}
        for agents in CENTERS:
            url = runner.run(postgres.database())
            assigned[agents], latency[agents] = runner.run(measure_assignments(redis, url, agents))
            rebuilt[agents] = runner.run(measure_rebuild(redis, runner.run(postgres.database()), agents))
            print(f"{agents:6} agents: {assigned[agents]:5.0f} assignments/s, rebuilt in {rebuilt[agents]:.2f} s")
    ratio = statistics.median(small / large for small, large in zip(rates[SMALLEST], rates[LARGEST], strict=True))
    half, fixed = latency[LARGEST]
    figures = [
        *(
            Figure(f"claims_per_second_{n}_agents", round(statistics.median(rates[n])), "/s", None, None)
            for n in CENTERS
        ),
        at_least("claims_per_second_50000_agents", statistics.median(rates[LARGEST]), "/s", 3_000),
        at_most("claim_cost_ratio_50000_to_1000", ratio, "", 1.5),
        *(Figure(f"assignments_per_second_{n}_agents", round(assigned[n]), "/s", None, None) for n in CENTERS),
        at_least("assignments_per_second_50000_agents", assigned[LARGEST], "/s", WANTED),
        Figure("enqueue_to_offer_p50_ms_at_half_rate", round(percentile(half, 0.5), 1), "ms", None, None),
        at_most("enqueue_to_offer_p99_ms_at_half_rate", percentile(half, 0.99), "ms", 50),
        at_most("enqueue_to_offer_p99_ms_at_200_per_second", percentile(fixed, 0.99), "ms", 50),
        Figure("store_memory_mb_50000_agents", round(memory, 1), "MB", None, None),
        *(Figure(f"rebuild_s_5000_waiting_{n}_agents", round(rebuilt[n], 2), "s", None, None) for n in CENTERS),
        at_most("rebuild_s_5000_waiting", rebuilt[LARGEST], "s", 3.0),
    ]
    named = {figure.name: figure for figure in figures}  # the largest center's figures have a target
    report("router", list(named.values()), {f"claims {n}": rates[n] for n in CENTERS})


if __name__ == "__main__":
    main()
