"""Prometheus metrics of media workers, as this node sees them: `max by (worker)` for the gauges of a worker.

A worker tells each session's telemetry to one node, so legs, packets and jitter are summed: `sum by (worker)`.
Directions: `in` is what we hear of a browser or a phone, `out` what it hears of us, by its own reports.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from server.domain.voice_quality import mos, one_way_ms
from server.services.ports import LegTelemetry, WorkerInfo

Leg = tuple[str, str]
Seen = tuple[int, int]  # packets in and lost, both since the leg began
DIRECTIONS = ("in", "out")
POOR_MOS = 3.0  # many users are dissatisfied (G.107, table B.1)


class MediaMetrics(Collector):
    """`workers` are the ids of those in the settings: one that is not connected is seen as 0."""

    def __init__(
        self, registry: CollectorRegistry, workers: Collection[str], connected: Callable[[], Sequence[WorkerInfo]]
    ) -> None:
        self._workers = tuple(workers)
        self._connected = connected
        self._seen: dict[str, dict[Leg, Seen]] = {}  # by worker, its newest telemetry
        self._received = Counter(
            "patchbay_media_packets_received_total", "RTP packets from browsers", ["worker"], registry=registry
        )
        self._lost = Counter(
            "patchbay_media_packets_lost_total", "RTP packets from browsers that never came", ["worker"],
            registry=registry,
        )  # fmt: skip
        self._jitter = Histogram(
            "patchbay_media_jitter_seconds", "Jitter of what browsers send, once a second for each leg", ["worker"],
            buckets=(0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25), registry=registry,
        )  # fmt: skip
        self._rtt = Histogram(
            "patchbay_media_rtt_seconds", "Round trip to browsers and phones, once a second for each leg", ["worker"],
            buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6), registry=registry,
        )  # fmt: skip
        self._loss = Histogram(
            "patchbay_media_loss_ratio", "Share of packets lost, once a second for each leg", ["worker", "direction"],
            buckets=(0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5), registry=registry,
        )  # fmt: skip
        self._mos = Histogram(
            "patchbay_media_mos", "Estimated MOS (E-model), once a second for each leg", ["worker", "direction"],
            buckets=(1.5, 2.0, 2.6, 3.1, 3.6, 4.0, 4.3), registry=registry,
        )  # fmt: skip
        self._poor = Counter(
            "patchbay_media_poor_seconds_total", "Seconds of legs with an estimated MOS below 3",
            ["worker", "direction"], registry=registry,
        )  # fmt: skip
        for worker in self._workers:
            self._received.labels(worker)
            self._lost.labels(worker)
            self._jitter.labels(worker)
            self._rtt.labels(worker)
            for direction in DIRECTIONS:
                self._loss.labels(worker, direction)
                self._mos.labels(worker, direction)
                self._poor.labels(worker, direction)
        registry.register(self)

    def on_telemetry(self, worker_id: str, legs: Sequence[LegTelemetry]) -> None:
        before = self._seen.get(worker_id, {})
        now: dict[Leg, Seen] = {}
        jitter = self._jitter.labels(worker_id)
        for leg in legs:
            key = (leg.session_id, leg.leg_id)
            now[key] = (leg.packets_in, leg.lost)
            # A leg that is new here may be an old one that another node counted until now.
            packets_in, lost = before.get(key, now[key])
            # Either may fall: a new generation counts anew, and a late packet is lost no more.
            came, missed = max(0, leg.packets_in - packets_in), max(0, leg.lost - lost)
            self._received.labels(worker_id).inc(came)
            self._lost.labels(worker_id).inc(missed)
            jitter.observe(leg.jitter_ms / 1000)
            if leg.rtt_ms is not None:
                self._rtt.labels(worker_id).observe(leg.rtt_ms / 1000)
            if came + missed:
                self._judge(worker_id, "in", missed / (came + missed), leg.rtt_ms, leg.jitter_ms)
            if leg.loss_out is not None:
                self._judge(worker_id, "out", leg.loss_out, leg.rtt_ms, leg.jitter_out_ms or 0.0)
        self._seen[worker_id] = now

    def _judge(self, worker: str, direction: str, loss: float, rtt_ms: float | None, jitter_ms: float) -> None:
        found = mos(loss, one_way_ms(rtt_ms, jitter_ms))
        self._loss.labels(worker, direction).observe(loss)
        self._mos.labels(worker, direction).observe(found)
        if found < POOR_MOS:
            self._poor.labels(worker, direction).inc()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        infos = {info.worker_id: info for info in self._connected()}
        yield self._family(
            "worker_connected", "1 while this node reaches it", {w: int(w in infos) for w in self._workers}
        )
        yield self._family("worker_load", "Peer connections it holds", {w: i.load for w, i in infos.items()})
        yield self._family("worker_capacity", "Those it is meant for", {w: i.capacity for w, i in infos.items()})
        yield self._family(
            "worker_draining", "1 while it takes no calls", {w: int(i.draining) for w, i in infos.items()}
        )
        legs = {w: len(self._seen.get(w, {})) if w in infos else 0 for w in self._workers}
        yield self._family("worker_legs", "Legs whose telemetry comes to this node", legs)

        lags = {w: i.loop_lag_s for w, i in infos.items() if i.loop_lag_s is not None}
        yield self._family("worker_loop_lag_recent_max_seconds", "Its event loop's greatest lag of the last 15 s", lags)
        shares = {w: i.cpu_share for w, i in infos.items() if i.cpu_share is not None}
        yield self._family("worker_cpu_share", "How much of one core it used in the last 15 s, 0 to 1", shares)

    @staticmethod
    def _family(name: str, text: str, values: Mapping[str, float]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"patchbay_{name}", text, labels=("worker",))
        for worker, value in values.items():
            family.add_metric((worker,), value)
        return family
