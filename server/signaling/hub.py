"""The tabs that are connected here, and what is sent to them.

Each tab has a bounded queue and one sender, so its messages keep their order and a slow tab delays nobody. A
message that finds the queue full is dropped: the tab sees the gap (by the next seq, or by the head in the next
ping) and fetches. What lies in the library's own buffer of a socket that reads nothing is bounded by its ping
time-out, 15 s, after which the socket is closed. Nothing here is the truth; the person's stream in the database is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from server.services.ports import Clock, Commit, StorageUnavailable, StreamMessage

log = structlog.get_logger()
PING_S = 2.0
DEAD_AFTER = 2  # unanswered pings
QUEUE_SIZE = 256
OFFER_ACK_S = 1.0

Emit = Callable[[str, Any, str, Callable[..., None] | None], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Tab:
    """One connected socket. `emit(event, data, sid, callback)` sends on it; `liveness_changed` is called after `live`
    changed; `still_allowed` asks again whether the login holds."""

    sid: str
    person_id: str
    tenant: str
    emit: Emit
    disconnect: Callable[[str], Awaitable[None]]
    liveness_changed: Callable[[], Awaitable[None]]
    still_allowed: Callable[[], Awaitable[bool]]
    queue: asyncio.Queue[dict[str, Any]] = field(default_factory=lambda: asyncio.Queue(QUEUE_SIZE))
    unacked: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)  # segment id -> (due, envelope)
    unanswered: int = 0
    live: bool = True
    last_live: dict[str, Any] = field(default_factory=dict)  # newest passing value by type
    task: asyncio.Task[None] | None = None


class _Over(Exception):
    """Ends a tab's task group: it may not stay."""


class Hub:
    """`CommitListener` that sends stream messages to the tabs of their persons."""

    def __init__(self, clock: Clock, group: asyncio.TaskGroup) -> None:
        self._clock = clock
        self._group = group
        self._tabs: dict[str, Tab] = {}  # by person: the newest tab holds the connection
        self._heads: dict[str, int] = {}

    def on_commit(self, commit: Commit) -> None:
        for message in commit.messages:
            self.send(message)

    def send(self, message: StreamMessage) -> None:
        tab = self._tabs.get(message.person_id)
        if tab is None:
            return
        self._heads[message.person_id] = max(message.seq, self._heads.get(message.person_id, 0))
        sent = envelope(message)
        self._put(tab, sent)
        if message.body.get("type") == "offer.made":
            due = asyncio.get_running_loop().time() + OFFER_ACK_S
            tab.unacked[message.body["contact"]["segment_id"]] = (due, sent)

    def send_live(self, person_id: str, body: Mapping[str, Any]) -> None:
        """A passing value: sent when it differs from the newest of its type, never stored."""
        tab = self._tabs.get(person_id)
        if tab is None or tab.last_live.get(body["type"]) == body:
            return
        tab.last_live[body["type"]] = body
        self._put(tab, {"v": 1, "seq": None, "at": self._clock.now_ms(), "body": body})

    def acked(self, person_id: str, segment_id: str) -> None:
        """The offer has reached the tab, or was answered."""
        tab = self._tabs.get(person_id)
        if tab is not None:
            tab.unacked.pop(segment_id, None)

    def persons(self, tenant: str) -> list[str]:
        return [tab.person_id for tab in self._tabs.values() if tab.tenant == tenant]

    def is_live(self, person_id: str) -> bool:
        """The person's tab is connected and answers pings."""
        tab = self._tabs.get(person_id)
        return tab is not None and tab.live

    async def attach(self, tab: Tab, head: int) -> None:
        """The newest tab of a person takes over; an older one is told so and disconnected."""
        older = self._tabs.get(tab.person_id)
        self._tabs[tab.person_id] = tab
        self._heads[tab.person_id] = max(head, self._heads.get(tab.person_id, 0))
        tab.task = self._group.create_task(self._serve(tab), name=f"tab {tab.person_id}")
        if older is not None:
            superseded = {"v": 1, "seq": None, "at": self._clock.now_ms(), "body": {"type": "superseded"}}
            await older.emit("m", superseded, older.sid, None)
            await self._stop(older)
            await older.disconnect(older.sid)

    async def detach(self, person_id: str, sid: str) -> bool:
        """The socket closed. True when it was the person's connection (and not one that was superseded)."""
        tab = self._tabs.get(person_id)
        if tab is None or tab.sid != sid:
            return False
        del self._tabs[person_id]
        self._heads.pop(person_id, None)
        await self._stop(tab)
        return True

    async def close(self) -> None:
        """Disconnect everybody: the process is going."""
        for tab in list(self._tabs.values()):
            await tab.disconnect(tab.sid)

    async def _stop(self, tab: Tab) -> None:
        if tab.task is not None:
            tab.task.cancel()

    def _put(self, tab: Tab, message: dict[str, Any]) -> None:
        try:
            tab.queue.put_nowait(message)
        except asyncio.QueueFull:
            log.warning("tab_queue_full", person_id=tab.person_id)

    async def _serve(self, tab: Tab) -> None:
        """Serve one tab until it is stopped, may not stay any longer, or a fault ends it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._sender(tab))
                tasks.create_task(self._reminder(tab))
                await self._pinger(tab)
                raise _Over
        except* _Over:
            pass
        except* Exception:
            log.exception("tab_failed", person_id=tab.person_id)
        tab.task = None  # from here on `detach` must not cancel us: it runs within our own call
        try:
            await tab.disconnect(tab.sid)  # a tab that failed comes back with a fresh start
        except Exception:
            log.exception("tab_disconnect_failed", person_id=tab.person_id)

    async def _sender(self, tab: Tab) -> None:
        while True:
            await tab.emit("m", await tab.queue.get(), tab.sid, None)

    async def _pinger(self, tab: Tab) -> None:
        checks = 0
        while True:
            tab.unanswered += 1
            ping = {"head": self._heads.get(tab.person_id, 0), "now": self._clock.now_ms()}
            await tab.emit("p", ping, tab.sid, lambda *answer: self._answered(tab))
            await asyncio.sleep(PING_S)
            checks += 1
            try:
                await self._judge(tab)
                if checks % 15 == 0 and not await tab.still_allowed():
                    return
            except StorageUnavailable as error:
                log.warning("tab_check_postponed", person_id=tab.person_id, error=str(error))

    async def _judge(self, tab: Tab) -> None:
        live = tab.unanswered < DEAD_AFTER
        if live != tab.live:
            tab.live = live
            await tab.liveness_changed()

    def _answered(self, tab: Tab) -> None:
        tab.unanswered = 0

    async def _reminder(self, tab: Tab) -> None:
        """An offer that was not acknowledged is sent again: a ring must not hang on one message."""
        while True:
            await asyncio.sleep(OFFER_ACK_S / 4)
            now = asyncio.get_running_loop().time()
            for segment_id, (due, sent) in list(tab.unacked.items()):
                deadline = sent["body"]["contact"]["offer_deadline_at"]
                if deadline is None or deadline < self._clock.now_ms():
                    tab.unacked.pop(segment_id, None)
                elif due <= now:
                    tab.unacked[segment_id] = (now + OFFER_ACK_S, sent)
                    self._put(tab, sent)


def envelope(message: StreamMessage) -> dict[str, Any]:
    return {"v": 1, "seq": message.seq, "at": message.at, "body": dict(message.body)}
