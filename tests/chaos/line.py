"""A person's line to the center at the price of a WebSocket: hundreds fit into one process beside everything else. It
speaks the wire messages of widget and console, and comes back as they do; who holds it is told when to look anew."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Mapping
from typing import Any

import aiohttp

from tests.helpers.raw_socket import PATH

FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 2.5  # web/core/src/signalling.ts
SILENCE_S = 5.0
ANSWER_S = 4.0  # it takes milliseconds: it was lost
TIMEOUT = aiohttp.ClientWSTimeout(ws_close=0.1)
View = dict[str, Any]


class Lost(Exception):
    """No answer: perhaps it was done, perhaps not."""


class No(Exception):
    """The server said no; the text is the code."""


class Line:
    """`changed` is set whenever there is something to look at. `behind`: what is known is not the newest: `sync`."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        namespace: str,
        headers: Mapping[str, str],
        auth: View | None = None,
    ) -> None:
        self.namespace = namespace
        self.open = False
        self.behind = True
        self.away_until = 0.0  # by the loop's clock: the tab is closed for so long
        self.refused: list[str] = []
        self.changed = asyncio.Event()
        self.news: list[View] = []  # bodies of messages that came in their order, for the owner to take
        self._http, self._url, self._headers = http, url.replace("http", "ws", 1) + PATH, dict(headers)
        self._auth = "" if auth is None else json.dumps(auth)
        self._seen = 0
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[View]] = {}

    async def keep(self) -> None:
        """Be there, for ever."""
        attempt, loop = 0, asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(0.0, self.away_until - loop.time()))
            try:
                async with self._http.ws_connect(self._url, headers=self._headers, timeout=TIMEOUT) as socket:
                    self._socket = socket
                    if await self._serve(socket):
                        attempt = 0
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            finally:
                self._ended()
            longest, drawn = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2**attempt), random.random()
            await asyncio.sleep(FIRST_RETRY_S * drawn if attempt == 0 else longest * (0.5 + drawn / 2))
            attempt += 1

    async def leave(self, seconds: float) -> None:
        """Close the tab, and open it again after a while."""
        self.away_until = asyncio.get_running_loop().time() + seconds
        if self._socket is not None:
            await self._socket.close()

    async def ask(self, kind: str, body: View) -> View:
        """A message; its answer. Raises Lost, No."""
        socket, number = self._socket, next(self._numbers)
        if socket is None or not self.open:
            raise Lost
        answered = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"v": 1, "type": kind, "id": f"c{number}", "body": body}
        try:
            async with asyncio.timeout(ANSWER_S):
                await socket.send_str(f"42{self.namespace},{number}" + json.dumps(["m", message]))
                answer = await answered
        except (TimeoutError, aiohttp.ClientError, ConnectionError):
            raise Lost from None
        finally:
            self._answers.pop(number, None)
        if not answer["ok"]:
            raise No(answer["error"]["code"])
        given: View = answer["body"]
        return given

    async def sync(self) -> View:
        """What is true now; what was heard before is void. Raises Lost, No."""
        self.behind = False
        try:
            synced = await self.ask("sync", {})
        except (Lost, No):
            self.behind = True
            raise
        self.news.clear()
        self._seen = synced["head"]
        return synced

    async def _serve(self, socket: aiohttp.ClientWebSocketResponse) -> bool:
        """Until the end; whether it got in."""
        async with asyncio.timeout(SILENCE_S) as silence:
            async for frame in socket:
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    break
                silence.reschedule(asyncio.get_running_loop().time() + SILENCE_S)
                if not await self._take(socket, str(frame.data)):
                    break
        return self.open

    async def _take(self, socket: aiohttp.ClientWebSocketResponse, text: str) -> bool:
        """False when this connection is over."""
        kind, rest = text[:2], text[2 + len(self.namespace) + 1 :]
        if text[0] == "0":
            await socket.send_str(f"40{self.namespace},{self._auth}")
        elif text == "2":
            await socket.send_str("3")
        elif kind == "40":
            self.open = self.behind = True
            self.changed.set()
        elif kind == "43":
            number, _, body = rest.partition("[")
            answered = self._answers.get(int(number))
            if answered is not None and not answered.done():
                answered.set_result(json.loads("[" + body)[0])
        elif kind == "42":
            number, _, body = rest.partition("[")
            event, said = json.loads("[" + body)
            if event == "p":
                self._note(said["head"])
                await socket.send_str(f"43{self.namespace},{number}" + json.dumps([{"seq": said["head"]}]))
            else:
                self._hear(said)
        else:
            if kind == "44":
                self.refused.append(text)
            return False
        return True

    def _note(self, head: int) -> None:
        if head > self._seen and not self.behind:
            self.behind = True
            self.changed.set()

    def _hear(self, envelope: View) -> None:
        seq = envelope["seq"]
        if seq is None or seq <= self._seen:
            return
        if seq > self._seen + 1:
            self._note(seq)
            return
        self._seen = seq
        self.news.append(envelope["body"])
        self.changed.set()

    def _ended(self) -> None:
        self.open, self._socket = False, None
        for answered in self._answers.values():
            if not answered.done():
                answered.set_exception(ConnectionError())
        self.changed.set()
