"""One secured peer link (ICE + DTLS-SRTP), and every private name of aiortc and aioice that we touch.

Theory of operation. aiortc's `RTCPeerConnection` is not used: its SDP parser asserts on bad input, and its
tracks decode. What is used are its DTLS transport and aioice's ICE agent. `SecureLink` joins the two and
takes RTP and RTCP out of the datagrams before either sees them:

    socket → RelaySocket.take ─ 0..3 ───► aioice (connectivity checks, RFC 7983 demultiplexing)
                              ─ 20..63 ─► aiortc RTCDtlsTransport
                              ─ 128..191 ► libsrtp (srtp.py) → on_rtp / on_rtcp

Anything that is not STUN is accepted only from the far address of a candidate pair whose check succeeded:
aioice alone hands a stranger's ClientHello to DTLS, and a spray of those keeps every call from connecting.

Private names, each exercised by tests/wire/test_aiortc_seam.py (pin aiortc==1.16.*):
- aioice.ice.Connection: _local_candidates, _local_candidates_start, _local_candidates_end, _protocols,
  _nominated, _components; overridden: gather_candidates, query_consent, data_received, check_state,
  check_complete, check_incoming
- aioice.ice.StunProtocol: receiver, transport, local_candidate; overridden: datagram_received, send_stun
- aiortc.rtcdtlstransport.RTCDtlsTransport: _set_role, _rx_srtp, _tx_srtp, _ssl, and it calls only role, _recv
  and _send of the transport below it
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Sequence
from typing import Any, cast

import pylibsrtp
from aioice import stun
from aioice.candidate import Candidate
from aioice.ice import CandidatePair, Connection, StunProtocol
from aiortc import RTCCertificate
from aiortc.rtcdtlstransport import RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport

from server.media.relay import srtp
from server.media.relay.link import Address, Binding, End, LinkUser
from server.media.relay.sockets import MediaSocket
from server.media.relay.srtp import ARRIVED
from server.media.relay.udp_ports import PortRange
from server.media.sdp import Fingerprint, LocalMedia, Offer, build_answer, host_priority
from server.services.ports import MediaError

CONSENT_TICK_S = 0.5
CONSENT_EVERY_S = 5.0  # while packets flow: the pace of RFC 7675 section 5.1
CONSENT_HURRY_S = 1.0  # nothing heard for so long: ask at every tick
CONSENT_WORRY_S = 8.0  # our checks unanswered for so long, though packets come: ask at every tick as well
LOSS_S = 4.5  # nothing authenticated heard for so long: the peer is gone (seen within 6 s)
CONSENT_EXPIRES_S = 30.0  # RFC 7675 section 5.1: without an answer to our own checks we may not send
SOCKET_BUFFER_BYTES = 256 * 1024  # 2 s of a call: a stall of the loop loses nothing


class Identity:
    """The worker's DTLS certificate. One for all calls: making one costs more than the rest of a set-up."""

    RENEW_S = 7 * 86400  # aiortc's certificates last 30 days

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self._certificate = RTCCertificate.generateCertificate()
        self._made = time.monotonic()

    @property
    def certificate(self) -> RTCCertificate:
        if time.monotonic() - self._made > self.RENEW_S:
            self._renew()
        return self._certificate


