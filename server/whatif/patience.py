"""PURE: how long customers would have waited, where we only know that they were answered before they had enough.

The product-limit estimator (Kaplan and Meier 1958, JASA 53): whoever left tells their patience exactly; whoever was
answered tells only that it is longer. The estimate falls at each leaving by the share of those who still waited then.
It rests on the two being independent, and where nobody left any more it knows nothing: whoever gets there stays.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Wait:
    """`left`: it ended because the customer had enough."""

    ms: int
    left: bool


@dataclass(frozen=True, slots=True)
class Patience:
    """`stays[n]` is the share whose patience is longer than `at_ms[n]`; before the first it is 1."""

    at_ms: tuple[int, ...]
    stays: tuple[float, ...]

    def longer_than(self, ms: int) -> float:
        index = bisect_right(self.at_ms, ms)
        return self.stays[index - 1] if index else 1.0

    def beyond(self, ms: int, draw: random.Random) -> int | None:
        """A patience of somebody who has waited so long; None: as long as it takes."""
        share = self.longer_than(ms) * draw.random()
        for index in range(bisect_right(self.at_ms, ms), len(self.at_ms)):
            if self.stays[index] <= share:
                return self.at_ms[index]
        return None


def product_limit(waits: Iterable[Wait]) -> Patience:
    """Of some waits, in any order. Who is answered in the moment of a leaving counts as waiting still then."""
    ordered = sorted(waits, key=lambda wait: wait.ms)
    at_ms: list[int] = []
    stays: list[float] = []
    share, waiting = 1.0, len(ordered)
    for ms, group in groupby(ordered, key=lambda wait: wait.ms):
        together = list(group)
        left = sum(wait.left for wait in together)
        if left:
            share *= 1 - left / waiting
            at_ms.append(ms)
            stays.append(share)
        waiting -= len(together)
    return Patience(tuple(at_ms), tuple(stays))
