"""The lines between a node and what it shares with others: every async method of a store takes a while there and back,
may get lost on the way there, or its answer on the way back.

What has left a node arrives even when the node dies meanwhile. A store's method is carried out in one piece at one
moment, so the stores must be twins that never wait.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any

from server.services.ports import Notice

GIVE_UP_S = (0.05, 2.0)  # how long a node waits for an answer that does not come


@dataclass
class Weather:
    """How a line is now. Chances are per call, times in seconds."""

    latency_s: float = 0.002  # on average, each way
    lost_requests: float = 0.0
    lost_replies: float = 0.0
    cut: bool = False


class Line:
    """One node's line to one store. `dead`: the node is. `on_done(name, arguments, reply)` is told when a method was
    carried out; `lose` is how the node hears that it was not answered."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        random: Random,
        lose: Callable[[], Exception],
        on_done: Callable[[str, tuple[Any, ...], Any], None] | None = None,
    ) -> None:
        self._loop = loop
        self._random = random
        self._lose = lose
        self._on_done = on_done
        self.weather = Weather()
        self.dead = False

    def carry(self, name: str, method: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **named: Any) -> Any:
        if self.dead:
            raise asyncio.CancelledError  # of a task that is being cancelled: the dead say nothing more
        reply: asyncio.Future[Any] = self._loop.create_future()
        if self._is_lost(self.weather.lost_requests):
            self._fail(reply)
        else:
            self._loop.call_later(self._latency(), self._arrive, reply, name, method, args, named)
        return reply

    def _arrive(
        self,
        reply: asyncio.Future[Any],
        name: str,
        method: Callable[..., Coroutine[Any, Any, Any]],
        args: tuple[Any, ...],
        named: dict[str, Any],
    ) -> None:
        try:
            result, error = at_once(method(*args, **named)), None
        except Exception as raised:
            result, error = None, raised
        if self._on_done is not None and error is None:
            self._on_done(name, args, result)
        if self.dead:
            return
        if self._is_lost(self.weather.lost_replies):
            self._fail(reply)
        else:
            self._loop.call_later(self._latency(), _answer, reply, result, error)

    def _is_lost(self, chance: float) -> bool:
        return self.weather.cut or (chance > 0 and self._random.random() < chance)

    def _fail(self, reply: asyncio.Future[Any]) -> None:
        self._loop.call_later(self._random.uniform(*GIVE_UP_S), _answer, reply, None, self._lose())

    def _latency(self) -> float:
        return self._random.expovariate(1 / self.weather.latency_s)


def _answer(reply: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if reply.done():  # its node died, or waits no more
        return
    if error is not None:
        reply.set_exception(error)
    else:
        reply.set_result(result)


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """Carry out what never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    work.close()
    raise AssertionError("a twin has to answer without waiting")


def over(line: Line, target: object) -> Any:
    """`target` as it is seen at the near end of a line: the same methods, the async ones carried over it."""
    return _Far(line, target)


class _Far:
    def __init__(self, line: Line, target: object) -> None:
        self._line = line
        self._target = target

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)
        if not inspect.iscoroutinefunction(method):
            return method
        carry = self._line.carry

        async def carried(*args: Any, **named: Any) -> Any:
            return await carry(name, method, *args, **named)

        setattr(self, name, carried)
        return carried


class Ether:
    """The bus between nodes: each notice takes a while, some are lost, doubled or late. Nobody hears a dead node, which
    says nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, random: Random) -> None:
        self._loop = loop
        self._random = random
        self._stations: list[Station] = []
        self.lost = 0.0
        self.doubled = 0.0
        self.late_s = 0.002

    def station(self) -> Station:
        made = Station(self)
        self._stations.append(made)
        return made

    def carry(self, sender: Station, notice: Notice) -> None:
        for station in self._stations:
            if station is not sender:
                for _ in range(2 if self._random.random() < self.doubled else 1):
                    if self._random.random() >= self.lost:
                        self._loop.call_later(self._random.expovariate(1 / self.late_s), station.hear, notice)

    def leave(self, station: Station) -> None:
        self._stations.remove(station)


class Station:
    """`Bus` of one node."""

    def __init__(self, ether: Ether) -> None:
        self._ether = ether
        self._on_notice: Callable[[Notice], None] | None = None
        self.dead = False

    def publish(self, notice: Notice) -> None:
        if not self.dead:
            self._ether.carry(self, notice)

    def hear(self, notice: Notice) -> None:
        if self._on_notice is not None and not self.dead:
            self._on_notice(notice)

    async def start(self, on_notice: Callable[[Notice], None]) -> None:
        self._on_notice = on_notice

    async def stop(self) -> None:
        self._on_notice = None

    def die(self) -> None:
        self.dead = True
        self._ether.leave(self)
