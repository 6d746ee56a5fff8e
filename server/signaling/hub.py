"""The tabs that are connected here, and what is sent to them.

Each tab has a bounded queue and one sender, so its messages keep their order and a slow tab delays nobody. A
message that finds the queue full is dropped: the tab sees the gap (by the next seq, or by the head in the next
ping) and fetches. What lies in the library's own buffer of a socket that reads nothing is bounded by its ping
time-out, 15 s, after which the socket is closed. Nothing here is the truth; the person's stream in the database is.

What another node saved comes over the bus, which may lose it. So once a second the rows of all persons here are read:
a head that is past what was sent makes a ping at once, and a tab that another node holds now is told to go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from server.services.nodes import Nodes
from server.services.ports import (
    Bus,
    Clock,
    Commit,
    Connection,
    Notice,
    PersonRow,
    StepStore,
    StorageUnavailable,
    StreamMessage,
)

log = structlog.get_logger()
PING_S = 2.0
LOOK_S = 1.0
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
    floor: int = 0  # what was said up to here is in the snapshot that the tab takes
    head: int = 0  # of the person's stream, as far as this node has heard
    queue: asyncio.Queue[dict[str, Any]] = field(default_factory=lambda: asyncio.Queue(QUEUE_SIZE))
    unacked: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)  # segment id -> (due, envelope)
    unanswered: int = 0
    live: bool = True
    last_live: dict[str, Any] = field(default_factory=dict)  # newest passing value by type
    task: asyncio.Task[None] | None = None


class _Over(Exception):
    """Ends a tab's task group: it may not stay."""


