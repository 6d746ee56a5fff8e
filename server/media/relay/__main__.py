"""Start a media worker: `python -m server.media.relay --id media-1 --socket PATH --spool DIR`.

One process a core. With --socket it is a sibling of the control node and lives as long as its parent. With --listen it
serves control nodes of other machines, over TLS (plain on a loopback address only) and with the token that the
environment holds as PATCHBAY_MEDIA_TOKEN.

It ends within 2 s of a SIGTERM, with its recordings finalised and its peers told (DTLS close_notify). With --drain-s it
first lets its calls move elsewhere: until it holds none, at most so long. A second signal ends that wait."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import ipaddress
import os
import signal
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ifaddr
import structlog
import uvloop

from server import log as logs
from server.media.relay.control import ControlServer, Listen
from server.media.relay.link import Binding
from server.media.relay.udp_ports import PortRange
from server.media.relay.worker import Worker, WorkerSettings
from server.media.transport import TOKEN_ENV
from server.process import EXIT_CONFIG, die_with_parent

log = structlog.get_logger(__name__)

DEFAULT_CAPACITY = 150  # legs; with nothing compiled a call costs 3 to 12 ms of CPU a second
GOODBYE_S = 0.7  # at most, for the last reports to be acknowledged
DRAIN_LOOK_S = 0.1
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Running:
    """What the process is to do: carry sessions, listen for control nodes, and drain so long at its end."""

    settings: WorkerSettings
    listen: Listen
    drain_s: float


def parse_arguments(arguments: Sequence[str]) -> Running:
    """Exits with a message on a bad command line."""
    parser = argparse.ArgumentParser(prog="python -m server.media.relay", description="A media worker.")
    parser.add_argument("--id", required=True, help="the worker's name, for example media-1")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket", type=Path, help="path of its UNIX control socket")
    where.add_argument("--listen", help=f"HOST:PORT for control nodes that show {TOKEN_ENV}")
    parser.add_argument("--tls-cert", type=Path, help="with --listen: certificate chain, PEM")
    parser.add_argument("--tls-key", type=Path, help="with --listen: private key, PEM")
    parser.add_argument("--drain-s", type=float, default=0.0, help="let calls move elsewhere before the end; default 0")
    parser.add_argument("--spool", required=True, type=Path, help="folder for recordings in the making")
    parser.add_argument(
        "--prompts", type=Path, help="folder of prompts of one's own; default: prompts beside the spool"
    )
    parser.add_argument("--bind", default="", help="local IPv4 addresses to open media sockets on; default: all")
    parser.add_argument("--announce", default="", help="addresses that candidates show instead (NAT, containers)")
    parser.add_argument("--ports", default="", help="UDP port range LOW-HIGH; default: any")
    parser.add_argument("--capacity", type=int, default=DEFAULT_CAPACITY, help="legs it is meant to carry")
    parser.add_argument("--no-compiled", action="store_true", help="carry every packet in Python (ways.py)")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--log-json", action="store_true", default=None, help="default: JSON unless a terminal reads")
    given = parser.parse_args(arguments)
    logs.configure(given.log_level, given.log_json)
    try:
        bindings = make_bindings(_addresses(given.bind), _addresses(given.announce))
        settings = WorkerSettings(
            given.id,
            given.spool,
            bindings,
            PortRange.parse(given.ports),
            given.capacity,
            prompts=given.prompts or given.spool.parent / "prompts",
            compiled=not given.no_compiled,
        )
        listen = Listen(given.socket) if given.socket else _network(given.listen, given.tls_cert, given.tls_key)
    except ValueError as error:
        parser.error(str(error))
    return Running(settings, listen, given.drain_s)


def _network(address: str, cert: Path | None, key: Path | None) -> Listen:
    """Raises ValueError."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    token = os.environ.get(TOKEN_ENV, "")
    if not token:
        raise ValueError(f"--listen needs a token in {TOKEN_ENV}")
    if cert is None:
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"{host} is no loopback address: calls' keys cross the network there; give --tls-cert")
        return Listen(host=host, port=int(port), token=token)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        tls.load_cert_chain(cert, key)
    except (ssl.SSLError, OSError) as error:
        raise ValueError(f"--tls-cert and --tls-key can't be used: {error}") from None
    return Listen(host=host, port=int(port), token=token, tls=tls)


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


async def run(running: Running) -> int:
    """Serve until SIGTERM, which drains, or SIGINT, which does not; the exit status."""
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def told(number: int) -> None:
        if stop.is_set() or number == signal.SIGINT:
            hurry.set()
        stop.set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, told, number)
    running.settings.spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    worker_id = running.settings.worker_id
    try:
        await _serve(running, stop, hurry)
    except _CannotListen as reason:
        log.error("media_worker_failed", worker=worker_id, error=str(reason))
        return EXIT_CONFIG
    log.info("media_worker_stopped", worker=worker_id)
    return 0


async def _serve(running: Running, stop: asyncio.Event, hurry: asyncio.Event) -> None:
    try:
        async with asyncio.TaskGroup() as tasks:
            worker = Worker(running.settings, tasks)
            worker.start()
            control = ControlServer(worker)
            try:
                await control.serve(running.listen)
            except OSError as error:
                raise _CannotListen(f"{running.listen} can't be listened on ({error}); free it") from None
            # What lives as long as the process is looked through no more: a full collection costs what the calls hold,
            # and is due after so many of them, instead of after a quarter of all modules.
            gc.collect()
            gc.freeze()
            log.info("media_worker_ready", worker=running.settings.worker_id, listens=str(running.listen))
            await stop.wait()
            await _drain(worker, control, running.drain_s, hurry)
            worker.close()
            await control.drain(GOODBYE_S)  # the last reports, and the peers' goodbyes meanwhile
            await control.close()
            if running.listen.path is not None:
                running.listen.path.unlink(missing_ok=True)
            raise _Stopped
    except* _Stopped:
        pass
    except* _CannotListen as group:
        raise group.exceptions[0] from None


async def _drain(worker: Worker, control: ControlServer, drain_s: float, hurry: asyncio.Event) -> None:
    """Let control nodes move the calls elsewhere, until none is left, the time is over or somebody is in a hurry."""
    worker.draining = True
    control.tell_load([])
    if not drain_s or not worker.carries:
        return
    log.info("media_worker_drains", worker=worker.settings.worker_id, legs=len(worker.legs()), within_s=drain_s)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(drain_s):
            while worker.carries and not hurry.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(DRAIN_LOOK_S):
                        await hurry.wait()


class _Stopped(Exception):
    """Ends the worker's task group."""


class _CannotListen(Exception):
    """The address is taken, or not this machine's."""


def main() -> None:
    if "--socket" in sys.argv:  # one that listens for other machines is nobody's child
        die_with_parent()
    running = parse_arguments(sys.argv[1:])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        raise SystemExit(runner.run(run(running)))


if __name__ == "__main__":
    main()
