"""Callers for the benchmark: ICE and DTLS by aiortc, then a thread in C (load.c) sends and reads all packets.

aiortc's own senders and receivers are left out: they would encode and decode."""

from __future__ import annotations

import asyncio
import ctypes
import re
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aioice.ice
import aiortc.rtcdtlstransport as dtls_module
import aiortc.rtcpeerconnection as connection_module
from aioice.ice import StunProtocol
from aiortc import RTCCertificate, RTCPeerConnection, RTCRtpReceiver, RTCRtpSender, RTCSessionDescription

CONNECT_S = 30.0
LATENCIES = 2_000_000
PROFILE = b"SRTP_AES128_CM_SHA1_80"  # what Chromium and the relay agree on
PHONE = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {} RTP/AVP 0\r\na=ptime:20\r\n"
)
LEVEL_URI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"


def compile_load(folder: Path) -> ctypes.CDLL:
    """Needs gcc and libsrtp2-dev. Raises subprocess.CalledProcessError."""
    source, library = Path(__file__).with_name("load.c"), folder / "load.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source, "-lsrtp2"], check=True)
    loaded = ctypes.CDLL(str(library))
    assert loaded.load_init() == 0
    return loaded


class _Receiver(RTCRtpReceiver):
    async def receive(self, parameters: Any) -> None:
        self.transport._register_rtp_receiver(self, parameters)


class _Sender(RTCRtpSender):
    async def send(self, parameters: Any) -> None:
        self.transport._register_rtp_sender(self, parameters)


def prepare_aiortc() -> None:
    """Loopback alone, no codecs at work, one certificate, the one SRTP profile."""
    patched: Any = connection_module
    certificate = RTCCertificate.generateCertificate()
    patched.RTCRtpReceiver, patched.RTCRtpSender = _Receiver, _Sender
    patched.RTCCertificate = type("Certificate", (), {"generateCertificate": staticmethod(lambda: certificate)})
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    dtls_module.SRTP_PROFILES[:] = [p for p in dtls_module.SRTP_PROFILES if p.openssl_profile == PROFILE]


@dataclass(frozen=True, slots=True)
class Ready:
    """A leg that is connected: what load.c takes over. `owner` keeps the socket open."""

    fd: int
    host: str
    port: int
    keys: tuple[bytes, bytes] | None
    level_id: int
    owner: Any
    stun: StunProtocol | None = None  # takes what comes of it from now on


class Browser:
    """A WebRTC caller with G.711."""

    def __init__(self) -> None:
        self._connection = RTCPeerConnection()
        self._level_id = 0
        self._spoken = 0
        self._settled = asyncio.Event()
        self._connection.on("connectionstatechange", self._changed)

    def _changed(self) -> None:
        if self._connection.connectionState in ("connected", "failed", "closed"):
            self._settled.set()

    async def offer(self) -> str:
        transceiver = self._connection.addTransceiver("audio", "sendrecv")
        codecs = RTCRtpSender.getCapabilities("audio").codecs
        transceiver.setCodecPreferences([codec for codec in codecs if codec.mimeType == "audio/PCMU"])
        await self._connection.setLocalDescription(await self._connection.createOffer())
        sdp: str = self._connection.localDescription.sdp
        level = re.search(rf"a=extmap:(\d+) {LEVEL_URI}", sdp)
        assert level is not None, "aiortc no longer offers the audio level"
        self._level_id = int(level[1])
        return sdp

    async def answer(self, sdp: str) -> Ready:
        """Connects."""
        await self._connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        async with asyncio.timeout(CONNECT_S):
            await self._settled.wait()
        assert self._connection.connectionState == "connected"
        dtls: Any = self._connection.getTransceivers()[0].receiver.transport
        pair = dtls.transport._connection._nominated[1]
        udp = pair.protocol.transport.get_extra_info("socket")
        host, port = pair.remote_addr
        return Ready(udp.fileno(), host, port, _keys(dtls), self._level_id, self._connection, pair.protocol)

    async def speak(self) -> None:
        """One packet. The relay calls a leg up when it has heard it."""
        self._spoken += 1
        dtls: Any = self._connection.getTransceivers()[0].receiver.transport
        await dtls._send_rtp(_packet(self._spoken))