class RelaySocket(StunProtocol):
    """One UDP socket of a link. `allowed`: far addresses of succeeded pairs."""

    def __init__(self, agent: _Agent, sock: socket.socket) -> None:
        super().__init__(agent)
        self.link = agent.link
        self.allowed: set[Address] = set()
        self.sock = sock
        self._read_into = sock.recvfrom_into
        self.connection_made(MediaSocket(sock, self.read, self.arrived, lambda: self.connection_lost(None)))

    def read(self) -> None:
        """One datagram from the socket."""
        try:
            size, source = self._read_into(ARRIVED)
        except OSError:  # nothing there after all, or the ICMP error of an earlier packet
            return
        self.arrived(size, source)

    def arrived(self, size: int, source: Address) -> None:
        """A datagram lies in ARRIVED."""
        if 127 < ARRIVED[0] < 192 and size and source in self.allowed:
            self.link.take_srtp(size)
        else:
            self.take(size, source)

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        """As if this had come from the network."""
        size = min(len(data), len(ARRIVED))
        ARRIVED[:size] = cast(bytes, data)[:size]
        self.take(size, cast(Address, addr))

    def take(self, size: int, source: Address) -> None:
        """What lies in ARRIVED."""
        link = self.link
        if not size:
            return
        first = ARRIVED[0]
        if first < 4:
            try:
                super().datagram_received(bytes(ARRIVED[:size]), source)
            except Exception:  # a boundary: aioice raises many kinds on malformed STUN
                link.dropped_stun += 1
        elif source not in self.allowed:
            link.dropped_stranger += 1
        elif 127 < first < 192:
            link.take_srtp(size)
        elif 19 < first < 64:
            link.agent.hand_to_dtls(bytes(ARRIVED[:size]))

    def send_stun(self, message: stun.Message, addr: Address) -> None:
        with contextlib.suppress(OSError, ValueError):  # an unreachable candidate is no news
            super().send_stun(message, addr)


class _Agent(Connection):
    """aioice's agent with our own sockets, liveness and source filter."""

    def __init__(self, link: SecureLink, ice_controlling: bool) -> None:
        super().__init__(ice_controlling=ice_controlling, use_ipv6=False)
        self.link = link

    def open(self, bindings: Sequence[Binding], ports: PortRange) -> list[Address]:
        """Open one socket a binding. Raises MediaError(no_ports); returns the candidates' addresses."""
        addresses: list[Address] = []
        for rank, binding in enumerate(bindings):
            sock = ports.bind(binding.bind)
            if sock is None:
                continue
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
            host, port = sock.getsockname()
            protocol = RelaySocket(self, sock)
            protocol.local_candidate = Candidate(
                foundation=str(rank + 1),
                component=1,
                transport="udp",
                priority=host_priority(rank),
                host=host,
                port=port,
                type="host",
            )
            self._protocols.append(protocol)
            self._local_candidates.append(protocol.local_candidate)
            addresses += [(shown, port) for shown in binding.announce]
        self._local_candidates_start = self._local_candidates_end = True
        if not addresses:
            raise MediaError("no_ports", "no free UDP port in the range; widen --ports or add a worker")
        return addresses

    async def gather_candidates(self) -> None:
        """Nothing to gather: `open` has made the candidates."""

    def hand_to_dtls(self, packet: bytes) -> None:
        super().data_received(packet, 1)

    def data_received(self, data: bytes, component: int) -> None:
        # aioice calls this for a datagram that it can't parse as STUN; DTLS comes by hand_to_dtls
        self.link.dropped_stun += 1

    def check_state(self, pair: CandidatePair, state: CandidatePair.State) -> None:
        super().check_state(pair, state)
        protocol = cast(RelaySocket, pair.protocol)
        if state == CandidatePair.State.SUCCEEDED:
            protocol.allowed.add(pair.remote_addr)
            self.link.heard_answer()
        elif state == CandidatePair.State.FAILED:
            protocol.allowed.discard(pair.remote_addr)
            self.link.moved()

    def check_complete(self, pair: CandidatePair) -> None:
        super().check_complete(pair)
        chosen = self._nominated.get(1)
        if chosen is not None:
            self.link.use_path(cast(RelaySocket, chosen.protocol), chosen.remote_addr)

    def check_incoming(self, message: stun.Message, addr: Address, protocol: StunProtocol) -> None:
        self.link.heard_at = time.monotonic()  # only authenticated checks come here
        super().check_incoming(message, addr, protocol)

    async def query_consent(self) -> None:
        """Watch over the peer; replaces aioice's RFC 7675 loop, which takes 15 to 36 s to notice a loss.

        The peer counts as alive while anything authenticated comes from it, so that lost STUN messages
        alone never end a call; that we may still send is asked by checks of our own."""
        link = self.link
        asked = time.monotonic()
        while True:
            await asyncio.sleep(CONSENT_TICK_S * (0.8 + 0.4 * random.random()))
            link.read_back()
            now = time.monotonic()
            silent = now - link.heard_at
            if silent > LOSS_S or now - link.answered_at > CONSENT_EXPIRES_S:
                link.lose("ice_lost")
                return
            pair = self._nominated.get(1)
            calm = silent < CONSENT_HURRY_S and now - link.answered_at < CONSENT_WORRY_S
            if pair is None or (calm and now - asked < CONSENT_EVERY_S):
                continue
            asked = now
            key = cast(str, self.remote_password).encode()
            with contextlib.suppress(stun.TransactionError):
                request = self.build_request(pair, nominate=False)
                await pair.protocol.request(request, pair.remote_addr, integrity_key=key, retransmissions=0)
                link.heard_answer()


