"""How much packets of a stream are late against the quickest of them, and how long to wait for them. Pure.

A packet's *transit* is its arrival by our clock minus its timestamp by the sender's. The least transit of the last
10 s is the base: it follows a sender's clock that drifts (200 ppm are 2 ms in that time). What a packet exceeds it by
is its delay, and the target, for which a packet is held back, is what 97 of the last 100 packets needed."""

from __future__ import annotations

from collections import deque

LEAST_MS, MOST_MS = 20.0, 200.0
FIRST_MS = 40.0  # until anything is known: what a Wi-Fi needs
SHARE = 0.97  # the latest 3 of 100 are given up: waiting for them would cost everybody
WINDOW = 250  # packets; 5 s
BASE_S = 10  # whole seconds that the base looks back
RECKON_EVERY = 10  # packets


class Arrivals:
    """All times in ms."""

    def __init__(self, target_ms: float = FIRST_MS) -> None:
        self.target_ms = target_ms
        self.base_ms = 0.0
        self._delays: deque[float] = deque(maxlen=WINDOW)
        self._lows: deque[tuple[int, float]] = deque()  # (second, least transit in it), rising
        self._count = 0

    def note(self, now_ms: float, sent_ms: float) -> float:
        """A packet that was made at `sent_ms` arrives. Returns its delay."""
        transit, second = now_ms - sent_ms, int(now_ms // 1000)
        while self._lows and self._lows[-1][1] >= transit:
            self._lows.pop()
        self._lows.append((second, transit))
        while self._lows[0][0] < second - BASE_S:
            self._lows.popleft()
        self.base_ms = self._lows[0][1]
        delay = transit - self.base_ms
        self._delays.append(delay)
        self._count += 1
        if self._count % RECKON_EVERY == 0:
            self._reckon()
        elif delay > self.target_ms and self._count > RECKON_EVERY:
            self.target_ms = min(MOST_MS, self.target_ms + (delay - self.target_ms) / 4)  # soon, if it goes on
        return delay

    def _reckon(self) -> None:
        ordered = sorted(self._delays)
        needed = ordered[min(len(ordered) - 1, int(SHARE * len(ordered)))]
        self.target_ms = min(MOST_MS, max(LEAST_MS, needed))

    def delay(self, now_ms: float, sent_ms: float) -> float:
        """How late sound of `sent_ms` is if it is played now."""
        return now_ms - sent_ms - self.base_ms
