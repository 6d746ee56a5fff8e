"""Captured G.711 and G.722 as Opus, packet by packet, so that a recording has one format whatever its legs spoke, also
where they changed codec in the middle. Opus goes through untouched.

Each packet becomes Opus of its own length at its own sample rate (8 or 16 kHz), under its own timestamp in 48 kHz
units, so that archive.py lays both kinds on one timeline (docs/decisions/0010)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from server.media.capture import CapturedPacket
from server.media.mixer.formats import BY_NAME, OPUS
from server.media.ogg import RATE

WAVES = ("pcmu", "pcma", "g722")
FRAMES_MS = (20.0, 10.0, 5.0, 2.5)  # of an Opus packet (RFC 6716 section 2.1.4); longer ones save little


def as_opus(packets: Iterable[CapturedPacket]) -> Iterator[CapturedPacket]:
    """Packets that can't be decoded stay as they are: whoever meets them counts them."""
    key, recoder = None, None
    for packet in packets:
        if packet.codec not in WAVES or packet.clock_rate != BY_NAME[packet.codec].clock_rate:
            yield packet
            continue
        if recoder is None or key != (packet.ssrc, packet.codec):
            key, recoder = (packet.ssrc, packet.codec), Recoder(packet.codec)
        yield from recoder.run(packet)


class Recoder:
    """Of one stream, whose packets come in the order of their arrival."""

    def __init__(self, codec: str) -> None:
        # Codecs load slowly, and only the side of a phone needs them.
        from server.media.mixer import codecs

        self._form = BY_NAME[codec]
        self._decoder = codecs.decoder(self._form, self._form.sample_rate)
        self._encoder = codecs.encoder(OPUS, self._form.sample_rate)
        self._bad_payload = codecs.BadPayload

    def run(self, packet: CapturedPacket) -> Iterator[CapturedPacket]:
        rate, at = self._form.sample_rate, 0
        try:
            sound = self._decoder.decode(packet.payload)
        except self._bad_payload:
            yield packet
            return
        while size := _frame(len(sound) - at, rate):
            payload = self._encoder.encode(sound[at : at + size])
            stamp = packet.timestamp * (RATE // self._form.clock_rate) + at * (RATE // rate)
            stamp %= 1 << 32
            yield CapturedPacket(packet.at_ns, packet.ssrc, RATE, OPUS.name, packet.sequence, stamp, payload)
            at += size


def _frame(samples: int, rate: int) -> int:
    """The longest frame that is no longer; 0 for less than the shortest one, which is left out."""
    return next((int(ms * rate / 1000) for ms in FRAMES_MS if ms * rate / 1000 <= samples), 0)
