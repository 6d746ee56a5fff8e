"""The parsers that strangers reach: RTP, RTCP, STUN and SDP, each with what happens right behind it.

A target takes a die and gives one input to its parser; True: the parser took it for good. It may raise nothing: what a
parser may raise by its contract is caught here by name."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import cast

from aioice import stun

from server.media.relay import rtcp, rtp
from server.media.relay.aiortc_seam import Identity, RelaySocket, SecureLink
from server.media.relay.dtmf import KeyReader
from server.media.relay.latch import Latch
from server.media.relay.link import Binding
from server.media.relay.plain_link import PlainLink
from server.media.relay.rtp import InStream, OutStream, Packet
from server.media.relay.srtp import ARRIVED
from server.media.relay.udp_ports import PortRange
from server.media.sdp import Codec, Fingerprint, LocalMedia, build_answer, parse_offer
from server.media.sdp_plain import LocalPlain, build_plain_answer, is_plain, parse_plain
from server.services.ports import MediaError
from tests.fuzz.mutate import mutated, mutated_text
from tests.unit.test_media_sdp import CHROMIUM
from tests.unit.test_media_sdp_plain import PHONE, SECURED

Target = Callable[[random.Random], bool]
HERE = ("127.0.0.1", 40000)
BINDING = Binding("127.0.0.1", ("127.0.0.1",))
CODECS = {
    codec.payload_type: codec
    for codec in (
        Codec("opus", 111, 48000), Codec("pcmu", 0, 8000), Codec("cn", 13, 8000), Codec("telephone-event", 101, 8000),
    )
}  # fmt: skip
SDP_CODES = ("bad_sdp", "sdp_too_large", "no_audio")


def _rtp_seeds() -> list[bytes]:
    level = struct.pack("!HH", 0xBEDE, 2) + bytes((0x10, 0x85, 0x31, 1, 2, 0, 0, 0))
    press = struct.pack("!BBH", 5, 0x8A, 800)
    return [
        rtp.HEADER.pack(0x80, 0x80 | 111, 65535, 0xFFFFFFF0, 7) + bytes(60),
        rtp.HEADER.pack(0x90, 111, 1, 960, 7) + level + bytes(40),
        rtp.HEADER.pack(0xB2, 0, 2, 1920, 7) + struct.pack("!II", 1, 2) + level + bytes(150) + b"\0\0\0\4",
        rtp.HEADER.pack(0x80, 0x80 | 101, 3, 2880, 7) + press,
        rtp.HEADER.pack(0x80, 13, 4, 2880, 7) + b"\x40",
        rtp.HEADER.pack(0x80, 0, 5, 2880, 8) + bytes(160),
    ]


class Rtp:
    """A decrypted packet, and all that it does on its way to a listener, its statistics and its keys."""

    def __init__(self) -> None:
        self._seeds = _rtp_seeds()
        self._out = OutStream(tuple(CODECS.values()), 3, lambda packet: None)
        self._other = OutStream((CODECS[111],), None, lambda packet: None)
        self._stream: InStream | None = None
        self._keys = KeyReader()
        self._latch = Latch(HERE, CODECS, 0.0)
        self._now_ns = 10**12

    def __call__(self, dice: random.Random) -> bool:
        data = mutated(dice, self._seeds)
        self._now_ns += 20_000_000
        if self._latch.learn(data, ("127.0.0.1", dice.randrange(40000, 40004)), self._now_ns / 1e9):
            self._latch = Latch(HERE, CODECS, 0.0)
        packet = rtp.parse(data, CODECS, 1)
        if packet is None:
            return False
        if self._stream is None or self._stream.ssrc != packet.ssrc:
            self._stream = InStream(packet)
        self._stream.add(packet, self._now_ns)
        if packet.codec.name == "telephone-event":
            self._keys.take(packet)
        for out in (self._out, self._other):
            out.forward(self._stream, packet, self._now_ns)
        rtcp.compound(self._out, self._stream, self._now_ns)
        return True


class Rtcp:
    """A decrypted compound packet."""

    def __init__(self) -> None:
        self._out = out = OutStream((CODECS[111],), None, lambda packet: None)
        first = Packet(CODECS[111], 0, 1, 1, out.ssrc, b"x", None)
        self._stream = InStream(first)
        self._stream.add(first, 0)
        empty = rtcp.compound(out, self._stream, 0)
        out.forward(self._stream, first, 0)
        sent = rtcp.compound(out, self._stream, 20_000_000)
        bye = struct.pack("!BBHI", 0x81, 203, 1, out.ssrc)
        nack = struct.pack("!BBHIIHH", 0x81, 205, 3, out.ssrc, out.ssrc, 1, 0xFFFF)
        self._seeds = [empty, sent, sent + bye, empty + nack, bye, struct.pack("!BBHI", 0x80, 200, 6, out.ssrc)]

    def __call__(self, dice: random.Random) -> bool:
        before = self._stream.lsr_ns, self._out.heard
        rtcp.note(mutated(dice, self._seeds), self._stream, self._out, dice.getrandbits(40) + 1)
        heard = self._out.heard
        assert heard.rtt_ms is None or heard.rtt_ms >= 0
        assert heard.loss is None or 0 <= heard.loss < 1
        return (self._stream.lsr_ns, heard) != before


def sdp(dice: random.Random) -> bool:
    """An offer, and its answer."""
    text = mutated_text(dice, SDP_SEEDS)
    try:
        if is_plain(text):
            build_plain_answer(parse_plain(text), LocalPlain((1, 1), "192.0.2.1", 20000, 20001))
        else:
            build_answer(parse_offer(text), LOCAL)
    except MediaError as error:
        if error.code not in SDP_CODES:
            raise
        return False
    return True


SDP_SEEDS = (CHROMIUM, CHROMIUM, PHONE, SECURED)
LOCAL = LocalMedia("ufra", "p" * 22, Fingerprint("sha-256", ":".join(["AB"] * 32)), [("192.0.2.1", 20000)], 1234)


class _Nobody:
    """`LinkUser`."""

    def on_connected(self) -> None: ...

    def on_lost(self, reason: str) -> None: ...

    def on_rtp(self, packet: bytes, now_ns: int) -> None: ...

    def on_rtcp(self, packet: bytes, now_ns: int) -> None: ...

    def on_moved(self) -> None: ...

    def read_back(self) -> None: ...


class Stun:
    """A datagram at a browser's socket: our demultiplexing, what guards aioice, and aioice behind it. Half of them come
    from the peer's address, behind which DTLS and SRTP are reached as well."""

    def __init__(self, link: SecureLink) -> None:
        self._port = cast(RelaySocket, link.agent._protocols[0])
        self._link = link
        self._port.allowed.add(HERE)
        self._seeds = [
            *(self._message(kind, integrity) for kind in stun.Class for integrity in (True, False)),
            bytes(stun.Message(message_method=stun.Method.ALLOCATE, message_class=stun.Class.REQUEST)),
            b"\x16\xfe\xfd" + bytes(8) + b"\0\x10" + bytes(16),
            *_rtp_seeds()[:1],
        ]

    def _message(self, kind: stun.Class, integrity: bool) -> bytes:
        message = stun.Message(message_method=stun.Method.BINDING, message_class=kind)
        message.attributes["USERNAME"] = f"{self._link.ufrag}:them"
        message.attributes["PRIORITY"] = 1845501695
        message.attributes["ICE-CONTROLLING"] = 7
        message.attributes["XOR-MAPPED-ADDRESS"] = HERE
        message.attributes["ERROR-CODE"] = (487, "Role Conflict")
        if integrity:
            message.add_message_integrity(self._link.password.encode())
        return bytes(message)

    def __call__(self, dice: random.Random) -> bool:
        dropped = self._link.dropped_stun + self._link.dropped_stranger + self._link.dropped_srtp
        self._port.datagram_received(mutated(dice, self._seeds), (HERE[0], HERE[1] + dice.randrange(2)))
        return dropped == self._link.dropped_stun + self._link.dropped_stranger + self._link.dropped_srtp


