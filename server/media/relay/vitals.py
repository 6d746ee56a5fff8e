"""How a media worker itself fares: whether its event loop keeps time, and how much of its core it uses.

A loop that lags makes every call of the worker sound bad before anything fails; one that uses its whole core is full,
whatever its capacity says.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

PERIOD_S = 0.25
WINDOW = 60  # periods: as long as Prometheus' usual interval, so that each scrape sees the worst since the last one


class Vitals:
    """Over the last 15 s: `loop_lag_s`, how late a timer ran at worst; `cpu_share`, how much of one core the process
    used, None in its first moment."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=WINDOW)
        self._used: deque[tuple[float, float]] = deque(maxlen=WINDOW + 1)  # (when, CPU time of the process), s

    @property
    def loop_lag_s(self) -> float:
        return round(max(self._lags, default=0.0), 6)

    @property
    def cpu_share(self) -> float | None:
        if len(self._used) < 2:
            return None
        (began, cpu_then), (ended, cpu_now) = self._used[0], self._used[-1]
        return round((cpu_now - cpu_then) / (ended - began), 4)

    def note(self, due: float, now: float, cpu_s: float) -> None:
        """A timer that was due ran now; `cpu_s`: what the process has used since its start."""
        self._lags.append(max(0.0, now - due))
        self._used.append((now, cpu_s))

    async def watch(self) -> None:
        """Measure for ever."""
        while True:
            due = time.monotonic() + PERIOD_S
            await asyncio.sleep(PERIOD_S)
            self.note(due, time.monotonic(), time.process_time())
