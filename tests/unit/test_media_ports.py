"""Pairs of ports for RTP and RTCP: neighbours, the even one first, and all of them come back."""

from __future__ import annotations

import errno
import socket

import pytest

from server.media.relay import udp_ports
from server.media.relay.udp_ports import PortRange

HOST = "127.0.0.1"


def numbers(pair: tuple[socket.socket, socket.socket] | None) -> tuple[int, int]:
    assert pair is not None
    return pair[0].getsockname()[1], pair[1].getsockname()[1]


def free_range(size: int) -> int:
    """The even first port of so many free ones."""
    for low in range(45_000, 60_000, 2):
        socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(size)]
        try:
            for port, sock in enumerate(socks, start=low):
                sock.bind((HOST, port))
        except OSError:
            continue
        finally:
            for sock in socks:
                sock.close()
        return low
    raise AssertionError("no free ports")


def test_any_pair() -> None:
    pair = PortRange().bind_pair(HOST)
    rtp, rtcp = numbers(pair)
    assert (rtp % 2, rtcp) == (0, rtp + 1)
    for sock in pair or ():
        assert not sock.getblocking()
        sock.close()


@pytest.mark.parametrize("odd", [0, 1])
def test_a_range_gives_what_it_has_and_takes_it_back(odd: int) -> None:
    low = free_range(8)
    ports = PortRange(low + odd, low + 5)  # from an odd one the first pair begins at the next even one
    pairs = [ports.bind_pair(HOST) for _ in range(3 - odd)]
    assert sorted(numbers(pair) for pair in pairs) == [(low + at, low + at + 1) for at in range(2 * odd, 6, 2)]
    assert ports.bind_pair(HOST) is None
    single = ports.bind(HOST)
    assert (single is not None) is bool(odd), "the odd one at the beginning is left over"
    for sock in [sock for pair in pairs for sock in pair or ()] + ([single] if single else []):
        sock.close()
    again = ports.bind_pair(HOST)
    assert numbers(again)[0] % 2 == 0
    for sock in again or ():
        sock.close()


def test_an_address_that_is_not_ours() -> None:
    assert PortRange().bind_pair("192.0.2.1") is None


def test_a_range_that_is_nearly_full_is_walked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop walks it, with all calls of the worker waiting."""
    low, asked = free_range(8), list[int]()

    def taken(host: str, port: int) -> tuple[socket.socket | None, int | None]:
        asked.append(port)
        return None, errno.EADDRINUSE

    monkeypatch.setattr(udp_ports, "_bound", taken)
    assert PortRange(low, low + 4999).bind_pair(HOST) is None
    assert asked == list(range(low, low + 4999, 2))
