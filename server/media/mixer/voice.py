"""One input of a mix: its jitter buffer, decoder and sound in stock. 20 ms at a time come out, whatever came in. Pure.

The head of the stock is kept between 5 ms below and 25 ms above the target of the jitter buffer: beyond that a period
of the sound is repeated or left out. So a sender's clock that is 200 ppm off costs one period in 12 to 50 s, delay that
a bad moment left behind goes away again, and nothing grows."""

from __future__ import annotations

import numpy as np

from server.media.mixer import codecs, stretch
from server.media.mixer.codecs import BadPayload, Decoder
from server.media.mixer.formats import FRAME_MS, Format
from server.media.mixer.g711 import Sound
from server.media.mixer.jitter import Arrived, JitterBuffer, Loss, Next, Pause, Play, Wait

BELOW_MS, ABOVE_MS = 5.0, 25.0  # a frame wide, since a stream begins at any moment within one
EDIT_EVERY = 4  # frames between two edits in speech ...
HURRY_MS = 60.0  # ... unless it is so far off
DTX_BYTES = 2  # an Opus packet of at most so many bytes says: silence goes on (RFC 6716 section 3.1)
DTX_S, NOISE_S = 1.2, 5.0  # after a word on silence the background goes on for so long; Opus repeats it every 0.4 s
LOUDEST_NOISE_DBOV = 30  # RFC 3389 allows 0: a full roar


class Voice:
    """`rate`: sample rate of what comes out."""

    def __init__(self, rate: int) -> None:
        self.buffer = JitterBuffer()
        self._rate = rate
        self._frame = rate * FRAME_MS // 1000
        self._stock: Sound = np.zeros(0, np.float32)
        self._decoder: Decoder | None = None
        self._form: Format | None = None
        self._noise = 0.0  # RMS of comfort noise
        self._quiet_until_ms = 0.0  # the sender's word on its silence is good until then
        self._dice = np.random.default_rng(1)
        self._since_edit = 0

    def put(self, packet: Arrived) -> None:
        self.buffer.put(packet)

    @property
    def playing(self) -> bool:
        return self.buffer.playing

    def delay_ms(self, now_ms: float) -> float:
        """How late what `pull` gives now is, against the quickest packets."""
        return self.buffer.delay_ms(now_ms) + 1000 * len(self._stock) / self._rate

    def pull(self, now_ms: float) -> Sound | None:
        """The next 20 ms; None when there is nothing to hear."""
        if not self.buffer.playing and not len(self._stock):
            first = self._more(now_ms)
            if not self.buffer.playing and now_ms >= self._quiet_until_ms:
                return None
            self._stock = first
        while len(self._stock) < self._frame:
            self._append(self._more(now_ms))
        if self.buffer.playing:
            self._keep_pace(now_ms)
        sound, self._stock = self._stock[: self._frame], self._stock[self._frame :]
        return sound

    def _append(self, more: Sound) -> None:
        self._stock = np.concatenate((self._stock, more)) if len(self._stock) else more

    # --- pace ---

    def _keep_pace(self, now_ms: float) -> None:
        self._since_edit += 1
        excess = self.delay_ms(now_ms) - self.buffer.arrivals.target_ms
        if -BELOW_MS <= excess <= ABOVE_MS:
            return
        if self._since_edit < EDIT_EVERY and abs(excess) < HURRY_MS and not stretch.is_silent(self._stock):
            return
        if excess < 0:
            self._stock = stretch.lengthen(self._stock, self._rate)
            self._since_edit = 0
            return
        room = self._frame + int(stretch.LONGEST_S * self._rate)
        if len(self._stock) < room and self.buffer.ready:
            self._append(self._more(now_ms))
        if len(self._stock) >= room:
            self._stock = stretch.shorten(self._stock, self._rate)
            self._since_edit = 0

    # --- sound ---

    def _more(self, now_ms: float) -> Sound:
        """At least 2.5 ms."""
        step: Next = self.buffer.take(now_ms)
        match step:
            case Play(form, payload):
                return self._decode(form, payload, now_ms)
            case Loss(ms, following) if now_ms >= self._quiet_until_ms:
                return self._conceal(self._samples(ms), following)
            case Wait() if now_ms >= self._quiet_until_ms:
                return self._conceal(self._frame, None)
            case Loss(ms) | Pause(ms):
                return self._pause(self._samples(ms), now_ms)
            case Wait():
                return self._pause(self._frame, now_ms)

    def _samples(self, ms: float) -> int:
        return max(self._rate // 400, round(ms * self._rate / 1000))

    def _decode(self, form: Format, payload: bytes, now_ms: float) -> Sound:
        if form.name == "cn":
            self._noise = 10 ** (-max(LOUDEST_NOISE_DBOV, payload[0] & 0x7F) / 20)
            self._quiet_until_ms = now_ms + 1000 * NOISE_S
            return self._background(self._frame)
        self._noise = 0.0
        says_silence = form.name == "opus" and len(payload) <= DTX_BYTES
        self._quiet_until_ms = now_ms + 1000 * DTX_S if says_silence else 0.0
        if self._decoder is None or form is not self._form:
            self._decoder, self._form = codecs.decoder(form, self._rate), form
        try:
            return self._decoder.decode(payload)
        except BadPayload:
            self.buffer.counts.malformed += 1
            return self._conceal(self._frame, None)

    def _conceal(self, samples: int, following: bytes | None) -> Sound:
        if self._decoder is None:
            return np.zeros(samples, np.float32)
        return self._decoder.conceal(samples, following)

    def _pause(self, samples: int, now_ms: float) -> Sound:
        if now_ms >= self._quiet_until_ms:
            return np.zeros(samples, np.float32)
        return self._background(samples) if self._noise else self._conceal(samples, None)

    def _background(self, samples: int) -> Sound:
        return (self._noise * self._dice.standard_normal(samples, np.float32)).astype(np.float32)
