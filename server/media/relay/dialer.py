"""Presses keys towards one anchor's peer, 20 ms by 20 ms, in the stream that it is sent (see dtmf.py)."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from server.media.relay import dtmf
from server.media.relay.rtp import OutStream
from server.media.sdp_lines import Codec
from server.services.ports import MediaError

log = structlog.get_logger(__name__)

KEYS_WAITING = 128  # nobody dials more at once


class Dialer:
    """`on_change`: it begins or ends to be `busy`, which is when nothing else may go to the peer."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.busy = False
        self._on_change = on_change
        self._waiting: deque[str] = deque()

    def dial(self, digits: str, codecs: Sequence[Codec], out: OutStream, tasks: asyncio.TaskGroup) -> None:
        """Press keys after those that are waiting. Raises MediaError: no_dtmf, bad_digits."""
        if not digits or any(digit not in dtmf.DIGITS for digit in digits):
            raise MediaError("bad_digits", "keys are 0-9, *, # and A-D")
        if len(self._waiting) + len(digits) > KEYS_WAITING:
            raise MediaError("bad_digits", f"more than {KEYS_WAITING} keys are waiting")
        codec = dtmf.event_codec(codecs, out.last_clock if out.packets else codecs[0].clock_rate)
        if codec is None:
            raise MediaError("no_dtmf", "the peer has not negotiated telephone-event")
        self._waiting.extend(digits)
        if not self.busy:
            self.busy = True
            self._on_change()
            tasks.create_task(self._press(dtmf.KeyPresses(codec), out))

    def stop(self) -> None:
        """The peer is gone: forget what is waiting."""
        self._waiting.clear()

    async def _press(self, presses: dtmf.KeyPresses, out: OutStream) -> None:
        due = time.monotonic()
        try:
            while self._waiting:
                for packet in presses.press(self._waiting.popleft()):
                    due += dtmf.PACKET_MS / 1000
                    await asyncio.sleep(due - time.monotonic())
                    if packet is not None:
                        out.forward(presses, packet, time.monotonic_ns())
        except Exception:  # a boundary: the other legs' sound goes on
            self._waiting.clear()
            log.exception("dial_failed")
        self.busy = False
        self._on_change()