def _packet(number: int) -> bytes:
    return struct.pack("!BBHII", 0x80, 0, number, 160 * number, 1) + bytes(160)


def _keys(dtls: Any) -> tuple[bytes, bytes]:
    """Ours and theirs (RFC 5764 section 4.2)."""
    profile = dtls._srtp_profiles[0]
    exported = dtls._ssl.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (profile.key_length + profile.salt_length))
    ours = 1 if dtls._role == "server" else 0
    return profile.get_key_and_salt(exported, ours), profile.get_key_and_salt(exported, 1 - ours)


class Phone:
    """A caller with plain RTP."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self._port = self._spoken = 0

    async def offer(self) -> str:
        return PHONE.format(self._socket.getsockname()[1])

    async def answer(self, sdp: str) -> Ready:
        found = re.search(r"m=audio (\d+)", sdp)
        assert found is not None
        self._port = int(found[1])
        return Ready(self._socket.fileno(), "127.0.0.1", self._port, None, 0, self._socket)

    async def speak(self) -> None:
        self._spoken += 1
        self._socket.sendto(_packet(self._spoken), ("127.0.0.1", self._port))


class Load:
    """Takes over what is connected, in groups of which one speaks at a time. One at a time."""

    def __init__(self, library: ctypes.CDLL, groups: list[list[Ready]]) -> None:
        self._library = library
        self._latencies = (ctypes.c_uint32 * LATENCIES)()
        self._found = ctypes.c_int(0)
        self._legs = [leg for group in groups for leg in group]
        self._stun, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._theirs = theirs
        self._stun.setblocking(False)
        library.load_begin(len(self._legs), theirs.fileno())
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._stun, self._take_stun)
        numbered = [(group, leg) for group, legs in enumerate(groups) for leg in legs]
        for number, (group, leg) in enumerate(numbered):
            if leg.keys is not None:
                self._loop._remove_reader(leg.fd)  # type: ignore[attr-defined]  # refused for a transport's socket
            ours, theirs_ = leg.keys or (None, None)
            where = leg.host.encode(), leg.port
            status = library.load_leg(number, group, leg.fd, *where, ours, theirs_, leg.level_id)
            assert status == 0, status
        self._thread = threading.Thread(
            target=library.load_run, args=(self._latencies, LATENCIES, ctypes.byref(self._found)), daemon=True
        )
        self._thread.start()

    def _take_stun(self) -> None:
        """Consent (RFC 7675) goes on: without it every call would be over after some seconds."""
        for _ in range(64):
            try:
                message = self._stun.recv(4096)
            except BlockingIOError:
                return
            leg = self._legs[int.from_bytes(message[:4], sys.byteorder)]
            if leg.stun is not None:
                leg.stun.datagram_received(message[4:], (leg.host, leg.port))

    def speak(self, group: int) -> None:
        """-1: nobody."""
        self._library.load_speak(group)

    def counts(self, group: int) -> tuple[int, int]:
        """Packets sent and received so far by a group."""
        sent, received = ctypes.c_uint64(0), ctypes.c_uint64(0)
        self._library.load_counts(group, ctypes.byref(sent), ctypes.byref(received))
        return sent.value, received.value

    def heard(self) -> int:
        """How many latencies there are."""
        return self._found.value

    def latencies_ms(self, since: int) -> list[float]:
        return [micro / 1000 for micro in self._latencies[since : self._found.value]]

    def stop(self) -> None:
        self._library.load_stop()
        self._thread.join()
        self._loop.remove_reader(self._stun)
        self._stun.close()
        self._theirs.close()
