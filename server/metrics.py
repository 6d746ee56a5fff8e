"""Prometheus metrics of what this node does: counters and histograms, so `sum()` over the nodes is right.

They are folded from commits, from the pieces of work that server/probes.py tells of, and from the event loop's lag.
What describes the whole center is in metrics_center.py, the media workers in metrics_media.py. Labels have few values:
never an id, but for queues and workers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from server.domain.endings import EndReason
from server.domain.machine import Refused, Stale
from server.domain.segment import Segment, SegmentState
from server.domain.session import Session
from server.probes import Work
from server.services.ports import Commit, Conflict, MediaError, RouterStoreUnavailable, StorageUnavailable

LAG_PERIOD_S = 0.25
LAG_WINDOW = 60  # periods: as long as Prometheus' usual interval, so that each scrape sees the worst since the last one
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
SETUP_SECONDS = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10)
HUMAN_SECONDS = (1, 2, 3, 5, 8, 12, 20, 30, 60, 120, 300, 900)
ACCEPTED = "accepted"
OFFER_OUTCOMES = (ACCEPTED, "missed", "rejected", "withdrawn", "customer_left")
BUS_DIRECTIONS = ("sent", "heard", "dropped")
CLAIM_RESULTS = ("assigned", "lost", "refused")
STEP_RESULTS = ("saved", "unchanged", "stale", "refused", "conflict", "storage_unavailable", "error")


class Metrics:
    """`CommitListener` and `probes.Listener`. Each instrument's help says what it counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def seconds(name: str, text: str, *labels: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the series
        self._registry = registry
        self._began = counter("patchbay_sessions_started_total", "Sessions that arrived")
        self._ended = counter("patchbay_sessions_ended_total", "Sessions that ended", "reason")
        self._offers = counter("patchbay_offers_total", "Offers by how they ended", "outcome")
        self._ring = seconds(
            "patchbay_offer_answer_seconds", "From an offer until the agent accepted it", buckets=HUMAN_SECONDS
        )
        self._setup = seconds(
            "patchbay_setup_seconds", "From the agent's accept until both could hear each other", buckets=SETUP_SECONDS
        )
        self._first_audio = seconds(
            "patchbay_first_talk_seconds", "From the customer's click until an agent was heard", buckets=HUMAN_SECONDS
        )
        self._commits = counter("patchbay_commits_total", "Steps saved")
        self._steps = counter("patchbay_steps_total", "Steps of sessions and agents, by what became of them", "result")
        self._step = seconds("patchbay_step_seconds", "To load, step and save, repeated steps included")
        self._conflicts = counter("patchbay_step_conflicts_total", "Steps that another one overtook and that ran again")
        self._unavailable = counter(
            "patchbay_storage_unavailable_total", "Work that found the database away, by its kind", "work"
        )
        self._unreadable = counter(
            "patchbay_rows_unreadable_total", "Looks at a row that this version can't read, left out of lists", "table"
        )
        self._messages = counter(
            "patchbay_socket_messages_total", "Messages of browsers, by result: ok or the error's code",
            "namespace", "type", "result",
        )  # fmt: skip
        self._message = seconds("patchbay_socket_message_seconds", "To answer a browser's message", "namespace")
        self._bus = counter("patchbay_bus_messages_total", "Notices between nodes", "direction")
        self._look = seconds("patchbay_router_look_seconds", "One look of the router, its assignments included")
        self._claims = counter("patchbay_router_claims_total", "Matches by what became of them", "result")
        self._order = seconds("patchbay_order_seconds", "A media worker's answer to an order", "order")
        self._orders = counter(
            "patchbay_orders_total", "Orders to media workers, by result: ok or the error's code", "order", "result"
        )
        self._archive = seconds(
            "patchbay_archive_seconds", "To make a recording's files", buckets=(0.5, 1, 2, 5, 15, 60, 300)
        )
        self._archives = counter("patchbay_archives_total", "Archive jobs by result", "result")
        self._broken = counter(
            "patchbay_recordings_broken_total",
            "Recordings that a media worker could not write on, by the cause",
            "code",
        )
        self._lag = seconds("patchbay_loop_lag_seconds", "How late the event loop ran a timer")
        self._worst_lag = Gauge(
            "patchbay_loop_lag_recent_max_seconds", "The greatest lag of the last 15 s", registry=registry
        )
        ProcessCollector(registry=registry)
        self._start_at_zero()

    def _start_at_zero(self) -> None:
        """A series that begins with its first event hides that one from rate()."""
        for reason in EndReason:
            self._ended.labels(reason.value)
        for counter, values in (
            (self._offers, OFFER_OUTCOMES),
            (self._bus, BUS_DIRECTIONS),
            (self._claims, CLAIM_RESULTS),
            (self._steps, STEP_RESULTS),
            (self._archives, ("ok", "error")),
            (self._broken, ("disk_full", "io_error")),
            (self._unavailable, ("step", "route")),
            (self._unreadable, ("session", "agent", "queue")),
        ):
            for value in values:
                counter.labels(value)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A figure of this node that is asked at each scrape."""
        Gauge(name, text, registry=self._registry).set_function(value)

    async def watch_loop(self) -> None:
        """Measure how late timers run, for ever."""
        loop = asyncio.get_running_loop()
        recent: deque[float] = deque(maxlen=LAG_WINDOW)
        while True:
            due = loop.time() + LAG_PERIOD_S
            await asyncio.sleep(LAG_PERIOD_S)
            recent.append(max(0.0, loop.time() - due))
            self._lag.observe(recent[-1])
            self._worst_lag.set(max(recent))

    # --- commits ---

    def on_commit(self, commit: Commit) -> None:
        self._commits.inc()
        for save in commit.sessions:
            before, after = save.before, save.after
            if before is None:
                self._began.inc()
            if after.end_reason is not None and (before is None or before.end_reason is None):
                self._ended.labels(after.end_reason.value).inc()
            if after.talk_started_at is not None and (before is None or before.talk_started_at is None):
                self._first_audio.observe((after.talk_started_at - after.created_at) / 1000)
            self._segments(before, after)
            known = {r.id: r.broken for r in before.recordings} if before is not None else {}
            for recording in after.recordings:
                if recording.broken is not None and known.get(recording.id) is None:
                    self._broken.labels(recording.broken).inc()

    def _segments(self, before: Session | None, after: Session) -> None:
        for segment in after.segments:
            old = before.segment(segment.id) if before is not None else None
            if old is None or old.state is segment.state:
                continue
            if old.state is SegmentState.OFFERED:
                self._offer_ended(segment)
            elif segment.talk_started_at is not None and old.talk_started_at is None and segment.accepted_at:
                self._setup.observe((segment.talk_started_at - segment.accepted_at) / 1000)

    def _offer_ended(self, segment: Segment) -> None:
        if segment.accepted_at is None:
            self._offers.labels(str(segment.end_reason)).inc()
            return
        self._offers.labels(ACCEPTED).inc()
        self._ring.observe((segment.accepted_at - segment.offered_at) / 1000)

    # --- probes.Listener ---

    def began(self, work: Work) -> None:
        """Counted at its end."""

    def ended(self, work: Work) -> None:
        result = result_of(work)
        if isinstance(work.error, StorageUnavailable):
            self._unavailable.labels(work.kind).inc()
        match work.kind:
            case "step":
                self._steps.labels(result if result in STEP_RESULTS else "error").inc()
                self._step.observe(work.seconds)
            case "socket":
                namespace, kind = str(work.about["namespace"]), str(work.about.get("type", "none"))
                self._messages.labels(namespace, kind, result).inc()
                self._message.labels(namespace).observe(work.seconds)
            case "order":
                self._orders.labels(work.about["order"], result).inc()
                self._order.labels(work.about["order"]).observe(work.seconds)
            case "route":
                self._look.observe(work.seconds)
            case "archive":
                self._archives.labels(result).inc()
                self._archive.observe(work.seconds)

    def noted(self, what: str, labels: tuple[str, ...], count: int) -> None:
        match what:
            case "conflict":
                self._conflicts.inc(count)
            case "bus":
                self._bus.labels(*labels).inc(count)
            case "claim":
                self._claims.labels(*labels).inc(count)
            case "unreadable":
                self._unreadable.labels(*labels).inc(count)


def result_of(work: Work) -> str:
    """A word of few values for how a piece of work ended."""
    match work.error:
        case None:
            return work.result
        case MediaError():
            return work.error.code
        case Stale():
            return "stale"
        case Refused():
            return "refused"
        case Conflict():
            return "conflict"
        case StorageUnavailable():
            return "storage_unavailable"
        case RouterStoreUnavailable():
            return "router_store_unavailable"
        case asyncio.CancelledError():
            return "cancelled"
        case _:
            return "error"
