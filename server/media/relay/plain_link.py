"""RTP with a phone: no ICE, no DTLS; plain, or encrypted with keys from the SDP.

    open (sockets) ─ the peer's SDP is known ─► connected: we send to the address that it names
                                                    │ packets that look like the stream (latch.py)
                                                    ▼
                                                 locked: we send there, and take nothing from anywhere else

With keys a packet that authenticates says more than any count of packets, so the first one locks. RTCP is taken from
the host that RTP comes from alone. Before the peer's SDP is known (an offer of ours) nothing is taken."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from typing import cast

import pylibsrtp

from server.media import sdp_crypto
from server.media.relay import srtp
from server.media.relay.latch import Latch
from server.media.relay.link import Address, Binding, End, LinkUser
from server.media.relay.sockets import MediaSocket
from server.media.relay.srtp import ARRIVED
from server.media.relay.udp_ports import PortRange
from server.media.sdp_crypto import Crypto
from server.media.sdp_lines import bad
from server.media.sdp_plain import LocalPlain, PlainMedia, build_offer, build_plain_answer
from server.services.ports import MediaError

SOCKET_BUFFER_BYTES = 256 * 1024  # seconds of a call: a stall of the loop loses nothing
_PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}


class _Port:
    """A socket of a link. `take`: the size of what lies in ARRIVED, and where it came from."""

    def __init__(self, sock: socket.socket, take: Callable[[int, Address], None]) -> None:
        self._take = take
        self._read_into = sock.recvfrom_into
        self.sock = sock
        self.transport = MediaSocket(sock, self._read, take)
        self.sendto = sock.sendto

    def _read(self) -> None:
        try:
            size, source = self._read_into(ARRIVED)
        except OSError:  # nothing there after all, or an ICMP "port unreachable": a phone that does not listen yet
            return
        self._take(size, source)


class PlainLink:
    """RTP and RTCP with one phone: a `Link`. `media`: the peer's description, or with `offering` what ours is to say;
    `origin` as in LocalPlain."""

    def __init__(self, user: LinkUser, media: PlainMedia, origin: tuple[int, int], offering: bool) -> None:
        self.connected = False
        self.dropped_stranger = 0
        self.dropped_srtp = 0
        self.unsent = 0
        self._user = user
        self._media = media
        self._origin = origin
        self._offering = offering
        self._mux = media.rtcp_mux
        self._latch = Latch(None, (), 0.0)
        self._rtp: _Port | None = None
        self._rtcp: _Port | None = None
        self._to: Address | None = None
        self._rtcp_to: Address | None = None
        self._rtcp_from: Address | None = None
        self._peer_ssrc = b""  # of the packet that settled where the peer is
        self._ours: tuple[Crypto, ...] = media.cryptos if offering else ()
        self._rx: srtp.Inward | None = None
        self._tx: srtp.Outward | None = None
        self._closed = False

    async def open(self, bindings: Sequence[Binding], ports: PortRange, ssrc: int) -> str:
        """Open a socket, or two where RTCP has a port of its own, on the first binding that has any; returns our SDP.

        Raises MediaError: no_ports, bad_sdp."""
        for binding in bindings:
            socks = _bind(ports, binding.bind, single=self._mux and not self._offering)
            if socks is None:
                continue
            with contextlib.suppress(OSError):
                socks[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
            self._rtp = _Port(socks[0], self._take_rtp)
            if len(socks) > 1:
                self._rtcp = _Port(socks[1], self._take_rtcp)
            port = socks[0].getsockname()[1]
            rtcp_port = socks[1].getsockname()[1] if len(socks) > 1 else None
            if not self._offering:
                self._ours = self._agree(self._media)
            local = LocalPlain(self._origin, binding.announce[0], port, rtcp_port, self._ours)
            return (build_offer if self._offering else build_plain_answer)(self._media, local)
        raise MediaError("no_ports", "no free UDP port in the range; widen --ports or add a worker")

    def start(self, parent: asyncio.TaskGroup) -> None:
        if not self._offering:
            self._connect(self._media)

    def take_answer(self, answer: PlainMedia) -> None:
        """The peer's answer to our offer; the address is learnt anew. Raises MediaError(bad_sdp)."""
        if answer.profile != self._media.profile:
            raise bad(f"the answer's profile {answer.profile!r} is not the offered one (RFC 3264 section 6)")
        self._agree(answer)
        self._mux = answer.rtcp_mux
        self._connect(answer)

    def _agree(self, peer: PlainMedia) -> tuple[Crypto, ...]:
        """Take the keys; returns ours for an answer: of the peer's first line, under its tag (RFC 4568 section
        5.1.2)."""
        if not peer.cryptos:
            return ()
        theirs = peer.cryptos[0]
        if self._offering:
            ours = next((c for c in self._ours if (c.tag, c.suite) == (theirs.tag, theirs.suite)), None)
            if ours is None:
                raise bad("the answer's crypto is none of the offered ones (RFC 4568 section 5.1.3)")
        else:
            ours = sdp_crypto.new_crypto(theirs.tag, theirs.suite)
        self._rx = srtp.Inward(_session(theirs, pylibsrtp.Policy.SSRC_ANY_INBOUND))
        self._tx = srtp.Outward(_session(ours, pylibsrtp.Policy.SSRC_ANY_OUTBOUND))
        return (ours,)

    def _connect(self, peer: PlainMedia) -> None:
        types = {codec.payload_type for codec in (*peer.codecs, *self._media.codecs)}
        self._media = peer
        self._latch = Latch(peer.address, types, time.monotonic())
        self._to = peer.address if peer.sends else None
        self._rtcp_to = peer.address if self._mux else peer.rtcp
        self._rtcp_from = None
        self._user.on_moved()
        asyncio.get_running_loop().call_soon(self._up)

    def _up(self) -> None:
        if not self._closed:
            self.connected = True
            self._user.on_connected()

    # --- in ---

    def _take_rtp(self, size: int, source: Address) -> None:
        if size < 12 or size == len(ARRIVED):  # as long as the buffer: the rest of it was cut off
            return
        if 191 < ARRIVED[1] < 224:  # RFC 5761 section 4: RTCP packet types
            if self._mux:
                self._take_rtcp(size, source)
            return
        latch, rx = self._latch, self._rx
        if source != latch.address and (latch.address is not None or not self._may_be_peer(size, source)):
            self.dropped_stranger += 1
            return
        now_ns = time.monotonic_ns()
        try:
            packet = rx.rtp_here(size) if rx is not None else bytes(ARRIVED[:size])
        except (pylibsrtp.Error, ValueError):  # ValueError: longer than libsrtp's buffer
            self.dropped_srtp += 1
            return
        if latch.address is None:
            self._lock(packet, source)
        self._user.on_rtp(packet, now_ns)

    def _may_be_peer(self, size: int, source: Address) -> bool:
        """Nothing is locked yet. With keys, decrypting decides."""
        if self._latch.announced is None:
            return False
        if self._rx is not None:
            return True
        packet = bytes(ARRIVED[:size])
        if not self._latch.learn(packet, source, time.monotonic()):
            return False
        self._lock(packet, source)
        return True

    def _lock(self, packet: bytes, source: Address) -> None:
        self._latch.take(source)
        self._peer_ssrc = packet[8:12]
        if self._to is not None:
            self._to = source
        if self._mux:
            self._rtcp_to = source
        elif source != self._latch.announced and source[1] < 65535:
            self._rtcp_to = (source[0], source[1] + 1)
        self._user.on_moved()

    def _take_rtcp(self, size: int, source: Address) -> None:
        peer, data = self._latch.address, bytes(ARRIVED[:size])
        if size < 8 or peer is None or source[0] != peer[0]:
            self.dropped_stranger += 1
            return
        expected = peer if self._mux else self._rtcp_from
        if expected is not None and source != expected:
            self.dropped_stranger += 1
            return
        if self._rx is not None:
            try:
                data = self._rx.rtcp(data)
            except (pylibsrtp.Error, ValueError):
                self.dropped_srtp += 1
                return
        elif expected is None and (data[1] not in (200, 201) or data[4:8] != self._peer_ssrc):
            self.dropped_stranger += 1
            return  # no address is learnt from it: each begins with the sender's SR or RR (RFC 3550 section 6.1)
        if expected is None:
            self._rtcp_from = self._rtcp_to = source
        self._user.on_rtcp(data, time.monotonic_ns())

    @property
    def coming(self) -> End | None:
        if self._rtp is None or self._latch.address is None or not self.connected:
            return None
        return End(self._rtp.sock.fileno(), self._latch.address, self._rx.session if self._rx is not None else None)

    def heard(self, now_ns: int, refused: int) -> None:
        self.dropped_srtp += refused

    # --- out ---

    @property
    def going(self) -> End | None:
        if self._rtp is None or self._to is None or not self.connected:
            return None
        return End(self._rtp.sock.fileno(), self._to, self._tx.session if self._tx is not None else None)

    def failed(self, unsent: int) -> None:
        self.unsent += unsent

    def send_rtp(self, packet: bytes) -> None:
        """Encrypt if it is agreed, and send. Silently nothing while not connected, and to a peer that holds us."""
        to = self._to
        if to is None or not self.connected:
            return
        try:  # not contextlib.suppress: this runs for each packet
            if self._tx is not None:
                packet = self._tx.rtp(packet)
            cast(_Port, self._rtp).sendto(packet, to)
        except (pylibsrtp.Error, OSError, ValueError):
            self.unsent += 1

    def send_rtcp(self, packet: bytes) -> None:
        through = self._rtp if self._mux else self._rtcp
        if self._rtcp_to is None or through is None or not self.connected:
            return
        with contextlib.suppress(pylibsrtp.Error, OSError, ValueError):
            through.sendto(packet if self._tx is None else self._tx.rtcp(packet), self._rtcp_to)

    async def close(self) -> None:
        """Free the sockets: the goodbye to a phone is its signalling's."""
        self._closed = True
        self.connected = False
        for port in (self._rtp, self._rtcp):
            if port is not None:
                port.transport.close()


def _bind(ports: PortRange, host: str, single: bool) -> Sequence[socket.socket] | None:
    if not single:
        return ports.bind_pair(host)
    sock = ports.bind(host)
    return None if sock is None else (sock,)


def _session(crypto: Crypto, direction: int) -> pylibsrtp.Session:
    policy = pylibsrtp.Policy(key=crypto.key, ssrc_type=direction, srtp_profile=_PROFILES[crypto.suite])
    return pylibsrtp.Session(policy)
