"""A mix: inputs, and who hears which of them. Each 20 ms every input is decoded once, all are added up once, and who
hears all but one gets the sum less that one. One encoding serves all who hear the same in the same format. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from server.media.mixer import codecs
from server.media.mixer.codecs import Encoder
from server.media.mixer.formats import FRAME_MS, Format
from server.media.mixer.g711 import Sound
from server.media.mixer.jitter import Arrived
from server.media.mixer.setup import Listener, Setup, rate_of
from server.media.mixer.voice import Voice

CEILING = 0.89  # -1 dBFS
RELEASE = 1.03  # the limiter lets go by 0.26 dB every 20 ms
START_WITHIN_MS = 200.0  # a new listener is sent silence from then on, even if nobody can be heard yet


@dataclass(frozen=True, slots=True)
class Frame:
    """20 ms for some listeners. `number` counts them by the machine's monotonic clock: it goes on when a mix or a mixer
    had to begin anew, and what is missing between is a gap of the right length."""

    listeners: tuple[int, ...]
    form: Format
    number: int
    payload: bytes


class Limiter:
    """Turns loud sound down instead of cutting it off: at once, and up again slowly."""

    def __init__(self) -> None:
        self._gain = 1.0

    def run(self, sound: Sound) -> Sound:
        peak = float(np.abs(sound).max())
        wanted = min(1.0, self._gain * RELEASE, CEILING / peak if peak > CEILING else 1.0)
        if wanted == self._gain == 1.0:
            return sound
        ramp = np.full(len(sound), wanted, np.float32)
        quarter = len(sound) // 4  # 5 ms: no click
        ramp[:quarter] = np.linspace(self._gain, wanted, quarter, dtype=np.float32)
        self._gain = wanted
        return np.asarray(np.clip(sound * ramp, -1.0, 1.0), np.float32)


@dataclass(slots=True)
class _Ear:
    """Who hears the same in the same format. It is known by its first listener, whose encoder goes on when the others
    or what they hear change."""

    listeners: list[Listener]
    encoder: Encoder
    limiter: Limiter


class Mix:
    """`apply` what it is to be, `put` packets, `tick` every 20 ms. Times in ms."""

    def __init__(self, setup: Setup, now_ms: float) -> None:
        self.rate = rate_of(setup)
        self.voices: dict[int, Voice] = {}
        self._ears: dict[tuple[int, Format], _Ear] = {}
        self._silent_until: dict[int, float] = {}  # listeners who were sent nothing yet
        self.apply(setup, now_ms)

    def apply(self, setup: Setup, now_ms: float) -> None:
        """Inputs and listeners that stay go on as they are."""
        rate = rate_of(setup)
        if rate > self.rate:  # never down: it would cost those who stay a gap, too
            self.rate = rate
            self.voices, self._ears = {}, {}
        self.setup = setup
        self.voices = {name: self.voices.get(name) or Voice(self.rate) for name, _ in setup.inputs}
        known = {listener.listener_id for ear in self._ears.values() for listener in ear.listeners}
        groups: dict[tuple[frozenset[int], Format], list[Listener]] = {}
        for listener in sorted(setup.listeners, key=lambda one: one.listener_id):
            groups.setdefault((listener.hears, listener.form), []).append(listener)
            if listener.listener_id not in known:
                self._silent_until[listener.listener_id] = now_ms + START_WITHIN_MS
        ears = {}
        for (_, form), listeners in groups.items():
            key = (listeners[0].listener_id, form)
            old = self._ears.get(key)
            encoder = old.encoder if old is not None else codecs.encoder(form, self.rate)
            ears[key] = _Ear(listeners, encoder, old.limiter if old is not None else Limiter())
        self._ears = ears

    def put(self, input_id: int, packet: Arrived) -> None:
        voice = self.voices.get(input_id)
        if voice is not None:
            voice.put(packet)

    def tick(self, now_ms: float) -> Iterator[Frame]:
        """The next 20 ms. `now_ms` goes on by 20 each time, unless some were skipped."""
        number = round(now_ms / FRAME_MS)
        heard = {name: sound for name, voice in self.voices.items() if (sound := voice.pull(now_ms)) is not None}
        total = sum(heard.values(), self._silence())
        for (_, form), ear in self._ears.items():
            hears = ear.listeners[0].hears
            listeners = tuple(one.listener_id for one in ear.listeners if self._started(one, now_ms))
            if listeners:
                mixed = self._mixed(hears, heard, total)
                yield Frame(listeners, form, number, ear.encoder.encode(ear.limiter.run(mixed)))

    def _mixed(self, hears: frozenset[int], heard: dict[int, Sound], total: Sound) -> Sound:
        left_out = [sound for name, sound in heard.items() if name not in hears]
        if not left_out:
            return total
        if len(left_out) == 1 and len(heard) > 2:
            return total - left_out[0]
        return sum((sound for name, sound in heard.items() if name in hears), self._silence())

    def _silence(self) -> Sound:
        return np.zeros(self.rate * FRAME_MS // 1000, np.float32)

    def _started(self, listener: Listener, now_ms: float) -> bool:
        """Nothing goes out before there is something to hear: until then the worker may go on with what was before."""
        until = self._silent_until.get(listener.listener_id)
        if until is None:
            return True
        if now_ms < until and not any(self.voices[name].playing for name in listener.hears if name in self.voices):
            return False
        del self._silent_until[listener.listener_id]
        return True
