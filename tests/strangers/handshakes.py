"""Strangers who spray handshakes at a call that is being set up: ClientHellos, alerts, broken STUN, noise.

aioice alone hands them to DTLS, and no call connects (see server/media/relay/aiortc_seam.py)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from server.domain.media import LegUp, OpenLeg, ReleaseSession
from tests.helpers.rtc_peer import Rig, running

ROUND_S = 0.005
AT_ONCE = 4
CONNECT_S = 15.0

ALERT = b"\x15\xfe\xfd" + bytes(2) + bytes(5) + b"\x09" + b"\x00\x02\x02\x28"
BAD_STUN = (
    b"\x00\x01\x00\x04\x21\x12\xa4\x42" + bytes(12) + b"\x80\x28\x00\x04",
    b"\x00\x01\x00\x01\x21\x12\xa4\x42" + bytes(13),
    b"\x01\x01\x00\x08\x21\x12\xa4\x42" + bytes(12) + b"\x00\x06\x00\x04\xff\xff\xff\xff",
    b"\x00",
)


def client_hello() -> bytes:
    """A DTLS 1.2 ClientHello with a cipher that nobody wants."""
    body = b"\xfe\xfd" + os.urandom(32) + b"\0\0" + struct.pack("!H", 2) + b"\0\0" + b"\x01\0"
    size = struct.pack("!I", len(body))[1:]
    handshake = b"\x01" + size + b"\0\0" + b"\0\0\0" + size + body
    return b"\x16\xfe\xfd" + bytes(8) + struct.pack("!H", len(handshake)) + handshake


def ports_of(sdp: str) -> list[int]:
    return [int(line.split()[5]) for line in sdp.splitlines() if line.startswith("a=candidate:")]


class Spray:
    """A stranger's packets to all of a leg's ports, 200 rounds a second. `begun` is set after the first round."""

    def __init__(self, ports: list[int]) -> None:
        self.sent = 0
        self.begun = asyncio.Event()
        self._ports = ports

    async def run(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            while True:
                for port in self._ports:
                    for data in (client_hello(), ALERT, b"\x80" + os.urandom(60), *BAD_STUN):
                        with contextlib.suppress(BlockingIOError):
                            sock.sendto(data, ("127.0.0.1", port))
                            self.sent += 1
                self.begun.set()
                await asyncio.sleep(ROUND_S)


@asynccontextmanager
async def sprayed(ports: list[int]) -> AsyncIterator[Spray]:
    """The spray has begun, and ends with the block."""
    spray = Spray(ports)
    spraying = asyncio.create_task(spray.run())
    try:
        await spray.begun.wait()
        yield spray
    finally:
        spraying.cancel()
        await asyncio.wait([spraying])


@dataclass
class Connected:
    """`took_s`: from the answer to the worker's word that sound comes, of each call that connected."""

    calls: int
    sprayed: int = 0
    took_s: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


async def _call(rig: Rig, session: str, found: Connected) -> None:
    caller, peer = rig.caller(session), rig.peer(440)
    result = await caller.order(OpenLeg("customer", 1, await peer.offer()))
    assert result.sdp is not None
    async with sprayed(ports_of(result.sdp)) as spray:
        began = time.monotonic()
        await peer.answer(result.sdp)
        try:
            await rig.listener.until_report(LegUp("customer", 1), CONNECT_S, session)
        except TimeoutError:
            found.failed.append(session)
        else:
            found.took_s.append(time.monotonic() - began)
        found.sprayed += spray.sent
    await caller.order(ReleaseSession())
    rig.peers.remove(peer)
    await peer.close()


async def connect(folder: Path, calls: int) -> Connected:
    """So many calls at a worker, a few at a time, each sprayed from before its answer to its end."""
    found = Connected(calls)
    async with running(folder) as rig:
        for first in range(0, calls, AT_ONCE):
            numbers = range(first, min(calls, first + AT_ONCE))
            await asyncio.gather(*(_call(rig, f"s{number}", found) for number in numbers))
    return found
