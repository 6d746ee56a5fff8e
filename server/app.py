"""The composition root of a control node: the one file that knows every adapter."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from server import __version__
from server.clock import MonotonicClock
from server.config import Config
from server.core import Adapters, Core
from server.domain.directory import AuthedUser
from server.media.archive_jobs import ArchiveJobs
from server.media.archiver import LocalArchiver
from server.media.client import WorkersClient
from server.metrics import Metrics
from server.routing.memory_store import MemoryRouterStore
from server.services.admin import AdminService, ChangeLog
from server.services.auth import AuthService
from server.services.call_log import CallLog
from server.services.passwords import Passwords
from server.services.ports import Clock
from server.services.tokens import CustomerTokens, load_or_create_key
from server.services.users import UserService
from server.signaling.sockets import SocketDeps, build_socket_server
from server.signaling.web import SOCKET_PATH, build_web
from server.signaling.web_deps import WebDeps
from server.storage import migrate
from server.storage.admin_repository import StoredAdmin
from server.storage.directory import StoredDirectory
from server.storage.engine import create_engine
from server.storage.history import StoredHistory
from server.storage.steps import SqliteSteps
from server.supervisor import spool_dir, worker_ids, worker_socket

log = structlog.get_logger()
STATIC_DIR = Path(__file__).parent / "static"
BACKLOG = 1024  # an office that reconnects at once
PASSWORD_THREADS = 2  # argon2id takes a core for 50 ms; more threads would starve the loop
GOODBYE_S = 0.5  # all sockets together; browsers take some milliseconds
REQUESTS_S = 0.2  # for requests under way, and as long again once they are cancelled: a stop is to be quick
SAY_GOODBYE: web.AppKey[Callable[[], Awaitable[None]]] = web.AppKey("say_goodbye")


class CannotStart(Exception):
    """The node can't serve as things are; the text says what to do."""


class NodeReadiness:
    """`Readiness`: the database answers, and a media worker is connected."""

    def __init__(self, store: SqliteSteps, engine: WorkersClient) -> None:
        self._store = store
        self._engine = engine

    async def problems(self) -> list[str]:
        found = []
        try:
            async with asyncio.timeout(2):
                await self._store.next_deadline()
        except Exception as error:
            found.append(f"the database does not answer ({type(error).__name__})")
        if not self._engine.connected():
            found.append("no media worker is connected; they are started by `patchbay serve`")
        return found


def database_path(config: Config) -> Path:
    """The SQLite file. Raises CannotStart for an address without one."""
    database = make_url(config.database_url).database
    if not database or database == ":memory:":
        raise CannotStart("database_url names no file; give sqlite+aiosqlite:///path/to/patchbay.db")
    return Path(database)