class Hub:
    """`CommitListener` that sends stream messages to the tabs of their persons, here and on other nodes."""

    def __init__(self, store: StepStore, clock: Clock, nodes: Nodes, bus: Bus, group: asyncio.TaskGroup) -> None:
        self._store = store
        self._clock = clock
        self._nodes = nodes
        self._bus = bus
        self._group = group
        self._tabs: dict[str, Tab] = {}  # by person: the newest tab here
        self.closing = False  # nobody new is to come here

    def on_commit(self, commit: Commit) -> None:
        for message in commit.messages:
            self.send(message)
        if commit.messages:
            self._bus.publish(Notice(messages=commit.messages))

    def on_notice(self, notice: Notice) -> None:
        """What another node saved, and who has a new tab there."""
        for message in notice.messages:
            self.send(message)
        for person_id, connection in notice.connected:
            self._superseded(person_id, connection)

    def send(self, message: StreamMessage) -> None:
        tab = self._tabs.get(message.person_id)
        if tab is None or message.seq <= tab.floor:
            return
        tab.head = max(tab.head, message.seq)
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
        self._put(tab, self._passing(body))

    def has_told(self, person_id: str, kind: str) -> bool:
        """A passing value of the type was sent to the person's tab."""
        tab = self._tabs.get(person_id)
        return tab is not None and kind in tab.last_live

    def acked(self, person_id: str, segment_id: str) -> None:
        """The offer has reached the tab, or was answered."""
        tab = self._tabs.get(person_id)
        if tab is not None:
            tab.unacked.pop(segment_id, None)

    @property
    def people(self) -> int:
        """How many tabs are connected here."""
        return len(self._tabs)

    def tenants(self) -> set[str]:
        """Of the people who are connected here."""
        return {tab.tenant for tab in self._tabs.values()}

    def persons(self, tenant: str) -> list[str]:
        return [tab.person_id for tab in self._tabs.values() if tab.tenant == tenant]

    def is_live(self, person_id: str) -> bool:
        """The person's tab is connected and answers pings."""
        tab = self._tabs.get(person_id)
        return tab is not None and tab.live

    async def attach(self, tab: Tab) -> None:
        """The newest tab of a person takes over; an older one is told so and disconnected, wherever it is."""
        connection = Connection(self._nodes.node_id, tab.sid)
        tab.floor = tab.head = await self._store.connect(tab.tenant, tab.person_id, connection)
        older = self._tabs.get(tab.person_id)
        self._tabs[tab.person_id] = tab
        tab.task = self._group.create_task(self._serve(tab), name=f"tab {tab.person_id}")
        self._bus.publish(Notice(connected=((tab.person_id, connection),)))
        if older is not None:
            await self._dismiss(older)

    async def detach(self, person_id: str, sid: str) -> bool:
        """The socket closed. True when it was the person's newest connection (and not one that was superseded)."""
        tab = self._tabs.get(person_id)
        if tab is None or tab.sid != sid:
            return False
        del self._tabs[person_id]
        await self._stop(tab)
        try:
            return await self._store.disconnect(person_id, Connection(self._nodes.node_id, sid))
        except StorageUnavailable as error:  # the row still names this tab, and everybody finds that it is not here
            log.warning("disconnect_not_saved", person_id=person_id, error=str(error))
            return True

    async def close(self, within_s: float = 0.0) -> None:
        """Disconnect everybody, spread over a time: the process is going. They come back to another node, or to this
        one when it is there again."""
        self.closing = True
        tabs = list(self._tabs.values())
        for number, tab in enumerate(tabs):
            if within_s and number:
                await asyncio.sleep(within_s / len(tabs))
            await tab.emit("m", self._passing({"type": "moving"}), tab.sid, None)
            await tab.disconnect(tab.sid)

    async def run(self) -> None:
        """Read the rows of the persons here, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except StorageUnavailable as error:
                log.warning("heads_postponed", error=str(error))

    async def look(self) -> None:
        """Tell tabs what the bus lost."""
        for row in await self._store.persons(list(self._tabs)):
            if row.connection is not None:
                self._superseded(row.person_id, row.connection)
            await self._catch_up(row)

    async def _catch_up(self, row: PersonRow) -> None:
        tab = self._tabs.get(row.person_id)
        if tab is not None and row.head > tab.head:
            tab.head = row.head
            await self._ping(tab)

    def _superseded(self, person_id: str, connection: Connection) -> None:
        """Another node holds the person's newest tab: ours goes. Of two here `attach` takes care."""
        tab = self._tabs.get(person_id)
        if tab is not None and connection.node_id != self._nodes.node_id:
            self._group.create_task(self._make_sure(tab), name=f"superseded {person_id}")

    async def _make_sure(self, tab: Tab) -> None:
        """A word of the bus may be late: the row knows. One that a node has left behind when it died is no tab."""
        try:
            rows = await self._store.persons([tab.person_id])
            newest = rows[0].connection if rows else None
            elsewhere = newest is not None and newest.node_id != self._nodes.node_id
            if newest is not None and elsewhere and not await self._nodes.lives(newest.node_id):
                await self._reclaim(tab)
                return
        except StorageUnavailable:
            return
        if elsewhere and self._tabs.get(tab.person_id) is tab:
            del self._tabs[tab.person_id]
            try:
                await self._dismiss(tab)
            except Exception:  # our task is a child of the node's: one socket's fault must not end the node
                log.exception("tab_dismiss_failed", person_id=tab.person_id)

    async def _reclaim(self, tab: Tab) -> None:
        if self._tabs.get(tab.person_id) is tab:
            await self._store.connect(tab.tenant, tab.person_id, Connection(self._nodes.node_id, tab.sid))
            await tab.liveness_changed()

    async def _dismiss(self, tab: Tab) -> None:
        await tab.emit("m", self._passing({"type": "superseded"}), tab.sid, None)
        await self._stop(tab)
        await tab.disconnect(tab.sid)

    async def _stop(self, tab: Tab) -> None:
        if tab.task is not None:
            tab.task.cancel()

    def _passing(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"v": 1, "seq": None, "at": self._clock.now_ms(), "body": body}

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
            await self._ping(tab)
            await asyncio.sleep(PING_S)
            checks += 1
            try:
                await self._judge(tab)
                if checks % 15 == 0 and not await tab.still_allowed():
                    return
            except StorageUnavailable as error:
                log.warning("tab_check_postponed", person_id=tab.person_id, error=str(error))

    async def _ping(self, tab: Tab) -> None:
        ping = {"head": tab.head, "now": self._clock.now_ms()}
        await tab.emit("p", ping, tab.sid, lambda *answer: self._answered(tab))

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
