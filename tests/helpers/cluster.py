"""Control nodes and media workers as on machines of their own, behind HAProxy, all on this machine's loopback.

Each part has its own data folder and is started again when it dies, as systemd would do. Media workers are reached over
TLS with a token, so recordings are fetched from their folders. HAProxy sends everybody with a login to the last node
and all others to the first, and to any other when that one is down."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from server.services.auth import COOKIE
from tests.helpers.certificates import make_certificate
from tests.helpers.database import Database
from tests.helpers.sealing import MASTER_KEY
from tests.helpers.system import (
    PASSWORD,
    ROOT,
    START_S,
    STOP_S,
    System,
    clean_environment,
    free_port,
    run_command,
    until,
)

RESTART_S = 0.1
HAPROXY = "haproxy"


class Part:
    """One process that is kept running."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self.niceness = 0  # from the next start on
        self.process: asyncio.subprocess.Process | None = None
        self._command, self._environment = command, environment
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self) -> None:
        assert self._keeper is None
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name=f"keeper of {self.name}")

    async def stop(self, number: int = signal.SIGTERM, timeout_s: float = STOP_S + 5) -> float:
        """End it for good; how long that took, s."""
        assert self._keeper is not None
        assert self.process is not None
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
        self._keeper = None
        began = asyncio.get_running_loop().time()
        if self.process.returncode is None:
            self.process.send_signal(number)
            try:
                async with asyncio.timeout(timeout_s):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
                raise AssertionError(f"{self.name} did not stop\n{self.log.read_text()[-3000:]}") from None
        return asyncio.get_running_loop().time() - began

    @property
    def kept(self) -> bool:
        return self._keeper is not None

    async def _keep(self) -> None:
        while True:
            assert self.process is not None
            await self.process.wait()
            await asyncio.sleep(RESTART_S)
            await self._spawn()

    async def _spawn(self) -> None:
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *(["nice", "-n", str(self.niceness)] if self.niceness else []), *self._command,
                cwd=ROOT, env=dict(self._environment), stdin=asyncio.subprocess.DEVNULL,
                stdout=output, stderr=output,
            )  # fmt: skip


@dataclass
class Cluster(System):
    """`parts` by name: control, control-2 …, media-1 …, haproxy. "control" is the customers' node."""

    parts: dict[str, Part] = field(default_factory=dict)
    node_urls: tuple[str, ...] = ()

    def pids(self) -> dict[str, int]:
        return {name: part.pid for name, part in self.parts.items() if name != HAPROXY}

    def kill(self, part: str, number: int = signal.SIGKILL) -> int:
        """Signal one part; "control" means every control node at once, so that nobody is left to take over."""
        names = [name for name in self.control_parts if part == "control"] or [part]
        for name in names:
            os.kill(self.parts[name].pid, number)
        return self.parts[names[0]].pid

    @property
    def control_parts(self) -> list[str]:
        return [name for name in self.parts if name.startswith("control")]

    @property
    def media_parts(self) -> list[str]:
        return [name for name in self.parts if name.startswith("media")]

    def logs(self) -> str:
        return "\n".join(f"--- {name}\n{part.log.read_text()[-3000:]}" for name, part in self.parts.items())

    async def ready(self, timeout_s: float = START_S) -> None:
        ways = [(url, "/readyz") for url in self.node_urls]
        # HAProxy sends the first to the customers' node and the last to the agents'.
        for url, path in (*ways, (self.url, "/healthz"), (self.url, "/login")):
            try:
                await until(lambda url=url, path=path: answers(url, path), timeout_s, url + path)  # type: ignore[misc]
            except AssertionError as slow:
                raise AssertionError(f"{slow}\n{self.logs()}") from None

    async def stop(self) -> float:
        """Ctrl-C for all of ours; returns how long it took, s. HAProxy gets SIGTERM: started from a shell's background
        it ignores the other."""
        began = asyncio.get_running_loop().time()
        kept = [part for part in self.parts.values() if part.kept]
        kept.sort(key=lambda part: part.name.startswith("media"))  # the control nodes say goodbye to the browsers
        failures: list[BaseException] = []
        for media in (False, True):
            stops = [
                part.stop(signal.SIGTERM if part.name == HAPROXY else signal.SIGINT)
                for part in kept
                if part.name.startswith("media") == media
            ]
            failures += [
                one for one in await asyncio.gather(*stops, return_exceptions=True) if isinstance(one, BaseException)
            ]
        if failures:  # the others have ended all the same
            raise failures[0]
        return asyncio.get_running_loop().time() - began


async def answers(url: str, path: str = "/readyz") -> bool:
    """Whether a node says yes."""
    import aiohttp

    async with aiohttp.ClientSession() as http:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with http.get(url + path, timeout=aiohttp.ClientTimeout(2)) as response:
                return response.status == 200
    return False


