"""The part of a control node that decides: services and router, wired to each other and to their ports.

`app.py` gives it real adapters; the story tests give it twins. It starts nothing by itself: `run` does.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from server.domain.administration import KINDS, User
from server.domain.events import AgentOffered
from server.domain.session import Session
from server.routing.router import Router
from server.services.admin_ports import Directory, History, WaitHistory
from server.services.agents import AgentService
from server.services.arrivals import Arrivals
from server.services.call_control import CallControl
from server.services.deadline_sweep import DeadlineSweep
from server.services.dispatch import Dispatcher
from server.services.exits import Exits, ExitService
from server.services.media_link import MediaLink
from server.services.nodes import FollowingClock, Nodes
from server.services.ports import Archiver, Bus, Clock, MediaEngine, Notice, RouterStore, StepStore
from server.services.presence import IsLive, Presence
from server.services.recordings import RecordingService
from server.services.sessions import SessionService
from server.services.stepper import Stepper
from server.services.waits import WaitTimes
from server.signaling.hub import Hub
from server.signaling.live import LiveViews
from server.signaling.parked import ParkedViews
from server.signaling.views import WirePresenter

log = structlog.get_logger()
PRUNE_S = 600.0
LARGE_CENTER = 5_000  # agents and waiting sessions
AGAIN_S = 1.0  # a loop that failed: the database is restarting, say
STREAM_KEEP_MS = 24 * 3_600_000  # a tab that was away longer asks for a fresh snapshot


@dataclass(frozen=True, slots=True)
class Adapters:
    """What the core stands on."""

    store: StepStore
    router_store: RouterStore
    engine: MediaEngine
    directory: Directory
    history: History
    waits: WaitHistory
    archiver: Archiver
    clock: Clock
    bus: Bus
    follow: FollowingClock | None = None  # the clock, where it is to go by the database's
    node_name: str = "sole"
    exits: Exits = field(default_factory=Exits)


class Core:
    """Services, router and hub of one control node; `group` is the parent of every task they start."""

    def __init__(self, adapters: Adapters, group: asyncio.TaskGroup, is_live: IsLive | None = None) -> None:
        """`is_live`: who tells whether an agent's tab lives; by default the hub."""
        a = adapters
        self._adapters = a
        self.nodes = Nodes(a.store, a.clock, a.node_name, a.follow, self._reached_workers)
        self.stepper = Stepper(a.store, WirePresenter(), a.clock)
        self.link = MediaLink(a.store, self.stepper, a.engine, a.clock, self.nodes.mine, self.nodes.others_reach)
        arrivals = Arrivals(a.store, a.directory, a.clock, a.exits)
        self.sessions = SessionService(a.store, self.stepper, a.directory, self.link, a.clock, arrivals)
        self.calls = CallControl(a.store, self.stepper, a.directory, arrivals, a.clock)
        self.exits = ExitService(a.exits, a.store, self.stepper, self.link, group)
        self.agents = AgentService(a.store, self.stepper, a.directory)
        self.recordings = RecordingService(a.store, self.stepper, a.archiver, a.history, a.clock, self.nodes, group)
        self.dispatcher = Dispatcher(a.store, self.stepper, a.engine, a.clock, self.nodes, group)
        self.sweep = DeadlineSweep(a.store, self.stepper, a.clock, self.nodes)
        self.router = Router(a.router_store, a.store, a.directory, a.clock, self.nodes, a.bus, self._assign)
        self.hub = Hub(a.store, a.clock, self.nodes, a.bus, group)
        is_live = is_live or self.hub.is_live
        self.presence = Presence(a.store, self.stepper, self.sessions, a.clock, self.nodes, is_live)
        self.waits = WaitTimes(a.waits, self.stepper, a.clock)
        self.live_views = LiveViews(self.hub, self.waits)
        self.parked_views = ParkedViews(self.hub, a.store, a.directory)
        self.stepper.on_doubt = self.nodes.on_loss = self.router.doubt
        self.router.on_look = self.live_views.on_look
        self.router.on_pause = self.live_views.on_pause
        self.router.on_renewed = _settle
        # Orders leave first, then people are told: audio is what a caller waits for.
        for listener in (
            self.dispatcher,
            self.hub,
            self.router,
            self.sweep,
            self.recordings,
            self.exits,
            self.parked_views,
        ):
            self.stepper.listen(listener)

    async def start(self) -> None:
        """Join the other nodes, take up what an earlier process left, and connect the media workers."""
        await self.nodes.start()
        await self._adapters.bus.start(self._on_notice)
        await self.presence.look()
        await self._adapters.engine.start(self.link)
        await self.dispatcher.resume()

    async def directory_changed(self, tenant: str, kind: str, record_id: str) -> None:
        """An admin saved something here."""
        self._adapters.directory.forget(tenant)
        self._adapters.bus.publish(Notice(directory=(tenant,)))
        self.router.wake()
        if kind == KINDS[User]:
            await self.agents.take_capacity(tenant, record_id)

    async def run(self) -> None:
        """Everything that goes on for ever. A loop that fails is logged and begun again; the others go on."""
        runs = (
            self.nodes.run,
            self.router.run,
            self.dispatcher.run,
            self.sweep.run,
            self.hub.run,
            self.presence.run,
            self.link.run,
            self.recordings.run,
            self.exits.run,
            self.waits.run,
            self.waits.keep,
            self.parked_views.run,
            self._prune,
        )
        await asyncio.gather(*(_keep(run) for run in runs))

    def _reached_workers(self) -> list[str]:
        return [worker.worker_id for worker in self._adapters.engine.connected()]

    def _on_notice(self, notice: Notice) -> None:
        self.hub.on_notice(notice)
        for tenant in notice.directory:
            self._adapters.directory.forget(tenant)
        if notice.directory:
            self.router.wake()
        self.router.on_notice(notice)

    async def _assign(self, session_id: str, offer: AgentOffered) -> Session:
        return await self.stepper.apply(session_id, offer)

    async def _prune(self) -> None:
        while True:
            await self._adapters.store.prune_streams(self._adapters.clock.now_ms() - STREAM_KEEP_MS)
            await asyncio.sleep(PRUNE_S)


def _settle(entries: int) -> None:
    """Tens of thousands of entries have come to stay: each full collection would go through them all, for a third of a
    second. This one, amid seconds of work, is the last; what was garbage by the last time goes with it."""
    if entries >= LARGE_CENTER:
        gc.unfreeze()
        gc.collect()
        gc.freeze()


async def _keep(run: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await run()
        except Exception:
            log.exception("loop_failed", loop=getattr(run, "__qualname__", str(run)))
        await asyncio.sleep(AGAIN_S)
