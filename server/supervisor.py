"""`patchbay serve` on one machine: a small supervisor that starts, watches and restarts the parts.

Control node and media workers are siblings: a restart of one leaves the others alone, so a live call survives
the control node. When the supervisor itself dies, all go (each part asks for its parent's death signal). The
parts run in sessions of their own: Ctrl-C reaches only the supervisor, which stops them in order.

With PATCHBAY_MEDIA_URLS the media workers are those of other machines, and none is started here. `serve --role media`
becomes such a worker: one process, kept running by systemd or the like.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from server.config import Config
from server.media.transport import TOKEN_ENV, WorkerAddress
from server.process import EXIT_CONFIG

log = structlog.get_logger()
STOP_S = 2.0  # each part's time to stop by itself; together with the rest of the way below 5 s
FIRST_RESTART_S, MAX_RESTART_S = 0.05, 5.0
LONE_DRAIN_S = 45  # as with PostgreSQL: a worker of other machines knows no database, but has others beside it
HEALTHY_S = 10.0  # a part that lived this long is restarted at once
MAX_SOCKET_PATH = 80  # a UNIX socket's path ends at 107 bytes on Linux, 103 on macOS
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Part:
    """`stop_s`: its time to stop by itself."""

    name: str
    command: tuple[str, ...]
    stop_s: float = STOP_S


class Supervisor:
    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._stopping = asyncio.Event()
        self._at_once = False
        self._failed: int | None = None
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def run(self) -> int:
        """Serve until a stop signal; the exit status. SIGINT, or a second signal, lets no part drain."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._told, number)
        async with asyncio.TaskGroup() as group:
            for part in self._parts:
                group.create_task(self._keep(part), name=part.name)
            await self._stopping.wait()
            await self._stop_all()
        return self._failed or 0

    def _told(self, number: int) -> None:
        if self._stopping.is_set():
            for process in self._processes.values():
                if process.returncode is None:
                    process.send_signal(signal.SIGINT)
        self._at_once = self._at_once or number == signal.SIGINT or self._stopping.is_set()
        self._stopping.set()

    async def _keep(self, part: Part) -> None:
        """Run one part, again and again, until the supervisor stops."""
        wait_s, first = FIRST_RESTART_S, True
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            began = loop.time()
            process = await asyncio.create_subprocess_exec(
                *part.command, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
            )
            self._processes[part.name] = process
            if self._stopping.is_set():  # while it was being started
                await self._stop(part, process, wait=True)
                return
            status = await process.wait()
            if self._stopping.is_set():
                return
            if status == EXIT_CONFIG and first:  # later, live calls are worth more than a clean exit
                self._failed = status
                self._stopping.set()
                return
            first = False
            if loop.time() - began > HEALTHY_S:
                wait_s = FIRST_RESTART_S
            log.warning("part_ended", part=part.name, status=status, restart_in_s=wait_s)
            try:
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()
            except TimeoutError:
                wait_s = min(wait_s * 2, MAX_RESTART_S)

    async def _stop_all(self) -> None:
        """The control node first: it says goodbye to the browsers; then those that hold media."""
        ordered = [(part, self._processes[part.name]) for part in self._parts if part.name in self._processes]
        for part, process in ordered:
            await self._stop(part, process, wait=part.name == "control")
        await asyncio.gather(*(self._stop(part, process, wait=True) for part, process in ordered))

    async def _stop(self, part: Part, process: asyncio.subprocess.Process, *, wait: bool) -> None:
        if process.returncode is not None:
            return
        process.send_signal(signal.SIGINT if self._at_once else signal.SIGTERM)
        if not wait:
            return
        try:
            async with asyncio.timeout(part.stop_s):
                await process.wait()
        except TimeoutError:
            log.warning("part_killed", part=part.name)
            process.kill()
            await process.wait()


def run_dir(config: Config) -> tuple[Path, bool]:
    """The folder of the workers' sockets, and whether it is a temporary one: a path that is too long can't be bound."""
    inside = config.data_dir / "run"
    if len(os.fsencode(inside)) <= MAX_SOCKET_PATH:
        inside.mkdir(mode=0o700, exist_ok=True)
        return inside, False
    return Path(tempfile.mkdtemp(prefix="patchbay-")), True


