"""A coturn of the test's own: deploy/coturn/turnserver.conf with the test's addresses, as its own process."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.process import die_with_parent
from tests.helpers.certificates import Certificate
from tests.helpers.system import ROOT, free_port, until

DEPLOYED = ROOT / "deploy" / "coturn" / "turnserver.conf"
SECRET = "a-secret-that-only-coturn-and-patchbay-know"
RELAY_PORTS = (42_000, 42_999)
START_S = 10.0
LOOPBACK = "127.0.0.1"
# One session's traffic, as coturn logs it: packets received from peers and sent to them.
USAGE = re.compile(r"peer usage: realm=<[^>]*>, username=<\d+:([^>]*)>, rp=(\d+), rb=\d+, sp=(\d+), sb=\d+")


@dataclass(frozen=True)
class Coturn:
    host: str
    port: int
    tls_port: int
    log: Path

    def settings(self, *transports: str, relay_only: bool = False) -> dict[str, Any]:
        """Patchbay's settings for it; `transports` udp and tcp, by default both."""
        urls = [f"turn:{self.host}:{self.port}?transport={transport}" for transport in transports or ("udp", "tcp")]
        return {"turn_urls": ",".join(urls), "turn_secret": SECRET, "turn_relay_only": str(relay_only).lower()}

    def relayed(self) -> dict[str, tuple[int, int]]:
        """Packets from and to peers so far, by person, of the allocations that are over."""
        found: dict[str, tuple[int, int]] = {}
        for person, received, sent in USAGE.findall(self.log.read_text()):
            before = found.get(person, (0, 0))
            found[person] = (before[0] + int(received), before[1] + int(sent))
        return found


@asynccontextmanager
async def coturn(
    folder: Path,
    *,
    host: str = LOOPBACK,
    peers: Sequence[str] = (LOOPBACK,),
    certificate: Certificate | None = None,
    **changed: str,
) -> AsyncIterator[Coturn]:
    """Started, and gone afterwards. `peers` are the media workers' addresses; `changed` are further settings by name,
    in place of the deployed ones."""
    folder.mkdir(parents=True, exist_ok=True)
    server = Coturn(host, free_port(), free_port(), folder / "coturn.log")
    own = {
        "static-auth-secret": SECRET, "realm": "patchbay", "listening-port": str(server.port),
        "tls-listening-port": str(server.tls_port), "listening-ip": host, "relay-ip": host,
        "min-port": str(RELAY_PORTS[0]), "max-port": str(RELAY_PORTS[1]), "relay-threads": "1",
        "pidfile": str(folder / "coturn.pid"), "userdb": str(folder / "coturn.db"), "verbose": "",
    }  # fmt: skip
    own |= {"cert": str(certificate.cert), "pkey": str(certificate.key)} if certificate else {"no-tls": ""}
    own |= {"allow-loopback-peers": ""} if LOOPBACK in peers else {}
    own |= {name.replace("_", "-"): value for name, value in changed.items()}
    dropped = {*own, "allowed-peer-ip"} | (set() if certificate else {"cert", "pkey"})
    lines = [line for line in DEPLOYED.read_text().splitlines() if line and line.split("=")[0] not in dropped]
    lines += [f"{name}={value}" if value else name for name, value in own.items()]
    lines += [f"allowed-peer-ip={peer}" for peer in peers]
    config = folder / "turnserver.conf"
    config.write_text("\n".join(lines) + "\n")
    with server.log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            program(), "-c", str(config), stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            cwd=folder, preexec_fn=die_with_parent,
        )  # fmt: skip

    async def answers() -> bool:
        assert process.returncode is None, server.log.read_text()[-3000:]
        with suppress(OSError):
            _, writer = await asyncio.open_connection(host, server.port)
            writer.close()
            return True
        return False

    try:
        await until(answers, START_S, "turnserver")
        yield server
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def program() -> str:
    found = shutil.which("turnserver")
    assert found, "turnserver is missing: tools/test-packages installs it, or says how"
    return found
