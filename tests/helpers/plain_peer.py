"""A phone: RTP over UDP, in the clear or with SDES, and nothing else. Says a tone in G.711 and measures what it hears.

It shares no code with the worker's plain link but libsrtp, so that both would have to err alike. `moved`: it sends from
another port than its SDP names, as a NAT would make it seem; `host` is any address of the loopback network.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import random
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pylibsrtp
from numpy.typing import NDArray

from server.media.peer import Heard, level_dbfs

RATE = 8000
FRAME = 160
PACKET_S = 0.02
PAYLOAD_TYPES = {"PCMU": 0, "PCMA": 8}
EVENT = 101
KEYS = "0123456789*#ABCD"
JUDGED_S = 0.4
KEY_BYTES = {
    "AES_CM_128_HMAC_SHA1_80": 30,
    "AES_CM_128_HMAC_SHA1_32": 30,
    "AEAD_AES_128_GCM": 28,
    "AEAD_AES_256_GCM": 44,
}
PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}

Samples = NDArray[np.int16]


def _mu_law() -> Samples:
    code = ~np.arange(256) & 0xFF  # ITU-T G.711 table 2: transmitted inverted
    size = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return np.where(code & 0x80, -size, size).astype(np.int16)


def _a_law() -> Samples:
    code = np.arange(256) ^ 0x55  # ITU-T G.711 table 1: even bits are inverted
    exponent, mantissa = code >> 4 & 7, (code & 0x0F) << 4
    size = np.where(exponent == 0, mantissa + 8, mantissa + 0x108 << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, size, -size).astype(np.int16)


TABLES = {"PCMU": _mu_law(), "PCMA": _a_law()}


def encode(codec: str, samples: Samples) -> bytes:
    """The nearest code of each sample."""
    table = TABLES[codec].astype(np.int32)
    order = np.argsort(table)
    ranks = np.searchsorted((table[order][1:] + table[order][:-1]) / 2, samples.astype(np.int32))
    return bytes(order[ranks].astype(np.uint8))


def decode(codec: str, payload: bytes) -> Samples:
    return TABLES[codec][np.frombuffer(payload, np.uint8)]


def tone(codec: str, pitch_hz: float, level_dbfs: float = -20.0) -> list[bytes]:
    """One second of payloads, to be said in a loop."""
    amplitude = 32767 * 10 ** (level_dbfs / 20) * np.sqrt(2) if pitch_hz else 0
    wave = (amplitude * np.sin(2 * np.pi * round(pitch_hz) * np.arange(RATE) / RATE)).astype(np.int16)
    return [encode(codec, wave[at : at + FRAME]) for at in range(0, RATE, FRAME)]


class _Port(asyncio.DatagramProtocol):
    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._take(data)


class PlainPeer:
    """Made by `plain_peer`. `offer` → the worker → `take`, or the worker's offer → `answer`; it speaks from then on."""

    def __init__(self, tone_hz: float, codec: str, suite: str | None, mux: bool, host: str) -> None:
        self.codec = codec
        self.host = host
        self.port = self.rtcp_port = 0
        self.speaking = False  # once the other side's address is known
        self.direction = "sendrecv"
        self.ptime_ms = 20
        self.payload_types: Counter[int] = Counter()
        self.payloads: Counter[bytes] = Counter()
        self.sequences: list[int] = []
        self.events: list[tuple[int, bytes]] = []  # RTP timestamp and payload of telephone-event packets
        self.timestamps: list[tuple[int, int, int]] = []  # marker, payload type, timestamp
        self.reports: Counter[int] = Counter()  # RTCP packet types
        self.sent = 0
        self.ssrc = random.getrandbits(32)
        self._tone = tone(codec, tone_hz)
        self._suite = suite
        self._mux = mux
        self._key = os.urandom(KEY_BYTES[suite]) if suite else b""
        self._window: deque[Samples] = deque(maxlen=50)
        self._news = asyncio.Event()
        self._rx: pylibsrtp.Session | None = None
        self._tx: pylibsrtp.Session | None = None
        self._out: asyncio.DatagramTransport | None = None
        self._rtcp: asyncio.DatagramTransport | None = None
        self._sequence = random.getrandbits(15)
        self._timestamp = random.getrandbits(31)
        self.to = self.rtcp_to = ("", 0)

    # --- SDP ---

    def offer(self) -> str:
        """PCMU or PCMA, as the peer speaks, with telephone-event."""
        return self._sdp([(PAYLOAD_TYPES[self.codec], self.codec)], [1] if self._suite else [])

    def take(self, sdp: str) -> None:
        """The worker's answer."""
        self._follow(sdp)
        self.speaking = True

    def answer(self, sdp: str) -> str:
        """The answer to the worker's offer, of which this peer takes its own codec."""
        tag = next((int(x.split()[0][9:]) for x in sdp.splitlines() if self._suite and f" {self._suite} " in x), 0)
        self._mux = self._mux and "a=rtcp-mux" in sdp
        answer = self._sdp([(PAYLOAD_TYPES[self.codec], self.codec)], [tag] if self._suite else [])
        self._follow(sdp)
        self.speaking = True
        return answer

    def _sdp(self, codecs: list[tuple[int, str]], tags: list[int]) -> str:
        types = " ".join(str(number) for number, _ in codecs)
        profile = "RTP/SAVP" if self._suite else "RTP/AVP"
        lines = ["v=0", f"o=phone 1 1 IN IP4 {self.host}", "s=call", f"c=IN IP4 {self.host}", "t=0 0",
                 f"m=audio {self.port} {profile} {types} {EVENT} 13"]  # fmt: skip
        lines += [f"a=rtpmap:{number} {name}/8000" for number, name in codecs]
        lines += [f"a=rtpmap:{EVENT} telephone-event/8000", f"a=fmtp:{EVENT} 0-15", "a=ptime:20", f"a={self.direction}"]
        lines += ["a=rtcp-mux"] if self._mux else []
        key = base64.b64encode(self._key).decode()
        lines += [f"a=crypto:{tag} {self._suite} inline:{key}|2^31" for tag in tags]
        return "\r\n".join(lines) + "\r\n"

    def _follow(self, sdp: str) -> None:
        host = next(line.split()[2] for line in sdp.splitlines() if line.startswith("c="))
        port = next(int(line.split()[1]) for line in sdp.splitlines() if line.startswith("m=audio"))
        self._mux = self._mux and "a=rtcp-mux" in sdp
        self.to, self.rtcp_to = (host, port), (host, port if self._mux else port + 1)
        if self._suite:
            line = next(line for line in sdp.splitlines() if line.startswith("a=crypto") and f" {self._suite} " in line)
            key = base64.b64decode(line.split("inline:")[1].split("|")[0])
            self._rx = self._session(key, pylibsrtp.Policy.SSRC_ANY_INBOUND)
            self._tx = self._session(self._key, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)

    def _session(self, key: bytes, direction: int) -> pylibsrtp.Session:
        assert self._suite is not None
        return pylibsrtp.Session(pylibsrtp.Policy(key, direction, srtp_profile=PROFILES[self._suite]))

    # --- sound ---

    def heard(self) -> Heard:
        """Of the last second."""
        samples = np.concatenate(self._window) if self._window else np.zeros(0, np.int16)
        peak = 0.0
        if len(samples) >= FRAME and samples.any():
            spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
            peak = float(np.argmax(spectrum) * RATE / len(samples))
        return Heard(peak, level_dbfs(samples), len(samples) / RATE)

    async def wait_tone(self, pitch_hz: float, timeout_s: float = 10) -> Heard:
        """Wait until a tone is what is heard most, well above silence. Raises TimeoutError that says what was heard."""
        self._window.clear()
        heard = self.heard()
        try:
            async with asyncio.timeout(timeout_s):
                while not (heard.at >= JUDGED_S and abs(heard.peak_hz - pitch_hz) < 12 and heard.level_dbfs > -40):
                    self._news.clear()
                    await self._news.wait()
                    heard = self.heard()
        except TimeoutError:
            raise TimeoutError(f"heard {heard} after {timeout_s} s, payload types {self.payload_types}") from None
        return heard

    def send(self, payload_type: int, payload: bytes, marker: bool = False, timestamp: int | None = None) -> None:
        """One packet of the stream."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        stamp = self._timestamp if timestamp is None else timestamp
        second = payload_type | (0x80 if marker else 0)
        self.send_raw(struct.pack("!BBHII", 0x80, second, self._sequence, stamp & 0xFFFFFFFF, self.ssrc) + payload)

    def send_raw(self, packet: bytes) -> None:
        if self._out is not None and not self._out.is_closing():
            self._out.sendto(packet if self._tx is None else self._tx.protect(packet), self.to)

    def send_report(self) -> None:
        """An empty receiver report, and an SDES item."""
        head = struct.pack("!BBHI", 0x80, 201, 1, self.ssrc)
        packet = head + struct.pack("!BBHIBB2s", 0x81, 202, 2, self.ssrc, 1, 0, b"\0\0")
        through = self._out if self._mux else self._rtcp
        assert through is not None
        through.sendto(packet if self._tx is None else self._tx.protect_rtcp(packet), self.rtcp_to)

    async def press(self, digits: str, lose_end: bool = False) -> None:
        """Keys of 100 ms, 60 ms apart, instead of the tone. `lose_end`: no packet says that a key was let go."""
        self.speaking = False
        for digit in digits:
            start = self._timestamp
            for count in range(1, 8):
                if count >= 5 and lose_end:
                    break
                flags = 10 | (0x80 if count >= 5 else 0)
                payload = struct.pack("!BBH", KEYS.index(digit), flags, min(count, 5) * FRAME)
                self.send(EVENT, payload, marker=count == 1, timestamp=start)
                await asyncio.sleep(PACKET_S)
            self._timestamp = start + 8 * FRAME
            await asyncio.sleep(PACKET_S)
        self.speaking = True

    def flood(self, digit: str, count: int) -> None:
        """So many presses at once, each of one packet."""
        payload = struct.pack("!BBH", KEYS.index(digit), 0x80 | 10, 5 * FRAME)
        for _ in range(count):
            self._timestamp += 8 * FRAME
            self.send(EVENT, payload, marker=True)
        self._timestamp += 8 * FRAME

    def keys_heard(self) -> str:
        """The keys that were pressed towards this peer, by their events' timestamps."""
        found = {stamp: payload[0] for stamp, payload in self.events}
        return "".join(KEYS[event] for event in found.values())

    def say(self, tone_hz: float) -> None:
        """Another tone from now on."""
        self._tone = tone(self.codec, tone_hz)

    async def speak(self) -> None:
        """A packet each 20 ms on an absolute schedule, while `speaking`."""
        due, count = time.monotonic(), 0
        while True:
            due += PACKET_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if self.speaking:
                self.send(PAYLOAD_TYPES[self.codec], self._tone[count % len(self._tone)])
                count += 1
                self.sent += 1
                self._timestamp += FRAME

    async def listen(self, out: socket.socket, named: list[socket.socket]) -> None:
        """Serve the sockets: `out` sends (and hears), `named` are those of the SDP."""
        loop = asyncio.get_running_loop()
        self._out, _ = await loop.create_datagram_endpoint(lambda: _Port(self._take), sock=out)
        rtcp = named[-1]
        self._rtcp, _ = await loop.create_datagram_endpoint(lambda: _Port(self._take_rtcp), sock=rtcp)
        for sock in named[:-1]:
            await loop.create_datagram_endpoint(lambda: _Port(self._take), sock=sock)

    def _take(self, data: bytes) -> None:
        if 191 < data[1] < 224:
            self._take_rtcp(data)
            return
        if self._rx is not None:
            data = self._rx.unprotect(data)
        _, second, sequence, timestamp, _ = struct.unpack_from("!BBHII", data)
        payload_type, payload = second & 0x7F, data[12:]
        self.payload_types[payload_type] += 1
        self.timestamps.append((second >> 7, payload_type, timestamp))
        self.sequences.append(sequence)
        if payload_type == EVENT:
            self.events.append((timestamp, payload))
            return
        self.payloads[payload] += 1
        for name, number in PAYLOAD_TYPES.items():
            if number == payload_type:
                self._window.append(decode(name, payload))
        self._news.set()

    def _take_rtcp(self, data: bytes) -> None:
        if self._rx is not None:
            data = self._rx.unprotect_rtcp(data)
        self.reports[data[1]] += 1

    def close(self) -> None:
        for transport in (self._out, self._rtcp):
            if transport is not None:
                transport.close()


