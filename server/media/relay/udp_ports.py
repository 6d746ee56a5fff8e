"""UDP ports for media: a range, used round robin so that a late packet of an old call meets no new one."""

from __future__ import annotations

import errno
import itertools
import socket
from collections.abc import Iterable

TRIES = 32  # for a pair without a range: each has one chance in two


class PortRange:
    """Binds sockets within `low`..`high` (both included), or anywhere when no range is given."""

    def __init__(self, low: int = 0, high: int = 0) -> None:
        if not (low == high == 0 or 1024 <= low <= high <= 65535):
            raise ValueError(f"port range {low}-{high}: give LOW-HIGH within 1024-65535")
        self._low = low
        self._size = high - low + 1
        self._next = 0

    @classmethod
    def parse(cls, text: str) -> PortRange:
        """`LOW-HIGH`, or an empty text for any port. Raises ValueError."""
        if not text:
            return cls()
        low, dash, high = text.partition("-")
        if not (dash and low.isascii() and low.isdigit() and high.isascii() and high.isdigit()):
            raise ValueError(f"port range {text!r}: give LOW-HIGH, for example 20000-20999")
        return cls(int(low), int(high))

    def bind(self, host: str) -> socket.socket | None:
        """A bound non-blocking socket, or None when no port is free or the address is not ours."""
        for _ in range(self._size):
            port = self._low + self._next if self._low else 0
            self._next = (self._next + 1) % self._size
            sock, error = _bound(host, port)
            if sock is not None or error != errno.EADDRINUSE:
                return sock
        return None

    def bind_pair(self, host: str) -> tuple[socket.socket, socket.socket] | None:
        """An even port for RTP and the next one for RTCP (RFC 3550 section 11), or None as above."""
        for port in self._even_ports():
            first, error = _bound(host, port)
            if first is None:
                if error != errno.EADDRINUSE:
                    return None
                continue
            port = first.getsockname()[1]
            second = _bound(host, port + 1)[0] if port % 2 == 0 else None
            if second is not None:
                if self._low:
                    self._next = (port + 2 - self._low) % self._size
                return first, second
            first.close()
        return None

    def _even_ports(self) -> Iterable[int]:
        """Each that has a neighbour in the range, once, from the next one on; 0, any, without a range."""
        if not self._low:
            return itertools.repeat(0, TRIES)
        even = range(self._low + self._low % 2, self._low + self._size - 1, 2)
        begin = next((index for index, port in enumerate(even) if port - self._low >= self._next), 0)
        return itertools.chain(even[begin:], even[:begin])


def _bound(host: str, port: int) -> tuple[socket.socket | None, int | None]:
    """A non-blocking socket, or why there is none (errno)."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        return None, error.errno
    return sock, None
