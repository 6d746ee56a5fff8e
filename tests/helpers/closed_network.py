"""A computer behind a firewall: a network namespace whose only way out are the ports that a test allows.

A browser runs inside (`browser`), reaches the server at http://127.0.0.1 as in a tunnel (`tunnel`), so that the page
may use a microphone, and sees one neighbour, `host`, which is the machine that the test runs on. Root only."""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.browser import CHROMIUM

CLONE_NEWNET = 0x40000000  # setns(2)
CHUNK_BYTES = 65536
# What leaves and is not allowed is dropped without an answer, as firewalls do; what is refused is counted.
RULES = """
table inet wall {{
  counter refused {{}}
  chain out {{
    type filter hook output priority 0; policy drop;
    oif lo accept
    {allowed}
    meta nfproto ipv4 meta l4proto {{ tcp, udp }} counter name refused
  }}
  chain in {{
    type filter hook input priority 0; policy drop;
    iif lo accept
    {answered}
  }}
}}
"""


@dataclass(frozen=True)
class ClosedNetwork:
    name: str
    host: str
    browser: Path

    async def allow(self, protocol: str, port: int) -> None:
        """Nothing else gets out. `protocol`: udp or tcp."""
        allowed = f"ip daddr {self.host} {protocol} dport {port} accept"
        answered = f"ip saddr {self.host} {protocol} sport {port} accept"
        await run("ip", "netns", "exec", self.name, "nft", "flush", "ruleset")
        rules = RULES.format(allowed=allowed, answered=answered)
        await run("ip", "netns", "exec", self.name, "nft", "-f", "-", given=rules)

    async def refused(self) -> int:
        """Packets that were to leave and did not."""
        told = await run("ip", "netns", "exec", self.name, "nft", "list", "counter", "inet", "wall", "refused")
        return int(told.split("packets ")[1].split()[0])

    @asynccontextmanager
    async def tunnel(self, port: int) -> AsyncIterator[None]:
        """127.0.0.1:port in there is 127.0.0.1:port out here."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                there, out = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_pump(reader, out), _pump(there, writer))

        with ThreadPoolExecutor(1) as thread:  # one of its own: it enters the namespace and never comes back
            listener = await asyncio.get_running_loop().run_in_executor(thread, _listen_in, self.name, port)
        connections: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(handle(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(accept, sock=listener)
        try:
            yield
        finally:
            server.close()
            for task in list(connections):
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)


@asynccontextmanager
async def closed_network(folder: Path) -> AsyncIterator[ClosedNetwork]:
    """Made, closed but for what is allowed later, and gone afterwards, with everything in it."""
    assert os.geteuid() == 0, "network namespaces are made by root: run this test as root"
    tag = secrets.token_hex(3)
    number = int(tag, 16)
    net = f"198.18.{number >> 8 & 255}.{number & 252}".rsplit(".", 1)  # RFC 2544: no real network has these
    host, inside = (f"{net[0]}.{int(net[1]) + last}" for last in (1, 2))
    browser = folder / "chromium-inside"
    browser.write_text(f'#!/bin/sh\nexec ip netns exec pb-{tag} {CHROMIUM} "$@"\n')
    browser.chmod(0o755)
    network = ClosedNetwork(f"pb-{tag}", host, browser)
    await run("ip", "netns", "add", network.name)
    try:
        await run("ip", "link", "add", f"pbh-{tag}", "type", "veth", "peer", "name", "uplink", "netns", network.name)
        await run("ip", "addr", "add", f"{host}/30", "dev", f"pbh-{tag}")
        await run("ip", "link", "set", f"pbh-{tag}", "up")
        await run("ip", "-n", network.name, "addr", "add", f"{inside}/30", "dev", "uplink")
        await run("ip", "-n", network.name, "link", "set", "uplink", "up")
        await run("ip", "-n", network.name, "link", "set", "lo", "up")
        await run("ip", "-n", network.name, "route", "add", "default", "via", host)
        await network.allow("udp", 9)  # nobody listens there: closed
        yield network
    finally:
        await run("ip", "netns", "del", network.name)  # its end of the cable goes with it, and so does ours


async def run(*command: str, given: str = "") -> str:
    """What a command prints. Raises AssertionError with what it complains of."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )  # fmt: skip
    out, err = await process.communicate(given.encode())
    assert process.returncode == 0, f"{' '.join(command)}: {err.decode()}"
    return out.decode()


def _listen_in(name: str, port: int) -> socket.socket:
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{name}") as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {name}")
    listener = socket.create_server(("127.0.0.1", port))
    listener.setblocking(False)
    return listener


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # either side may go at any time
    finally:
        writer.close()
