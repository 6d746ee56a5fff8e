"""A media worker in a process of its own, a listener that remembers, and peers that talk through it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from server.domain.media import (
    ApplyPlan,
    LegUp,
    MediaOrder,
    MediaPlan,
    MediaReport,
    OpenLeg,
    RecordingOrder,
    Route,
)
from server.media.client import WorkersClient
from server.media.peer import Peer
from server.services.ports import LegTelemetry, OrderResult, OrderStamp, WorkerInfo

WAIT_S = 10.0


async def eventually(good: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    """Wait for something that tells nobody when it comes true."""
    async with asyncio.timeout(timeout_s):
        while not good():  # noqa: ASYNC110 - there is no event to wait on
            await asyncio.sleep(0.01)


class Listener:
    """Remembers everything; `until` waits for something to be true."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, int, MediaReport]] = []
        self.ups: list[WorkerInfo] = []
        self.downs: list[tuple[str, str]] = []
        self.telemetry: list[LegTelemetry] = []
        self.fail_reports = 0
        self._news = asyncio.Event()

    async def on_report(self, worker_id: str, session_id: str, epoch: int, report: MediaReport) -> None:
        if self.fail_reports:
            self.fail_reports -= 1
            raise RuntimeError("the database is away")
        self.reports.append((session_id, epoch, report))
        self._news.set()

    async def on_worker_up(self, info: WorkerInfo) -> None:
        self.ups.append(info)
        self._news.set()

    async def on_worker_down(self, worker_id: str, incarnation: str) -> None:
        self.downs.append((worker_id, incarnation))
        self._news.set()

    def on_telemetry(self, worker_id: str, legs: Sequence[LegTelemetry]) -> None:
        self.telemetry += legs
        self._news.set()

    def all(self, session_id: str = "s1") -> list[MediaReport]:
        return [report for session, _, report in self.reports if session == session_id]

    async def until(self, good: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while not good():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"reports {self.reports}, ups {self.ups}, downs {self.downs}") from None

    async def until_report(self, report: MediaReport, timeout_s: float = WAIT_S, session: str = "s1") -> None:
        await self.until(lambda: report in self.all(session), timeout_s)


@dataclass
class WorkerProcess:
    """`python -m server.media.relay` as a child."""

    folder: Path
    worker_id: str = "media-1"
    arguments: tuple[str, ...] = ("--bind", "127.0.0.1")
    environment: dict[str, str] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None

    @property
    def socket(self) -> Path:
        return self.folder / f"{self.worker_id}.sock"

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "server.media.relay", "--id", self.worker_id, "--socket", str(self.socket),
            "--spool", str(self.spool), *self.arguments,
            stdin=asyncio.subprocess.DEVNULL, env={**os.environ, **self.environment},
        )  # fmt: skip

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()

    async def stop(self) -> float:
        """SIGTERM; returns the seconds it took to end."""
        assert self.process is not None
        began = time.monotonic()
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(WAIT_S):
            await self.process.wait()
        return time.monotonic() - began


@dataclass
class Caller:
    """Gives orders for one session in the order of their versions."""

    engine: WorkersClient
    worker_id: str = "media-1"
    session_id: str = "s1"
    epoch: int = 1
    version: int = 0

    def stamp(self) -> OrderStamp:
        self.version += 1
        return OrderStamp("default", self.session_id, self.epoch, self.version, 0)

    async def order(self, order: MediaOrder) -> OrderResult:
        return await self.engine.order(self.worker_id, self.stamp(), order)

    async def open(self, leg_id: str, peer: Peer, generation: int = 1) -> None:
        result = await self.order(OpenLeg(leg_id, generation, await peer.offer()))
        assert result.sdp is not None
        await peer.answer(result.sdp)

    async def plan(self, *routes: tuple[str, str], recording: RecordingOrder | None = None) -> None:
        wanted = tuple(Route(leg_id, str(hears)) for leg_id, hears in routes)
        await self.order(ApplyPlan(MediaPlan(wanted, recording)))

    async def bridge(self, recording: RecordingOrder | None = None) -> None:
        await self.plan(("customer", "agent"), ("agent", "customer"), recording=recording)


@dataclass
class Rig:
    """A worker, a client and a listener."""

    worker: WorkerProcess
    engine: WorkersClient
    listener: Listener
    peers: list[Peer] = field(default_factory=list)

    def peer(self, tone_hz: float = 0) -> Peer:
        peer = Peer(tone_hz)
        self.peers.append(peer)
        return peer

    def caller(self, session_id: str = "s1", epoch: int = 1) -> Caller:
        return Caller(self.engine, self.worker.worker_id, session_id, epoch)

    async def call(self, recording: RecordingOrder | None = None) -> tuple[Caller, Peer, Peer]:
        """A bridged call: the customer plays 440 Hz, the agent 880 Hz."""
        caller, customer, agent = self.caller(), self.peer(440), self.peer(880)
        await caller.open("customer", customer)
        await caller.open("agent", agent)
        await caller.bridge(recording)
        for leg_id in ("customer", "agent"):
            await self.listener.until_report(LegUp(leg_id, 1))
        return caller, customer, agent


@contextlib.asynccontextmanager
async def running(folder: Path, *arguments: str) -> AsyncIterator[Rig]:
    """A rig with a worker that is up; everything ends with it. PATCHBAY_MEDIA_COMPILED is heeded as by a node."""
    compiled = os.environ.get("PATCHBAY_MEDIA_COMPILED", "true") == "true"
    arguments = (*(arguments or ("--bind", "127.0.0.1")), *(() if compiled else ("--no-compiled",)))
    worker = WorkerProcess(folder, arguments=arguments)
    await worker.start()
    listener = Listener()
    engine = WorkersClient({worker.worker_id: worker.socket})
    rig = Rig(worker, engine, listener)
    await engine.start(listener)
    try:
        await listener.until(lambda: bool(listener.ups))
        yield rig
    finally:
        for peer in rig.peers:
            await peer.close()
        await engine.stop()
        await worker.stop()