class _Pipe:
    """What RTCDtlsTransport needs of the transport below it."""

    def __init__(self, agent: _Agent) -> None:
        self._agent = agent

    @property
    def role(self) -> str:
        return "controlling" if self._agent.ice_controlling else "controlled"

    async def _recv(self) -> bytes:
        return await self._agent.recv()

    async def _send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            await self._agent.send(data)


class SecureLink:
    """ICE, DTLS and SRTP with one peer: a `Link`."""

    def __init__(self, user: LinkUser, offer: Offer, identity: Identity) -> None:
        self.agent = _Agent(self, ice_controlling=offer.ice_lite)  # RFC 8445 section 6.1.1
        self.connected = False
        self.heard_at = self.answered_at = time.monotonic()
        self.dropped_stun = 0
        self.dropped_stranger = 0
        self.dropped_srtp = 0
        self.unsent = 0
        self._user = user
        self._offer = offer
        certificate = identity.certificate
        print_ = next(f for f in certificate.getFingerprints() if f.algorithm == "sha-256")
        self.fingerprint = Fingerprint(print_.algorithm, print_.value)
        self._dtls = RTCDtlsTransport(cast(Any, _Pipe(self.agent)), [certificate])
        self._dtls._set_role("client" if offer.dtls_role == "active" else "server")
        self._dtls.on("statechange", self._dtls_changed)
        self._rx: srtp.Inward | None = None
        self._tx: srtp.Outward | None = None
        self._sendto: Any = None
        self._path: RelaySocket | None = None
        self._to: Address = ("", 0)
        self._lost = False
        self._task: asyncio.Task[None] | None = None

    @property
    def ufrag(self) -> str:
        return self.agent.local_username

    @property
    def password(self) -> str:
        return self.agent.local_password

    async def open(self, bindings: Sequence[Binding], ports: PortRange, ssrc: int) -> str:
        """Open the sockets; returns the SDP answer. Raises MediaError(no_ports)."""
        addresses = self.agent.open(bindings, ports)
        return build_answer(self._offer, LocalMedia(self.ufrag, self.password, self.fingerprint, addresses, ssrc))

    def start(self, parent: asyncio.TaskGroup) -> None:
        """Begin connectivity checks. The peer's end-of-candidates is never signalled to aioice, so that
        the set-up fails by its owner's timeout only: a late check can still teach us an address."""
        self._task = parent.create_task(self._connect())

    async def _connect(self) -> None:
        offer = self._offer
        try:
            for c in offer.candidates:
                await self.agent.add_remote_candidate(
                    Candidate(c.foundation, 1, "udp", c.priority, c.host, c.port, c.kind)
                )
            self.agent.remote_username, self.agent.remote_password = offer.ufrag, offer.password
            self.agent.remote_is_lite = offer.ice_lite
            await self.agent.connect()
            prints = [RTCDtlsFingerprint(f.algorithm, f.value) for f in offer.fingerprints]
            await self._dtls.start(RTCDtlsParameters(prints))
        except ConnectionError:
            self.lose("failed")
        except Exception:  # a boundary: a hostile handshake ends this link, never the worker
            self.lose("failed")

    def _dtls_changed(self) -> None:
        state = self._dtls.state
        if state == "connected":
            assert self._dtls._rx_srtp is not None
            assert self._dtls._tx_srtp is not None
            self._rx, self._tx = srtp.Inward(self._dtls._rx_srtp), srtp.Outward(self._dtls._tx_srtp)
            self.connected = True
            self._user.on_connected()
        elif state == "failed":
            self.lose("failed")
        elif state == "closed":
            self.lose("dtls_closed")

    def use_path(self, path: RelaySocket, to: Address) -> None:
        if (path, to) != (self._path, self._to):
            self._path, self._to = path, to
            self._sendto = path.sock.sendto
            self.moved()

    @property
    def coming(self) -> End | None:
        path = self._path
        if path is None or self._rx is None or not self.connected or self._to not in path.allowed:
            return None
        return End(path.sock.fileno(), self._to, self._rx.session)

    @property
    def going(self) -> End | None:
        if self._path is None or self._tx is None or not self.connected:
            return None
        return End(self._path.sock.fileno(), self._to, self._tx.session)

    def heard(self, now_ns: int, refused: int) -> None:
        self.heard_at = max(self.heard_at, now_ns / 1e9)
        self.dropped_srtp += refused

    def failed(self, unsent: int) -> None:
        self.unsent += unsent

    def moved(self) -> None:
        self._user.on_moved()

    def read_back(self) -> None:
        self._user.read_back()

    def heard_answer(self) -> None:
        self.heard_at = self.answered_at = time.monotonic()

    def lose(self, reason: str) -> None:
        if not self._lost:
            self._lost = True
            self.connected = False
            self._user.on_lost(reason)

    def take_srtp(self, size: int) -> None:
        """The packet in ARRIVED."""
        rx = self._rx
        if rx is None or size < 12:
            return
        now_ns = time.monotonic_ns()
        try:
            if 191 < ARRIVED[1] < 224:  # RFC 5761 section 4: RTCP packet types
                report = rx.rtcp(bytes(ARRIVED[:size]))
                self.heard_at = now_ns / 1e9
                self._user.on_rtcp(report, now_ns)
                return
            packet = rx.rtp_here(size)
        except (pylibsrtp.Error, ValueError):  # ValueError: longer than libsrtp's buffer
            self.dropped_srtp += 1
            return
        self.heard_at = now_ns / 1e9
        self._user.on_rtp(packet, now_ns)

    def send_rtp(self, packet: bytes) -> None:
        """Encrypt and send. Silently nothing while not connected: RTP has no promise of delivery."""
        if self.connected and self._tx is not None:
            try:  # not contextlib.suppress: this runs for each packet
                self._sendto(self._tx.rtp(packet), self._to)
            except (pylibsrtp.Error, OSError, ValueError):
                self.unsent += 1

    def send_rtcp(self, packet: bytes) -> None:
        if self.connected and self._tx is not None:
            with contextlib.suppress(pylibsrtp.Error, OSError, ValueError):
                self._sendto(self._tx.rtcp(packet), self._to)

    async def close(self) -> None:
        """Say goodbye (DTLS close_notify) and free the sockets. May be called in any state, once."""
        self._lost = True
        self.connected = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        with contextlib.suppress(Exception):  # the peer may be long gone
            await self._dtls.stop()
        await self.agent.close()
        # These objects hold each other, so they would keep OpenSSL's and libsrtp's memory, which the garbage collector
        # does not count, for some hundred calls more.
        self._rx = self._tx = None
        cast(Any, self._dtls)._rx_srtp = cast(Any, self._dtls)._tx_srtp = self._dtls._ssl = None
