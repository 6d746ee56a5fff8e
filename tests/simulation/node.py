"""A control node of the simulation: the real core on lines that fail. Only what routes is run; people's streams, orders
and recordings have their own tests, and media is played by `people.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any, TypeVar

from server.core import Adapters, Core, _keep
from server.domain.agent import Agent
from server.domain.directory import DEFAULT_TENANT
from server.domain.events import Event
from server.domain.session import Session
from server.services.admin_ports import Directory
from server.services.ports import (
    Connection,
    Push,
    RouterStore,
    RouterStoreUnavailable,
    StepStore,
    StorageUnavailable,
    WorkerInfo,
)
from tests.helpers.world import NoHistory, NoWaits, TwinArchiver
from tests.simulation.network import Ether, Line, over
from tests.simulation.virtual_loop import Owner

T = TypeVar("T")
START_MS = 1_800_000_000_000
WORKERS = ("media-1", "media-2")


class NodeDied(Exception):
    """The node died before it answered."""


class SkewedClock:
    """Loop time as UTC epoch ms, ahead of the others by `skew_ms`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, skew_ms: int) -> None:
        self._loop = loop
        self._offset_ms = START_MS + skew_ms

    def now_ms(self) -> int:
        return self._offset_ms + round(self._loop.time() * 1000)


class Engine:
    """Media workers that take every session and are never asked for more."""

    def __init__(self, loads: dict[str, int]) -> None:
        self._loads = loads

    def workers(self) -> Sequence[WorkerInfo]:
        found = [WorkerInfo(worker_id, "1", load, 10_000) for worker_id, load in self._loads.items()]
        return sorted(found, key=lambda info: (info.load, info.worker_id))

    connected = workers


class Quiet:
    """Draws no messages."""

    def session_pushes(self, before: Session | None, after: Session, event: Event) -> Sequence[Push]:
        return ()

    def agent_pushes(self, before: Agent | None, after: Agent) -> Sequence[Push]:
        return ()


class Group:
    """What the core takes for a task group: its tasks are the node's."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def create_task(self, work: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        return self._node.spawn(work)


class Node(Owner):
    """One life of a control node. `tabs` are the agents whose newest tab lives here, as the sockets show."""

    def __init__(
        self,
        name: str,
        skew_ms: int,
        random: Random,
        steps: StepStore,
        router_store: RouterStore,
        directory: Directory,
        ether: Ether,
        on_call: Callable[[Node, str, tuple[Any, ...], Any], None],
    ) -> None:
        super().__init__()
        loop = asyncio.get_running_loop()
        self.name = name
        self.up = False
        self.dead = False
        self.tabs: set[str] = set()

        def called(call: str, args: tuple[Any, ...], reply: Any) -> None:
            on_call(self, call, args, reply)

        self.database = Line(loop, random, lambda: StorageUnavailable("simulated"), called)
        self.redis = Line(loop, random, lambda: RouterStoreUnavailable("simulated"), called)
        self._station = ether.station()
        self._steps = over(self.database, steps)
        adapters = Adapters(
            store=self._steps,
            router_store=over(self.redis, router_store),
            engine=Engine(dict.fromkeys(WORKERS, 0)),  # type: ignore[arg-type]  # what the core calls of it here
            directory=directory,
            history=NoHistory(),
            waits=NoWaits(),
            archiver=TwinArchiver(),
            clock=SkewedClock(loop, skew_ms),
            bus=self._station,
            node_name=name,
        )
        self.core = core = Core(adapters, Group(self), self.tabs.__contains__)  # type: ignore[arg-type]
        core.stepper._presenter = Quiet()
        core.stepper._listeners = [core.router, core.sweep]
        core.router.on_look = lambda view: None
        core.router.on_pause = lambda paused: None

    def seen(self) -> tuple[int, str, dict[str, int]] | None:
        """What this node's router knows of the index: the position that it has read up to, and the versions of what
        was there. None while it has to read all of it anew."""
        snapshot = self.core.router._snapshots.get(DEFAULT_TENANT)
        if not self.up or snapshot is None:
            return None
        versions = {session_id: wait.entry.version for session_id, wait in snapshot._waits.items()}
        versions |= {agent_id: desk.entry.version for agent_id, desk in snapshot._desks.items()}
        return snapshot.position, snapshot.proof, versions

    def begin(self) -> None:
        self.spawn(self._live())

    def kill(self) -> None:
        """From one moment to the next; what it has sent arrives."""
        if self.dead:
            return
        self.dead = self.database.dead = self.redis.dead = True
        self.up = False
        self._station.die()
        self.end()

    async def ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Something that somebody outside wants of this node. Raises NodeDied, and what the work raises."""
        if self.dead:
            work.close()
            raise NodeDied
        task = self.spawn(work)
        await asyncio.wait({task})
        if task.cancelled():
            raise NodeDied
        return task.result()

    async def connect(self, tenant: str, user_id: str, tab_id: str) -> None:
        """An agent's tab opens its socket here."""
        self.tabs.add(user_id)
        await self._steps.connect(tenant, user_id, Connection(self.core.nodes.node_id, tab_id))
        await self.core.presence.settle(tenant, user_id)

    async def disconnect(self, tenant: str, user_id: str, tab_id: str) -> None:
        """The socket is closed."""
        self.tabs.discard(user_id)
        await self._steps.disconnect(user_id, Connection(self.core.nodes.node_id, tab_id))
        await self.core.presence.settle(tenant, user_id)

    async def _live(self) -> None:
        core = self.core
        while True:
            try:
                await core.nodes.start()
                await core.presence.look()
                break
            except StorageUnavailable:
                await asyncio.sleep(0.5)
        await self._station.start(core._on_notice)
        self.up = True
        runs = (core.nodes.run, core.router.run, core.sweep.run, core.presence.run)
        await asyncio.gather(*(_keep(run) for run in runs))
