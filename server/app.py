"""The composition root of a control node: the one file that knows every adapter."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

from server import __version__, log, probes
from server.clock import DatabaseClock, MonotonicClock
from server.config import Config
from server.core import Adapters, Core
from server.domain.directory import AuthedUser
from server.media.archive_jobs import ArchiveJobs
from server.media.archiver import LocalArchiver
from server.media.client import WorkersClient
from server.media.keyring import Keyring
from server.media.remote_parts import RemoteParts
from server.metrics import Metrics
from server.metrics_center import CenterMetrics
from server.metrics_media import MediaMetrics
from server.preflight import STATIC_DIR, sqlite_path
from server.readiness import NodeReadiness
from server.recording_keys import local_keyring, shared_keyring
from server.routing.memory_bus import MemoryExchange
from server.routing.memory_store import MemoryRouterStore
from server.routing.redis_bus import RedisBus
from server.routing.redis_connection import connect_bus, connect_redis
from server.routing.redis_store import RedisRouterStore
from server.services.admin import AdminService, ChangeLog
from server.services.auth import AuthService
from server.services.call_control import TransferTargets
from server.services.call_log import CallLog
from server.services.exits import Exits
from server.services.floor import FloorService
from server.services.nodes import FollowingClock
from server.services.passwords import Passwords
from server.services.ports import Bus, Clock, RouterStore
from server.services.reports import ReportService
from server.services.steering import SteeringService
from server.services.supervision import SupervisionService
from server.services.tokens import CustomerTokens, load_or_create_key
from server.services.turn import TurnSettings
from server.services.users import UserService
from server.services.whatif import WhatIfService
from server.signaling.sockets import SocketDeps, build_socket_server
from server.signaling.web import SOCKET_PATH, build_web
from server.signaling.web_deps import WebDeps
from server.storage.admin_repository import StoredAdmin
from server.storage.directory import StoredDirectory
from server.storage.engine import create_engine
from server.storage.figures import StoredFigures
from server.storage.floor import StoredFloor
from server.storage.history import StoredHistory
from server.storage.postgres_steps import PostgresSteps
from server.storage.reports import StoredReports
from server.storage.secrets import shared_secret
from server.storage.sqlite_steps import SqliteSteps
from server.storage.waits import StoredWaits
from server.supervisor import spool_dir, worker_addresses
from server.tracing import Tracing, start_tracing
from server.whatif.child import ChildPlayer

PASSWORD_THREADS = 2  # argon2id takes a core for 50 ms; more threads would starve the loop
ARCHIVE_IDLE_S = 30.0  # its start costs 0.3 s of a core, its memory is 60 MB
GOODBYE_S = 0.5  # all sockets together; browsers take some milliseconds
TOKEN_KEY_BYTES = 32
INSIST_S = 0.7  # most nodes end within this


@dataclass(frozen=True, slots=True)
class ControlNode:
    """A control node that runs: its web application, what decides, and how it lets go of the browsers."""

    app: web.Application
    core: Core
    readiness: NodeReadiness
    say_goodbye: Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Stores:
    """What a node keeps its state in, by the settings: files of its own, or servers that it shares."""

    steps: SqliteSteps | PostgresSteps
    database: AsyncEngine
    router: RouterStore
    bus: Bus
    clock: Clock
    follow: FollowingClock | None
    token_key: bytes
    keyring: Keyring


@asynccontextmanager
async def _stores(config: Config) -> AsyncIterator[_Stores]:
    async with AsyncExitStack() as stack:
        database = create_engine(config.database_url)
        stack.push_async_callback(database.dispose)
        if config.redis_url is None:
            sqlite = await SqliteSteps.open(sqlite_path(config))
            stack.push_async_callback(sqlite.close)
            key = load_or_create_key(config.data_dir / "customer-token.key")
            clock, keyring = MonotonicClock(), local_keyring(config)
            yield _Stores(sqlite, database, MemoryRouterStore(), MemoryExchange().bus(), clock, None, key, keyring)
            return
        shared = await PostgresSteps.open(config.database_url)
        stack.push_async_callback(shared.close)
        index, bus = connect_redis(config.redis_url), connect_bus(config.redis_url)
        stack.push_async_callback(index.aclose)
        stack.push_async_callback(bus.aclose)
        followed = DatabaseClock()
        key = await shared_secret(database, "customer-token", TOKEN_KEY_BYTES)
        keyring = await shared_keyring(config, database)
        yield _Stores(shared, database, RedisRouterStore(index), RedisBus(bus), followed, followed, key, keyring)


@asynccontextmanager
async def control_node(config: Config, sockets_dir: Path) -> AsyncIterator[ControlNode]:
    """A control node with everything behind it running."""
    async with _stores(config) as stores, ArchiveJobs(idle_s=ARCHIVE_IDLE_S) as jobs:
        workers = worker_addresses(config, sockets_dir)
        engine = WorkersClient(workers)
        adapters = Adapters(
            store=stores.steps,
            router_store=stores.router,
            engine=engine,
            directory=StoredDirectory(stores.database, stores.clock),
            history=StoredHistory(stores.database),
            waits=StoredWaits(stores.database),
            archiver=LocalArchiver(spool_dir(config), config.archive_dir, jobs, stores.keyring, RemoteParts(workers)),
            clock=stores.clock,
            bus=stores.bus,
            follow=stores.follow,
            node_name=node_name(config),
            exits=Exits(),  # a dialler comes with phone calls, voicemail with call flows
        )
        with ThreadPoolExecutor(PASSWORD_THREADS, "argon2") as threads, _Insistence() as insistence:
            try:
                async with asyncio.TaskGroup() as group:
                    core = Core(adapters, group)
                    log.identify(node=core.nodes.name, node_id=core.nodes.node_id)
                    watched = _watch(config, core, adapters, stores, workers)
                    readiness = NodeReadiness(stores.steps, engine, core.nodes, engine.faults)
                    deps = _web_deps(config, core, adapters, stores, readiness, threads, watched)
                    app = build_web(deps)
                    say_goodbye = _attach_sockets(app, core, adapters, deps)
                    await core.start()
                    running = group.create_task(core.run(), name="core")
                    lag = group.create_task(watched.metrics.watch_loop(), name="loop lag")
                    yield ControlNode(app, core, readiness, say_goodbye)
                    insistence.begin()
                    for task in (running, lag):
                        task.cancel()
                    await engine.stop()
                    await stores.bus.stop()
                    await watched.close()
                    raise _Stopped
            except* _Stopped:
                pass


class _Insistence:
    """Cancels what still runs again and again while a node ends: on Python 3.11 `asyncio.wait_for`, which libraries
    use, may swallow a cancellation, and a task that did would be waited for in vain."""

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None
        self._own = asyncio.current_task()

    def __enter__(self) -> Self:
        return self

    def begin(self) -> None:
        self._handle = asyncio.get_running_loop().call_later(INSIST_S, self._again)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _again(self) -> None:
        for task in asyncio.all_tasks():
            if task is not self._own:
                task.cancel()
        self.begin()


def node_name(config: Config) -> str:
    """What this node is called over its restarts. On SQLite there is only one, whatever the machine is called."""
    return config.node_name or (f"{socket.gethostname()}:{config.port}" if config.postgres else "sole")


@dataclass(frozen=True, slots=True)
class _Watched:
    """What looks at a node while it works."""

    registry: CollectorRegistry
    metrics: Metrics
    center: CenterMetrics
    tracing: Tracing | None

    async def close(self) -> None:
        probes.listen()
        if self.tracing is not None:
            await self.tracing.close()


def _watch(config: Config, core: Core, adapters: Adapters, stores: _Stores, worker_ids: Collection[str]) -> _Watched:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    media = MediaMetrics(registry, worker_ids, adapters.engine.connected)
    folders = {"data": config.data_dir, "recordings": config.archive_dir}
    center = CenterMetrics(registry, StoredFigures(stores.database, adapters.clock), folders)
    core.stepper.listen(metrics)
    core.stepper.listen(CallLog())
    core.link.on_legs = media.on_telemetry
    metrics.gauge("patchbay_sockets", "Browsers connected to this node", lambda: core.hub.people)
    metrics.gauge("patchbay_routing_paused", "1 while routing stands still here", lambda: int(core.live_views.paused))
    metrics.gauge("patchbay_node_draining", "1 while this node lets its people move", lambda: int(core.nodes.draining))
    tracing = None
    if config.otel_endpoint is not None:
        tracing = start_tracing(config.otel_endpoint, __version__, core.nodes.name, core.nodes.node_id)
    probes.listen(metrics, *((tracing,) if tracing is not None else ()))
    return _Watched(registry, metrics, center, tracing)


class _Stopped(Exception):
    """Ends the node's task group with every task in it."""


