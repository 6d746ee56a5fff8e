"""The client when connections break and listeners fail, and the worker when its parent dies."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from server.domain.media import ApplyPlan, LegDown, LegUp, MediaPlan, MediaReport, OpenLeg, RecordingOrder
from server.media import client_link
from server.media.capture import part_files, read_capture
from server.media.client import WorkersClient
from server.services.ports import MediaError
from tests.helpers.rtc_peer import Listener, WorkerProcess, eventually, running


class Wire:
    """A UNIX socket in front of the worker's, that can be cut or held."""

    def __init__(self, target: Path, path: Path) -> None:
        self.target, self.path = target, path
        self.cut_after_request = False
        self.silent = False
        self.open_gate = asyncio.Event()  # until then nothing that connects is served
        self.open_gate.set()
        self._writers: list[asyncio.StreamWriter] = []

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self._connection, str(self.path))
        try:
            yield
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.open_gate.wait()
        far_reader, far_writer = await asyncio.open_unix_connection(str(self.target))
        self._writers += [writer, far_writer]
        await asyncio.gather(self._pipe(reader, far_writer, True), self._pipe(far_reader, writer, False))

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, out: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if self.silent and not out:
                    continue
                cutting = out and self.cut_after_request and not data.startswith(b"GET")
                if cutting:
                    self.cut_after_request, self.silent = False, True
                writer.write(data)
                if cutting:
                    await asyncio.sleep(0.05)  # the worker has it, and its answer is lost
                    self.cut()
                    self.silent = False
                    return
        writer.close()


async def test_an_order_that_waited_for_the_connection_says_so(tmp_path: Path) -> None:
    """How far into the talk it is sent counts when it leaves, not when it was given."""
    async with running(tmp_path) as rig:
        wire, listener = Wire(rig.worker.socket, tmp_path / "wire.sock"), Listener()
        wire.open_gate.clear()
        async with wire.open():
            engine = WorkersClient({"media-1": wire.path})
            await engine.start(listener)
            recording = RecordingOrder("rec", 1, "customer", "agent", at_ms=335)
            began = time.monotonic()
            order = ApplyPlan(MediaPlan((), recording))
            giving = asyncio.create_task(engine.order("media-1", rig.caller().stamp(), order))
            await eventually(lambda: time.monotonic() - began > 0.4)  # what is measured
            wire.open_gate.set()
            await giving
            took_ms = (time.monotonic() - began) * 1000
            capture = part_files(rig.worker.spool, "default", "s1", "rec", 1).customer
            (segment,) = read_capture(capture.read_bytes())
            assert segment.at_ns is not None
            assert 335 + 400 <= segment.at_ns / 1e6 <= 335 + took_ms + 1
            await engine.stop()


async def test_an_order_survives_a_cut_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        wire, listener = Wire(rig.worker.socket, tmp_path / "wire.sock"), Listener()
        async with wire.open():
            engine = WorkersClient({"media-1": wire.path})
            await engine.start(listener)
            await listener.until(lambda: bool(listener.ups))
            caller = rig.caller()
            order = OpenLeg("customer", 1, await rig.peer().offer())
            wire.cut_after_request = True
            stamp = caller.stamp()
            result = await engine.order("media-1", stamp, order)
            assert not wire.cut_after_request
            assert result == await rig.engine.order("media-1", stamp, order), "carried out once"
            assert len(listener.ups) == 2
            assert listener.downs == [], "a broken connection is no dead worker"
            await engine.stop()


async def test_a_worker_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_link, "ORDER_TIMEOUT_S", 0.3)
    async with running(tmp_path) as rig:
        wire, listener = Wire(rig.worker.socket, tmp_path / "wire.sock"), Listener()
        async with wire.open():
            engine = WorkersClient({"media-1": wire.path})
            await engine.start(listener)
            await listener.until(lambda: bool(listener.ups))
            wire.silent = True
            with pytest.raises(MediaError) as caught:
                await engine.list_legs("media-1")
            assert caught.value.code == "worker_timeout"
            await engine.stop()


class Picky(Listener):
    """Can't take the reports of one session."""

    tries = 0

    async def on_report(self, worker_id: str, session_id: str, epoch: int, report: MediaReport) -> None:
        if session_id == "poison":
            self.tries += 1
            raise RuntimeError("no such session")
        await super().on_report(worker_id, session_id, epoch, report)


async def test_a_poisoned_report_holds_up_nobody_and_is_skipped_at_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as rig:
        await rig.engine.stop()
        listener, engine = Picky(), WorkersClient({"media-1": rig.worker.socket})
        rig.engine = engine
        await engine.start(listener)
        await listener.until(lambda: bool(listener.ups))
        await rig.caller("poison").open("a", rig.peer(440))
        await eventually(lambda: listener.tries > 0)
        await rig.caller("good").open("a", rig.peer(440))
        await listener.until_report(LegUp("a", 1), session="good")
        monkeypatch.setattr(client_link, "BACKOFF_S", (0.001, 0.002))
        await eventually(lambda: listener.tries == client_link.POISON_TRIES)
        last, third = Listener(), WorkersClient({"media-1": rig.worker.socket})
        await rig.peers[-1].close()
        await listener.until_report(LegDown("a", 1, "dtls_closed"), session="good")
        await engine.list_legs("media-1")
        await third.start(last)
        await last.until(lambda: bool(last.ups))
        await third.list_legs("media-1")
        assert last.reports == [], "all were acknowledged"
        await third.stop()


