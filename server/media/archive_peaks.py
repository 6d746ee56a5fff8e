"""The waveform of an archived side, from the loudest sample of each short step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from server.media.mixer.g711 import LEVELS

_LOUDNESS = {
    name: (np.abs(levels.astype(np.int32)) * 255 // 32767).astype(np.uint8).tobytes() for name, levels in LEVELS.items()
}


def loudest_g711(codec: str, payload: bytes, step: int) -> bytes:
    """The loudest of each `step` samples, 0..255; `payload` is a multiple of it."""
    loudness = np.frombuffer(payload.translate(_LOUDNESS[codec]), np.uint8)
    return bytes(loudness.reshape(-1, step).max(axis=1))


def spread(loudness: NDArray[np.intc] | NDArray[np.uint8], count: int) -> list[int]:
    """The loudest of each of `count` equal spans (all 0 of nothing)."""
    if not len(loudness):
        return [0] * count
    edges = np.linspace(0, len(loudness), count + 1)
    found = []
    for index in range(count):
        begin = min(int(edges[index]), len(loudness) - 1)
        found.append(int(loudness[begin : max(begin + 1, int(edges[index + 1]))].max()))
    return found
