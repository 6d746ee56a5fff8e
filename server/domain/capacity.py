"""How many sessions of each channel an agent may hold at once, and what may come on top of what.

Two rules, and no others:
1. Of a channel an agent holds at most as many sessions as `channels` says; of one that is not named, none.
2. A session of another channel than those that are held comes only on top of those that `on_top` allows it over, and
   it must be allowed over every one of them. So an agent who writes e-mails and takes a call on top gets no further
   e-mail until the call is over, unless e-mail may come on top of voice, too.

A session is held from its offer to the end of its wrap-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

VOICE, CHAT, EMAIL = "voice", "chat", "email"
CHANNELS = (VOICE, CHAT, EMAIL)
MOST_AT_ONCE = {VOICE: 1, CHAT: 20, EMAIL: 20}  # two voices at once can't be listened to
TEXT_MIXES = ((CHAT, EMAIL), (EMAIL, CHAT))  # what is written waits for an answer; who speaks does not


@dataclass(frozen=True, slots=True)
class Capacity:
    """`channels` are (channel, how many at once); `on_top` are (channel, one that it may come on top of)."""

    channels: tuple[tuple[str, int], ...] = ((VOICE, 1),)
    on_top: tuple[tuple[str, str], ...] = TEXT_MIXES

    def most(self, channel: str) -> int:
        return next((count for known, count in self.channels if known == channel), 0)

    def open_over(self, held: Iterable[str]) -> tuple[str, ...]:
        """The channels of which one more session may come, given those of the sessions that are held."""
        loads: dict[str, int] = {}
        for channel in held:
            loads[channel] = loads.get(channel, 0) + 1
        return tuple(
            channel
            for channel, most in self.channels
            if loads.get(channel, 0) < most
            and all(other == channel or (channel, other) in self.on_top for other in loads)
        )


CAPACITY = Capacity()


def capacity_to_json(capacity: Capacity) -> dict[str, object]:
    """Empty for the default, so that an old row and a new one read alike."""
    if capacity == CAPACITY:
        return {}
    return {"channels": [list(pair) for pair in capacity.channels], "on_top": [list(pair) for pair in capacity.on_top]}


def capacity_from_json(value: Mapping[str, Any]) -> Capacity:
    if not value:
        return CAPACITY
    return Capacity(
        tuple((channel, count) for channel, count in value["channels"]),
        tuple((channel, over) for channel, over in value["on_top"]),
    )
