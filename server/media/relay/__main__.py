"""Start a media worker: `python -m server.media.relay --id media-1 --socket PATH --spool DIR`.

One process a core. It lives as long as its parent and ends within 2 s of a SIGTERM, with its recordings
finalised and its peers told (DTLS close_notify)."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import ifaddr
import structlog
import uvloop

from server import log as logs
from server.media.relay.aiortc_seam import Binding
from server.media.relay.control import ControlServer
from server.media.relay.udp_ports import PortRange
from server.media.relay.worker import Worker, WorkerSettings
from server.process import die_with_parent

log = structlog.get_logger(__name__)

DEFAULT_CAPACITY = 150  # legs; a recorded call between two browsers costs 8 to 12 ms of CPU a second
GOODBYE_S = 0.7  # at most, for the last reports to be acknowledged


def parse_arguments(arguments: Sequence[str]) -> tuple[WorkerSettings, Path]:
    """The settings and the control socket's path. Exits with a message on a bad command line."""
    parser = argparse.ArgumentParser(prog="python -m server.media.relay", description="A media worker.")
    parser.add_argument("--id", required=True, help="the worker's name, for example media-1")
    parser.add_argument("--socket", required=True, type=Path, help="path of its UNIX control socket")
    parser.add_argument("--spool", required=True, type=Path, help="folder for recordings in the making")
    parser.add_argument("--bind", default="", help="local IPv4 addresses to open media sockets on; default: all")
    parser.add_argument("--announce", default="", help="addresses that candidates show instead (NAT, containers)")
    parser.add_argument("--ports", default="", help="UDP port range LOW-HIGH; default: any")
    parser.add_argument("--capacity", type=int, default=DEFAULT_CAPACITY, help="legs it is meant to carry")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--log-json", action="store_true", default=None, help="default: JSON unless a terminal reads")
    given = parser.parse_args(arguments)
    logs.configure(given.log_level, given.log_json)
    try:
        bindings = make_bindings(_addresses(given.bind), _addresses(given.announce))
        settings = WorkerSettings(given.id, given.spool, bindings, PortRange.parse(given.ports), given.capacity)
    except ValueError as error:
        parser.error(str(error))
    return settings, given.socket


def make_bindings(bind: Sequence[str], announce: Sequence[str]) -> tuple[Binding, ...]:
    """Pair local addresses with those that candidates show. Raises ValueError.

    Both given: pairwise. Only `announce`: one socket on all interfaces, shown under each of them. Neither:
    all IPv4 addresses of the machine, loopback last, so that a laptop without a network works as well."""
    if bind and announce:
        if len(bind) != len(announce):
            raise ValueError("--bind and --announce must have the same number of addresses")
        return tuple(Binding(local, (shown,)) for local, shown in zip(bind, announce, strict=True))
    if announce:
        return (Binding("0.0.0.0", tuple(announce)),)
    return tuple(Binding(local, (local,)) for local in bind or _host_addresses())


def _addresses(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return [str(ipaddress.IPv4Address(part)) for part in parts]


def _host_addresses() -> list[str]:
    found = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips if isinstance(ip.ip, str)]
    usable = [ip for ip in found if not ipaddress.IPv4Address(ip).is_link_local]
    return sorted(dict.fromkeys([*usable, "127.0.0.1"]), key=lambda ip: ipaddress.IPv4Address(ip).is_loopback)


async def run(settings: WorkerSettings, path: Path) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings.spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    await _serve(settings, path, stop)
    log.info("media_worker_stopped", worker=settings.worker_id)


async def _serve(settings: WorkerSettings, path: Path, stop: asyncio.Event) -> None:
    try:
        async with asyncio.TaskGroup() as tasks:
            worker = Worker(settings, tasks)
            worker.start()
            control = ControlServer(worker)
            await control.serve(path)
            log.info("media_worker_ready", worker=settings.worker_id, socket=str(path))
            await stop.wait()
            worker.close()
            await control.drain(GOODBYE_S)  # the last reports, and the peers' goodbyes meanwhile
            await control.close()
            path.unlink(missing_ok=True)
            raise _Stopped
    except* _Stopped:
        pass


class _Stopped(Exception):
    """Ends the worker's task group."""


def main() -> None:
    die_with_parent()
    settings, path = parse_arguments(sys.argv[1:])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(settings, path))


if __name__ == "__main__":
    main()
