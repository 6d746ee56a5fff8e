"""One universe: nodes, people and chaos from one seed, until everybody has gone home.

`run(seed)` gives what it came to; a seed gives the same universe each time, in any process.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import Any
from unittest.mock import patch

import structlog

import server.ids
from server.domain.directory import AgentProfile, EntryPoint, QueueConfig, Role
from server.domain.queue_life import QueueLife
from server.domain.queue_routing import QueueRouting, RelaxStep, Strategy
from server.domain.requirements import SkillLevels
from server.routing.memory_store import MemoryRouterStore
from server.services.ports import Save
from tests.helpers.world import FixedDirectory, queue
from tests.simulation.network import Ether, Weather, at_once
from tests.simulation.node import START_MS, WORKERS, Node
from tests.simulation.people import TENANT, People
from tests.simulation.store import MemorySteps
from tests.simulation.virtual_loop import Owner, VirtualLoop
from tests.simulation.watch import LEVEL, RELAX_AFTER_S, RELAXED_LEVEL, SAMPLE_S, Violation, Watch

SESSIONS = 100
NODES = 2, 3, 4
AGENTS = 8, 14
FAULTS_S = 60.0
FAREWELL_S = 3.0  # in the end a node dies right after it has freed an agent
KEEP_PLACE_S = 20  # who is away for longer has lost the place
PARK_LIMIT_S = 15
LAST_FATE_S = FAULTS_S - 8  # a line is out of order for 6 s
HEAL_S = 10.0  # a dead node is noticed after 5 s, its claims last as long
REBUILD_S = 31.0  # what a store lost without a trace comes back with the next rebuild
CALM_S = 40.0
HOME_S = 400  # by then everybody has to be gone
SKEW_MS = 250
BACK_AFTER_S = (0.3, 2.0, 7.0)
LONG_S = 25.0  # how long the last node that dies stays away, so that others have to notice
CHAOS_EVERY_S = 4.0
RINGS_ALL = 0.2  # of the queues


@dataclass(frozen=True, slots=True)
class Outcome:
    """`fault` None: every invariant held. `digest` is of all that was committed, in its order; `cpu_s`
    is what it cost this processor."""

    seed: int
    fault: str | None
    sessions: int
    offers: int
    commits: int
    steps: int
    virtual_s: float
    cpu_s: float
    digest: str


class Universe:
    """Made and run within its loop."""

    def __init__(self, seed: int, loop: VirtualLoop, random: Random) -> None:
        self.random = random
        self._loop = loop
        self._digest = hashlib.sha256()
        self._over: asyncio.Future[None] = loop.create_future()
        self._store = MemorySteps(self._now_ms)
        self._index = MemoryRouterStore()
        self._ether = Ether(loop, random)
        self._directory = _directory(random, Random(f"rings {seed}"))
        self._silent_losses = random.random() < 0.3
        self._skews = [random.randint(-SKEW_MS, SKEW_MS) for _ in range(random.choice(NODES))]
        self._nodes: list[Node] = []
        self._long_away = False
        self._armed: str | None = None  # the next call that kills the node which made it
        self.watch = Watch(
            loop.time,
            self._now_ms,
            lambda: at_once(self._index.state(TENANT, self._now_ms())),
            {q.queue_id: q for q in self._directory.queue_list},
            {p.user_id: p for p in self._directory.profiles},
        )
        self._store.on_saved = self._on_saved
        self._chaos = Owner()
        agents = [profile.user_id for profile in self._directory.profiles]
        entries = [entry.entry_point_id for entry in self._directory.entries]
        queues = [queue.queue_id for queue in self._directory.queue_list]
        self.people = People(self, agents, entries, queues, Random(f"away {seed}"), Random(f"hands {seed}"))
        self.people.on_error = self.fail

    def node(self) -> Node | None:
        up = [node for node in self._nodes if node.up]
        return self.random.choice(up) if up else None

    def fail(self, error: BaseException) -> None:
        if not self._over.done():
            self._over.set_exception(error)

    async def live(self) -> None:
        for number in range(len(self._skews)):
            self._start_node(number)
        self.people.begin_shift()
        for work in (self._arrivals(), self._fates(), self._samples(), self._story()):
            self._chaos.spawn(self._guarded(work))
        await self._over

    def end(self) -> None:
        for node in self._nodes:
            node.kill()
        self.people.end()
        self._chaos.end()

    def outcome(self, seed: int, fault: str | None, cpu_s: float) -> Outcome:
        watch, loop = self.watch, self._loop
        return Outcome(
            seed, fault, len(watch.sessions), watch.offers, watch.commits, loop.steps, loop.time(), cpu_s,
            self._digest.hexdigest()[:16],
        )  # fmt: skip

    # --- the course of things ---

    async def _story(self) -> None:
        await asyncio.sleep(FAULTS_S - FAREWELL_S)
        self._long_away = True
        await self._strike("crash_when_freed")
        await asyncio.sleep(FAREWELL_S)
        self._armed = None
        self._make_peace()
        await asyncio.sleep(REBUILD_S + HEAL_S if self._silent_losses else HEAL_S)
        self.watch.settled, self.watch.slack_s = True, 1.0
        await asyncio.sleep(12)
        self._flush()
        self.watch.be_lenient(2.5)
        await asyncio.sleep(CALM_S)
        for _ in range(HOME_S):
            if not self.gone_home:
                await asyncio.sleep(1)
        await asyncio.sleep(4)
        self.watch.nothing_left(self.people.confirmed)
        if not self._over.done():
            self._over.set_result(None)

    @property
    def gone_home(self) -> bool:
        """Every session is over, its wrap-up, too."""
        sessions = self.watch.sessions.values()
        return len(self.people.confirmed) >= SESSIONS and all(s.done for s in sessions)

    async def _arrivals(self) -> None:
        numbers = list(range(SESSIONS))
        self.random.shuffle(numbers)  # ids are in no order of time
        pause_s = (FAULTS_S + HEAL_S + CALM_S + (REBUILD_S if self._silent_losses else 0)) / SESSIONS
        for number in numbers:
            self.people.call(f"ses_{number:04}")
            await asyncio.sleep(self.random.expovariate(1 / pause_s))

    async def _samples(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_S)
            self.watch.sample()
            self.people.take_over(self._store.connections)
            for node in self._nodes:
                seen = node.seen()
                if seen is not None:
                    self.watch.on_snapshot(node.name, *seen)

    # --- chaos ---

    async def _fates(self) -> None:
        while self._loop.time() < LAST_FATE_S:
            await self._strike(self.random.choice(_FATES))
            await asyncio.sleep(self.random.expovariate(1 / CHAOS_EVERY_S))

    async def _strike(self, fate: str) -> None:
        random = self.random
        number = random.randrange(len(self._nodes))
        node = self._nodes[number]
        if fate == "crash":
            self._kill(node)
        elif fate == "crash_at_claim":
            self._armed = "claim"
        elif fate == "crash_at_save":
            self._armed = "save"
        elif fate == "crash_when_freed":
            self._armed = "freed"
        elif fate == "flush":
            self._flush()
        elif fate == "forget" and self._silent_losses:
            kept = deepcopy(self._index.__dict__)
            self._chaos.spawn(self._guarded(self._go_back(kept)))
        elif fate == "worker":
            lost, instead = random.sample(WORKERS, 2)
            await self.people.lose_worker(lost, instead)
        elif fate in _WEATHERS:
            line = node.redis if random.random() < 0.5 else node.database
            self._chaos.spawn(self._guarded(self._storm(line, _WEATHERS[fate])))
        elif fate == "ether":
            self._ether.lost, self._ether.doubled, self._ether.late_s = 0.2, 0.2, 0.2

    async def _storm(self, line: Any, weather: Weather) -> None:
        before, line.weather = line.weather, weather
        await asyncio.sleep(self.random.uniform(0.3, 6))
        line.weather = before

    async def _go_back(self, kept: dict[str, Any]) -> None:
        """A failover to a replica that has not heard the newest words."""
        await asyncio.sleep(self.random.uniform(0.05, 1))
        self._index.__dict__.update(kept)
        self.watch.index_lost()

    def _flush(self) -> None:
        self._index.flush()
        self.watch.index_lost()

    def _make_peace(self) -> None:
        self._ether.lost = self._ether.doubled = 0.0
        self._ether.late_s = 0.002
        for node in self._nodes:
            node.redis.weather = node.database.weather = Weather()

    def _kill(self, node: Node) -> None:
        if node.dead:
            return
        node.kill()
        self.people.node_died(node)
        self._chaos.spawn(self._guarded(self._bring_back(self._nodes.index(node))))

    async def _bring_back(self, number: int) -> None:
        away_s = LONG_S if self._long_away else self.random.choice(BACK_AFTER_S)
        await asyncio.sleep(away_s * (0.5 + self.random.random()))
        self._start_node(number)

    def _start_node(self, number: int) -> None:
        node = Node(
            f"node{number}", self._skews[number], self.random, self._store, self._index, self._directory,
            self._ether, self._on_call,
        )  # fmt: skip
        if number < len(self._nodes):
            self._nodes[number] = node
        else:
            self._nodes.append(node)
        node.begin()

    # --- what is seen ---

    def _on_saved(self, save: Save) -> None:
        try:
            self.watch.on_saved(save)
        except Violation as violation:
            self.fail(violation)
            return
        self.people.on_saved(save)
        for session in save.sessions:
            events = [type(event).__name__ for _, event in session.events]
            self._digest.update(f"{save.now} {session.after.id} {session.after.version} {events}".encode())
        for agent in save.agents:
            self._digest.update(f"{save.now} {agent.after.user_id} {agent.after.version}".encode())

    def _on_call(self, node: Node, name: str, args: tuple[Any, ...], reply: Any) -> None:
        """A node's word has reached a store."""
        try:
            if name == "claim":
                self.watch.on_claims(args[1], reply, args[2])
            elif name == "release":
                self.watch.on_release(args[1])
            elif name == "write":
                self.watch.on_words(args[1])
        except Violation as violation:
            self.fail(violation)
        freed = self._armed == "freed" and name == "save" and any(a.after.available for a in args[0].agents)
        if freed or self._armed == name:
            self._armed = None
            self._kill(node)

    def _now_ms(self) -> int:
        return START_MS + round(self._loop.time() * 1000)

    async def _guarded(self, work: Any) -> None:
        try:
            await work
        except Exception as error:
            self.fail(error)


