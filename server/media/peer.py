"""A caller made of aiortc: plays a tone or an audio file, and measures what it hears.

For `patchbay testcall` and the tests. Unlike the relay it encodes and decodes: about 6 % of a core each.
"""

from __future__ import annotations

import asyncio
import fractions
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aioice.ice
import aiortc.rtp
import av
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCIceTransportPolicy,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from numpy.typing import NDArray

RATE = 48_000
FRAME = 960  # 20 ms
TONE_DBFS = -20.0
SILENT_DBFS = -120.0
JUDGED_S = 0.4  # less sound than this tells no pitch

Samples = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Heard:
    """The last second (or less) of what came in. `at`: seconds of sound heard so far. `peak_hz` is 0 when
    nothing came yet; `level_dbfs`: of all of it, a full-scale sine is -3."""

    peak_hz: float
    level_dbfs: float
    at: float


class Tone(MediaStreamTrack):
    """An endless track in real time: a sine, or an audio file in a loop, or silence."""

    kind = "audio"

    def __init__(self, samples: Samples) -> None:
        super().__init__()
        self._samples = samples
        self._count = 0
        self._start = 0.0

    async def recv(self) -> av.AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        now = time.monotonic()
        if not self._start:
            self._start = now
        wait_s = self._start + self._count * FRAME / RATE - now
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        at = self._count * FRAME % len(self._samples)
        part = np.take(self._samples, range(at, at + FRAME), mode="wrap").reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(part, "s16", "mono")
        frame.sample_rate, frame.pts = RATE, self._count * FRAME
        frame.time_base = fractions.Fraction(1, RATE)
        self._count += 1
        return frame


def sine(pitch_hz: float, level_dbfs: float = TONE_DBFS) -> Samples:
    """One second of a tone, whole Hz so that it loops; 0 Hz is silence."""
    t = np.arange(RATE) / RATE
    amplitude = 0 if not pitch_hz else 32767 * 10 ** (level_dbfs / 20) * np.sqrt(2)
    return np.asarray(amplitude * np.sin(2 * np.pi * round(pitch_hz) * t), dtype=np.int16)


def read_audio(path: Path) -> Samples:
    """Any audio file that FFmpeg reads, as 48 kHz mono."""
    resampler = av.AudioResampler("s16", "mono", RATE)
    parts: list[Samples] = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            parts += [np.asarray(f.to_ndarray()[0], dtype=np.int16) for f in resampler.resample(frame)]
    return np.concatenate(parts) if parts else np.zeros(FRAME, np.int16)


def spectrum_peak(samples: Samples) -> float:
    """The strongest frequency, Hz; 0 for silence."""
    if len(samples) < FRAME or not samples.any():
        return 0.0
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * RATE / len(samples))


def level_dbfs(samples: Samples) -> float:
    power = float(np.mean(samples.astype(np.float64) ** 2)) if len(samples) else 0.0
    return SILENT_DBFS if power == 0 else max(SILENT_DBFS, 10 * np.log10(power / 32768**2))


