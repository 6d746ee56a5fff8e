"""Listens for the gaps in what somebody hears, whatever peer connection it comes over."""

from __future__ import annotations

import time

import numpy as np

from server.media.peer import RATE, Samples, level_dbfs

LOUD_DBFS = -35.0  # the peers' tones are at -20
FRAME_S = 0.02


class Ear:
    """`on_frame` for a Peer, or for several in turn. `gap_s`: the longest time without the tone since `listen`."""

    def __init__(self, tone_hz: float) -> None:
        self._tone_hz = tone_hz
        self._heard_at = 0.0
        self._longest_s = 0.0

    def __call__(self, samples: Samples) -> None:
        now = time.monotonic()
        if level_dbfs(samples) < LOUD_DBFS or not self._is_tone(samples):
            return
        if self._heard_at:
            self._longest_s = max(self._longest_s, now - self._heard_at - FRAME_S)
        self._heard_at = now

    def listen(self) -> None:
        """Forget what was before."""
        self._longest_s = 0.0

    @property
    def gap_s(self) -> float:
        """The one that is still open counts."""
        return max(self._longest_s, time.monotonic() - self._heard_at - FRAME_S)

    def _is_tone(self, samples: Samples) -> bool:
        """The tone has most of the frame's power: music and comfort tones have other pitches."""
        turns = np.exp(-2j * np.pi * self._tone_hz * np.arange(len(samples)) / RATE)
        signal = samples.astype(np.float64)
        power = float(np.mean(signal**2))
        return bool(2 * abs(np.mean(signal * turns)) ** 2 > 0.5 * power)
