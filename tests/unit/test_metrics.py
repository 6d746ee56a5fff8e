"""The figures of a node and of the center, over twins: what is counted where, and what a scrape says when its sources
are away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from server import metrics_center, probes
from server.metrics import Metrics
from server.metrics_center import CenterMetrics
from server.metrics_media import MediaMetrics
from server.probes import Work, note
from server.services.ports import LegTelemetry, StorageUnavailable, WorkerInfo
from server.storage.engine import create_engine
from server.storage.figures import OVERDUE_MS, CenterFigures, Counted, StoredFigures, _center_figures
from tests.helpers.database import PostgresDatabase
from tests.helpers.deployments import Deployment
from tests.helpers.prometheus import Scrape, asked, groupings, read
from tests.helpers.world import World, worlds

OPEN_STATES = "SELECT state, COUNT(*) FROM session WHERE NOT done GROUP BY state"


class Node:
    """A node's metrics as app.py wires them, beside a node of `worlds`."""

    def __init__(self, node: World, figures: StoredFigures) -> None:
        self.world = node
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.center = CenterMetrics(self.registry, figures, {})
        node.core.stepper.listen(self.metrics)

    async def scrape(self) -> Scrape:
        self.center._read_at = float("-inf")  # as if the last scrape were long ago
        await self.center.refresh()
        return read(generate_latest(self.registry).decode())


@pytest.fixture
async def two(tmp_path: Path, own_or_shared: Deployment) -> AsyncIterator[tuple[Node, Node]]:
    async with worlds(tmp_path, ("north", "south")) as (north, south):
        shared = isinstance(north.database, PostgresDatabase)
        file = f"sqlite+aiosqlite:///{tmp_path / 'patchbay.db'}"
        engine = create_engine((tmp_path / "database-url").read_text() if shared else file)
        try:
            figures = StoredFigures(engine, north.clock)
            yield Node(north, figures), Node(south, figures)
        finally:
            await engine.dispose()


async def test_two_nodes_that_step_one_session_agree_on_what_there_is(two: tuple[Node, Node]) -> None:
    north, south = two
    await south.world.ready("ana")
    call = await north.world.call()
    await south.world.settle()
    await south.world.accept(call, "ana")
    waits = await north.world.call()
    north.world.clock.advance(7.0)
    for node in two:
        await node.world.core.nodes._beat()
    for node in two:
        seen = await node.scrape()
        rows = await node.world.rows(OPEN_STATES)
        assert seen.by("patchbay_sessions", "state") == dict(rows) == {"connected": 1, "queued": 1}
        assert seen.by("patchbay_agents", "state") == {"on_contact": 1}
        session = await node.world.session(waits)
        assert seen.by("patchbay_queue_waiting", "queue") == {session.queue.queue_id: 1}
        longest = seen.by("patchbay_queue_longest_wait_seconds", "queue")[session.queue.queue_id]
        assert longest == pytest.approx(7.0, abs=0.01)
        assert seen.by("patchbay_recordings_unfinished", "state") == {"recording": 1}
        assert seen.by("patchbay_nodes", "state") == {"serving": 2}
    await south.world.core.sessions.customer_hang_up(call)
    await north.world.core.sessions.customer_hang_up(waits)
    await south.world.settle()
    scrapes = [await node.scrape() for node in two]
    assert [s.by("patchbay_sessions", "state") for s in scrapes] == [
        dict(await north.world.rows(OPEN_STATES)),
    ] * 2, "sums of what each node saw would be off here"
    ended = dict(await north.world.rows("SELECT end_reason, COUNT(*) FROM session GROUP BY end_reason"))
    assert sum_of(scrapes, "patchbay_sessions_ended_total", "reason") == ended
    assert sum_of(scrapes, "patchbay_offers_total", "outcome") == {"accepted": 1}
    assert [s.total("patchbay_sessions_ended_total") for s in scrapes] == [1, 1], "each counts what it saved"
    assert sum(s.value("patchbay_setup_seconds_count") for s in scrapes) == 1
    assert sum(s.value("patchbay_first_talk_seconds_count") for s in scrapes) == 1


async def test_what_is_late_shows(two: tuple[Node, Node]) -> None:
    north, _ = two
    await north.world.ready("ana")
    call = await north.world.call()
    (first_due,) = (await north.world.rows("SELECT MIN(at) FROM deadline"))[0]
    late_s = 30.0
    north.world.clock.advance((first_due - north.world.clock.now_ms()) / 1000 + late_s)
    now = north.world.clock.now_ms()
    seen = await north.scrape()
    ((overdue,),) = await north.world.rows("SELECT COUNT(*) FROM deadline WHERE at < ?", now - OVERDUE_MS)
    assert seen.value("patchbay_deadlines_overdue") == overdue > 0
    assert seen.value("patchbay_deadlines_overdue_age_seconds") == pytest.approx(late_s, abs=0.01)
    assert call.session_id


