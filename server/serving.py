"""A control node as a process: it binds its address, serves until it is told to stop, and lets its people move away."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import structlog
from aiohttp import web

from server.app import ControlNode, control_node, sqlite_path
from server.config import Config, ConfigError
from server.services.ports import StorageUnavailable
from server.storage import migrate

log = structlog.get_logger()
BACKLOG = 1024  # an office that reconnects at once
REQUESTS_S = 0.2  # for requests under way, and as long again once they are cancelled: a stop is to be quick
NOTICED_S = 4.0  # by then a load balancer that asks /readyz once a second has turned away (deploy/haproxy)
SPREAD_S = 0.01  # between two people who are sent to another node: 1,000 take 10 s
SETTLE_S = 1.0  # for what is under way when the last one has left


class CannotStart(Exception):
    """The node can't serve as things are; the text says what to do."""


async def serve_control(config: Config, sockets_dir: Path) -> None:
    """Serve as a control node until SIGTERM or SIGINT. Raises CannotStart, before anything runs.

    SIGTERM drains where other nodes are there to take over; SIGINT, or a second SIGTERM, stops at once."""
    with only_node(config):
        await check_schema(config)
        tls = tls_context(config)
        with bound(config) as listener:
            stop, at_once = asyncio.Event(), asyncio.Event()

            def on_signal(number: int) -> None:
                if number == signal.SIGINT or stop.is_set():
                    at_once.set()
                stop.set()

            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
            try:
                async with control_node(config, sockets_dir) as node:
                    await _check_company(config, node)
                    await _serve(config, node, listener, tls, stop, at_once)
            except* StorageUnavailable as group:
                raise CannotStart(f"the database went away while the node started: {group.exceptions[0]}") from None
            except* ConfigError as group:  # what only the database or the data directory can tell
                raise CannotStart(str(group.exceptions[0])) from None


async def _check_company(config: Config, node: ControlNode) -> None:
    """Workers behind UNIX sockets serve one node: a call that is placed there is out of reach of all others. Raises
    CannotStart."""
    if config.postgres and not config.media_urls and len(node.core.nodes.living) > 1:
        await node.core.nodes.leave()
        raise CannotStart(
            "another control node serves this database, and this one has media workers that only it can reach; give "
            "every node the same PATCHBAY_MEDIA_URLS (docs/operations.md), or stop the other one"
        )


async def _serve(
    config: Config,
    node: ControlNode,
    listener: socket.socket,
    tls: ssl.SSLContext | None,
    stop: asyncio.Event,
    at_once: asyncio.Event,
) -> None:
    runner = web.AppRunner(node.app, access_log=None, shutdown_timeout=REQUESTS_S)
    await runner.setup()
    try:
        site = web.SockSite(runner, listener, ssl_context=tls, backlog=BACKLOG)
        await site.start()
        url = replace(config, port=listener.getsockname()[1]).own_url
        log.info("control_ready", url=url, node_id=node.core.nodes.node_id, node_name=node.core.nodes.name)
        print(f"Patchbay answers at {url} (Ctrl-C stops it)", flush=True)
        await stop.wait()
        if config.drain_seconds and not at_once.is_set():
            await _drain(config, node, at_once)
        # While aiohttp still reads: its clean-up is deaf to a browser's closing, and waits for it in vain.
        await site.stop()
        await node.say_goodbye(0.0)
    finally:
        await runner.cleanup()
        await node.core.nodes.leave()


async def _drain(config: Config, node: ControlNode, at_once: asyncio.Event) -> None:
    """Turn the load balancer away first, then send the people to other nodes, a few at a time."""
    await node.core.nodes.drain()
    if not node.core.nodes.others_take:
        log.info("not_drained", reason="no other node lives")
        return
    log.info("draining", people=node.core.hub.people, seconds=config.drain_seconds)
    leaving = asyncio.create_task(_lead_away(config, node))
    hurried = asyncio.create_task(at_once.wait())
    await asyncio.wait({leaving, hurried}, timeout=config.drain_seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in (leaving, hurried):
        task.cancel()
    log.info("drained", people_left=node.core.hub.people)


async def _lead_away(config: Config, node: ControlNode) -> None:
    await asyncio.sleep(min(NOTICED_S, config.drain_seconds / 4))
    await node.say_goodbye(min(SPREAD_S * node.core.hub.people, config.drain_seconds / 2))
    await asyncio.sleep(SETTLE_S)


@contextmanager
def only_node(config: Config) -> Iterator[None]:
    """On SQLite there is one control node: a second one refuses to start."""
    if config.postgres:
        yield
        return
    if str(sqlite_path(config)) in ("", ".", ":memory:"):
        raise CannotStart("database_url names no file; give sqlite+aiosqlite:///path/to/patchbay.db")
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
    """Raises CannotStart when the database's schema is not one that this version works with."""
    try:
        await migrate.usable(config.database_url)
    except migrate.MigrationError as reason:
        raise CannotStart(str(reason)) from None


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