_WEATHERS = {
    "cut": Weather(cut=True),
    "slow": Weather(latency_s=0.12),
    "lossy": Weather(latency_s=0.01, lost_requests=0.05, lost_replies=0.1),
}
_FATES = (
    "crash",
    "crash_at_claim",
    "crash_at_save",
    "flush",
    "forget",
    "worker",
    "worker",
    "cut",
    "slow",
    "lossy",
    "ether",
)


def _directory(random: Random, rings: Random) -> FixedDirectory:
    """Three queues; some people can serve all of them, each queue has somebody. `rings` says which ones ring all, apart
    from all other chance: a seed whose queues do not is the universe that it was before any could."""
    skills = ("skl_a", "skl_b", "skl_c")
    queues: list[QueueConfig] = [
        queue(f"que_{skill[-1]}", skill, skill, skills=((skill, LEVEL),), ring_timeout_s=6, wrap_up_s=4,
              disposition_required=False, record=False, routing=_routing(random, rings, skill),
              life=QueueLife(keep_place_s=KEEP_PLACE_S, park_limit_s=PARK_LIMIT_S))
        for skill in skills
    ]  # fmt: skip
    profiles = []
    for number in range(random.randint(*AGENTS)):
        own = {skills[number % 3]: 5} | {skill: random.randint(1, 9) for skill in skills if random.random() < 0.4}
        own[skills[number % 3]] = max(LEVEL, own[skills[number % 3]])
        name = f"usr_{number:02}"
        profiles.append(AgentProfile(name, TENANT, name, True, Role.AGENT, tuple(sorted(own.items()))))
    entries = [EntryPoint(f"ept_{q.queue_id[-1]}", TENANT, q.queue_id, q.queue_id, q.name, (), True) for q in queues]
    return FixedDirectory(queues, profiles, entries)


