"""The sound formats that the mixer takes in and gives out."""

from __future__ import annotations

from dataclasses import dataclass

from server.media.ogg import packet_samples

FRAME_MS = 20
MAX_PACKET_MS = 120  # RFC 6716 section 3.2.5; more than any phone sends in one packet


@dataclass(frozen=True, slots=True)
class Format:
    """`clock_rate` counts RTP timestamps, `sample_rate` sound: G.722 has 8 kHz and 16 kHz (RFC 3551, 4.5.2)."""

    name: str
    clock_rate: int
    sample_rate: int

    def ticks(self, payload: bytes) -> int:
        """How long a payload sounds, in timestamp units; 0 when it can't be decoded."""
        if self.name == "opus":
            return packet_samples(payload)
        if self.name == "cn":
            return self.clock_rate * FRAME_MS // 1000 if payload else 0  # RFC 3389 section 3: at least the level
        return len(payload) if len(payload) <= self.clock_rate * MAX_PACKET_MS // 1000 else 0


OPUS = Format("opus", 48_000, 48_000)
PCMU = Format("pcmu", 8_000, 8_000)
PCMA = Format("pcma", 8_000, 8_000)
G722 = Format("g722", 8_000, 16_000)
COMFORT_NOISE = Format("cn", 8_000, 8_000)  # RFC 3389: its first byte tells the noise's level, in -dBov

FORMATS = (OPUS, PCMU, PCMA, G722, COMFORT_NOISE)  # a place here is the number on the wire to the mixer
BY_NAME = {found.name: found for found in FORMATS}
SPEECH = frozenset({"opus", "pcmu", "pcma", "g722"})  # what can be encoded
