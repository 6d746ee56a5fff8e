"""Assignments that are on their way to the database, so that whoever comes meanwhile waits for none of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from server.routing.policy import Match
from server.routing.snapshot import Snapshot


class Landing(Enum):
    """How it went with an assignment: `REFUSED` by the rows; `UNKNOWN`: the storage gave no answer."""

    ASSIGNED = auto()
    REFUSED = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Flight:
    """A match that was claimed, reserved in `snapshot` until it has landed and the index has heard of it."""

    tenant: str
    snapshot: Snapshot
    match: Match
    claim_id: str


class Flights:
    """`on_landed` is called as each lands. `fly` must not raise."""

    def __init__(self, fly: Callable[[Flight], Coroutine[Any, Any, Landing]], on_landed: Callable[[], None]) -> None:
        self._fly = fly
        self._on_landed = on_landed
        self._flying: dict[Flight, asyncio.Task[None]] = {}
        self._landed: list[tuple[Flight, Landing]] = []

    def send(self, flight: Flight) -> None:
        self._flying[flight] = asyncio.create_task(self._go(flight))

    def in_air(self, tenant: str) -> int:
        return sum(flight.tenant == tenant for flight in self._flying)

    def landed(self) -> list[tuple[Flight, Landing]]:
        """Those that have landed since the last time."""
        landed, self._landed = self._landed, []
        return landed

    async def next(self) -> bool:
        """Wait until one has landed; False when none is on its way or waits to be asked for."""
        if not self._landed and self._flying:
            await asyncio.wait(self._flying.values(), return_when=asyncio.FIRST_COMPLETED)
        return bool(self._landed)

    async def end(self) -> list[Flight]:
        """The router ends: what is on its way is given up, but a save that has begun goes on. Returns all whose claims
        are still held."""
        flying = dict(self._flying)
        for task in flying.values():
            task.cancel()
        await asyncio.gather(*flying.values(), return_exceptions=True)
        return list(dict.fromkeys([*(flight for flight, _ in self.landed()), *flying]))

    async def _go(self, flight: Flight) -> None:
        try:
            landing = await self._fly(flight)
            self._landed.append((flight, landing))
        finally:
            del self._flying[flight]
        self._on_landed()
