"""A Socket.IO connection by hand, for what the libraries refuse to send: any frame, any namespace, any token."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

ANSWER_S = 5.0
PATH = "/socket.io/?EIO=4&transport=websocket"
_addresses = itertools.cycle(f"127.0.{third}.{fourth}" for third in range(1, 40) for fourth in range(1, 250))


class Ended(Exception):
    """The server ended the connection."""


class RawSocket:
    """One WebSocket. Pings of engine.io and of the hub are answered by `read`; everything else is left to the test."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._acks: dict[int, Any] = {}
        self.pushes: list[dict[str, Any]] = []

    @property
    def close_code(self) -> int | None:
        return self._socket.close_code

    async def send(self, frame: str | bytes) -> None:
        """A frame as it is. Raises Ended."""
        try:
            if isinstance(frame, bytes):
                await self._socket.send_bytes(frame)
            else:
                await self._socket.send_str(frame)
        except (ConnectionError, aiohttp.ClientError):
            raise Ended from None

    async def read(self, timeout_s: float = ANSWER_S) -> str:
        """The next frame that says something. Raises Ended, TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while True:
                message = await self._socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    raise Ended
                frame = str(message.data)
                if frame == "2":
                    await self.send("3")
                elif frame == "1":
                    raise Ended
                elif not await self._note(frame):
                    return frame

    async def connect(self, namespace: str, auth: object = None) -> dict[str, Any]:
        """Join a namespace: {"sid"}, or {"message": code} where the server says no."""
        await self.send(f"40{namespace}," + ("" if auth is None else json.dumps(auth)))
        while True:
            frame = await self.read()
            if frame.startswith((f"40{namespace},", f"44{namespace},")):
                found = json.loads(frame.partition(",")[2])
                return found if isinstance(found, dict) else {"message": found}

    async def emit(self, namespace: str, *arguments: object, event: object = "m") -> Any:
        """Send an event and wait for its ack. Raises Ended, TimeoutError."""
        number = next(self._ids)
        await self.send(f"42{namespace},{number}" + json.dumps([event, *arguments]))
        return await self.ack(number)

    async def ack(self, number: int) -> Any:
        async with asyncio.timeout(ANSWER_S):
            while number not in self._acks:
                await self._skip()
        return self._acks.pop(number)

    async def ask(self, namespace: str, kind: str, body: object) -> dict[str, Any]:
        """A message of our protocol; its ack."""
        answer = await self.emit(namespace, {"v": 1, "type": kind, "id": f"r{next(self._ids)}", "body": body})
        assert isinstance(answer, dict)
        return answer

    async def push(self, kind: str, timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """The body of the next push of a type, those that came before included."""
        async with asyncio.timeout(timeout_s):
            while True:
                for body in self.pushes:
                    if body["type"] == kind:
                        self.pushes.remove(body)
                        return body
                await self._skip()

    async def ended(self, timeout_s: float = ANSWER_S) -> bool:
        """Whether the server ends the connection within this time."""
        try:
            while True:
                await self.read(timeout_s)
        except Ended:
            return True
        except TimeoutError:
            return False

    async def _skip(self) -> None:
        """Read one frame for what `_note` makes of it."""
        message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT or message.data == "1":
            raise Ended
        if message.data == "2":
            await self.send("3")
        else:
            await self._note(str(message.data))

    async def _note(self, frame: str) -> bool:
        """Keep an ack or a push, answer a ping. False for anything else."""
        kind, (head, _, data) = frame[:2], frame[2:].partition(",")
        if kind == "43":
            digits = data[: len(data) - len(data.lstrip("0123456789"))]
            self._acks[int(digits)] = json.loads(data[len(digits) :])[0]
            return True
        if kind != "42":
            return False
        digits = data[: len(data) - len(data.lstrip("0123456789"))]
        event, body = json.loads(data[len(digits) :])
        if event == "p":
            await self.send(f"43{head},{digits}" + json.dumps([{"seq": body["head"]}]))
        else:
            self.pushes.append(body["body"])
        return True


@asynccontextmanager
async def raw_socket(url: str, headers: dict[str, str] | None = None) -> AsyncIterator[RawSocket]:
    """An open WebSocket, from a loopback address of its own: limits per address are not what is tested with it.
    Raises aiohttp.WSServerHandshakeError."""
    connector = aiohttp.TCPConnector(local_addr=(next(_addresses), 0))
    async with (
        aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http,
        http.ws_connect(url + PATH, headers=headers or {}, max_msg_size=1 << 22, timeout=_TIMEOUT) as socket,
    ):
        hello = await socket.receive_str()
        assert hello.startswith("0{"), hello
        yield RawSocket(socket)


_TIMEOUT = aiohttp.ClientWSTimeout(ws_close=1.0)