def worker_ids(config: Config) -> list[str]:
    return [f"media-{number}" for number in range(1, config.media_workers + 1)]


def worker_socket(folder: Path, worker_id: str) -> Path:
    return folder / f"{worker_id}.sock"


def worker_addresses(config: Config, folder: Path) -> dict[str, WorkerAddress]:
    """Every worker that a control node drives, by id: those of other machines where the settings name them, else the
    siblings whose sockets are in `folder`. Raises OSError when the certificates of `media_ca` can't be used."""
    if not config.media_urls:
        return {name: WorkerAddress.local(worker_socket(folder, name)) for name in worker_ids(config)}
    token = config.media_token or ""
    return {name: WorkerAddress.remote(url, token, config.media_ca) for name, url in config.media_urls}


def spool_dir(config: Config) -> Path:
    return config.data_dir / "spool"


def parts(config: Config, folder: Path, control_arguments: Sequence[str]) -> list[Part]:
    """The parts of this machine: all of the system, or all but the media workers where other machines have them."""
    python = sys.executable
    command = (python, "-m", "server", *control_arguments, "--role", "control", "--run-dir", str(folder))
    control = Part("control", command, STOP_S + config.drain_seconds)
    if config.media_urls:
        return [control]
    media = [
        Part(worker_id, (python, "-m", "server.media.relay", *media_arguments(config, folder, worker_id)))
        for worker_id in worker_ids(config)
    ]
    return [control, *media]


def media_arguments(config: Config, folder: Path, worker_id: str) -> list[str]:
    """The command line of a sibling worker."""
    arguments = ["--id", worker_id, "--socket", str(worker_socket(folder, worker_id))]
    if config.media_ports:
        arguments += ["--ports", "{}-{}".format(*_share(config, worker_id))]
    return [*arguments, *_common_arguments(config)]


def lone_worker(config: Config) -> tuple[list[str], dict[str, str]]:
    """The command of a worker that serves other machines, and what its environment must hold: the token is on no
    command line. Raises ValueError when the settings don't make a worker."""
    if config.media_listen is None:
        raise ValueError("--role media needs PATCHBAY_MEDIA_LISTEN, such as 10.0.0.5:7443, and PATCHBAY_MEDIA_TOKEN")
    host, port = config.media_listen
    if not config.tls and not ipaddress.ip_address(host).is_loopback:
        raise ValueError(
            f"PATCHBAY_MEDIA_LISTEN is {host}, no loopback address: calls' keys cross the network there; "
            "give PATCHBAY_TLS_CERT and PATCHBAY_TLS_KEY"
        )
    shown = f"[{host}]" if ":" in host else host
    command = [sys.executable, "-m", "server.media.relay", "--id", config.media_name, "--listen", f"{shown}:{port}"]
    if config.tls:
        command += ["--tls-cert", str(config.tls_cert), "--tls-key", str(config.tls_key)]
    if config.media_ports:
        command += ["--ports", "{}-{}".format(*config.media_ports)]
    drain_s = config.drain_s if config.drain_s is not None else LONE_DRAIN_S
    return [*command, "--drain-s", str(drain_s), *_common_arguments(config)], {TOKEN_ENV: config.media_token or ""}


def _common_arguments(config: Config) -> list[str]:
    arguments = ["--spool", str(spool_dir(config)), "--log-level", config.log_level]
    arguments += ["--log-json"] if config.log_json else []
    arguments += [] if config.media_compiled else ["--no-compiled"]
    if config.media_bind:
        arguments += ["--bind", ",".join(config.media_bind)]
    if config.media_announce:
        arguments += ["--announce", ",".join(config.media_announce)]
    return arguments


def _share(config: Config, worker_id: str) -> tuple[int, int]:
    """The worker's slice of the port range: two processes can't share a port."""
    assert config.media_ports is not None
    first, last = config.media_ports
    width = (last - first + 1) // config.media_workers
    low = first + worker_ids(config).index(worker_id) * width
    return low, low + width - 1


async def serve(config: Config, control_arguments: Sequence[str]) -> int:
    """Run everything on this machine until a stop signal."""
    folder, temporary = run_dir(config)
    try:
        return await Supervisor(parts(config, folder, control_arguments)).run()
    finally:
        if temporary:
            shutil.rmtree(folder, ignore_errors=True)
