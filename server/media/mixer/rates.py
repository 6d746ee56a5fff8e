"""From one sample rate to a multiple of it and back, piece by piece: windowed-sinc filters in polyphase form.

Source: Crochiere and Rabiner, Multirate Digital Signal Processing (1983), section 3.3. Either way costs about 1 ms
of delay at 8 kHz (half of a filter's length)."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from server.media.mixer.g711 import Sound

TAPS = 16  # of each phase: 4 kHz sound passes to 3.4 kHz, what it mirrors is 40 dB down


def _kernel(factor: int) -> NDArray[np.float32]:
    length = TAPS * factor
    place = np.arange(length) - (length - 1) / 2
    kernel = np.sinc(place / factor * 0.95) * np.kaiser(length, 6.0)
    return np.asarray(kernel / kernel.sum(), np.float32)


class Upsampler:
    """`factor` samples for each one."""

    def __init__(self, factor: int) -> None:
        phases = (_kernel(factor) * factor).reshape(TAPS, factor)[::-1]
        self._phases = np.ascontiguousarray(phases)
        self._past = np.zeros(TAPS - 1, np.float32)

    def run(self, sound: Sound) -> Sound:
        line = np.concatenate((self._past, sound))
        self._past = line[len(line) - TAPS + 1 :]
        step = line.strides[0]
        windows = as_strided(line, (len(sound), TAPS), (step, step))
        return (windows @ self._phases).reshape(-1)


class Downsampler:
    """One sample for `factor` ones; what comes in is a multiple of it."""

    def __init__(self, factor: int) -> None:
        self._factor = factor
        self._kernel = _kernel(factor)
        self._past = np.zeros(TAPS * factor - factor, np.float32)

    def run(self, sound: Sound) -> Sound:
        line = np.concatenate((self._past, sound))
        self._past = line[len(line) - len(self._past) :]
        step = line.strides[0]
        windows = as_strided(line, (len(sound) // self._factor, len(self._kernel)), (step * self._factor, step))
        return windows @ self._kernel


class _Same:
    def run(self, sound: Sound) -> Sound:
        return sound


Converter = Upsampler | Downsampler | _Same


def converter(rate: int, wanted: int) -> Converter:
    """Between 8, 16 and 48 kHz."""
    if rate == wanted:
        return _Same()
    return Upsampler(wanted // rate) if wanted > rate else Downsampler(rate // wanted)
