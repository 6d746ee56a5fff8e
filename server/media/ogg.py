"""Ogg Opus files from finished Opus packets (RFC 3533, RFC 7845), without a codec. Pages go to a sink."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

RATE = 48_000  # Opus in Ogg always counts at 48 kHz
PAGE_PACKETS = 50  # one second of 20 ms packets a page: a cut-off file loses no more

# encoded digital silence: configuration "CELT, full band" of each length, mono, one frame (RFC 6716, 3.1)
_SILENCE = {120: b"\xe0\xff\xfe", 240: b"\xe8\xff\xfe", 480: b"\xf0\xff\xfe", 960: b"\xf8\xff\xfe"}
MAX_FRAME_BYTES = 1275
SILENCE_STEP = 120  # samples: 2.5 ms is the shortest Opus frame

_FRAME_SAMPLES = (
    *((480, 960, 1920, 2880) * 3),  # SILK: 10, 20, 40, 60 ms in three bandwidths
    *((480, 960) * 2),  # hybrid
    *((120, 240, 480, 960) * 4),  # CELT
)
_REVERSED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))
_CONTINUED, _FIRST, _LAST = 1, 2, 4


def packet_samples(packet: bytes) -> int:
    """How long a packet sounds, in samples at 48 kHz (RFC 6716 section 3.1); 0 when it is malformed."""
    if not packet:
        return 0
    frame = _FRAME_SAMPLES[packet[0] >> 3]
    match packet[0] & 3:
        case 0:
            count = 1
        case 3:
            count = packet[1] & 0x3F if len(packet) > 1 else 0
        case _:
            count = 2
    samples = frame * count
    return samples if samples <= 5760 else 0  # 120 ms at most


def well_formed(packet: bytes) -> bool:
    """Whether its frames have lengths that a decoder accepts (RFC 6716 section 3.2 and 3.4)."""
    if not packet_samples(packet):
        return False
    at, count, lengths = 1, 1, 0
    match packet[0] & 3:
        case 1:
            count = 2
        case 2:
            count, lengths = 2, 1
        case 3:
            at, count = 2, packet[1] & 0x3F
            lengths = count - 1 if packet[1] & 0x80 else 0
    end = len(packet)
    if packet[0] & 3 == 3 and packet[1] & 0x40:  # padding
        more = 255
        while more == 255:
            if at >= end:
                return False
            more, at = packet[at], at + 1
            end -= min(more, 254)
    known = 0
    for _ in range(lengths):
        if at >= end:
            return False
        length, at = packet[at], at + 1
        if length >= 252:
            if at >= end:
                return False
            length, at = length + 4 * packet[at], at + 1
        known += length
    rest = end - at - known
    others = count - lengths  # all as long as each other
    return rest >= 0 and rest % others == 0 and rest // others <= MAX_FRAME_BYTES


def silence(samples: int) -> Iterator[bytes]:
    """Packets of silence that last this long, to the 2.5 ms below."""
    for length in (960, 480, 240, 120):
        count, samples = divmod(samples, length)
        for _ in range(count):
            yield _SILENCE[length]


class OggOpusWriter:
    """Collects packets into pages and hands each to `sink`; `finish` ends the file.

    `pre_skip` is 0: the packets are cut out of a running stream, and both sides of a call must stay aligned
    to the sample (RFC 7845 section 4.2 speaks of encoders, whose first samples are padding)."""

    codec, clock_rate = "opus", RATE

    def __init__(self, serial: int, sink: Callable[[bytes], object]) -> None:
        self._serial = serial
        self._sink = sink
        self._pages = 0
        self._packets: list[bytes] = []
        self._held: tuple[list[bytes], int] | None = None
        self.samples = 0
        head = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, 0, RATE, 0, 0)
        vendor = b"patchbay"
        tags = struct.pack("<8sI", b"OpusTags", len(vendor)) + vendor + struct.pack("<I", 0)
        self._page([head], 0, _FIRST)
        self._page([tags], 0, 0)

    def add(self, packet: bytes) -> None:
        self._packets.append(packet)
        self.samples += packet_samples(packet)
        if len(self._packets) == PAGE_PACKETS or sum(len(p) // 255 + 1 for p in self._packets) > 200:
            self._hold()

    def measure(self, payload: bytes) -> int:
        """How long it sounds, in samples; 0 for one that a decoder would refuse."""
        return packet_samples(payload) if well_formed(payload) else 0

    def fill(self, until: int) -> None:
        """Silence up to there, to the 2.5 ms below."""
        for packet in silence(until - self.samples):
            self.add(packet)

    def finish(self, samples: int) -> None:
        """End the file, cut to this length (RFC 7845 section 4.1: the last granule position trims)."""
        if self._packets or self._held is None:
            self._hold()
        assert self._held is not None
        self._page(self._held[0], min(self._held[1], samples), _LAST)

    def _hold(self) -> None:
        """Keep the newest page back, since the last one must say so."""
        if self._held is not None:
            self._page(self._held[0], self._held[1], 0)
        self._held = (self._packets, self.samples)
        self._packets = []

    def _page(self, packets: list[bytes], granule: int, flags: int) -> None:
        lacing = b"".join(b"\xff" * (len(p) // 255) + bytes((len(p) % 255,)) for p in packets)
        page = struct.pack("<4sBBqIII", b"OggS", 0, flags, granule, self._serial, self._pages, 0)
        page += bytes((len(lacing),)) + lacing + b"".join(packets)
        self._pages += 1
        self._sink(page[:22] + struct.pack("<I", checksum(page)) + page[26:])


def checksum(page: bytes) -> int:
    """Ogg's CRC-32: polynomial 0x04c11db7, not reflected, no complement (RFC 3533 section 6).

    zlib's is the reflected one, so the bytes and the result are reversed bit by bit."""
    mirrored = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_REVERSED), "big")
