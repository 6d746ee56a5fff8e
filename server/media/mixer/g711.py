"""G.711 by tables: 8-bit companded sound at 8 kHz. Source: ITU-T G.711 (11/1988), tables 1 and 2."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.float32]  # -1 to 1

_CODES = np.arange(256)


def _mu_law() -> NDArray[np.int16]:
    code = ~_CODES & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84) << (code >> 4 & 7)
    return np.where(code & 0x80, 0x84 - magnitude, magnitude - 0x84).astype(np.int16)


def _a_law() -> NDArray[np.int16]:
    code = _CODES ^ 0x55
    segment, step = code >> 4 & 7, (code & 0x0F) << 4
    magnitude = np.where(segment == 0, step + 8, (step + 0x108) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _inverse(levels: NDArray[np.int16]) -> NDArray[np.uint8]:
    """For each 16-bit sample, at its place + 32768, the code of the nearest level."""
    order = np.argsort(levels, kind="stable")
    ordered = levels[order].astype(np.int64)
    borders = (ordered[1:] + ordered[:-1] + 1) // 2
    return order[np.searchsorted(borders, np.arange(-32768, 32768), side="right")].astype(np.uint8)


LEVELS = {"pcmu": _mu_law(), "pcma": _a_law()}
_DECODE = {name: (levels / 32768).astype(np.float32) for name, levels in LEVELS.items()}
_ENCODE = {name: _inverse(levels) for name, levels in LEVELS.items()}


def decode(name: str, payload: bytes) -> Sound:
    """`name`: pcmu or pcma."""
    return np.take(_DECODE[name], np.frombuffer(payload, np.uint8))


def encode(name: str, sound: Sound) -> bytes:
    """`name`: pcmu or pcma. Too loud sound is cut off."""
    places = np.clip(sound * 32768 + 32768.5, 0, 65535).astype(np.int32)
    return bytes(np.take(_ENCODE[name], places))
