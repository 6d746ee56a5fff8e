"""This control node among the others: it beats once a second, and knows who else lives.

No node leads. `mine` says who goes first at what any node may do, so that they don't all do it at once; whoever acts
is guarded by the rows' versions, so two who both believe to be first do no harm.

All nodes go by the database's clock (server/clock.py). When that clock has jumped since the others started, a node
that starts takes the time from them: deadlines must mean the same on every node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from server.domain.rendezvous import owner
from server.ids import new_id
from server.services.ports import NODE_DEAD_MS, Clock, NodeRow, StepStore, StorageUnavailable

log = structlog.get_logger()
BEAT_S = 1.0
LOOK_AGAIN_S = 1.5  # by then a node that lives has beaten again
CLOCKS_APART_MS = 2_000
ASK_TIME_EVERY = 10  # beats
UNSURE_MS = 2_500  # in which every node that lives beats twice


class FollowingClock(Clock, Protocol):
    """A clock that can be told the time of another one."""

    def stamp_ns(self) -> int:
        """The steady clock, to take the time of a question with."""
        ...

    def tell(self, theirs_ms: int, asked_ns: int, *, outright: bool = False) -> None:
        """Another clock showed `theirs_ms` between `asked_ns` and now. `outright`: take it at once."""
        ...


class Nodes:
    """`name` is the node's own and stays over restarts; `node_id` is this life of it."""

    def __init__(
        self,
        store: StepStore,
        clock: Clock,
        name: str,
        follow: FollowingClock | None = None,
        reached: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """`follow`: the clock that is told the database's time; None where the two are one. `reached` gives the media
        workers that this node is connected to: the others are told."""
        self._node_id = new_id("nod")
        self.name = name
        self.draining = False
        self._store = store
        self._clock = clock
        self._follow = follow
        self._reached = reached
        self._reached_by_others: frozenset[str] = frozenset()
        self._started_at = 0
        self._living: tuple[str, ...] = (self._node_id,)
        self._taking: tuple[str, ...] = (self._node_id,)
        self._beaten_at = 0
        self._sure_at = 0
        self.on_loss: Callable[[], None] = lambda: None  # a node that lived is gone: it may have left things half-said

    @property
    def sure(self) -> bool:
        """Whether who seems dead is dead. After an outage of the database all do, until they have beaten again."""
        return self._clock.now_ms() >= self._sure_at

    @property
    def node_id(self) -> str:
        return self._node_id

    @property
    def others_take(self) -> bool:
        """Another node lives that does not drain."""
        return any(node_id != self._node_id for node_id in self._taking)

    @property
    def living(self) -> Sequence[str]:
        """The node ids that beat, this one included, as of this node's last beat."""
        return self._living

    async def lives(self, node_id: str) -> bool:
        """Whether a node beats, by its row: it may be newer than this node's last beat. Raises StorageUnavailable."""
        since = self._clock.now_ms() - NODE_DEAD_MS
        return any(row.node_id == node_id and row.seen_at >= since for row in await self._store.nodes())

    def mine(self, key: str) -> bool:
        """This node goes first at what concerns `key`. A node that drains leaves it to the others."""
        return owner(key, self._taking) == self.node_id

    async def others_reach(self, worker_id: str) -> bool:
        """Another living node was connected to the media worker at its last beat."""
        return worker_id in self._reached_by_others

    async def start(self) -> None:
        """Take the common time and join. Raises StorageUnavailable."""
        await self._ask_time(outright=True)
        await self._compare_clocks()
        self._started_at = self._beaten_at = self._clock.now_ms()
        await self._beat()

    async def run(self) -> None:
        """Beat for ever."""
        beats = 0
        while True:
            await asyncio.sleep(BEAT_S)
            beats += 1
            try:
                await self._beat()
                if beats % ASK_TIME_EVERY == 0:
                    await self._ask_time()
            except StorageUnavailable as error:
                log.warning("beat_missed", error=str(error))

    async def drain(self) -> None:
        """Let the others go first from now on."""
        self.draining = True
        try:
            await self._beat()
        except StorageUnavailable as error:  # a later beat tells them
            log.warning("drain_not_told", error=str(error))

    async def leave(self) -> None:
        """The last word of this life; a node that can't say it is found dead."""
        try:
            await self._store.leave(self.node_id)
        except StorageUnavailable as error:
            log.warning("left_without_a_word", error=str(error))

    async def _beat(self) -> None:
        reached = tuple(self._reached())
        row = NodeRow(self.node_id, self.name, self._started_at, self._clock.now_ms(), self.draining, reached)
        rows = {other.node_id: other for other in await self._store.beat(row)} | {self.node_id: row}
        self._note_outage(row.seen_at)
        known, self._living = set(self._living), tuple(sorted(rows))
        self._taking = tuple(node_id for node_id in self._living if not rows[node_id].draining) or self._living
        others = [row for row in rows.values() if row.node_id != self.node_id]
        self._reached_by_others = frozenset(worker_id for row in others for worker_id in row.workers)
        if any(other.name == self.name for other in others):
            self._rename()
        if known != set(self._living):
            log.info("nodes_changed", node_id=self.node_id, living=len(self._living))
            if known - set(self._living):
                self.on_loss()

    def _note_outage(self, now: int) -> None:
        """All nodes missed their beats while the database was away: this one, back first, is not to bury the others."""
        if now - self._beaten_at > NODE_DEAD_MS // 2:
            self._sure_at = now + UNSURE_MS
        self._beaten_at = now

    def _rename(self) -> None:
        """A younger node of the same name lives: each beat of it takes this one for its earlier life."""
        name, self.name = self.name, f"{self.name}~{self.node_id[-6:]}"
        log.error("node_name_twice", name=name, now=self.name, remedy="give each node its own PATCHBAY_NODE_NAME")

    async def _ask_time(self, *, outright: bool = False) -> None:
        if self._follow is not None:
            asked_ns = self._follow.stamp_ns()
            self._follow.tell(await self._store.time_ms(), asked_ns, outright=outright)

    async def _compare_clocks(self) -> None:
        """Take the time from nodes that live by another one than the database shows now."""
        if self._follow is None:
            return
        looked_at = self._clock.now_ms()
        before = {row.node_id: row.seen_at for row in await self._store.nodes() if self._apart(row, looked_at)}
        if not before:
            return
        await asyncio.sleep(LOOK_AGAIN_S)
        asked_ns = self._follow.stamp_ns()
        for row in await self._store.nodes():
            # It has beaten since the first look, so it lives; and if its clock is right, at a time since then. A node
            # that was only late with a beat, as all are after a database's restart, has no other time.
            if row.seen_at > before.get(row.node_id, row.seen_at) and self._apart(row, looked_at):
                log.error(
                    "clock_jumped",
                    apart_ms=row.seen_at - self._clock.now_ms(),
                    remedy="set the database's clock right (NTP); until then this node goes by the others' time",
                )
                self._follow.tell(row.seen_at, asked_ns, outright=True)
                return

    def _apart(self, row: NodeRow, since: int) -> bool:
        """Its beat was at no time between `since` and now, nor near."""
        since, until = since - CLOCKS_APART_MS, self._clock.now_ms() + CLOCKS_APART_MS
        return row.name != self.name and not since <= row.seen_at <= until