class Datagram:
    """A datagram at a phone's socket, RTP and RTCP, in the clear and with keys."""

    def __init__(self, links: list[PlainLink]) -> None:
        self._links = links
        self._seeds = [*_rtp_seeds(), struct.pack("!BBHI", 0x80, 201, 1, 7), b"\x80\xc8\0\6" + bytes(24)]

    def __call__(self, dice: random.Random) -> bool:
        link = dice.choice(self._links)
        data = mutated(dice, self._seeds, longest=2000)
        source = ("127.0.0.1" if dice.random() < 0.9 else "127.0.0.2", dice.randrange(40000, 40004))
        dropped = link.dropped_stranger + link.dropped_srtp
        ARRIVED[: len(data)] = data
        (link._take_rtcp if dice.random() < 0.2 else link._take_rtp)(len(data), source)
        return dropped == link.dropped_stranger + link.dropped_srtp


@asynccontextmanager
async def targets() -> AsyncIterator[Mapping[str, Target]]:
    """All of them by name. What they leave to the loop must not fail either: `failures` of the loop's handler."""
    user, ports = _Nobody(), PortRange()
    secure = SecureLink(user, parse_offer(CHROMIUM), Identity())
    await secure.open([BINDING], ports, 1)
    phone = PHONE.replace("192.0.2.7", "127.0.0.1").replace("49170", "40000")
    keyed = SECURED.replace("192.0.2.7", "127.0.0.1").replace("49170", "40000")
    texts = (phone, phone + "a=rtcp-mux\r\n", keyed, keyed + "a=rtcp-mux\r\n")
    plain = [PlainLink(user, parse_plain(text, loopback=True), (1, 1), offering=False) for text in texts]
    async with asyncio.TaskGroup() as tasks:
        for phone_link in plain:
            await phone_link.open([BINDING], ports, 1)
            phone_link.start(tasks)
    try:
        yield {"RTP": Rtp(), "RTCP": Rtcp(), "STUN": Stun(secure), "SDP": sdp, "phone's socket": Datagram(plain)}
    finally:
        await secure.close()
        for phone_link in plain:
            await phone_link.close()