class Peer:
    """`offer` → send it to the worker → `answer`; then `heard` until `close`. Plays from the start. `on_frame` is
    called with each 20 ms that are heard. `ice`: protocol.IceServers as a dict, of which aiortc takes the first STUN
    and the first TURN address."""

    def __init__(
        self,
        tone_hz: float = 0,
        audio: Path | None = None,
        on_frame: Callable[[Samples], None] = lambda samples: None,
        ice: Mapping[str, Any] | None = None,
    ) -> None:
        _prepare_aiortc()
        self._on_frame = on_frame
        self._samples = read_audio(audio) if audio is not None else sine(tone_hz)
        self._pc = RTCPeerConnection(_configuration(ice or {}))
        self._pc.addTrack(Tone(self._samples))
        self._window: deque[Samples] = deque(maxlen=RATE // FRAME)
        self._count = 0
        self._news = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        self._pc.on("track", self._on_track)
        self._pc.on("connectionstatechange", self._wake)

    @property
    def state(self) -> str:
        """new, connecting, connected, failed or closed."""
        return str(self._pc.connectionState)

    async def offer(self, candidates: bool = False) -> str:
        """An SDP offer, without candidates like a browser that does not wait for them."""
        await self._pc.setLocalDescription(await self._pc.createOffer())
        sdp: str = self._pc.localDescription.sdp
        return sdp if candidates else re.sub(r"a=(candidate:.*|end-of-candidates)\r\n", "", sdp)

    async def answer(self, sdp: str) -> None:
        await self._pc.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    def heard(self) -> Heard:
        """What came in during the last second."""
        samples = np.concatenate(self._window) if self._window else np.zeros(0, np.int16)
        return Heard(spectrum_peak(samples), level_dbfs(samples), self._count / RATE)

    def forget(self) -> None:
        """Empty the window: `heard` tells of what comes from now on."""
        self._window.clear()

    async def wait_for(self, good: Callable[[Heard], bool], timeout_s: float = 10, least_s: float = JUDGED_S) -> Heard:
        """Wait until what is heard is as wished, for at least `least_s` since the last `forget`.

        Raises TimeoutError that says what was heard instead."""
        heard = self.heard()
        try:
            async with asyncio.timeout(timeout_s):
                while len(self._window) * FRAME < least_s * RATE or not good(heard):
                    self._news.clear()
                    await self._news.wait()
                    heard = self.heard()
        except TimeoutError:
            raise TimeoutError(f"heard {heard} after {timeout_s} s ({self.state})") from None
        return heard

    async def wait_tone(self, pitch_hz: float, timeout_s: float = 10) -> Heard:
        """Wait until a tone is what is heard most, and is well above silence."""
        self.forget()
        return await self.wait_for(
            lambda h: abs(h.peak_hz - pitch_hz) < 12 and h.level_dbfs > TONE_DBFS - 20, timeout_s
        )

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
        await self._pc.close()

    def crash(self) -> None:
        """Fall silent without a goodbye, like a tab that was killed: the sockets are gone at once."""
        for sender in self._pc.getSenders():
            for protocol in sender.transport.transport._connection._protocols:
                protocol.transport.close()

    def _wake(self) -> None:
        self._news.set()

    def _on_track(self, track: MediaStreamTrack) -> None:
        self._listening = asyncio.ensure_future(self._listen(track))

    async def _listen(self, track: MediaStreamTrack) -> None:
        resampler = av.AudioResampler("s16", "mono", RATE)
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, av.AudioFrame)
            for part in resampler.resample(frame):
                samples = np.asarray(part.to_ndarray()[0], dtype=np.int16)
                self._window.append(samples)
                self._count += len(samples)
                self._on_frame(samples)
            self._news.set()


def _configuration(ice: Mapping[str, Any]) -> RTCConfiguration:
    servers = [RTCIceServer(s["urls"], s["username"], s["credential"]) for s in ice.get("ice_servers", ())]
    policy = RTCIceTransportPolicy.RELAY if ice.get("relay_only") else RTCIceTransportPolicy.ALL
    return RTCConfiguration(iceServers=servers, iceTransportPolicy=policy)


def _prepare_aiortc() -> None:
    """Let aiortc's peers use loopback (a laptop without a network), and measure levels with numpy: its own
    loop over the samples costs more than the codec."""
    if getattr(aioice.ice.get_host_addresses, "_patchbay", False):
        return
    original = aioice.ice.get_host_addresses

    def with_loopback(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        return [*original(use_ipv4, False), "127.0.0.1"]

    def level(frame: av.AudioFrame) -> int:
        samples = np.frombuffer(bytes(frame.planes[0]), np.int16)[: frame.samples]
        return round(max(-127.0, level_dbfs(samples)))

    with_loopback._patchbay = True  # type: ignore[attr-defined]  # a mark on a function
    aioice.ice.get_host_addresses = with_loopback
    aiortc.rtp.compute_audio_level_dbov = level
