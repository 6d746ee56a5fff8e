"""Which control node gets which report, and what becomes of one that nobody acknowledges.

Any node may take any report. Those of one session go to one connection, in order, as long as some of them wait there;
else a hash of session and connection spreads them. A connection that acknowledges nothing for STALL_S while reports
wait for it (a node that hangs, or whose database is away) loses them to another one, each session's as a whole and in
order; it gets new ones again once it acknowledges something. What a node took twice is stale for the domain.

The buffer is bounded. When nobody acknowledges for so long that it is full, one is dropped and counted: the oldest of
the kind that the session with the most of them has most of, so that one leg's flood (of key presses, say) costs nobody
else a report. A control node that comes back later learns the state from `list_legs` and from the capture files.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import structlog

from server.domain.media import MediaReport
from server.domain.rendezvous import owner

log = structlog.get_logger(__name__)

REPORTS_KEPT = 10_000
STALL_S = 3.0  # a commit takes milliseconds, a fail-over of the database some seconds: then the other nodes wait, too


@dataclass(frozen=True, slots=True)
class Report:
    """A numbered report. `seq` rises by one within an incarnation."""

    seq: int
    session_id: str
    epoch: int
    report: MediaReport


@dataclass(slots=True)
class _Outlet:
    """A connection, as far as reports go. `heard_at`: the newest acknowledgement, or when something began to wait."""

    send: Callable[[Report], None]
    heard_at: float
    sessions: set[str] = field(default_factory=set)  # whose reports wait for it
    stalled: bool = False


@dataclass(slots=True)
class _Waiting:
    """The reports of one session that are not acknowledged, by seq; `outlet` None: nobody has them."""

    reports: dict[int, Report] = field(default_factory=dict)
    outlet: str | None = None


class ReportDesk:
    """Times are monotonic seconds. `settled` is set while no report waits."""

    def __init__(self) -> None:
        self.settled = asyncio.Event()
        self.settled.set()
        self.dropped = 0
        self._seq = 0
        self._sessions: dict[int, str] = {}  # seq -> session, ascending: what waits
        self._waiting: dict[str, _Waiting] = {}
        self._outlets: dict[str, _Outlet] = {}

    def post(self, session_id: str, epoch: int, report: MediaReport, now: float) -> None:
        self._seq += 1
        numbered = Report(self._seq, session_id, epoch, report)
        waiting = self._waiting.setdefault(session_id, _Waiting())
        waiting.reports[numbered.seq] = numbered
        self._sessions[numbered.seq] = session_id
        self.settled.clear()
        if len(self._sessions) > REPORTS_KEPT:
            self._drop_one()
        if waiting.outlet is None:
            self._hand_over(session_id, now)
        else:
            self._outlets[waiting.outlet].send(numbered)

    def acknowledge(self, outlet_id: str, seq: int, now: float) -> None:
        """A report is safe, whoever it was sent to."""
        outlet = self._outlets.get(outlet_id)
        if outlet is not None:
            outlet.heard_at, outlet.stalled = now, False
        self._forget(seq)

    def connect(self, outlet_id: str, send: Callable[[Report], None], now: float) -> None:
        self._outlets[outlet_id] = _Outlet(send, now)
        self.look(now)

    def disconnect(self, outlet_id: str, now: float) -> None:
        outlet = self._outlets.pop(outlet_id)
        for session_id in sorted(outlet.sessions):
            self._waiting[session_id].outlet = None
            self._hand_over(session_id, now)

    def look(self, now: float) -> None:
        """Once a second or so: take from those that stall, and give to those that do not."""
        for outlet_id, outlet in self._outlets.items():
            if outlet.sessions and not outlet.stalled and now - outlet.heard_at > STALL_S:
                outlet.stalled = True
                log.warning("reports_not_taken", connection=outlet_id, sessions=len(outlet.sessions))
        if all(outlet.stalled for outlet in self._outlets.values()):
            return  # each of them has its reports, and may take them yet
        for session_id, waiting in list(self._waiting.items()):
            if waiting.outlet is None or self._outlets[waiting.outlet].stalled:
                self._hand_over(session_id, now)

    def _hand_over(self, session_id: str, now: float) -> None:
        """Give all that waits of a session to the connection whose turn it is."""
        waiting = self._waiting[session_id]
        if waiting.outlet is not None:
            self._outlets[waiting.outlet].sessions.discard(session_id)
        waiting.outlet = self._choose(session_id)
        if waiting.outlet is None:
            return
        outlet = self._outlets[waiting.outlet]
        if not outlet.sessions:
            outlet.heard_at = now
        outlet.sessions.add(session_id)
        for report in waiting.reports.values():
            outlet.send(report)

    def _choose(self, session_id: str) -> str | None:
        taking: Collection[str] = [one for one, outlet in self._outlets.items() if not outlet.stalled] or self._outlets
        return owner(session_id, tuple(taking)) if taking else None

    def _drop_one(self) -> None:
        self.dropped += 1
        if self.dropped == 1:
            log.error("reports_dropped", kept=REPORTS_KEPT)
        most = max(self._waiting.values(), key=lambda waiting: len(waiting.reports)).reports
        kinds = Counter(type(one.report) for one in most.values())
        kind = max(kinds, key=kinds.__getitem__)
        self._forget(next(seq for seq, one in most.items() if type(one.report) is kind))

    def _forget(self, seq: int) -> None:
        session_id = self._sessions.pop(seq, None)
        if session_id is None:
            return
        waiting = self._waiting[session_id]
        del waiting.reports[seq]
        if not waiting.reports:
            del self._waiting[session_id]
            if waiting.outlet is not None:
                self._outlets[waiting.outlet].sessions.discard(session_id)
        if not self._sessions:
            self.settled.set()
