"""Sound a little longer, a little shorter, or made up where it is lost: whole periods of it are repeated or left out.

Time scale: the waveform-similarity overlap-add of Verhelst and Roelands (ICASSP 1993), with one period a call.
Concealment: after ITU-T G.711 appendix I (09/1999): the last period goes on, its level falls by a fifth every 10 ms
after the first 10, and there is silence after 60 ms; real sound fades in again."""

from __future__ import annotations

import numpy as np

from server.media.mixer.g711 import Sound

SHORTEST_S, LONGEST_S = 0.0025, 0.010  # periods of 100 to 400 Hz: voices
SILENT = 10 ** (-50 / 20)  # -50 dBFS: nobody hears what is cut there
SEARCH_RATE = 8000  # a period is looked for in every n-th sample: good enough, and quick
HISTORY_S = 0.04
STEADY_S, FADED_S = 0.010, 0.060
JOIN_S = 0.004


def is_silent(sound: Sound) -> bool:
    return not len(sound) or float(np.abs(sound).max()) < SILENT


def period(sound: Sound, rate: int) -> int:
    """The lag, in samples, at which the last 10 ms look most like what was before. Needs 20 ms."""
    step = max(1, rate // SEARCH_RATE)
    line = sound[len(sound) % step :: step] if step > 1 else sound
    low, high = int(SHORTEST_S * rate / step), int(LONGEST_S * rate / step)
    size = min(high, len(line) - high)
    last = line[len(line) - size :]
    energy = float(last @ last)
    if size <= 0 or energy == 0:
        return high * step
    best, found = -2.0, high
    for lag in range(low, high + 1):
        before = line[len(line) - size - lag : len(line) - lag]
        alike = float(last @ before) / (float(before @ before) * energy + 1e-12) ** 0.5
        if alike > best + 0.01:  # of two that are as good the shorter one, not its double
            best, found = alike, lag
    return found * step


def shorten(sound: Sound, rate: int) -> Sound:
    """One period less, 2.5 to 10 ms. Needs 20 ms."""
    lag = _lag(sound, rate)
    return np.concatenate((_fade(sound[:lag], sound[lag : 2 * lag]), sound[2 * lag :]))


def lengthen(sound: Sound, rate: int) -> Sound:
    """One period more, 2.5 to 10 ms. Needs 20 ms."""
    lag = _lag(sound, rate)
    return np.concatenate((sound[:lag], _fade(sound[lag : 2 * lag], sound[:lag]), sound[lag:]))


def _lag(sound: Sound, rate: int) -> int:
    head = sound[: int(2 * LONGEST_S * rate)]
    return int(LONGEST_S * rate) if is_silent(head) else period(head, rate)


def _fade(from_: Sound, to: Sound) -> Sound:
    rise = np.linspace(0, 1, len(to), dtype=np.float32)
    return from_ * (1 - rise) + to * rise


class Concealer:
    """For codecs without a concealment of their own. `heard` each piece of real sound, `conceal` where one is lost."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._past = np.zeros(int(HISTORY_S * rate), np.float32)
        self._cycle: Sound | None = None
        self._made = 0  # samples since the loss began

    def heard(self, sound: Sound) -> Sound:
        """The piece as it is to be played: faded in when it ends a loss."""
        if self._cycle is not None:
            join = min(len(sound), int(JOIN_S * self._rate))
            sound = np.concatenate((_fade(self._go_on(join), sound[:join]), sound[join:]))
            self._cycle = None
        self._past = np.concatenate((self._past[len(sound) :], sound[-len(self._past) :]))
        return sound

    def conceal(self, samples: int) -> Sound:
        if self._cycle is None:
            lag, past = period(self._past, self._rate), self._past
            quarter = lag // 4  # its end leads into its own beginning
            tail = _fade(past[len(past) - quarter :], past[len(past) - lag - quarter : len(past) - lag])
            self._cycle = np.concatenate((past[len(past) - lag : len(past) - quarter], tail))
            self._made = 0
        return self._go_on(samples)

    def _go_on(self, samples: int) -> Sound:
        assert self._cycle is not None
        places = np.arange(self._made, self._made + samples)
        self._made += samples
        level = 1 - (places / self._rate - STEADY_S) / (FADED_S - STEADY_S)
        made = np.take(self._cycle, places, mode="wrap") * np.clip(level, 0, 1)
        return made.astype(np.float32)
