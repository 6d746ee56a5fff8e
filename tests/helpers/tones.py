"""What a peer hears when several talk at once: which tones, and how far into a sweep its sound is."""

from __future__ import annotations

import asyncio
import re
import wave
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from server.media.peer import RATE, Peer, Samples

JUDGED = RATE // 2  # samples: half a second tells tones that are 50 Hz apart
PRESENT = 0.01  # amplitude; a peer's tone is at 0.14
SWEEP_S, SWEEP_LOW_HZ, SWEEP_HZ_PER_S = 8, 300.0, 400.0


class Ears:
    """A peer that says a tone (or a file), and keeps what it hears."""

    def __init__(self, tone_hz: float = 0, audio: Path | None = None, kept_s: float = 0.5) -> None:
        self.heard: deque[float] = deque(maxlen=int(kept_s * RATE))
        self.peer = Peer(tone_hz, audio, self._take)

    def _take(self, samples: Samples) -> None:
        self.heard.extend(samples / 32768)

    async def listen(self, seconds: float) -> None:
        """Until so much sound is kept, at most what is kept at all."""
        await self.until_true(lambda: len(self.heard) >= seconds * RATE, tell=lambda: f"{len(self.heard)} samples")

    def tones(self, pitches_hz: Collection[float]) -> set[float]:
        """Which of these tones were in the last half second."""
        sound = np.array(self.heard)[-JUDGED:]
        if len(sound) < JUDGED:
            return set()
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) * 4 / len(sound)
        found = set()
        for hz in pitches_hz:
            place = round(hz * len(sound) / RATE)
            if spectrum[place - 5 : place + 6].max() > PRESENT:
                found.add(hz)
        return found

    async def until(self, wanted: set[float], pitches_hz: Collection[float], timeout_s: float = 15) -> None:
        """Wait until exactly these tones are heard for half a second. Raises TimeoutError that says what was heard."""
        await self.until_true(lambda: self.tones(pitches_hz) == wanted, timeout_s, lambda: str(self.tones(pitches_hz)))

    async def until_true(
        self, good: Callable[[], bool], timeout_s: float = 15, tell: Callable[[], str] = lambda: ""
    ) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while not good():  # noqa: ASYNC110 - there is no event to wait on
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise TimeoutError(f"heard {tell()} after {timeout_s} s") from None


def only(codec: str, sdp: str) -> str:
    """An offer of one codec and nothing else; `codec` as in its rtpmap, for example PCMU/8000."""
    kinds = re.findall(rf"a=rtpmap:(\d+) {re.escape(codec)}\b", sdp)
    assert kinds, f"{codec} is not offered"
    sdp = re.sub(r"(m=audio \d+ \S+)( \d+)+", rf"\1 {kinds[0]}", sdp)
    return re.sub(rf"a=(rtpmap|fmtp|rtcp-fb):(?!{kinds[0]}\b)\d+ .*\r\n", "", sdp)


def write_sweep(path: Path) -> None:
    """A tone that rises by 400 Hz a second, for 8 s: its pitch tells the place in it."""
    t = np.arange(SWEEP_S * RATE) / RATE
    sound = 6000 * np.sin(2 * np.pi * (SWEEP_LOW_HZ * t + SWEEP_HZ_PER_S * t**2 / 2))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(sound.astype(np.int16).tobytes())


def places(heard: Collection[float], step_s: float = 0.01) -> list[float | None]:
    """How far into the sweep (s) the sound is, every `step_s`, through a window of 50 ms; None where it is silent."""
    sound, size = np.array(heard), RATE // 20
    found: list[float | None] = []
    for at in range(0, len(sound) - size, int(step_s * RATE)):
        part = sound[at : at + size]
        if float(part.std()) < 0.03:
            found.append(None)
            continue
        spectrum = np.abs(np.fft.rfft(part * np.hanning(size), 8 * size))
        hz = float(np.argmax(spectrum)) * RATE / (8 * size)
        found.append((hz - SWEEP_LOW_HZ) / SWEEP_HZ_PER_S)
    return found


def lost_ms(heard: Collection[float], step_s: float = 0.01) -> tuple[float, float]:
    """The longest silence, and how far the sweep got ahead of the time (what was never heard); both ms."""
    silence = longest = missed = rounds = last = 0.0
    least: float | None = None
    for index, place in enumerate(places(heard, step_s)):
        silence = silence + step_s if place is None else 0.0
        longest = max(longest, silence)
        if place is None:
            continue
        if place < last - SWEEP_S / 2:
            rounds += SWEEP_S
        last = place
        ahead = place + rounds - index * step_s
        least = ahead if least is None else min(least, ahead)
        missed = max(missed, ahead - least)
    return 1000 * longest, 1000 * missed


def levels(heard: Collection[float]) -> list[float]:
    """RMS of each 50 ms."""
    sound, size = np.array(heard), RATE // 20
    return [float(sound[at : at + size].std()) for at in range(0, len(sound) - size, size)]
