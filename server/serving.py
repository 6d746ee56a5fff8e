"""A control node as a process: it binds its address, serves until it is told to stop, and lets its people move away."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import structlog
from aiohttp import web

from server.app import ControlNode, control_node
from server.config import Config, ConfigError
from server.preflight import CannotStart, bound, check_schema, only_node, tls_context
from server.services.ports import StorageUnavailable

log = structlog.get_logger()
BACKLOG = 1024  # an office that reconnects at once
REQUESTS_S = 0.2  # for requests under way, and as long again once they are cancelled: a stop is to be quick
NOTICED_S = 4.0  # by then a load balancer that asks /readyz once a second has turned away (deploy/haproxy)
SPREAD_S = 0.01  # between two people who are sent to another node: 1,000 take 10 s
SETTLE_S = 1.0  # for what is under way when the last one has left


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
