"""How many sessions of each channel an agent may hold, and what may come on top of what: what admins set, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VOICE = "voice"


@dataclass(frozen=True, slots=True)
class Capacity:
    """`channels` are (channel, how many at once); a channel that is not named is not offered."""

    channels: tuple[tuple[str, int], ...] = ((VOICE, 1),)


CAPACITY = Capacity()


def capacity_to_json(capacity: Capacity) -> dict[str, object]:
    """Empty for the default, so that an old row and a new one read alike."""
    return {"channels": [list(pair) for pair in capacity.channels]} if capacity != CAPACITY else {}


def capacity_from_json(value: Mapping[str, Any]) -> Capacity:
    if not value:
        return CAPACITY
    return Capacity(tuple((channel, count) for channel, count in value["channels"]))
