"""A customer without a browser: `patchbay testcall`, and the callers of tests and benchmarks.

It speaks the same REST and wire messages as the widget, and its media is a real WebRTC peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import socketio

from server.line import ComesBack
from server.media.peer import Peer, Samples

REQUEST_S = 10.0
HAND_OVER_S = 5.0


class CallFailed(Exception):
    """The call can't be made; the text says why."""


class Caller:
    """One call. `begin`, then `state` follows the server's view; `hear` measures; `hang_up` and `close` end it.

    `on_change` is called with each new view (protocol.CallView as a dict), `on_frame` with each 20 ms of sound."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        tone_hz: float = 440.0,
        audio: Path | None = None,
        name: str = "Test call",
        on_change: Callable[[dict[str, Any]], None] = lambda view: None,
        on_frame: Callable[[Samples], None] = lambda samples: None,
    ) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._name = name
        self._make_peer: Callable[[], Peer] = lambda: Peer(tone_hz, audio, on_frame, self._ice)
        self._on_change = on_change
        self._socket = socketio.AsyncClient(reconnection=True, reconnection_delay=0.2, reconnection_delay_max=2)
        self._seen = 0
        self._answered = 0
        self.view: dict[str, Any] = {}
        self.position: int | None = None
        self.ended = asyncio.Event()
        self.peer: Peer | None = None
        self._generation = 0
        self._lock = asyncio.Lock()
        self._token = ""
        self._ice: Mapping[str, Any] = {}
        self._line: ComesBack | None = None

    async def begin(self) -> None:
        """Ask for a session and call. Raises CallFailed."""
        self._token = await self.ask_for_session()
        self._socket.on("m", self._message, namespace="/customer")
        self._socket.on("p", self._ping, namespace="/customer")
        self._socket.on("connect", self._connected, namespace="/customer")
        self._line = ComesBack(self._socket, "/customer", self._connect, lambda: not self.ended.is_set())
        try:
            await self._connect()
        except socketio.exceptions.ConnectionError as error:
            raise CallFailed(f"the server refused the connection: {error}") from None
        sdp = await self._new_peer()
        answer = await self._send("call.request", {"name": self._name, "sdp": sdp})
        await self._take(answer["call"])

    async def _connect(self) -> None:
        await self._socket.connect(
            self._url, auth={"token": self._token}, namespaces=["/customer"], transports=["websocket"],
            wait_timeout=REQUEST_S,
        )  # fmt: skip

    async def ask_for_session(self) -> str:
        """The token of a new session. Raises CallFailed."""
        try:
            async with (
                asyncio.timeout(REQUEST_S),
                aiohttp.ClientSession() as http,
                http.post(f"{self._url}/api/v1/sessions", json={"key": self._key}) as response,
            ):
                created = await response.json()
                if response.status != 201:
                    raise CallFailed(f"{created['error']['code']}: {created['error']['message']}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise CallFailed(
                f"{self._url} does not answer ({error}); is `patchbay serve` running there? "
                "PATCHBAY_PORT and --url say where"
            ) from None
        self._ice = created
        return str(created["token"])

    async def hang_up(self) -> None:
        if not self.ended.is_set():
            await self._send("call.hang_up", {})

    async def close(self) -> None:
        if self._line is not None:
            await self._line.close()
        await self._socket.shutdown()  # `disconnect` would leave a reconnection running
        if self.peer is not None:
            await self.peer.close()

    async def reanchor(self, *, keep: bool = False) -> None:
        """A new peer connection for the same leg. `keep`: the old one stays until something is heard on the new one."""
        async with self._lock:
            if keep and self.view["leg"]["generation"] <= self._generation:
                return  # done meanwhile
            old = self.peer
            sdp = await self._new_peer()
            leg = self.view["leg"]
            self._generation = max(self._generation, leg["generation"]) + 1
            body = {"session_id": self.view["session_id"], "leg_id": leg["leg_id"], "generation": self._generation}
            await self._send("leg.offer", {**body, "sdp": sdp})
            new = self.peer
        if old is not None:
            if keep and new is not None:
                with suppress(TimeoutError):
                    await new.wait_for(lambda heard: heard.at > 0, HAND_OVER_S, least_s=0)
            await old.close()

    async def _new_peer(self) -> str:
        if self._generation == 0:
            self._generation = 1
        elif self._ice.get("ice_expires_at"):  # those of the session's beginning may be over
            self._ice = await self._send("ice.servers", {})
        self.peer = self._make_peer()
        return await self.peer.offer()

    async def _connected(self) -> None:
        if self.view:  # a reconnection: what is true now?
            synced = await self._send("sync", {})
            if synced["call"]:
                await self._take(synced["call"])
            await self._ping(synced)  # what was said meanwhile: an SDP answer is in no snapshot

    async def _send(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        message = {"v": 1, "type": kind, "id": uuid4().hex, "body": body}
        try:
            result = await self._socket.call("m", message, namespace="/customer", timeout=REQUEST_S)
        except (socketio.exceptions.SocketIOError, TimeoutError) as error:
            raise CallFailed(f"{kind}: no answer ({type(error).__name__})") from None
        if not result["ok"]:
            raise CallFailed(f"{kind}: {result['error']['code']}")
        answer: dict[str, Any] = result["body"]
        return answer

    async def _ping(self, ping: dict[str, Any]) -> dict[str, int]:
        if ping["head"] > self._seen:
            part = await self._send("stream.fetch", {"after": self._seen})
            for message in part["messages"]:
                await self._message(message)
        return {"seq": self._seen}

    async def _message(self, message: dict[str, Any]) -> None:
        if message["seq"] is not None:
            if message["seq"] <= self._seen:
                return
            self._seen = message["seq"]
        body = message["body"]
        match body["type"]:
            case "call.changed":
                await self._take(body["call"])
            case "queue.position":
                self.position = body["position"]
            case "leg.answer" if body["generation"] == self._generation and self.peer is not None:
                if self._answered != body["generation"]:
                    self._answered = body["generation"]
                    await self.peer.answer(body["sdp"])
            case "leg.refused" if body["generation"] == self._generation:
                raise CallFailed(f"the server refused our media: {body['code']}")

    async def _take(self, view: dict[str, Any]) -> None:
        if self.view and view["version"] < self.view["version"]:
            return
        self.view = view
        self._on_change(view)
        if view["state"] == "ended":
            self.ended.set()
        elif view["leg"]["state"] == "lost" and view["leg"]["generation"] == self._generation:
            await self.reanchor()
        elif view["leg"]["generation"] > self._generation:  # one that is not ours is wanted: the call moves
            await self.reanchor(keep=view["leg"]["state"] == "up")
