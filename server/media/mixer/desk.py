"""All mixes of a mixer process: messages in, messages out. Pure but for the log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import structlog

from server.media.mixer.graph import Mix
from server.media.mixer.protocol import (
    BEAT,
    End,
    beat_from_bytes,
    frame_to_bytes,
    order_from_bytes,
    packet_from_bytes,
)
from server.media.mixer.setup import Setup

log = structlog.get_logger(__name__)


class Desk:
    """Times in ms of the machine's monotonic clock. `beat`: what the worker is to be answered, None: nothing."""

    def __init__(self) -> None:
        self.mixes: dict[int, Mix] = {}
        self.beat: int | None = None
        self._begun = bytearray()  # an order whose end has not come
        self._mix_of: dict[int, Mix] = {}  # by input

    def take(self, message: bytes, now_ms: float) -> None:
        """Raises ValueError for a message that protocol.py does not know."""
        if message[:1] == b"P":
            input_id, packet = packet_from_bytes(message)
            mix = self._mix_of.get(input_id)
            if mix is not None:
                mix.put(input_id, packet)
        elif message[:1] == b"j":
            self._begun += message[1:]
        elif message[:1] == b"J":
            whole = b"J" + self._begun + message[1:]
            self._begun.clear()
            self._order(order_from_bytes(whole), now_ms)
        elif message[:1] == BEAT:
            self.beat = beat_from_bytes(message)
        else:
            raise ValueError(f"message of kind {message[:1]!r}")

    def _order(self, order: Setup | End, now_ms: float) -> None:
        mix = self.mixes.get(order.mix_id)
        if mix is not None:
            for name, _ in mix.setup.inputs:
                self._mix_of.pop(name, None)
        if isinstance(order, End):
            if mix is not None:
                del self.mixes[order.mix_id]
                self._tell(mix)
            return
        if mix is None:
            mix = self.mixes[order.mix_id] = Mix(order, now_ms)
        else:
            mix.apply(order, now_ms)
        for name, _ in order.inputs:
            self._mix_of[name] = mix

    def tick(self, now_ms: float) -> Iterator[bytes]:
        """The messages of the next 20 ms."""
        for mix_id, mix in list(self.mixes.items()):
            try:
                for frame in mix.tick(now_ms):
                    for listener_id in frame.listeners:
                        yield frame_to_bytes(listener_id, frame.form.name, frame.number, frame.payload)
            except Exception:  # a boundary: the other mixes go on; this one begins anew
                log.exception("mix_failed", mix=mix_id)
                self._order(End(mix_id), now_ms)
                self._order(mix.setup, now_ms)

    @staticmethod
    def _tell(mix: Mix) -> None:
        """Once a mix, never a packet."""
        for name, voice in mix.voices.items():
            buffer = voice.buffer
            log.info("mix_input_ended", input=name, target_ms=round(buffer.arrivals.target_ms), **asdict(buffer.counts))
