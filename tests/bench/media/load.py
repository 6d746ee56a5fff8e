"""Callers for the benchmark: ICE and DTLS by aiortc, then a thread in C (load.c) sends and reads all packets.

aiortc's own senders and receivers are left out: they would encode and decode."""

from __future__ import annotations

import asyncio
import ctypes
import re
import socket
import struct
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aioice.ice
import aiortc.rtcdtlstransport as dtls_module
import aiortc.rtcpeerconnection as connection_module
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
        return Ready(udp.fileno(), host, port, _keys(dtls), self._level_id, self._connection)

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
    """Takes over what is connected and sends until `stop`. One at a time."""

    def __init__(self, library: ctypes.CDLL, legs: list[Ready]) -> None:
        self._library = library
        self._latencies = (ctypes.c_uint32 * LATENCIES)()
        self._found = ctypes.c_int(0)
        library.load_begin(len(legs))
        loop = asyncio.get_running_loop()
        for number, leg in enumerate(legs):
            if leg.keys is not None:
                loop._remove_reader(leg.fd)  # type: ignore[attr-defined]  # asyncio refuses it for a transport's socket
            ours, theirs = leg.keys or (None, None)
            status = library.load_leg(number, leg.fd, leg.host.encode(), leg.port, ours, theirs, leg.level_id)
            assert status == 0, status
        self._legs = legs
        self._thread = threading.Thread(
            target=library.load_run, args=(self._latencies, LATENCIES, ctypes.byref(self._found)), daemon=True
        )
        self._thread.start()

    def counts(self) -> tuple[int, int]:
        """Packets sent and received so far."""
        sent, received = ctypes.c_uint64(0), ctypes.c_uint64(0)
        self._library.load_counts(ctypes.byref(sent), ctypes.byref(received))
        return sent.value, received.value

    def latencies_ms(self, since: int = 0) -> list[float]:
        return [micro / 1000 for micro in self._latencies[since : self._found.value]]

    def stop(self) -> None:
        self._library.load_stop()
        self._thread.join()
