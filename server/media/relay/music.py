"""What a leg hears when no other leg speaks: rendered packets, played on one 20 ms timer for all legs.

A prompt file (made by server/media/prompts/make_prompts.py) holds one codec's packets of 20 ms, zlib-packed:
"PBP1", u8 length and codec name, u32 clock rate, then u16 length and payload for each packet.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from importlib import resources

from server.domain.media import Source
from server.media.relay.rtp import Packet
from server.media.sdp import Codec

MAGIC = b"PBP1"
PACKET_S = 0.02

_FILES = {
    Source.QUEUE_MUSIC: "queue_music",
    Source.HOLD_MUSIC: "hold_music",
    Source.COMFORT: "comfort",
}
_CODECS = ("opus", "pcmu", "pcma")


def pack(codec: str, clock_rate: int, packets: Iterable[bytes]) -> bytes:
    """A prompt file's bytes."""
    name = codec.encode()
    body = struct.pack("!B", len(name)) + name + struct.pack("!I", clock_rate)
    body += b"".join(struct.pack("!H", len(packet)) + packet for packet in packets)
    return MAGIC + zlib.compress(body, 9)


def unpack(data: bytes) -> tuple[str, int, tuple[bytes, ...]]:
    """Codec name, clock rate and packets of a prompt file. Raises ValueError."""
    if data[:4] != MAGIC:
        raise ValueError("not a prompt file; run python -m server.media.prompts.make_prompts")
    body = zlib.decompress(data[4:])
    size = body[0]
    name = body[1 : 1 + size].decode()
    (clock_rate,) = struct.unpack_from("!I", body, 1 + size)
    at, packets = 5 + size, []
    while at < len(body):
        (length,) = struct.unpack_from("!H", body, at)
        packets.append(body[at + 2 : at + 2 + length])
        at += 2 + length
    return name, clock_rate, tuple(packets)


class Library:
    """All prompts, read once at start."""

    def __init__(self) -> None:
        folder = resources.files("server.media.prompts")
        self._loops: dict[tuple[Source, str], tuple[bytes, ...]] = {}
        for source, stem in _FILES.items():
            for codec in _CODECS:
                name, _, packets = unpack(folder.joinpath(f"{stem}.{codec}.pkt").read_bytes())
                self._loops[source, name] = packets

    def player(self, source: Source, codecs: tuple[Codec, ...]) -> Player | None:
        """A player in the first codec that the leg negotiated; None for SILENCE."""
        for codec in codecs:
            loop = self._loops.get((source, codec.name))
            if loop is not None:
                return Player(source, codecs, codec, loop)
        return None


class Player:
    """One leg's place in a prompt; the key of its source, and the numbering of its packets."""

    def __init__(self, source: Source, codecs: tuple[Codec, ...], codec: Codec, loop: tuple[bytes, ...]) -> None:
        self.source = source
        self.codecs = codecs  # of the leg it was made for
        self._loop = loop
        self._samples = int(codec.clock_rate * PACKET_S)
        self._count = 0
        self._packet = Packet(codec, 0, 0, 0, 0, b"", None)

    def next(self) -> Packet:
        packet = self._packet
        packet.payload = self._loop[self._count % len(self._loop)]
        packet.sequence = self._count & 0xFFFF
        packet.timestamp = self._count * self._samples & 0xFFFFFFFF
        self._count += 1
        return packet
