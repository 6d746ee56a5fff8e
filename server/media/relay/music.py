"""What a leg hears when no other leg speaks: rendered packets, played on one 20 ms timer for all legs.

A prompt file (made by server/media/prompts/make_prompts.py) holds one codec's packets of 20 ms, zlib-packed:
"PBP1", u8 length and codec name, u32 clock rate, then u16 length and payload for each packet.

Beside the prompts that come with Patchbay, a folder holds those of one's own (media/prompt_library.py), each under a
name "prompt:" and a hash. They are read when they are first heard (some ms for the longest), and the newest are kept.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import structlog

from server.domain.media import Source
from server.media.relay.rtp import Packet
from server.media.sdp import Codec

log = structlog.get_logger(__name__)

MAGIC = b"PBP1"
PACKET_S = 0.02
_SOURCES = frozenset(Source)

_FILES = {
    Source.QUEUE_MUSIC: "queue_music",
    Source.HOLD_MUSIC: "hold_music",
    Source.COMFORT: "comfort",
    Source.RINGBACK: "ringback",
}
PROMPT_CODECS = ("opus", "pcmu", "pcma", "g722")
PROMPT = "prompt:"
TURN = "#"
PROMPTS_KEPT = 64
MAX_PROMPT_BYTES = 4 << 20
_NAME = re.compile(r"prompt:[0-9a-f]{32}\Z")


def is_prompt(name: str) -> bool:
    """What a route hears is no leg."""
    return name in _SOURCES or name.startswith(PROMPT)


def turn_name(prompt: str, turn: int) -> str:
    """What a prompt is called that is played once."""
    return f"{prompt}{TURN}{turn}"


def is_turn(name: str) -> bool:
    return TURN in name


def prompt_file(name: str, codec: str) -> str:
    return f"{name.removeprefix(PROMPT)}.{codec}.pkt"


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
    """Prompts by name and codec. `folder`: those of one's own."""

    def __init__(self, folder: Path | None = None) -> None:
        ours = resources.files("server.media.prompts")
        self._loops: dict[tuple[str, str], tuple[bytes, ...]] = {}
        for source, stem in _FILES.items():
            for codec in PROMPT_CODECS:
                name, _, packets = unpack(ours.joinpath(f"{stem}.{codec}.pkt").read_bytes())
                self._loops[source, name] = packets
        self._folder = folder
        self._own: OrderedDict[tuple[str, str], tuple[bytes, ...]] = OrderedDict()

    def player(self, name: str, codecs: tuple[Codec, ...]) -> Player | None:
        """A player in the first codec that the leg negotiated; None for SILENCE, and for a prompt that is not there.
        A turn's player plays once."""
        prompt = name.partition(TURN)[0]
        for codec in codecs:
            loop = self._loops.get((prompt, codec.name)) or self._own_loop(prompt, codec.name)
            if loop:
                return Player(name, codecs, codec, loop)
        return None

    def _own_loop(self, name: str, codec: str) -> tuple[bytes, ...]:
        """Empty when there is none."""
        key = (name, codec)
        if key in self._own:
            self._own.move_to_end(key)
            return self._own[key]
        if self._folder is None or codec not in PROMPT_CODECS or not _NAME.match(name):
            return ()
        path = self._folder / prompt_file(name, codec)
        try:
            if path.stat().st_size > MAX_PROMPT_BYTES:
                raise ValueError("too large")
            _, _, packets = unpack(path.read_bytes())
        except (OSError, ValueError, IndexError, struct.error, zlib.error) as error:
            log.error("prompt_missing", name=name, codec=codec, error=str(error))
            return ()
        self._own[key] = packets
        if len(self._own) > PROMPTS_KEPT:
            self._own.popitem(last=False)
        return packets


class Player:
    """One leg's place in a prompt; the key of its source, and the numbering of its packets."""

    def __init__(self, source: str, codecs: tuple[Codec, ...], codec: Codec, loop: tuple[bytes, ...]) -> None:
        self.source = source
        self.codecs = codecs  # of the leg it was made for
        self._loop = loop
        self._samples = int(codec.clock_rate * PACKET_S)
        self._count = 0
        self._end = len(loop) if is_turn(source) else None
        self._packet = Packet(codec, 0, 0, 0, 0, b"", None)

    @property
    def over(self) -> bool:
        """It was to be played once, and was."""
        return self._end is not None and self._count >= self._end

    def next(self) -> Packet:
        packet = self._packet
        packet.payload = self._loop[self._count % len(self._loop)]
        packet.sequence = self._count & 0xFFFF
        packet.timestamp = self._count * self._samples & 0xFFFFFFFF
        self._count += 1
        return packet
