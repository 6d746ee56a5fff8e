"""Compose and render the prompts: `python -m server.media.prompts.make_prompts`. Run by hand, not at start.

The music is our own, synthesised from soft sines in E flat pentatonic: no tone at 440 Hz or 880 Hz, since the
tests listen for those, and nothing that a caller would take for a busy or ringing tone. -26 dBFS on average.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from server.media.mixer.rates import converter
from server.media.prompts import tones
from server.media.relay import music

RATE = 48_000
FRAME = 960  # 20 ms
LEVEL_DBFS = -26.0
COMFORT_DBFS = -34.0  # of the blip itself

Samples = NDArray[np.float64]

# E flat pentatonic, Hz
EB3, BB2, C3, F3, G3, BB3 = 155.56, 116.54, 130.81, 174.61, 196.00, 233.08
C4, EB4, F4, G4, BB4, C5, EB5 = 261.63, 311.13, 349.23, 392.00, 466.16, 523.25, 622.25

QUEUE_BEAT_S = 0.4
QUEUE_MELODY = [
    EB4, G4, BB4, 0, C5, BB4, G4, 0, F4, G4, BB4, G4, F4, 0, EB4, 0,
    C4, EB4, G4, 0, BB4, C5, EB5, 0, C5, BB4, G4, F4, G4, 0, EB4, 0,
]  # fmt: skip
QUEUE_BASS = [EB3, BB2, C3, G3, C3, F3, BB2, EB3]  # one for four beats

HOLD_BEAT_S = 0.75
HOLD_MELODY = [G4, 0, BB4, C5, BB4, 0, G4, F4, EB4, 0, F4, G4, C4, 0, EB4, 0]
HOLD_BASS = [C3, EB3, F3, BB2]


def note(pitch_hz: float, length_s: float, attack_s: float = 0.02) -> Samples:
    """A bell-like tone that dies away."""
    t = np.arange(int(length_s * RATE)) / RATE
    if not pitch_hz:
        return np.zeros_like(t)
    wave = np.sin(2 * np.pi * pitch_hz * t) + 0.12 * np.sin(4 * np.pi * pitch_hz * t)
    envelope = np.minimum(t / attack_s, 1) * np.exp(-2.2 * t / length_s)
    release = np.minimum((length_s - t) / 0.05, 1)
    return np.asarray(wave * envelope * release)


def compose(melody: list[float], bass: list[float], beat_s: float) -> Samples:
    total = np.zeros(int(len(melody) * beat_s * RATE))
    for index, pitch in enumerate(melody):
        _add(total, note(pitch, beat_s * 2), index * beat_s)
    for index, pitch in enumerate(bass):
        _add(total, 0.5 * note(pitch, beat_s * 4, attack_s=0.1), index * beat_s * 4)
    level = 10 ** (LEVEL_DBFS / 20)
    return np.asarray(total * (level / np.sqrt(np.mean(total**2))))


def _add(total: Samples, part: Samples, at_s: float) -> None:
    """Mix in, wrapping round the end, so that the loop has no seam."""
    start = int(at_s * RATE)
    places = (start + np.arange(len(part))) % len(total)
    np.add.at(total, places, part)


def comfort() -> Samples:
    """Four seconds: one of silence, so that a short gap stays silent, then two soft blips."""
    total = np.zeros(4 * RATE)
    level = 10 ** (COMFORT_DBFS / 20) * np.sqrt(2)
    for at_s, pitch in ((1.0, F4), (1.18, C5)):
        t = np.arange(int(0.16 * RATE)) / RATE
        shape = np.sin(np.pi * t / 0.16) ** 2
        start = int(at_s * RATE)
        total[start : start + len(t)] += level * shape * np.sin(2 * np.pi * pitch * t)
    return total


def encode_opus(samples: Samples) -> list[bytes]:
    """20 ms packets. The loop is encoded twice and the second round kept: its start knows its past."""
    encoder = av.AudioCodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.format, encoder.layout = RATE, "s16", "mono"
    encoder.bit_rate = 28_000
    encoder.options = {"application": "audio", "frame_duration": "20"}
    count = len(samples) // FRAME
    packets: list[bytes] = []
    for index in range(2 * count + 1):
        at = index % count * FRAME
        frame = av.AudioFrame.from_ndarray(_pcm(samples[at : at + FRAME]).reshape(1, -1), "s16", "mono")
        frame.sample_rate, frame.pts = RATE, index * FRAME
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets[count : 2 * count]


def encode_g711(samples: Samples, codec: str) -> list[bytes]:
    encoder = av.AudioCodecContext.create("pcm_mulaw" if codec == "pcmu" else "pcm_alaw", "w")
    encoder.sample_rate, encoder.format, encoder.layout = 8000, "s16", "mono"
    kernel = np.sinc(np.arange(-60, 61) / 6) * np.hamming(121) / 6  # low pass at 4 kHz
    low = np.convolve(np.concatenate([samples[-60:], samples, samples[:60]]), kernel, "valid")[::6]
    packets: list[bytes] = []
    for at in range(0, len(low) - 159, 160):
        frame = av.AudioFrame.from_ndarray(_pcm(low[at : at + 160]).reshape(1, -1), "s16", "mono")
        frame.sample_rate, frame.pts = 8000, at
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets


def encode_g722(samples: Samples) -> list[bytes]:
    """At 16 kHz (ITU-T G.722); the loop is encoded twice and the second round kept: its predictors know their past."""
    low = converter(RATE, 16_000).run(np.concatenate([samples, samples]).astype(np.float32))
    encoder = av.AudioCodecContext.create("g722", "w")
    encoder.sample_rate, encoder.format, encoder.layout = 16_000, "s16", "mono"
    packets: list[bytes] = []
    for at in range(0, len(low) - 319, 320):
        frame = av.AudioFrame.from_ndarray(_pcm(low[at : at + 320].astype(np.float64)).reshape(1, -1), "s16", "mono")
        frame.sample_rate, frame.pts = 16_000, at
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets[len(packets) // 2 :]


def _pcm(samples: Samples) -> NDArray[np.int16]:
    return np.asarray(np.clip(samples * 32767, -32768, 32767), dtype=np.int16)


def main() -> None:
    folder = Path(__file__).parent
    pieces = {
        "queue_music": compose(list(map(float, QUEUE_MELODY)), QUEUE_BASS, QUEUE_BEAT_S),
        "hold_music": compose(list(map(float, HOLD_MELODY)), HOLD_BASS, HOLD_BEAT_S),
        "comfort": comfort(),
        "ringback": tones.ring_back(tones.DEFAULT, RATE),
    }
    for name, samples in pieces.items():
        (folder / f"{name}.opus.pkt").write_bytes(music.pack("opus", RATE, encode_opus(samples)))
        for codec in ("pcmu", "pcma"):
            (folder / f"{name}.{codec}.pkt").write_bytes(music.pack(codec, 8000, encode_g711(samples, codec)))
        # its clock is 8 kHz, whatever it sounds like (RFC 3551 section 4.5.2)
        (folder / f"{name}.g722.pkt").write_bytes(music.pack("g722", 8000, encode_g722(samples)))


if __name__ == "__main__":
    main()