async def test_a_worker_that_comes_up_later(tmp_path: Path) -> None:
    worker, listener = WorkerProcess(tmp_path), Listener()
    engine = WorkersClient({"media-1": worker.socket})
    await engine.start(listener)
    with pytest.raises(MediaError) as caught:
        await engine.list_legs("media-1")
    assert caught.value.code == "worker_gone"
    await worker.start()
    await listener.until(lambda: bool(listener.ups))
    assert listener.downs == []
    await engine.stop()
    await worker.stop()


async def test_a_worker_that_hangs_is_lost_and_comes_back(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        caller = rig.caller()
        await caller.open("customer", rig.peer(440))
        await rig.listener.until_report(LegUp("customer", 1))
        (up,) = rig.listener.ups
        assert rig.worker.process is not None
        rig.worker.process.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            await rig.listener.until(lambda: bool(rig.listener.downs), client_link.HUNG_S + 5)
            noticed = time.monotonic() - began
            print(f"noticed after {noticed:.1f} s")
            assert noticed > client_link.HUNG_S - 2
            assert rig.engine.connected() == []
            began = time.monotonic()
            with pytest.raises(MediaError) as caught:
                await rig.engine.list_legs("media-1")
            assert caught.value.code == "worker_gone"
            assert time.monotonic() - began < 1, "nobody waits for it"
            await asyncio.sleep(3)
        finally:
            rig.worker.process.send_signal(signal.SIGCONT)
        await rig.listener.until(lambda: len(rig.listener.ups) > 1)
        assert rig.listener.ups[1].incarnation == up.incarnation
        assert rig.listener.downs == [("media-1", up.incarnation)], "once"
        assert [info.worker_id for info in rig.engine.connected()] == ["media-1"]
        again = rig.caller(epoch=2)
        await again.open("customer", rig.peer(880), generation=2)
        await rig.listener.until(lambda: ("s1", 2, LegUp("customer", 2)) in rig.listener.reports)
        with pytest.raises(MediaError) as caught:
            await caller.order(OpenLeg("customer", 3, await rig.peer().offer()))
        assert caught.value.code == "stale_epoch"
        assert [(leg.epoch, leg.generation) for leg in await rig.engine.list_legs("media-1")] == [(2, 2)]


async def test_an_open_connection_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_link, "HUNG_S", 3.0)
    async with running(tmp_path) as rig:
        wire, listener = Wire(rig.worker.socket, tmp_path / "wire.sock"), Listener()
        async with wire.open():
            engine = WorkersClient({"media-1": wire.path})
            await engine.start(listener)
            assert engine.connected() == [], "nothing is known before the hello"
            await listener.until(lambda: bool(listener.ups))
            wire.silent = True
            await listener.until(lambda: bool(listener.downs))
            assert engine.connected() == []
            await asyncio.sleep(client_link.HUNG_S + 1)
            wire.silent = False
            await listener.until(lambda: len(listener.ups) > 1)
            assert len(listener.downs) == 1
            await engine.stop()


async def test_a_quiet_worker_does_not_hang_for_any_of_its_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_link, "HUNG_S", 2.0)
    async with running(tmp_path) as rig:
        newer, listener = WorkersClient({"media-1": rig.worker.socket}), Listener()
        await newer.start(listener)
        await listener.until(lambda: bool(listener.ups))
        await asyncio.sleep(4)
        assert rig.listener.downs == listener.downs == [], "telemetry without a leg, also to the older connection"
        assert len(rig.listener.ups) == len(listener.ups) == 1
        await newer.stop()


async def test_a_link_that_fails_is_begun_anew_and_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = ["media-1"]
    welcome = client_link.WorkerLink._welcome

    def fail_once(link: client_link.WorkerLink, *rest: Any) -> None:
        if link.worker_id in failing:
            failing.remove(link.worker_id)
            raise RuntimeError("a fault of ours")
        welcome(link, *rest)

    other = WorkerProcess(tmp_path, "media-2")
    await other.start()
    async with running(tmp_path) as rig:
        monkeypatch.setattr(client_link.WorkerLink, "_welcome", fail_once)
        engine = WorkersClient({"media-1": rig.worker.socket, "media-2": other.socket})
        listener = Listener()
        await engine.start(listener)
        await listener.until(lambda: len(listener.ups) == 2)
        assert not failing
        assert [info.worker_id for info in engine.connected()] == ["media-1", "media-2"]
        assert listener.downs == []
        await engine.stop()
        assert engine.connected() == []
        assert not [task for task in asyncio.all_tasks() if "media-2" in task.get_name()], "stop waits for its tasks"
    await other.stop()


async def test_a_report_outlives_a_failed_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = ["once"]
    taken = client_link._Inbox.taken

    def fail_once(inbox: client_link._Inbox, seq: int) -> None:
        if faults:
            faults.pop()
            raise RuntimeError("a fault of ours")
        taken(inbox, seq)

    monkeypatch.setattr(client_link._Inbox, "taken", fail_once)
    async with running(tmp_path) as rig:
        await rig.caller().open("a", rig.peer(440))
        await rig.listener.until(lambda: rig.listener.all().count(LegUp("a", 1)) == 2)
        await rig.peers[-1].close()
        await rig.listener.until_report(LegDown("a", 1, "dtls_closed"))
        assert rig.listener.downs == []


PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "server.media.relay", *sys.argv[1:]])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
async def test_a_worker_dies_with_its_parent(tmp_path: Path) -> None:
    path, listener = tmp_path / "w.sock", Listener()
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT,
        "--id", "w", "--socket", str(path), "--spool", str(tmp_path), "--bind", "127.0.0.1",
    )  # fmt: skip
    engine = WorkersClient({"w": path})
    await engine.start(listener)
    await listener.until(lambda: bool(listener.ups))
    parent.kill()
    await parent.wait()
    await listener.until(lambda: bool(listener.downs))
    await engine.stop()