@asynccontextmanager
async def cluster(
    folder: Path,
    database: Database,
    *,
    nodes: int = 2,
    workers: int = 2,
    balanced: bool = False,
    module: str = "server",
    mute: bool = False,
    seeded: bool = False,
    control_environment: Mapping[str, str] | None = None,
    settings: Mapping[str, str],
) -> AsyncIterator[Cluster]:
    """Started, ready, and stopped afterwards. `settings` must hold database_url and redis_url. `balanced`: everybody
    comes to the node with the fewest connections, as in production. `mute`: media workers without sound
    (tests/helpers/mute_relay.py). `seeded`: the database has the demo already."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    certificate = make_certificate(folder / "tls", "127.0.0.1")
    token = secrets.token_hex(24)
    common = {
        "demo_password": PASSWORD, "log_json": "true", "public_url": url, "trusted_proxies": "127.0.0.1/32",
        "recordings_dir": str(folder / "recordings"), "media_token": token,
        "recording_keys": MASTER_KEY.text,
    } | dict(settings)  # fmt: skip
    media_ports = {f"media-{number}": free_port() for number in range(1, workers + 1)}
    control_ports = {"control" if n == 1 else f"control-{n}": free_port() for n in range(1, nodes + 1)}
    media_urls = ",".join(f"{name}=wss://127.0.0.1:{at}" for name, at in media_ports.items())
    parts: dict[str, Part] = {}
    environment: dict[str, str] = {}
    for name, at in control_ports.items():
        environment = clean_environment(
            common
            | {
                "port": str(at), "data_dir": str(folder / name), "node_name": name, "media_urls": media_urls,
                "media_ca": str(certificate.ca),
            }
        )  # fmt: skip
        command = [sys.executable, "-m", module, "serve", "--role", "control"]
        parts[name] = Part(name, command, environment | dict(control_environment or {}), folder / f"{name}.log")
    for name, at in media_ports.items():
        media = clean_environment(
            {
                "log_json": "true", "data_dir": str(folder / name), "media_name": name, "media_token": token,
                "media_listen": f"127.0.0.1:{at}", "media_bind": "127.0.0.1",
                "tls_cert": str(certificate.cert), "tls_key": str(certificate.key),
                **({"drain_s": settings["drain_s"]} if "drain_s" in settings else {}),
            }
        )  # fmt: skip
        worker = ["server", "serve", "--role", "media"]
        if mute:
            worker = ["tests.helpers.mute_relay", "--id", name, "--listen", f"127.0.0.1:{at}", "--log-json",
                      "--tls-cert", str(certificate.cert), "--tls-key", str(certificate.key),
                      "--spool", str(folder / name / "spool"), "--bind", "127.0.0.1"]  # fmt: skip
        parts[name] = Part(name, [sys.executable, "-m", *worker], media, folder / f"{name}.log")
    configuration = folder / "haproxy.cfg"
    configuration.write_text(haproxy_configuration(port, list(control_ports.values()), balanced))
    proxy = ["haproxy", "-f", str(configuration), "-db"]
    parts[HAPROXY] = Part(HAPROXY, proxy, clean_environment({}), folder / "haproxy.log")
    for command in () if seeded else (["migrate"], ["seed", "--demo"]):
        await run_command(command, environment, folder / "setup.log")
    for part in parts.values():
        await part.start()
    first = next(iter(parts.values()))
    assert first.process is not None
    started = Cluster(
        url, folder / "control", first.process, first.log, database, environment, parts,
        tuple(f"http://127.0.0.1:{at}" for at in control_ports.values()),
    )  # fmt: skip
    try:
        await started.ready()
        yield started
    finally:
        await started.stop()


def haproxy_configuration(port: int, control_ports: Sequence[int], balanced: bool) -> str:
    """Customers on the first node, everybody with a login on the last one; the others are there for when it is down."""

    def servers(order: Sequence[int]) -> str:
        if balanced:
            return "\n".join(f"    server node{at} 127.0.0.1:{at} check" for at in order)
        first, *others = order
        spare = "".join(f"\n    server node{at} 127.0.0.1:{at} check backup" for at in others)
        return f"    server node{first} 127.0.0.1:{first} check{spare}"

    agents = [control_ports[-1], *control_ports[:-1]]
    return f"""
global
    maxconn 8000

defaults
    mode http
    timeout connect 3s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
    balance leastconn
    option redispatch 1
    retries 3
    default-server inter 1s fall 2 rise 1
    option httpchk GET /readyz

frontend all
    bind 127.0.0.1:{port}
    option forwardfor
    acl login path_beg /agent /admin /login /api/v1/login
    acl cookie req.cook({COOKIE}) -m found
    use_backend agents if login || cookie
    default_backend customers

backend customers
    option allbackups
{servers(control_ports)}

backend agents
    option allbackups
{servers(agents)}
"""
