"""The media sockets of a loop: what comes is read, calm or busy, and one socket takes nothing from another."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from server.media.relay import sockets
from server.media.relay.link import Address
from server.media.relay.sockets import BATCH, MediaSocket, Sockets
from tests.helpers.rtc_peer import eventually


class Port:
    """A socket that remembers what it reads, and one that sends to it."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind(("127.0.0.1", 0))
        self.closed = asyncio.Event()
        self.transport = MediaSocket(self.sock, self.read, self.arrived, self.closed.set)
        self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sender.connect(self.sock.getsockname())

    def read(self) -> None:
        data = self.sock.recv(2048)
        if data == b"bad":
            raise RuntimeError("what a reader must not do")
        self.got.append(data)

    def arrived(self, size: int, source: Address) -> None:
        raise AssertionError("no way was laid")

    def send(self, data: bytes) -> None:
        self._sender.send(data)

    async def close(self) -> None:
        self.transport.close()
        self._sender.close()
        await self.closed.wait()


async def test_calm_and_busy_and_calm_again() -> None:
    port, other = Port(), Port()
    port.send(b"first")
    await eventually(lambda: port.got == [b"first"])
    sent = [str(number).encode() for number in range(200)]
    for data in sent:
        port.send(data)
        other.send(data)
        await asyncio.sleep(0)
    await eventually(lambda: port.got[1:] == sent and other.got == sent)
    await eventually(lambda: not sockets.of_loop()._busy)
    port.send(b"last")
    await eventually(lambda: port.got[-1] == b"last")
    await port.close()
    other.send(b"still there")
    await eventually(lambda: other.got[-1] == b"still there")
    await other.close()
    again = Port()  # the first one after none
    again.send(b"again")
    await eventually(lambda: again.got == [b"again"])
    await again.close()


async def test_a_reader_that_fails_ends_nothing() -> None:
    port, other = Port(), Port()
    port.send(b"bad")
    port.send(b"good")
    other.send(b"good")
    await eventually(lambda: port.got == other.got == [b"good"])
    await port.close()
    await other.close()


async def test_a_flood_at_one_socket_takes_its_turn() -> None:
    port, other = Port(), Port()
    for number in range(100):
        port.send(b"flood %d" % number)
    other.send(b"voice")
    at_voice: list[int] = []
    read = other.read

    def noted() -> None:
        at_voice.append(len(port.got))
        read()

    table = Sockets(asyncio.get_running_loop())
    table.add(port.sock, port.read, port.arrived)
    table.add(other.sock, noted, other.arrived)
    assert table._look() == 101
    assert at_voice[0] <= 1
    assert len(port.got) == 100 < BATCH
    table.remove(port.sock)
    table.remove(other.sock)
    table.close()
    await port.close()
    await other.close()


async def test_a_socket_that_is_closed_by_the_one_before_it_is_not_read() -> None:
    first, second = Port(), Port()
    reads = []

    def close_both() -> None:
        reads.append(1)
        first.transport.close()
        second.transport.close()

    for port in (first, second):
        port.transport._sockets.remove(port.sock)
        port.transport._sockets.add(port.sock, close_both, port.arrived)
        port.send(b"x")
    await eventually(lambda: first.transport.is_closing() and second.transport.is_closing())
    await asyncio.gather(first.closed.wait(), second.closed.wait())
    assert reads == [1]


async def test_a_name_is_never_looked_up() -> None:
    port = Port()
    began = time.monotonic()
    with pytest.raises(OSError, match="illegal"):
        port.transport.sendto(b"x", ("patchbay.invalid", 9))
    assert time.monotonic() - began < 1.0, "the system asked DNS"
    await port.close()
