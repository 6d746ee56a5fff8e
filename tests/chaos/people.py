"""Customers and agents who stay at it: a line that breaks or an answer that is lost is tried again, as the browser's
apps do. Each has a number that their light peer says, so that the files of the run tell who heard whom."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import socketio

from server.caller import Caller, CallFailed
from server.clock import MonotonicClock
from server.domain.directory import DEFAULT_TENANT
from server.ids import new_id
from server.line import ComesBack
from server.services.tokens import CustomerTokens
from tests.helpers.light_peer import LightPeers
from tests.helpers.scripted_agent import AgentRefused, ScriptedAgent, View
from tests.helpers.system import PASSWORD, System

AGAIN_S = 0.3
LOOK_S = 0.5
AWAY_S = 6.0  # the library's tries are at most 2 s apart: it has lost the thread, as it can when a line breaks twice
ANSWER_S = 4.0  # an SDP answer, or that of any request, takes milliseconds: it was lost
BROKEN = (socketio.exceptions.SocketIOError, TimeoutError, CallFailed, AgentRefused)
OVER = LookupError  # the contact ended meanwhile
FIRST_AGENT = 100_000  # numbers of agents begin here


class Entrance:
    """How customers get in: the widget's token, made here, since one address may ask for few. Looked up once."""

    def __init__(self, patchbay: System, queue: str = "Sales") -> None:
        self.url = patchbay.url
        self.key = patchbay.widget_key(queue)
        self._entry_point: str = patchbay.rows("SELECT id FROM entry_point WHERE key = ?", self.key)[0][0]
        self._tokens = CustomerTokens(patchbay.token_key(), MonotonicClock())

    def token(self, session_id: str) -> str:
        return self._tokens.issue(DEFAULT_TENANT, session_id, self._entry_point)[0]


