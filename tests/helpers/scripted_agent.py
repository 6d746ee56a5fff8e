"""An agent without a browser, for races, chaos and benchmarks: logs in over REST, speaks the wire messages of the
console on `/agent`, and its media is a real WebRTC peer that plays a tone.

    async with ScriptedAgent(url, "ana", password, auto_accept=True) as agent:
        await agent.set_state("ready")
        contact = await agent.contact("talking")
        await agent.peer.wait_tone(440)
        await agent.hang_up()
        await agent.wrap_up(disposition_id)

What it knows (`agent`, `contacts`) is what the server told it: a snapshot on each connection, then the stream; a gap
is fetched. A lost leg is anchored anew by itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import aiohttp
import socketio

from server.line import ComesBack
from server.media.peer import Peer, Samples
from server.services.auth import COOKIE

REQUEST_S = 10.0
WAIT_S = 10.0
HAND_OVER_S = 5.0
LEISURE_MESSAGES, LEISURE_S = 36, 2.0  # below the server's 20 a second (server/signaling/sockets.py)
NAMESPACE = "/agent"
View = dict[str, Any]


class AgentRefused(Exception):
    """The server said no. `code` and `params` are those of the wire error."""

    def __init__(self, kind: str, error: View) -> None:
        super().__init__(f"{kind}: {error['code']}")
        self.code: str = error["code"]
        self.params: dict[str, str] = error["params"]


class ScriptedAgent:
    """One agent's desk. `media` False: accepts without sound, so the contact stays `connecting`."""

    def __init__(
        self,
        url: str,
        login: str,
        password: str,
        *,
        tone_hz: float = 880.0,
        auto_accept: bool = False,
        media: bool = True,
        on_frame: Callable[[Samples], None] = lambda samples: None,
        make_peer: Callable[[], Peer] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`make_peer`: in place of the peer that plays the tone. `headers` go with each request."""
        self._url = url.rstrip("/")
        self._login, self._password = login, password
        self._media = media
        self._make_peer = make_peer or (lambda: Peer(tone_hz, on_frame=on_frame))
        self._headers = dict(headers or {})
        self.auto_accept = auto_accept
        self._socket = socketio.AsyncClient(reconnection=True, reconnection_delay=0.1, reconnection_delay_max=1)
        self._line: ComesBack | None = None
        self._cookie = ""
        self.csrf = ""
        self._seen: int | None = None
        self._fetching = False
        self._sent: deque[float] = deque()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.agent: View = {}
        self.contacts: dict[str, View] = {}  # by segment id, those that are done as well
        self.offers: list[str] = []  # segment ids, as they first rang
        self.refusals: list[AgentRefused] = []  # of what it did by itself
        self.superseded = False
        self.peer: Peer | None = None
        self._leg: tuple[str, int] = ("", 0)  # the segment and generation that `peer` was made for
        self._anchoring = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- the line ---

    async def log_in(self) -> None:
        """Get the cookie and the CSRF token."""
        async with (
            asyncio.timeout(REQUEST_S),
            aiohttp.ClientSession(headers=self._headers) as http,
            http.post(f"{self._url}/api/v1/login", json={"login": self._login, "password": self._password}) as response,
        ):
            body = await response.json()
            assert response.status == 200, body
            self._cookie = response.cookies[COOKIE].value
            self.csrf = body["csrf"]

    async def rest(self, method: str, path: str, body: object = None) -> Any:
        """A REST request with this login; the answer's JSON. Raises AssertionError for an error."""
        async with (
            asyncio.timeout(REQUEST_S),
            aiohttp.ClientSession(cookies={COOKIE: self._cookie}, headers={"X-CSRF-Token": self.csrf}) as http,
            http.request(method, f"{self._url}/api/v1{path}", json=body) as response,
        ):
            text = await response.text()
            assert response.status < 300, f"{method} {path}: {response.status} {text}"
            return await response.json() if text else None

    async def connect(self) -> None:
        """Log in where that was not done yet, open the line and take the snapshot."""
        if not self._cookie:
            await self.log_in()
        self._socket.on("m", self._message, namespace=NAMESPACE)
        self._socket.on("p", self._ping, namespace=NAMESPACE)
        self._socket.on("connect", self._connected, namespace=NAMESPACE)
        self._line = ComesBack(self._socket, NAMESPACE, self._open, lambda: not self.superseded)
        await self._open()
        await self.until(lambda: bool(self.agent), "the snapshot")

    async def _open(self) -> None:
        cookie = {"Cookie": f"{COOKIE}={self._cookie}"}
        await self._socket.connect(
            self._url,
            headers=lambda: self._headers | cookie,  # a function: a dict loses its cookie to engineio
            namespaces=[NAMESPACE],
            transports=["websocket"],
            wait_timeout=REQUEST_S,
        )

    async def close(self) -> None:
        if self._line is not None:
            await self._line.close()
        await self._socket.shutdown()  # `disconnect` would leave a reconnection running
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._drop_peer()

    async def at_leisure(self) -> None:
        """Wait until the server's limit for one socket has room for a round of messages again."""
        while self._sent and len(self._sent) >= LEISURE_MESSAGES:
            wait_s = self._sent[0] + LEISURE_S - asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, wait_s))  # the limit counts time, so does whoever keeps to it
            self._forget_sent()

    def _forget_sent(self) -> None:
        oldest = asyncio.get_running_loop().time() - LEISURE_S
        while self._sent and self._sent[0] <= oldest:
            self._sent.popleft()

    async def send(self, kind: str, body: View) -> View:
        """One message; the ack's body. Raises AgentRefused."""
        self._forget_sent()
        self._sent.append(asyncio.get_running_loop().time())
        message = {"v": 1, "type": kind, "id": uuid4().hex, "body": body}
        result = await self._socket.call("m", message, namespace=NAMESPACE, timeout=REQUEST_S)
        if not result["ok"]:
            raise AgentRefused(kind, result["error"])
        answer: View = result["body"]
        return answer

    # --- what an agent does ---

    async def set_state(self, state: str, reason_id: str | None = None) -> None:
        await self.send("agent.set_state", {"state": state, "reason_id": reason_id})
        await self.until(
            lambda: self.agent["chosen"] == state or (self.agent["next_state"] or {}).get("state") == state, state
        )

    async def accept(self, segment_id: str | None = None) -> View:
        """Accept the offer (the newest one by default); the contact. Raises AgentRefused."""
        contact = self.contacts[segment_id or self.offers[-1]]
        body = _ref(contact)
        async with self._anchoring:
            if self._media:
                peer = await self._new_peer(contact["segment_id"], 1)
                body["sdp"] = await peer.offer()
            try:
                answer = await self.send("offer.accept", body)
            except AgentRefused:
                await self._drop_peer()
                raise
        self._take_contact(answer["contact"])
        return self.contacts[contact["segment_id"]]

    async def reject(self, segment_id: str | None = None) -> None:
        await self.send("offer.reject", _ref(self.contacts[segment_id or self.offers[-1]]))

    async def hold(self, on: bool) -> None:
        await self.send("contact.hold", {**_ref(self.current), "on": on})

    async def hang_up(self) -> None:
        await self.send("contact.hang_up", _ref(self.current))

    async def wrap_up(self, disposition_id: str | None = None, notes: str = "") -> None:
        await self.send("contact.wrap_up", {**_ref(self.current), "notes": notes, "disposition_id": disposition_id})

    async def reanchor(self, *, keep: bool = False) -> None:
        """A new peer connection for the contact's leg, as after a reload. `keep`: the old one stays until something is
        heard on the new one."""
        async with self._anchoring:
            contact = self.current
            if keep and contact["leg"]["generation"] <= self._leg[1]:
                return  # done meanwhile
            generation = max(contact["leg"]["generation"], self._leg[1]) + 1
            if keep and self.peer is not None:
                self._spawn(self._hand_over(self.peer))
                self.peer = None
            peer = await self._new_peer(contact["segment_id"], generation)
            body = {"session_id": contact["session_id"], "leg_id": contact["leg"]["leg_id"], "generation": generation}
            await self.send("leg.offer", {**body, "sdp": await peer.offer()})

    # --- waiting ---

    @property
    def current(self) -> View:
        """The newest contact that is not done. Raises LookupError."""
        return [c for c in self.contacts.values() if c["state"] != "done"][-1]

    @property
    def state(self) -> str:
        return str(self.agent["state"])

    async def until(self, condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
        """Wait until what the server told makes it true. Raises AssertionError that names it."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            held = {c["segment_id"]: c["state"] for c in self.contacts.values() if c["state"] != "done"}
            raise AssertionError(
                f"{self._login}: not within {timeout_s} s: {what}; {self.agent.get('state')}, {held}"
            ) from None

    async def contact(self, state: str, session_id: str | None = None, timeout_s: float = WAIT_S) -> View:
        """Wait for a contact (of this session) in this state."""

        def found() -> list[View]:
            alike = [c for c in self.contacts.values() if c["state"] == state]
            return [c for c in alike if session_id in (None, c["session_id"])]

        await self.until(lambda: bool(found()), f"a contact {state}", timeout_s)
        return found()[-1]

    async def in_state(self, state: str, timeout_s: float = WAIT_S) -> None:
        await self.until(lambda: self.state == state, f"agent {state}", timeout_s)

    # --- what comes in ---

    async def _connected(self) -> None:
        synced = await self.send("sync", {})
        # What the stream brought meanwhile is newer than the snapshot or the same: versions decide.
        missed, self._seen = self._seen is not None and synced["head"] > self._seen, self._seen or synced["head"]
        held = {contact["segment_id"] for contact in synced["contacts"]}
        for contact in list(self.contacts.values()):
            if contact["segment_id"] not in held and contact["state"] != "done":
                self.contacts[contact["segment_id"]] = {**contact, "state": "done"}
        self._take_agent(synced["agent"])
        for contact in synced["contacts"]:
            self._take_contact(contact)
        if missed:
            await self._fetch()  # an SDP answer is in no snapshot

    async def _ping(self, ping: View) -> dict[str, int]:
        if self._seen is not None and ping["head"] > self._seen:
            await self._fetch()
        return {"seq": self._seen or 0}

    async def _message(self, envelope: View) -> None:
        seq, body = envelope["seq"], envelope["body"]
        if seq is None:
            if body["type"] == "superseded":
                self.superseded = True
                self._changed.set()
            return
        if self._seen is None or seq <= self._seen:
            if body["type"] == "offer.made":  # sent again: our acknowledgement was lost
                self._take_contact(body["contact"], ring=True)
            return
        if seq > self._seen + 1:
            await self._fetch()
            return
        self._seen = seq
        await self._apply(body)

    async def _fetch(self) -> None:
        if self._fetching:
            return
        self._fetching = True
        try:
            part = await self.send("stream.fetch", {"after": self._seen or 0})
            for message in part["messages"]:
                if message["seq"] > (self._seen or 0):
                    self._seen = message["seq"]
                    await self._apply(message["body"])
        finally:
            self._fetching = False

    async def _apply(self, body: View) -> None:
        match body["type"]:
            case "agent.changed":
                self._take_agent(body["agent"])
            case "offer.made" | "contact.changed":
                self._take_contact(body["contact"], ring=body["type"] == "offer.made")
            case "leg.answer":
                if self.peer is not None and self._leg[1] == body["generation"] and self.peer.state == "new":
                    await self.peer.answer(body["sdp"])
            case "leg.refused":
                raise AssertionError(f"the server refused our media: {body['code']}")

    def _take_agent(self, view: View) -> None:
        if not self.agent or view["version"] >= self.agent["version"]:
            self.agent = view
            self._changed.set()

    def _take_contact(self, view: View, ring: bool = False) -> None:
        segment_id = view["segment_id"]
        old = self.contacts.get(segment_id)
        if old is None or view["version"] >= old["version"]:
            self.contacts[segment_id] = view
            self._changed.set()
        if ring:
            self._spawn(self.send("offer.ack", _ref(view)))
        if view["state"] == "offered" and segment_id not in self.offers:
            self.offers.append(segment_id)
            if self.auto_accept:
                self._spawn(self._accept_by_itself(segment_id))
        if view["state"] in ("wrap_up", "done") and self._leg[0] == segment_id:
            self._spawn(self._drop_peer())
        elif self._media and view["state"] in ("connecting", "talking", "held"):
            lost = view["leg"]["state"] == "lost" and self._leg == (segment_id, view["leg"]["generation"])
            elsewhere = self._leg[0] != segment_id and not self._anchoring.locked()  # an earlier desk's call
            moves = self._leg[0] == segment_id and view["leg"]["generation"] > self._leg[1]
            if lost or elsewhere or moves:
                self._spawn(self.reanchor(keep=moves and view["leg"]["state"] == "up"))

    async def _accept_by_itself(self, segment_id: str) -> None:
        try:
            await self.accept(segment_id)
        except AgentRefused as refusal:
            self.refusals.append(refusal)

    # --- media ---

    async def _new_peer(self, segment_id: str, generation: int) -> Peer:
        await self._drop_peer()
        self.peer, self._leg = self._make_peer(), (segment_id, generation)
        return self.peer

    async def _hand_over(self, old: Peer) -> None:
        """Close the old peer once something is heard on the newest."""
        deadline = asyncio.get_running_loop().time() + HAND_OVER_S
        while asyncio.get_running_loop().time() < deadline:
            if self.peer is not None and self.peer.heard().at > 0:
                break
            await asyncio.sleep(0.01)
        await old.close()

    async def _drop_peer(self) -> None:
        peer, self.peer = self.peer, None
        self._leg = ("", 0)
        if peer is not None:
            await peer.close()

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _ref(contact: View) -> View:
    return {"session_id": contact["session_id"], "segment_id": contact["segment_id"]}
