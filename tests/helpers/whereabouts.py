"""Where the tasks of asyncio wait: the chain of what each awaits, which its own stack does not show."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any


def whereabouts() -> str:
    """How many of this loop's tasks wait where, a line for each place, the rarest first."""
    places = Counter(_chain(task) for task in asyncio.all_tasks())
    return "\n".join(f"{count:4} {place}" for place, count in reversed(places.most_common()))


def _chain(task: asyncio.Task[Any]) -> str:
    """The functions that a task is in, from the outermost to what it waits for."""
    chain: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            chain.append(type(awaited).__name__)
            break
        chain.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return " > ".join(chain)