def _routing(random: Random, rings: Random, skill: str) -> QueueRouting:
    """Any strategy; who waits for long is served by anybody with a little of the skill."""
    strategy = random.choice([one for one in Strategy if one is not Strategy.RING_ALL])
    return QueueRouting(
        strategy=Strategy.RING_ALL if rings.random() < RINGS_ALL else strategy,
        steps=(RelaxStep(RELAX_AFTER_S, SkillLevels(skill, RELAXED_LEVEL)),),
        weight=random.choice((5, 10)),
        grow_s=random.choice((0, 30)),
    )


# --- running it --------------------------------------------------------------------------------------


class Mistakes:
    """What the product logs as an exception is a fault that it did not expect."""

    def __init__(self) -> None:
        self.first: BaseException | None = None

    def __call__(self, logger: object, method: str, event: Any) -> Any:
        error = sys.exc_info()[1]
        if event.get("exc_info") and error is not None and self.first is None:
            self.first = error
        raise structlog.DropEvent


@contextmanager
def determined(random: Random) -> Iterator[Mistakes]:
    """Ids come from the seed, logs go nowhere."""
    mistakes, logs = Mistakes(), structlog.get_config()
    chance, clock = types.SimpleNamespace(randbits=random.getrandbits), types.SimpleNamespace(time=lambda: 1.8e9)
    structlog.configure(
        processors=[mistakes], wrapper_class=structlog.make_filtering_bound_logger(40), cache_logger_on_first_use=False
    )
    try:
        with patch.object(server.ids, "secrets", chance), patch.object(server.ids, "time", clock):
            yield mistakes
    finally:
        structlog.configure(**logs)


def run(seed: int) -> Outcome:
    began = time.process_time()
    random = Random(seed)
    loop = VirtualLoop(random)
    loop.set_exception_handler(lambda loop, context: None)  # tasks of dead nodes are nobody's to wait for
    with determined(random) as mistakes:
        try:
            universe, fault = loop.run_until_complete(_run(seed, loop, random))
        finally:
            loop.close()
        if fault is None and mistakes.first is not None:
            fault = f"{type(mistakes.first).__name__}: {mistakes.first}"
        return universe.outcome(seed, fault, time.process_time() - began)


async def _run(seed: int, loop: VirtualLoop, random: Random) -> tuple[Universe, str | None]:
    universe, fault = Universe(seed, loop, random), None
    try:
        await universe.live()
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
    universe.end()
    others = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    return universe, fault
