"""The media sockets of a worker: one epoll for all of them, read in rounds, written to directly.

An event loop wakes for each datagram, wraps it, and calls a protocol: with thousands of packets a second that costs
more than what is done with them. Here the loop watches one descriptor, the epoll that holds every media socket:

    calm ─ packets come closer than BUSY_S ─► busy: the loop does not watch; a timer looks every ROUND_S, and one
      ▲                                        │     look reads whatever came at every socket since
      └───── CALM_LOOKS looks find nothing ◄───┘

So a quiet worker answers at once, and a busy one wakes 500 times a second whatever its calls: a packet waits for 1 ms
in the mean, which no listener's jitter buffer sees. Where there is no epoll the loop watches each socket itself.
"""

from __future__ import annotations

import asyncio
import select
import socket
import weakref
from collections.abc import Callable
from typing import Any

import structlog

from server.media.relay.link import Address
from server.media.relay.ways import Ways

log = structlog.get_logger(__name__)

ROUND_S = 0.002
BUSY_S = 0.001
CALM_LOOKS = 5  # changing over costs as much as some of them
BATCH = 512  # packets in one turn of the loop: 10 ms, and then its timers' and other descriptors' turn

Reader = Callable[[], None]
"""Reads one datagram, which there may not be. Its exceptions are logged; they end nothing."""

Arrived = Callable[[int, Address], None]
"""Takes one that was read already: its size in ARRIVED, and where it came from. As above."""


class Sockets:
    """All media sockets of one event loop. `of_loop` finds it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ways: Ways | None = None  # set by the worker, where there is a compiled part
        self._loop = loop
        self._readers: dict[int, tuple[Reader, Arrived]] = {}
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._busy = False
        self._empty = 0  # looks in a row that found nothing
        self._looked = 0.0

    def add(self, sock: socket.socket, reader: Reader, arrived: Arrived) -> None:
        fd = sock.fileno()
        if self._epoll is None:
            self._loop.add_reader(fd, reader)
            return
        if not self._readers and not self._busy:
            self._loop.add_reader(self._epoll.fileno(), self._look_calm)
        self._readers[fd] = reader, arrived
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, sock: socket.socket) -> None:
        """Before it is closed. Harmless when repeated."""
        fd = sock.fileno()
        if self.ways is not None:
            self.ways.forget(fd)
        if self._epoll is None:
            self._loop.remove_reader(fd)
        elif self._readers.pop(fd, None) is not None:
            self._epoll.unregister(fd)
            if not self._readers and not self._busy:  # nothing of ours keeps the loop then
                self._loop.remove_reader(self._epoll.fileno())

    def _look_calm(self) -> None:
        now, before = self._loop.time(), self._looked
        self._looked = now
        self._look()
        if now - before < BUSY_S and self._readers and self._epoll is not None:
            self._busy = True
            self._loop.remove_reader(self._epoll.fileno())
            self._loop.call_later(ROUND_S, self._look_busy)

    def _look_busy(self) -> None:
        read = self._look()
        self._empty = 0 if read else self._empty + 1
        if read >= BATCH:
            self._loop.call_soon(self._look_busy)
        elif self._empty < CALM_LOOKS:
            self._loop.call_later(ROUND_S, self._look_busy)
        else:
            self._busy, self._empty = False, 0
            if self._readers and self._epoll is not None:
                self._loop.add_reader(self._epoll.fileno(), self._look_calm)

    def _look(self) -> int:
        """Read what is there, one datagram a socket in turn, so that a flood at one takes nothing from the others."""
        assert self._epoll is not None
        if self.ways is not None:
            return self._look_along(self.ways, self._epoll.fileno())
        poll, read = self._epoll.poll, 0
        while read < BATCH and (ready := poll(0, BATCH)):
            read += len(ready)
            for fd, _ in ready:
                self._read(fd, 0, None)
        return read

    def _look_along(self, ways: Ways, epoll_fd: int) -> int:
        """The same, of which only what no way carries comes here."""
        read, fallen = ways.look(epoll_fd, BATCH)
        total = read
        while fallen:
            for fd, size, source in ways.fallen(fallen):
                self._read(fd, size, source)
            if total >= BATCH:
                break
            read, fallen = ways.look(epoll_fd, BATCH - total)
            total += read
        return total

    def _read(self, fd: int, size: int, source: Address | None) -> None:
        found = self._readers.get(fd)  # one before it may have closed this socket
        if found is None:
            return
        read, arrived = found
        try:
            if source is None:
                read()
            else:
                arrived(size, source)
        except Exception:  # a boundary: the other calls go on
            log.exception("datagram_failed")

    def close(self) -> None:
        if self._epoll is not None:
            self._epoll.close()


_of_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Sockets] = weakref.WeakKeyDictionary()


def of_loop() -> Sockets:
    """The running loop's."""
    loop = asyncio.get_running_loop()
    found = _of_loop.get(loop)
    if found is None:
        found = _of_loop[loop] = Sockets(loop)
        weakref.finalize(loop, found.close)
    return found


class MediaSocket(asyncio.DatagramTransport):
    """A bound socket among `Sockets`, for what asks for a transport (aioice). What the system does not take at once is
    lost, as on any network; other errors are raised (OSError)."""

    def __init__(
        self, sock: socket.socket, reader: Reader, arrived: Arrived, on_closed: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__()
        self.sock = sock
        self._on_closed = on_closed
        self._sockets = of_loop()
        self._sockets.add(sock, reader, arrived)

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Raises OSError, also for a name in place of an address: the system would ask DNS, and all calls wait."""
        socket.inet_pton(socket.AF_INET, addr[0])
        try:
            self.sock.sendto(data, addr)
        except BlockingIOError:
            return

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.sock if name == "socket" else default

    def is_closing(self) -> bool:
        return self.sock.fileno() < 0

    def close(self) -> None:
        if not self.is_closing():
            self._sockets.remove(self.sock)
            self.sock.close()
            asyncio.get_running_loop().call_soon(self._on_closed)

    abort = close