async def test_the_figures_cost_what_is_open_not_what_was(tmp_path: Path) -> None:
    async with worlds(tmp_path, ("sole",)):
        engine = create_engine(f"sqlite+aiosqlite:///{tmp_path / 'patchbay.db'}")
        query = str(_center_figures(0).compile(engine.sync_engine, compile_kwargs={"literal_binds": True}))
        async with engine.connect() as connection:
            explained = await connection.exec_driver_sql("EXPLAIN QUERY PLAN " + query)
            plan = [str(row["detail"]) for row in explained.mappings()]
        await engine.dispose()
    whole = [step for step in plan if step.startswith("SCAN") and "INDEX" not in step]
    assert sorted(whole) == ["SCAN agent", "SCAN node", "SCAN outbox"], (
        plan
    )  # as many as there are people, nodes, orders


def sum_of(scrapes: Sequence[Scrape], name: str, label: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in scrapes:
        for value, number in one.by(name, label).items():
            found[value] = found.get(value, 0.0) + number
    return found


class Source:
    def __init__(self) -> None:
        self.reads = 0
        self.fault: Exception | None = None

    async def read(self) -> CenterFigures:
        self.reads += 1
        if self.fault is not None:
            raise self.fault
        return CenterFigures(sessions={"queued": Counted(3)})


async def test_scrapers_in_a_hurry_cost_one_query() -> None:
    source, registry = Source(), CollectorRegistry()
    center = CenterMetrics(registry, source, {})
    await asyncio.gather(*(center.refresh() for _ in range(10)))
    await center.refresh()
    assert source.reads == 1


async def test_figures_that_can_not_be_read_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    source, registry = Source(), CollectorRegistry()
    center = CenterMetrics(registry, source, {})
    await center.refresh()
    seen = read(generate_latest(registry).decode())
    assert (seen.value("patchbay_center_figures_up"), seen.value("patchbay_sessions", state="queued")) == (1, 3)
    assert seen.value("patchbay_sessions", state="connected") == 0, "a state without sessions is 0, not away"
    source.fault = StorageUnavailable("the database is away")
    monkeypatch.setattr(metrics_center, "KEPT_S", 0.0)
    await center.refresh()
    seen = read(generate_latest(registry).decode())
    assert seen.value("patchbay_center_figures_up") == 0
    assert "patchbay_sessions" not in seen.names, "an old figure would pass for a new one"


async def test_a_folder_that_hangs_delays_one_scrape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release, asked_for = threading.Event(), []

    def hangs(folder: Path) -> object:
        asked_for.append(folder)
        release.wait(10)
        raise OSError

    monkeypatch.setattr("shutil.disk_usage", hangs)
    monkeypatch.setattr(metrics_center, "KEPT_S", 0.0)
    monkeypatch.setattr(metrics_center, "DISK_S", 0.05)
    registry = CollectorRegistry()
    center = CenterMetrics(registry, Source(), {"recordings": tmp_path})
    try:
        for _ in range(3):
            await center.refresh()
        assert asked_for == [tmp_path], "one thread waits, not one a scrape"
        seen = read(generate_latest(registry).decode())
        assert seen.value("patchbay_center_figures_up") == 1
        assert not seen.samples.get("patchbay_disk_free_bytes")
    finally:
        release.set()


def leg(number: int, packets_in: int, lost: int) -> LegTelemetry:
    return LegTelemetry("ses_1", f"leg_{number}", packets_in, 0, lost, 4.0, -30)


def test_packets_are_counted_once_whoever_hears_of_them() -> None:
    registry = CollectorRegistry()
    infos = [WorkerInfo("media-1", "a", 7, 150, True, 0.04, 0.5), WorkerInfo("media-2", "a", 0, 150)]
    media = MediaMetrics(registry, ("media-1", "media-2", "media-3"), lambda: infos)
    media.on_telemetry("media-1", [leg(1, 5000, 90)])  # another node counted these
    media.on_telemetry("media-1", [leg(1, 5050, 91), leg(2, 50, 0)])
    media.on_telemetry("media-1", [leg(1, 20, 91), leg(2, 100, 3)])  # leg 1 begins anew in a new generation
    seen = read(generate_latest(registry).decode())
    assert seen.value("patchbay_media_packets_received_total", worker="media-1") == 50 + 50
    assert seen.value("patchbay_media_packets_lost_total", worker="media-1") == 1 + 3
    assert seen.value("patchbay_media_jitter_seconds_count", worker="media-1") == 5
    assert seen.by("patchbay_worker_connected", "worker") == {"media-1": 1, "media-2": 1}
    assert seen.value("patchbay_worker_connected", worker="media-3") == 0, "in the settings, and away"
    lag, share = "patchbay_worker_loop_lag_recent_max_seconds", "patchbay_worker_cpu_share"
    assert (seen.samples[lag], seen.samples[share]) == ([({"worker": "media-1"}, 0.04)], [({"worker": "media-1"}, 0.5)])
    assert seen.value("patchbay_worker_load", worker="media-1") == 7
    assert seen.value("patchbay_worker_draining", worker="media-1") == 1
    assert seen.value("patchbay_worker_legs", worker="media-1") == 2


def test_quality_by_direction() -> None:
    registry = CollectorRegistry()
    media = MediaMetrics(registry, ("media-1",), list)
    media.on_telemetry("media-1", [leg(1, 100, 0)])
    bad = replace(leg(1, 140, 10), loss_out=0.5, lost_out=70, jitter_out_ms=30.0, rtt_ms=200.0)
    media.on_telemetry("media-1", [bad])
    seen = read(generate_latest(registry).decode())
    assert seen.by("patchbay_media_loss_ratio_sum", "direction") == {"in": 10 / 50, "out": 0.5}
    assert seen.value("patchbay_media_rtt_seconds_sum", worker="media-1") == 0.2
    assert seen.by("patchbay_media_poor_seconds_total", "direction") == {"in": 1, "out": 1}
    assert seen.by("patchbay_media_mos_count", "direction") == {"in": 1, "out": 1}
    media.on_telemetry("media-1", [replace(leg(1, 190, 10), loss_out=0.0, jitter_out_ms=1.0, rtt_ms=20.0)])
    again = read(generate_latest(registry).decode())
    assert again.by("patchbay_media_poor_seconds_total", "direction") == {"in": 1, "out": 1}, "good again"
    assert again.by("patchbay_media_mos_count", "direction") == {"in": 2, "out": 2}


@pytest.fixture
def heard() -> Iterator[CollectorRegistry]:
    registry = CollectorRegistry()
    probes.listen(Metrics(registry))
    yield registry
    probes.listen()


def test_work_is_counted_by_how_it_ended(heard: CollectorRegistry) -> None:
    with Work("step", session_id="ses_1") as work:
        work.result = "saved"
    for error in (StorageUnavailable("away"), KeyError("ours")):
        with pytest.raises(type(error)), Work("step", session_id="ses_1"):
            raise error
    note("claim", "lost")
    note("bus", "sent", count=3)
    note("conflict")
    seen = read(generate_latest(heard).decode())
    assert seen.by("patchbay_steps_total", "result") == {"saved": 1, "storage_unavailable": 1, "error": 1}
    assert seen.value("patchbay_step_seconds_count") == 3
    assert seen.value("patchbay_storage_unavailable_total", work="step") == 1
    assert seen.by("patchbay_router_claims_total", "result") == {"lost": 1}
    assert seen.by("patchbay_bus_messages_total", "direction") == {"sent": 3}
    assert seen.value("patchbay_step_conflicts_total") == 1


def test_a_listener_that_fails_fails_no_call() -> None:
    class Broken:
        def began(self, work: Work) -> None:
            raise RuntimeError("began")

        def ended(self, work: Work) -> None:
            raise RuntimeError("ended")

        def noted(self, what: str, labels: tuple[str, ...], count: int) -> None:
            raise RuntimeError("noted")

    registry = CollectorRegistry()
    probes.listen(Broken(), Metrics(registry))
    try:
        with Work("step") as work:
            work.result = "saved"
        note("conflict")
    finally:
        probes.listen()
    seen = read(generate_latest(registry).decode())
    assert seen.value("patchbay_steps_total", result="saved") == 1
    assert seen.value("patchbay_step_conflicts_total") == 1


def test_the_loop_s_lag_is_seen() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)

    async def blocked() -> None:
        watching = asyncio.create_task(metrics.watch_loop())
        await asyncio.sleep(0)
        threading.Event().wait(0.6)  # what the metric is for: somebody blocks the loop
        while not metrics._worst_lag._value.get():  # noqa: ASYNC110  # the watcher's own timer
            await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(blocked())
    seen = read(generate_latest(registry).decode())
    assert 0.3 < seen.value("patchbay_loop_lag_recent_max_seconds") < 5
    assert seen.value("patchbay_loop_lag_seconds_bucket", le="0.25") < seen.value("patchbay_loop_lag_seconds_count")


def test_the_reader_of_expressions() -> None:
    rate = 'rate(a_bucket{x=~"b{c", y!="$z"}[$__rate_interval])'
    expression = f"sum by (le, worker) ({rate}) / on (q) group_left (n) b > 1"
    assert [(a.metric, a.labels) for a in asked(expression)] == [("a_bucket", ("x", "y")), ("b", ())]
    assert groupings(expression) == {"le", "worker", "q", "n"}
    with pytest.raises(AssertionError):
        asked("sum(rate(a[5m])")
