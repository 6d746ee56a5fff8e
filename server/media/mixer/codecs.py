"""Encoders and decoders at the mix's sample rate, whatever the format's own is."""

from __future__ import annotations

import fractions
from typing import Protocol

import numpy as np

from server.media.mixer import g711, opus
from server.media.mixer.formats import FRAME_MS, Format
from server.media.mixer.g711 import Sound
from server.media.mixer.rates import converter
from server.media.mixer.stretch import Concealer


class BadPayload(ValueError):
    """A peer's payload that its decoder refuses: it counts as lost."""


class Decoder(Protocol):
    def decode(self, payload: bytes) -> Sound:
        """Raises BadPayload."""

    def conceal(self, samples: int, following: bytes | None) -> Sound:
        """What stands for `samples` of lost sound; `following`: the payload right after them, when it is there."""


class Encoder(Protocol):
    def encode(self, sound: Sound) -> bytes:
        """The payload of one frame of the mix."""


def decoder(form: Format, rate: int) -> Decoder:
    if form.name == "opus":
        return _OpusDecoder(rate) if opus.available() else _PyavDecoder(form, rate)
    return _G711Decoder(form, rate) if form.name in ("pcmu", "pcma") else _PyavDecoder(form, rate)


def encoder(form: Format, rate: int) -> Encoder:
    if form.name == "opus":
        return opus.Encoder(rate) if opus.available() else _PyavEncoder(form, rate)
    return _G711Encoder(form, rate) if form.name in ("pcmu", "pcma") else _PyavEncoder(form, rate)


class _OpusDecoder:
    """Decodes at the mix's rate itself, and conceals by itself."""

    def __init__(self, rate: int) -> None:
        self._inner = opus.Decoder(rate)
        self._step = rate // 400  # 2.5 ms

    def decode(self, payload: bytes) -> Sound:
        try:
            return self._inner.decode(payload)
        except opus.OpusError as error:
            raise BadPayload(str(error)) from error

    def conceal(self, samples: int, following: bytes | None) -> Sound:
        samples = max(self._step, samples - samples % self._step)
        try:
            return self._inner.conceal(samples, following)
        except opus.OpusError:  # nothing was decoded before, or `following` is broken
            return np.zeros(samples, np.float32)


class _WaveDecoder:
    """Decodes at the format's rate, conceals there, and converts."""

    def __init__(self, form: Format, rate: int) -> None:
        self._factor = rate / form.sample_rate
        self._concealer = Concealer(form.sample_rate)
        self._converter = converter(form.sample_rate, rate)

    def decode(self, payload: bytes) -> Sound:
        return self._converter.run(self._concealer.heard(self._plain(payload)))

    def conceal(self, samples: int, following: bytes | None) -> Sound:
        return self._converter.run(self._concealer.conceal(max(1, int(samples / self._factor))))

    def _plain(self, payload: bytes) -> Sound:
        raise NotImplementedError


class _G711Decoder(_WaveDecoder):
    def __init__(self, form: Format, rate: int) -> None:
        super().__init__(form, rate)
        self._name = form.name

    def _plain(self, payload: bytes) -> Sound:
        return g711.decode(self._name, payload)


class _PyavDecoder(_WaveDecoder):
    """Through FFmpeg. Imported when it is first needed: it takes a third of the process's start."""

    def __init__(self, form: Format, rate: int) -> None:
        import av

        super().__init__(form, rate)
        context = av.CodecContext.create("libopus" if form.name == "opus" else form.name, "r")
        assert isinstance(context, av.AudioCodecContext)
        if form.name != "opus":
            context.layout = "mono"
        context.sample_rate = form.sample_rate
        self._context, self._packet, self._error = context, av.Packet, av.FFmpegError

    def _plain(self, payload: bytes) -> Sound:
        try:
            frames = self._context.decode(self._packet(payload))
        except self._error as error:
            raise BadPayload(str(error)) from error
        if not frames:
            raise BadPayload("no sound in it")
        pieces = []
        for frame in frames:
            data, channels = frame.to_ndarray(), frame.layout.nb_channels
            flat = data.reshape(-1, channels).mean(axis=1) if data.shape[0] == 1 else data.mean(axis=0)
            pieces.append(flat / 32768 if data.dtype == np.int16 else flat)
        return np.concatenate(pieces).astype(np.float32)


class _G711Encoder:
    def __init__(self, form: Format, rate: int) -> None:
        self._name = form.name
        self._converter = converter(rate, form.sample_rate)

    def encode(self, sound: Sound) -> bytes:
        return g711.encode(self._name, self._converter.run(sound))


class _PyavEncoder:
    def __init__(self, form: Format, rate: int) -> None:
        import av

        context = av.CodecContext.create("libopus" if form.name == "opus" else form.name, "w")
        assert isinstance(context, av.AudioCodecContext)
        context.sample_rate, context.format, context.layout = form.sample_rate, "s16", "mono"
        context.time_base = fractions.Fraction(1, form.sample_rate)
        if form.name == "opus":
            context.bit_rate = opus.BIT_RATE
            context.options = {"application": "voip", "frame_duration": str(FRAME_MS)}
        self._context, self._frame = context, av.AudioFrame
        self._converter = converter(rate, form.sample_rate)
        self._rate, self._count = form.sample_rate, 0

    def encode(self, sound: Sound) -> bytes:
        samples = np.clip(self._converter.run(sound) * 32767, -32768, 32767).astype(np.int16)
        frame = self._frame.from_ndarray(samples.reshape(1, -1), "s16", "mono")
        frame.sample_rate, frame.pts = self._rate, self._count
        self._count += len(samples)
        return b"".join(bytes(packet) for packet in self._context.encode(frame))
