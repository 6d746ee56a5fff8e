"""Prometheus gauges of the whole center, read from the database at a scrape, and of this node's disks.

Every node exposes the center's figures, each from the same rows: `max by (state) (patchbay_sessions)` is right whoever
steps which session, and stays so when a node dies. A node that can't read the database exposes none of them, for old
ones would pass for new, and says so in `patchbay_center_figures_up`.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from server.domain.agent import AgentState
from server.domain.session import SessionState
from server.services.ports import StorageUnavailable
from server.storage.figures import UNFINISHED, CenterFigures, Counted

log = structlog.get_logger()
KEPT_S = 5.0  # several scrapers, and one in a hurry, cost one query
READ_S = 2.0  # Prometheus gives up after 10 s; the node's own figures are worth having then
DISK_S = 1.0  # a network folder that hangs would take the loop with it
SESSION_STATES = tuple(state.value for state in SessionState)
AGENT_STATES = tuple(state.value for state in AgentState)
NODE_STATES = ("serving", "draining")


class Figures(Protocol):
    async def read(self) -> CenterFigures:
        """Raises StorageUnavailable."""
        ...


class CenterMetrics(Collector):
    """`refresh` before each scrape; what it found is what `collect` gives. `folders` by the label they get."""

    def __init__(self, registry: CollectorRegistry, figures: Figures, folders: Mapping[str, Path]) -> None:
        self._figures = figures
        self._folders = dict(folders)
        self._found: CenterFigures | None = None
        self._disks: dict[str, tuple[int, int]] = {}  # free and size, bytes
        self._read_at = float("-inf")  # loop time
        self._reading = asyncio.Lock()
        self._asking_disks: asyncio.Future[dict[str, tuple[int, int]]] | None = None
        registry.register(self)

    async def refresh(self) -> None:
        """Read the figures anew unless that was done just now. Never raises for a database or folder that is away."""
        async with self._reading:
            loop = asyncio.get_running_loop()
            if loop.time() - self._read_at < KEPT_S:
                return
            await asyncio.gather(self._read_center(), self._read_disks())
            self._read_at = loop.time()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield _gauge("center_figures_up", "1 when this node could read the center's figures", int(bool(self._found)))
        yield _disk("disk_free_bytes", "Room for this node's files", {name: d[0] for name, d in self._disks.items()})
        yield _disk("disk_size_bytes", "Size of that disk", {name: d[1] for name, d in self._disks.items()})
        if self._found is not None:
            yield from _center(self._found)

    async def _read_center(self) -> None:
        try:
            async with asyncio.timeout(READ_S):
                self._found = await self._figures.read()
        except (StorageUnavailable, TimeoutError) as error:
            self._found = None
            log.warning("center_figures_not_read", error=str(error) or type(error).__name__)

    async def _read_disks(self) -> None:
        """A question that hangs is not asked again: its thread waits in the kernel."""
        if self._asking_disks is None or self._asking_disks.done():
            self._asking_disks = asyncio.ensure_future(asyncio.to_thread(_usage, self._folders))
        done, _ = await asyncio.wait({self._asking_disks}, timeout=DISK_S)
        self._disks = self._asking_disks.result() if done else {}


def _usage(folders: Mapping[str, Path]) -> dict[str, tuple[int, int]]:
    found = {}
    for name, folder in folders.items():
        try:
            usage = shutil.disk_usage(folder)
        except OSError:  # no recording was made yet, or the network folder is away: no figure
            continue
        found[name] = (usage.free, usage.total)
    return found


def _center(f: CenterFigures) -> Iterator[GaugeMetricFamily]:
    yield _by("sessions", "Sessions by state; ended: still being finished", "state", f.sessions, SESSION_STATES)
    yield _by("agents", "Agents by state", "state", f.agents, AGENT_STATES)
    yield _by("queue_waiting", "Sessions that wait in a queue", "queue", f.queues)
    yield _by("queue_longest_wait_seconds", "The longest wait of those", "queue", f.queues, age=True)
    names = GaugeMetricFamily("patchbay_queue_info", "A queue's name", labels=("queue", "name"))
    for queue_id, name in f.queue_names.items():
        names.add_metric((queue_id, name), 1)
    yield names
    yield _by("recordings_unfinished", "Recordings without their files yet", "state", f.recordings, UNFINISHED)
    archiving = f.recordings.get("archiving", Counted())
    yield _gauge("archive_oldest_wait_seconds", "Since the talk of the oldest one's end", archiving.oldest_s)
    yield _gauge("outbox_orders", "Orders that no media worker has carried out yet", f.outbox.number)
    yield _gauge("outbox_age_seconds", "Age of the oldest of these", f.outbox.oldest_s)
    yield _gauge("deadlines_overdue", "Deadlines that should have taken effect 2 s ago", f.overdue.number)
    yield _gauge("deadlines_overdue_age_seconds", "How late the oldest of these is", f.overdue.oldest_s)
    yield _by("nodes", "Control nodes that live", "state", f.nodes, NODE_STATES)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"patchbay_{name}", text, value=value)


def _by(
    name: str, text: str, label: str, found: Mapping[str, Counted], expected: tuple[str, ...] = (), *, age: bool = False
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"patchbay_{name}", text, labels=(label,))
    for value in dict.fromkeys((*expected, *found)):
        counted = found.get(value, Counted())
        family.add_metric((value,), counted.oldest_s if age else counted.number)
    return family


def _disk(name: str, text: str, values: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"patchbay_{name}", text, labels=("folder",))
    for folder, value in values.items():
        family.add_metric((folder,), value)
    return family