def _web_deps(
    config: Config,
    core: Core,
    adapters: Adapters,
    stores: _Stores,
    readiness: NodeReadiness,
    threads: ThreadPoolExecutor,
    watched: _Watched,
) -> WebDeps:
    repository, passwords, clock = StoredAdmin(stores.database), Passwords(threads), adapters.clock
    floor = StoredFloor(stores.database)
    changes = ChangeLog(repository, clock, [core.directory_changed])
    return WebDeps(
        auth=AuthService(repository, passwords, clock, config.session_cookie_hours, core.directory_changed),
        admin=AdminService(changes, adapters.exits.possible),
        users=UserService(changes, passwords),
        steering=SteeringService(adapters.store, core.stepper, adapters.directory),
        floor=FloorService(floor, core.stepper, adapters.directory, repository, clock),
        supervision=SupervisionService(adapters.store, core.stepper, repository, clock),
        targets=TransferTargets(floor, adapters.store, adapters.directory, clock),
        tokens=CustomerTokens(stores.token_key, clock),
        directory=adapters.directory,
        history=adapters.history,
        reports=ReportService(StoredReports(stores.database), adapters.directory, clock),
        whatif=WhatIfService(ChildPlayer(config.database_url), clock),
        availability=core.router,
        explanations=core.router,
        recordings=core.recordings,
        readiness=readiness,
        clock=clock,
        registry=watched.registry,
        refresh_metrics=watched.center.refresh,
        static_dir=STATIC_DIR,
        version=__version__,
        public_url=config.public_url,
        trusted_proxies=config.trusted_proxies,
        metrics_token=config.metrics_token,
        turn=TurnSettings(config.turn_urls, config.turn_secret, config.turn_relay_only),
    )


def _attach_sockets(
    app: web.Application, core: Core, adapters: Adapters, deps: WebDeps
) -> Callable[[float], Awaitable[None]]:
    async def user_of(request: web.Request) -> AuthedUser | None:
        return await deps.auth.user_for_cookie(request.headers.get("Cookie"))

    sockets = SocketDeps(
        adapters.store, core.sessions, core.calls, deps.supervision, core.agents, core.presence, core.hub,
        adapters.clock, user_of, deps.tokens, deps.turn, core.live_views,
    )  # fmt: skip
    server = build_socket_server(sockets)
    server.attach(app, socketio_path=SOCKET_PATH.strip("/"))

    async def say_goodbye(within_s: float) -> None:
        """Disconnect every socket, spread over a time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s + GOODBYE_S):
                await core.hub.close(within_s)
                while any(not socket.closed for socket in server.eio.sockets.values()):  # noqa: ASYNC110  # no event tells
                    await asyncio.sleep(0.01)

    return say_goodbye
