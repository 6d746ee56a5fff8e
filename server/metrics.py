"""Prometheus metrics of a control node: folded from commits, plus the lag of its event loop."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from server.domain.segment import SegmentState
from server.domain.session import Session
from server.services.ports import Commit

LAG_PERIOD_S = 1.0


class Metrics:
    """`CommitListener`. Names carry units; labels have few values, never ids."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._sessions = Gauge(
            "patchbay_sessions", "Sessions that this node saw last in a state", ["state"], registry=registry
        )
        self._ended = Counter("patchbay_sessions_ended_total", "Sessions that ended", ["reason"], registry=registry)
        self._offers = Counter("patchbay_offers_total", "Offers by how they ended", ["outcome"], registry=registry)
        self._setup = Histogram(
            "patchbay_setup_seconds",
            "From the agent's accept until both could hear each other",
            buckets=(0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10),
            registry=registry,
        )
        self._lag = Gauge("patchbay_loop_lag_seconds", "How late the event loop ran a timer", registry=registry)
        self._commits = Counter("patchbay_commits_total", "Steps saved", registry=registry)

    def on_commit(self, commit: Commit) -> None:
        self._commits.inc()
        for save in commit.sessions:
            before, after = save.before, save.after
            if before is None or before.state is not after.state:
                if before is not None:
                    self._sessions.labels(before.state.value).dec()
                if after.end_reason is not None:
                    self._ended.labels(after.end_reason.value).inc()
                else:
                    self._sessions.labels(after.state.value).inc()
            self._segments(before, after)

    async def watch_loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_PERIOD_S
            await asyncio.sleep(LAG_PERIOD_S)
            self._lag.set(max(0.0, loop.time() - due))

    def _segments(self, before: Session | None, after: Session) -> None:
        for segment in after.segments:
            old = before.segment(segment.id) if before is not None else None
            if old is None or old.state is segment.state:
                continue
            if old.state is SegmentState.OFFERED:
                accepted = segment.state is SegmentState.CONNECTING
                self._offers.labels("accepted" if accepted else str(segment.end_reason)).inc()
            elif segment.talk_started_at is not None and old.talk_started_at is None and segment.accepted_at:
                self._setup.observe((segment.talk_started_at - segment.accepted_at) / 1000)