@contextmanager
def only_node(config: Config) -> Iterator[None]:
    """On SQLite there is one control node: a second one refuses to start."""
    descriptor = os.open(config.data_dir / "control.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise CannotStart(f"another Patchbay serves {config.data_dir}; stop it, or give PATCHBAY_DATA_DIR") from None
    try:
        yield
    finally:
        os.close(descriptor)


async def check_schema(config: Config) -> None:
    """Raises CannotStart when the database's schema is not the one of this version."""
    found, wanted = await migrate.current(config.database_url), migrate.newest()
    if found != wanted:
        state = "has no schema yet" if found is None else f"has schema {found}, this version needs {wanted}"
        raise CannotStart(f"the database {state}; run `patchbay migrate`")


@asynccontextmanager
async def control_app(config: Config, sockets_dir: Path) -> AsyncIterator[tuple[web.Application, Core]]:
    """A control node's web application, everything behind it running."""
    clock = MonotonicClock()
    database = create_engine(config.database_url)
    store = await SqliteSteps.open(database_path(config))
    engine = WorkersClient({worker_id: worker_socket(sockets_dir, worker_id) for worker_id in worker_ids(config)})
    directory, history = StoredDirectory(database, clock), StoredHistory(database)
    archiver = LocalArchiver(spool_dir(config), config.data_dir / "recordings", ArchiveJobs())
    adapters = Adapters(store, MemoryRouterStore(), engine, directory, history, archiver, clock)
    registry = CollectorRegistry()
    with ThreadPoolExecutor(PASSWORD_THREADS, "argon2") as threads:
        try:
            async with asyncio.TaskGroup() as group:
                core = Core(adapters, group)
                metrics = Metrics(registry)
                core.stepper.listen(metrics)
                core.stepper.listen(CallLog())
                deps = _web_deps(config, core, adapters, database, threads, registry)
                app = build_web(deps)
                _attach_sockets(app, core, adapters, deps)
                await core.start()
                running = group.create_task(core.run(), name="core")
                lag = group.create_task(metrics.watch_loop(), name="loop lag")
                yield app, core
                for task in (running, lag):
                    task.cancel()
                await engine.stop()
                raise _Stopped
        except* _Stopped:
            pass
        finally:
            await store.close()
            await database.dispose()


class _Stopped(Exception):
    """Ends the node's task group with every task in it."""


def _web_deps(
    config: Config,
    core: Core,
    adapters: Adapters,
    database: AsyncEngine,
    threads: ThreadPoolExecutor,
    registry: CollectorRegistry,
) -> WebDeps:
    directory, clock = adapters.directory, adapters.clock
    assert isinstance(directory, StoredDirectory)
    assert isinstance(adapters.store, SqliteSteps)
    assert isinstance(adapters.engine, WorkersClient)

    async def changed(tenant: str, kind: str, record_id: str) -> None:
        await directory.on_admin_change(tenant, kind, record_id)
        core.router.wake()

    repository, passwords = StoredAdmin(database), Passwords(threads)
    changes = ChangeLog(repository, clock, [changed])
    return WebDeps(
        auth=AuthService(repository, passwords, clock, config.session_cookie_hours, changed),
        admin=AdminService(changes),
        users=UserService(changes, passwords),
        tokens=customer_tokens(config, clock),
        directory=directory,
        history=adapters.history,
        availability=core.router,
        recordings=core.recordings,
        readiness=NodeReadiness(adapters.store, adapters.engine),
        clock=clock,
        registry=registry,
        static_dir=STATIC_DIR,
        version=__version__,
        public_url=config.public_url,
        trusted_proxies=config.trusted_proxies,
        metrics_token=config.metrics_token,
    )


def customer_tokens(config: Config, clock: Clock) -> CustomerTokens:
    return CustomerTokens(load_or_create_key(config.data_dir / "customer-token.key"), clock)


def _attach_sockets(app: web.Application, core: Core, adapters: Adapters, deps: WebDeps) -> None:
    async def user_of(request: web.Request) -> AuthedUser | None:
        return await deps.auth.user_for_cookie(request.headers.get("Cookie"))

    sockets = SocketDeps(
        adapters.store, core.sessions, core.agents, core.presence, core.hub, adapters.clock, user_of, deps.tokens
    )
    server = build_socket_server(sockets)
    server.attach(app, socketio_path=SOCKET_PATH.strip("/"))

    async def say_goodbye() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await core.hub.close()
                while any(not socket.closed for socket in server.eio.sockets.values()):  # noqa: ASYNC110  # no event tells
                    await asyncio.sleep(0.01)

    app[SAY_GOODBYE] = say_goodbye


async def serve_control(config: Config, sockets_dir: Path) -> None:
    """Serve as a control node until SIGTERM or SIGINT. Raises CannotStart, before anything runs."""
    with only_node(config):
        await check_schema(config)
        tls = tls_context(config)
        with bound(config) as listener:
            stop = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            async with control_app(config, sockets_dir) as (app, _):
                runner = web.AppRunner(app, access_log=None, shutdown_timeout=REQUESTS_S)
                await runner.setup()
                try:
                    site = web.SockSite(runner, listener, ssl_context=tls, backlog=BACKLOG)
                    await site.start()
                    url = replace(config, port=listener.getsockname()[1]).own_url
                    log.info("control_ready", url=url)
                    print(f"Patchbay answers at {url} (Ctrl-C stops it)", flush=True)
                    await stop.wait()
                    # While aiohttp still reads: its clean-up is deaf to a browser's closing, and waits for it in vain.
                    await site.stop()
                    await app[SAY_GOODBYE]()
                finally:
                    await runner.cleanup()


@contextmanager
def bound(config: Config) -> Iterator[socket.socket]:
    """A socket that holds the address and does not listen yet. Raises CannotStart."""
    with socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((config.host, config.port))
        except OSError as error:
            taken = f"{config.host}:{config.port} can't be listened on ({error.strerror or error})"
            raise CannotStart(f"{taken}; free it, or give PATCHBAY_HOST and PATCHBAY_PORT") from None
        yield listener


def tls_context(config: Config) -> ssl.SSLContext | None:
    """The certificate of the settings, None without one. Raises CannotStart."""
    if config.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or "no certificate and its key in them"
        raise CannotStart(f"PATCHBAY_TLS_CERT and PATCHBAY_TLS_KEY can't be used: {reason}") from None
    return context
