"""libopus (BSD licence) through ctypes: FFmpeg's wrapper decodes, but conceals no loss and takes no in-band FEC.

The library is the one that PyAV's wheel brings along, else the system's. Where neither is found, `available()` is
false and codecs.py goes through PyAV. Source of the calls: https://opus-codec.org/docs/opus_api-1.5/"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
from importlib import util
from pathlib import Path

import numpy as np

from server.media.mixer.g711 import Sound

MAX_PACKET_BYTES = 1276  # RFC 6716 section 3.4: 1275 and the first byte
LONGEST_S = 0.12
BIT_RATE = 28_000  # mono speech at full band; RFC 7587 section 3.1.1 asks for 28 to 40 kbit/s
COMPLEXITY = 1  # 0..10: 5 takes twice the CPU time (11 against 5 ms a second), for little at this rate
FEC_COMPLEXITY = 2  # the least at which libopus spends a part of this rate on FEC, and on wide band at most

_VOIP = 2048  # opus_defines.h
_SET_BITRATE, _SET_COMPLEXITY, _SET_INBAND_FEC, _SET_LOSS = 4002, 4010, 4012, 4014


class OpusError(ValueError):
    """What libopus refuses: a malformed packet."""


@functools.cache
def _library() -> ctypes.CDLL | None:
    spec = util.find_spec("av")
    bundled = Path(spec.origin).parents[1] / "av.libs" if spec is not None and spec.origin else Path("av.libs")
    for name in [*map(str, sorted(bundled.glob("libopus*"))), ctypes.util.find_library("opus")]:
        if name is None:
            continue
        try:
            return _declared(ctypes.CDLL(name))
        except (OSError, AttributeError):
            continue
    return None


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    handle, buffer, number = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int
    for name in ("decoder", "encoder"):
        create, destroy = getattr(library, f"opus_{name}_create"), getattr(library, f"opus_{name}_destroy")
        create.restype, destroy.argtypes, destroy.restype = handle, [handle], None
    library.opus_decode_float.argtypes = [handle, ctypes.c_char_p, ctypes.c_int32, buffer, number, number]
    library.opus_encode_float.argtypes = [handle, buffer, number, buffer, ctypes.c_int32]
    return library


def available() -> bool:
    return _library() is not None


def _opened(kind: str, *arguments: int) -> tuple[ctypes.CDLL, ctypes.c_void_p]:
    library = _library()
    if library is None:
        raise RuntimeError("libopus was not found; install PyAV's wheel or the system's libopus0")
    error = ctypes.c_int()
    handle = getattr(library, f"opus_{kind}_create")(*arguments, ctypes.byref(error))
    if error.value != 0 or not handle:
        raise RuntimeError(f"libopus makes no {kind}: error {error.value}")
    return library, ctypes.c_void_p(handle)


class Decoder:
    """Mono at `rate` (8, 12, 16, 24 or 48 kHz), whatever the packets hold."""

    def __init__(self, rate: int) -> None:
        self._library, self._handle = _opened("decoder", rate, 1)
        self._rate = rate
        self._buffer = np.zeros(int(rate * LONGEST_S), np.float32)

    def decode(self, payload: bytes) -> Sound:
        """Raises OpusError."""
        return self._run(payload, len(self._buffer), 0)

    def conceal(self, samples: int, following: bytes | None = None) -> Sound:
        """What stands for a lost packet: its own copy in the `following` one (in-band FEC, RFC 6716 section 2.1.7)
        when there is one, else a guess (section 4.4). `samples` is a multiple of 2.5 ms. Raises OpusError."""
        return self._run(following, samples, 0 if following is None else 1)

    def _run(self, payload: bytes | None, samples: int, fec: int) -> Sound:
        size = 0 if payload is None else len(payload)
        at = self._buffer.ctypes.data
        count = self._library.opus_decode_float(self._handle, payload, size, at, samples, fec)
        if count < 0:
            raise OpusError(f"libopus error {count}")
        return self._buffer[:count].copy()

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._library.opus_decoder_destroy(self._handle)


class Encoder:
    """Mono at `rate`, 20 ms a packet. `loss_percent`: how many of them get lost; each then brings a copy of the one
    before along (in-band FEC), for a third more CPU time."""

    def __init__(self, rate: int, loss_percent: int = 0) -> None:
        self._library, self._handle = _opened("encoder", rate, 1, _VOIP)
        self._packet = ctypes.create_string_buffer(MAX_PACKET_BYTES)
        settings = (
            (_SET_BITRATE, BIT_RATE),
            (_SET_COMPLEXITY, FEC_COMPLEXITY if loss_percent else COMPLEXITY),
            (_SET_INBAND_FEC, 1 if loss_percent else 0),
            (_SET_LOSS, loss_percent),
        )
        for request, value in settings:
            self._library.opus_encoder_ctl(self._handle, ctypes.c_int(request), ctypes.c_int(value))

    def encode(self, sound: Sound) -> bytes:
        """Raises OpusError."""
        sound = np.ascontiguousarray(sound, np.float32)
        size = self._library.opus_encode_float(
            self._handle, sound.ctypes.data, len(sound), self._packet, MAX_PACKET_BYTES
        )
        if size < 0:
            raise OpusError(f"libopus error {size}")
        return self._packet.raw[:size]

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._library.opus_encoder_destroy(self._handle)
