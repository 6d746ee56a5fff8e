"""The bus in this process: the twin of Redis, for a node that is alone or several nodes of one test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from server.services.ports import Notice

log = structlog.get_logger()


class MemoryExchange:
    """Where several buses meet."""

    def __init__(self) -> None:
        self._buses: list[MemoryBus] = []

    def bus(self) -> MemoryBus:
        """One more node's bus. That of a node that is alone tells nobody."""
        bus = MemoryBus(self)
        self._buses.append(bus)
        return bus

    def carry(self, sender: MemoryBus, notice: Notice) -> None:
        """To all others, soon: who publishes is never called back before it goes on."""
        for bus in self._buses:
            if bus is not sender:
                asyncio.get_running_loop().call_soon(bus.hear, notice)


class MemoryBus:
    """`Bus` within a `MemoryExchange`."""

    def __init__(self, exchange: MemoryExchange) -> None:
        self._exchange = exchange
        self._on_notice: Callable[[Notice], None] | None = None

    def publish(self, notice: Notice) -> None:
        self._exchange.carry(self, notice)

    def hear(self, notice: Notice) -> None:
        """A notice of another node; before `start` and after `stop` it is lost."""
        if self._on_notice is None:
            return
        try:
            self._on_notice(notice)
        except Exception:
            log.exception("notice_failed")

    async def start(self, on_notice: Callable[[Notice], None]) -> None:
        self._on_notice = on_notice

    async def stop(self) -> None:
        self._on_notice = None

    async def ping(self) -> None:
        """It is always there."""
