"""A Socket.IO client that comes back: the library does so by itself when a connection breaks, but stays away when the
server lets go of it, as a control node does that is being stopped."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import aiohttp
import socketio
import structlog

log = structlog.get_logger()
SPREAD_S = 0.5  # between tries, drawn anew each time


class ComesBack:
    """`connect` opens the socket as it was opened at first; `wanted` tells whether it should be open at all."""

    def __init__(
        self,
        socket: socketio.AsyncClient,
        namespace: str,
        connect: Callable[[], Awaitable[None]],
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._socket = socket
        self._connect = connect
        self._wanted = wanted
        self._task: asyncio.Task[None] | None = None
        socket.on("disconnect", self._lost, namespace=namespace)

    async def close(self) -> None:
        """To be called before the socket is shut down."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _lost(self, reason: str) -> None:
        if reason == socketio.AsyncClient.reason.SERVER_DISCONNECT and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._come_back())

    async def _come_back(self) -> None:
        while self._wanted():
            await asyncio.sleep(SPREAD_S * random.random())
            try:
                await self._connect()
                return
            except (socketio.exceptions.SocketIOError, aiohttp.ClientError, OSError, ValueError) as error:
                log.debug("line_not_back", error=str(error))  # ValueError: it is not closed yet
