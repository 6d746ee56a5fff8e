"""What carries the packets of one anchor of a leg: a secured link to a browser (aiortc_seam.py), or RTP to a phone.

    open (sockets; our SDP) ──► start ──► on_connected ──► on_rtp, on_rtcp ⇄ send_rtp, send_rtcp ──► close

A link knows addresses and keys and nothing of sessions: what it takes in is decrypted, from the peer alone (how it is
sure of that is its own matter), and still as it came otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pylibsrtp

from server.media.relay.udp_ports import PortRange

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Binding:
    """A local address to open sockets on, and the addresses that our SDP shows for it."""

    bind: str
    announce: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class End:
    """One end of a way (ways.py): the socket, the peer's address, and the session that decrypts what comes from there,
    or encrypts what goes there; None: nothing is encrypted."""

    fd: int
    peer: Address
    session: pylibsrtp.Session | None


class LinkUser(Protocol):
    """Who owns a link. Called on the loop; must not raise."""

    def on_connected(self) -> None:
        """Packets can be sent, and what comes can be read."""

    def on_lost(self, reason: str) -> None:
        """Once: dtls_closed, ice_lost or failed. The link carries nothing any more; close it."""

    def on_rtp(self, packet: bytes, now_ns: int) -> None:
        """A decrypted packet of the peer, not parsed yet. `now_ns`: monotonic."""

    def on_rtcp(self, packet: bytes, now_ns: int) -> None: ...

    def on_moved(self) -> None:
        """`coming` or `going` is another one now."""

    def read_back(self) -> None:
        """The link wants to know what came: `heard` is called for what it did not see itself."""


class Link(Protocol):
    """One way to one peer. Its methods may be called in any state; `open`, `start` and `close` once, in this order."""

    @property
    def connected(self) -> bool:
        """Packets can be sent now."""
        ...

    @property
    def coming(self) -> End | None:
        """Where the peer's packets come from and go by to `on_rtp`; None while that is not settled."""
        ...

    @property
    def going(self) -> End | None:
        """Where `send_rtp` sends to; None: nowhere."""
        ...

    def heard(self, now_ns: int, refused: int) -> None:
        """Packets of the peer came by a way, lastly then; so many could not be decrypted."""

    def failed(self, unsent: int) -> None:
        """So many packets could not be sent by a way."""

    async def open(self, bindings: Sequence[Binding], ports: PortRange, ssrc: int) -> str:
        """Open the sockets; returns our SDP, which names `ssrc` as what we shall send. Raises MediaError(no_ports)."""
        ...

    def start(self, parent: asyncio.TaskGroup) -> None:
        """Begin to connect. Calls the user from the loop, never before this returns."""
        ...

    def send_rtp(self, packet: bytes) -> None:
        """Encrypt and send. Silently nothing while not connected: RTP has no promise of delivery."""

    def send_rtcp(self, packet: bytes) -> None: ...

    async def close(self) -> None:
        """Say goodbye where the protocol knows one, and free the sockets."""
