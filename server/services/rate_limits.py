"""Token buckets with bounded memory.

Each key may act `burst` times at once and `burst` times per `period_s` in the long run. At most `max_keys` keys are
remembered; beyond that the one unused for longest is forgotten, which gives it a fresh bucket: memory is bounded at
the price of being lenient while very many addresses attack at once.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from server.services.ports import Clock

MAX_KEYS = 10_000  # about 2 MB


@dataclass(frozen=True, slots=True)
class Rate:
    burst: int
    period_s: int


class RateLimit:
    """One limit over many keys."""

    def __init__(self, rate: Rate, clock: Clock, max_keys: int = MAX_KEYS) -> None:
        self._rate = rate
        self._clock = clock
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()  # tokens, at

    def take(self, key: str) -> int:
        """Take one token. Returns 0, or the seconds to wait when there is none."""
        wait_s = self.wait_s(key)
        if wait_s == 0:
            self._set(key, self._tokens(key) - 1)
        return wait_s

    def wait_s(self, key: str) -> int:
        """The seconds until `key` may act; 0 for at once. Takes nothing."""
        tokens = self._tokens(key)
        return 0 if tokens >= 1 else math.ceil((1 - tokens) * self._rate.period_s / self._rate.burst)

    def give_back(self, key: str) -> None:
        """Undo one `take`: what was limited did not happen after all."""
        if key in self._buckets:
            self._set(key, min(self._rate.burst, self._tokens(key) + 1))

    def __len__(self) -> int:
        return len(self._buckets)

    def _tokens(self, key: str) -> float:
        if key not in self._buckets:
            return self._rate.burst
        tokens, at = self._buckets[key]
        passed_s = max(0, self._clock.now_ms() - at) / 1000
        return min(self._rate.burst, tokens + passed_s * self._rate.burst / self._rate.period_s)

    def _set(self, key: str, tokens: float) -> None:
        self._buckets[key] = (tokens, self._clock.now_ms())
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)


def address_key(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 of an IPv6 address (one household has 2^64 of those)."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
    return str(parsed)