def address(number: int) -> dict[str, str]:
    """The header by which each person comes from an address of their own: limits per address are not the subject."""
    return {"X-Forwarded-For": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"}


class Patient(Caller):
    """A customer who calls, waits, and is there again after each fault. `session_id` is known before the call."""

    def __init__(self, entrance: Entrance, number: int, peers: LightPeers) -> None:
        super().__init__(entrance.url, entrance.key, name=f"Customer {number}")
        self.number = number
        self.session_id = new_id("ses")
        self._make_peer = lambda: peers.make(number, "customer")
        self._entrance = entrance
        self._keeping: asyncio.Task[None] | None = None
        self._offered_at = 0.0
        self._here_at = 0.0  # loop time when the line was last seen open

    async def begin(self) -> None:
        """Returns when the server has taken the call."""
        self._token = self._entrance.token(self.session_id)
        for event, handler in (("m", self._message), ("p", self._ping), ("connect", self._connected)):
            self._socket.on(event, handler, namespace="/customer")
        self._line = ComesBack(self._socket, "/customer", self._connect, lambda: not self.ended.is_set())
        await self._connect()
        self._here_at = asyncio.get_running_loop().time()
        sdp = await self._new_peer()
        while True:
            with suppress(*BROKEN):
                await self._take((await self._send("call.request", {"name": self._name, "sdp": sdp}))["call"])
                break
            await asyncio.sleep(AGAIN_S)
            await self._hold_the_line()
        self._keeping = asyncio.create_task(self._keep(), name=self._name)

    async def _connect(self) -> None:
        while not self._socket.connected:
            with suppress(socketio.exceptions.ConnectionError):
                await self._socket.connect(
                    self._url, headers=address(self.number), auth={"token": self._token}, namespaces=["/customer"],
                    transports=["websocket"], wait_timeout=ANSWER_S,
                )  # fmt: skip
            await asyncio.sleep(AGAIN_S)

    async def leave(self) -> None:
        """Hang up, however often that takes, and go."""
        while not self.ended.is_set():
            with suppress(*BROKEN):
                await self.hang_up()
                break
            await asyncio.sleep(AGAIN_S)
        await self.close()

    async def close(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        await super().close()

    @property
    def connected(self) -> bool:
        return bool(self.view) and self.view["state"] == "connected"

    async def _keep(self) -> None:
        """Offer again what got no answer, and open the line again where the library forgot to."""
        loop = asyncio.get_running_loop()
        while not self.ended.is_set():
            await asyncio.sleep(LOOK_S)
            await self._hold_the_line()
            lost = self.view["leg"]["state"] == "lost" or self.peer is None or self.peer.state in ("new", "failed")
            if lost and self._socket.connected and loop.time() - self._offered_at > ANSWER_S:
                with suppress(*BROKEN):
                    await self.reanchor()

    async def _hold_the_line(self) -> None:
        """To be called again and again: opens the line where nobody has for AWAY_S."""
        now = asyncio.get_running_loop().time()
        if self._socket.connected:
            self._here_at = now
        elif now - self._here_at > AWAY_S:
            with suppress(ValueError, TimeoutError):  # ValueError: the library is at it after all
                async with asyncio.timeout(AWAY_S):
                    await self._connect()
            self._here_at = asyncio.get_running_loop().time()

    async def _new_peer(self) -> str:
        self._offered_at = asyncio.get_running_loop().time()
        return await super()._new_peer()

    async def _send(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        async with asyncio.timeout(ANSWER_S):
            return await super()._send(kind, body)

    async def _connected(self) -> None:
        with suppress(*BROKEN):
            await super()._connected()

    async def _ping(self, ping: dict[str, Any]) -> dict[str, int]:
        with suppress(*BROKEN):
            return await super()._ping(ping)
        return {"seq": self._seen}

    async def _message(self, message: dict[str, Any]) -> None:
        with suppress(*BROKEN):
            await super()._message(message)


class Desk(ScriptedAgent):
    """An agent who accepts what rings, and is Ready again after a missed offer."""

    def __init__(self, patchbay: System, login: str, user_id: str, number: int, peers: LightPeers) -> None:
        super().__init__(
            patchbay.url, login, PASSWORD, make_peer=lambda: peers.make(number, "agent"), headers=address(number)
        )
        self.login, self.user_id = login, user_id
        self.number = number
        self.missed = 0
        self.errors: list[str] = []
        self._keeping: asyncio.Task[None] | None = None
        self._accepting: set[str] = set()
        self._offered_at = 0.0
        self._synced = False

    async def connect(self) -> None:
        self._keeping = asyncio.create_task(self._keep(), name=self.login)
        await super().connect()

    async def close(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        await super().close()

    def talking(self) -> View | None:
        return next((c for c in self.contacts.values() if c["state"] == "talking"), None)

    async def go_offline(self) -> None:
        """Take no other contact, however often that must be said."""
        while "offline" not in (self.agent["chosen"], (self.agent["next_state"] or {}).get("state")):
            with suppress(*BROKEN):
                await self.set_state("offline")
                break
            await asyncio.sleep(AGAIN_S)

    async def finish(self, segment_id: str, disposition_id: str) -> None:
        """Hang up and wrap up, however often that takes."""
        while (state := self.contacts[segment_id]["state"]) != "done":
            ref = {"session_id": self.contacts[segment_id]["session_id"], "segment_id": segment_id}
            with suppress(*BROKEN):
                if state == "wrap_up":
                    await self.send("contact.wrap_up", {**ref, "notes": "chaos", "disposition_id": disposition_id})
                elif state in ("connecting", "talking", "held"):
                    await self.send("contact.hang_up", ref)
            await asyncio.sleep(AGAIN_S)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        here_at = loop.time()
        while True:
            await asyncio.sleep(LOOK_S / 2)
            if self._socket.connected:
                here_at = loop.time()
                with suppress(*BROKEN, OVER):
                    await self._look()
            elif loop.time() - here_at > AWAY_S and self._line is not None:
                here_at = loop.time()
                self.superseded = False  # by another line of this desk's, which broke as well: "use Patchbay here"
                with suppress(ValueError, *BROKEN):
                    await self._open()

    async def _look(self) -> None:
        if not self._synced:
            await super()._connected()
            self._synced = bool(self.agent)
        if self.agent["state"] == "missed":
            self.missed += 1
            await self.set_state("ready")
        for contact in list(self.contacts.values()):
            segment_id = contact["segment_id"]
            if contact["state"] == "offered" and segment_id not in self._accepting:
                self._accepting.add(segment_id)
                self._spawn(self._take_call(segment_id))
            elif contact["state"] in ("connecting", "talking", "held") and not self._anchoring.locked():
                waited_s = asyncio.get_running_loop().time() - self._offered_at
                if (self.peer is None or self.peer.state in ("new", "failed")) and waited_s > ANSWER_S:
                    await self.reanchor()

    async def _take_call(self, segment_id: str) -> None:
        try:
            await self.accept(segment_id)
        except KeyError:  # it was accepted before, with another offer, and the answer was lost
            with suppress(*BROKEN, OVER):
                await self.reanchor()
        except BROKEN as error:
            self.errors.append(repr(error))
        finally:
            self._accepting.discard(segment_id)

    async def send(self, kind: str, body: View) -> View:
        async with asyncio.timeout(ANSWER_S):
            return await super().send(kind, body)

    async def _new_peer(self, segment_id: str, generation: int) -> Any:
        self._offered_at = asyncio.get_running_loop().time()
        return await super()._new_peer(segment_id, generation)

    async def _connected(self) -> None:
        self._synced = False
        with suppress(*BROKEN):
            await super()._connected()
            self._synced = True

    async def _ping(self, ping: View) -> dict[str, int]:
        with suppress(*BROKEN):
            return await super()._ping(ping)
        return {"seq": self._seen or 0}

    async def _message(self, envelope: View) -> None:
        with suppress(*BROKEN):
            await super()._message(envelope)

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        super()._spawn(_quietly(work))


async def _quietly(work: Coroutine[Any, Any, object]) -> None:
    with suppress(*BROKEN, OVER):
        await work