def _pair(host: str) -> tuple[socket.socket, socket.socket]:
    while True:
        first, second = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        first.bind((host, 0))
        port = first.getsockname()[1]
        if port % 2 == 0:
            with contextlib.suppress(OSError):
                second.bind((host, port + 1))
                return first, second
        first.close()
        second.close()


@asynccontextmanager
async def plain_peer(
    tone_hz: float = 0, codec: str = "PCMU", suite: str | None = None, mux: bool = False, host: str = "127.0.0.1",
    moved: bool = False,
) -> AsyncIterator[PlainPeer]:  # fmt: skip
    """A phone with its sockets open. `suite`: of RFC 4568; None: not encrypted."""
    peer = PlainPeer(tone_hz, codec, suite, mux, host)
    rtp, rtcp = _pair(host)
    peer.port, peer.rtcp_port = rtp.getsockname()[1], rtcp.getsockname()[1]
    if moved:
        out, _unused = _pair(host)
        _unused.close()
        rtp.close()
    else:
        out = rtp
    for sock in (out, rtcp):
        sock.setblocking(False)
    await peer.listen(out, [rtcp])
    speaking = asyncio.create_task(peer.speak())
    try:
        yield peer
    finally:
        speaking.cancel()
        await asyncio.wait([speaking])
        peer.close()
