"""Which orders a worker carries out: each once, none that is late.

Orders of a session are totally ordered by (epoch, version, index). An order seen before gets the answer it
got then, also while the first one still runs; one older than the newest is `stale_order`, one of a lower
epoch `stale_epoch`. A higher epoch starts the session anew. After a release the epoch stays remembered, so
that nothing of that epoch comes back to life (`unknown_session`). Both the worker and the in-memory twin
of MediaEngine use this ledger.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from server.services.ports import MediaError, OrderResult, OrderStamp

RESULTS_KEPT = 64  # a session; an outbox retries the order it is at, so the last few would do
RELEASED_KEPT = 10_000  # sessions; older ones than that have no order on its way
RETRYABLE = frozenset({"no_ports", "internal"})  # a repeated order may fare better


@dataclass(slots=True)
class Entry:
    """What is remembered of a session in one epoch."""

    epoch: int
    newest: tuple[int, int] = (-1, -1)
    results: OrderedDict[tuple[int, int], asyncio.Future[OrderResult]] = field(default_factory=OrderedDict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Ledger:
    """The entries of all sessions of a worker."""

    def __init__(self) -> None:
        self._live: dict[str, Entry] = {}
        self._released: OrderedDict[str, tuple[int, tuple[int, int]]] = OrderedDict()  # (epoch, newest)

    def admit(self, stamp: OrderStamp, release: bool) -> tuple[Entry, asyncio.Future[OrderResult] | None]:
        """The session's entry, and the earlier answer when the order is a repeated one.

        Raises MediaError: stale_epoch, stale_order, unknown_session. A returned entry with an epoch above
        what the caller still runs means that the old placement must be closed."""
        entry = self._live.get(stamp.session_id)
        place = (stamp.version, stamp.index)
        released = self._released.get(stamp.session_id)
        if released is not None:
            entry = Entry(*released)
        if entry is not None and stamp.epoch < entry.epoch:
            raise MediaError("stale_epoch", f"epoch {stamp.epoch}; the session is at {entry.epoch}")
        if entry is None or stamp.epoch > entry.epoch:
            entry = Entry(stamp.epoch)
            self._released.pop(stamp.session_id, None)
            self._live[stamp.session_id] = entry
            released = None
        earlier = entry.results.get(place)
        if released is not None and place == entry.newest:
            earlier = asyncio.get_running_loop().create_future()
            earlier.set_result(OrderResult())  # what every release is answered
        if earlier is not None:
            return entry, earlier
        if place < entry.newest:
            raise MediaError("stale_order", f"order {place}; the newest applied is {entry.newest}")
        if released is not None:
            if not release:
                raise MediaError("unknown_session", "the session was released in this epoch")
            self._released[stamp.session_id] = (entry.epoch, place)
        entry.newest = place
        return entry, None

    def remember(self, entry: Entry, stamp: OrderStamp, result: asyncio.Future[OrderResult]) -> None:
        """Keep the answer for a repeated order; forget it again if the failure may pass."""
        place = (stamp.version, stamp.index)
        entry.results[place] = result
        if len(entry.results) > RESULTS_KEPT:
            entry.results.popitem(last=False)
        result.add_done_callback(lambda done: self._settle(entry, place, done))

    @staticmethod
    def _settle(entry: Entry, place: tuple[int, int], done: asyncio.Future[OrderResult]) -> None:
        if done.cancelled():
            entry.results.pop(place, None)
            return
        error = done.exception()
        if error is not None and (not isinstance(error, MediaError) or error.code in RETRYABLE):
            entry.results.pop(place, None)

    def forget(self, session_id: str) -> None:
        """The session was never taken in, or is no longer anybody's."""
        self._live.pop(session_id, None)

    def release(self, session_id: str) -> None:
        """Move the session to the remembered ones, with no more than tells a late order; the oldest are forgotten. The
        release itself calls it, and is answered without another await."""
        entry = self._live.pop(session_id, None)
        if entry is None:
            return
        self._released[session_id] = (entry.epoch, entry.newest)
        if len(self._released) > RELEASED_KEPT:
            self._released.popitem(last=False)
