"""A media worker as on another machine: TLS, token and name; and several control nodes that share its reports."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from server.domain.media import MediaReport, PartClosed, RecordingOrder
from server.media import client_link
from server.media.client import WorkersClient
from server.media.relay.reports import STALL_S
from server.media.transport import WorkerAddress, probe
from tests.helpers.certificates import make_certificate
from tests.helpers.remote_worker import HOST, TOKEN, RemoteWorker, remote_running
from tests.helpers.rtc_peer import Listener, eventually, running
from tests.helpers.system import ROOT, START_S, clean_environment, free_port


async def fault(worker_id: str, address: WorkerAddress) -> str:
    """What a control node says of a worker that it can't use: the same in its log, in `faults` and in the doctor's."""
    engine, listener = WorkersClient({worker_id: address}), Listener()
    with capture_logs() as logs:
        await engine.start(listener)
        await eventually(lambda: engine.faults()[worker_id] != "no connection yet")
        told = engine.faults()[worker_id]
        await asyncio.sleep(0.5)  # several more attempts
        await engine.stop()
    assert listener.ups == []
    assert [entry["fault"] for entry in logs if entry["event"] == "worker_unusable"] == [told], "said once"
    assert await probe(worker_id, address) == told
    assert TOKEN not in told
    return told


async def test_a_call_through_a_worker_on_another_machine(tmp_path: Path) -> None:
    async with remote_running(tmp_path) as rig:
        assert rig.engine.faults() == {}
        _, customer, agent = await rig.call()
        await asyncio.gather(customer.wait_tone(880), agent.wait_tone(440))
        assert [leg.leg_id for leg in await rig.engine.list_legs("media-a1")] == ["customer", "agent"]
        assert rig.worker.process is not None
        seen = Path(f"/proc/{rig.worker.process.pid}/cmdline").read_bytes()
        assert TOKEN.encode() not in seen


async def test_a_killed_one_is_gone_at_once(tmp_path: Path) -> None:
    async with remote_running(tmp_path) as rig:
        began = time.monotonic()
        rig.worker.kill()
        await rig.listener.until(lambda: bool(rig.listener.downs))
        print(f"noticed after {(time.monotonic() - began) * 1000:.0f} ms")
        assert time.monotonic() - began < 1
        assert rig.engine.gone("media-a1")
        assert "no worker runs there" in rig.engine.faults()["media-a1"]


async def test_a_wrong_token(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "tls", HOST)
    async with remote_running(tmp_path) as rig:
        assert isinstance(rig.worker, RemoteWorker)
        url = f"wss://{HOST}:{rig.worker.port}"
        assert rig.worker.tls is not None
        told = await fault("media-a1", WorkerAddress.remote(url, "x" * 40, rig.worker.tls.ca))
        assert "bad_token" in told
        assert "PATCHBAY_MEDIA_TOKEN" in told
        lines = [line for line in rig.worker.log.read_text().splitlines() if "control_refused" in line]
        assert len(lines) == 1, "once a minute"
        assert HOST in lines[0]
        assert "Certificate" not in told
        assert certificate.ca.exists()


async def test_without_a_token_nothing_is_said(tmp_path: Path) -> None:
    worker = RemoteWorker(tmp_path, "media-a1")
    await worker.start()
    try:
        url = f"http://{HOST}:{worker.port}"
        await until_listening(worker)
        async with aiohttp.ClientSession() as http:
            for path in ("/", "/v1/info", "/v1/control", "/v1/parts", "/nothing"):
                for headers in ({}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}):
                    async with http.get(url + path, headers=headers) as response:
                        assert response.status == 401
                        assert await response.json() == {"error": {"code": "bad_token"}}
        assert await probe("media-a1", worker.address) is None, "plain on a loopback address, with the token"
    finally:
        await worker.stop()


async def until_listening(worker: RemoteWorker) -> None:
    await eventually(lambda: "media_worker_ready" in worker.log.read_text(), START_S)


async def test_certificates_are_checked(tmp_path: Path) -> None:
    async with remote_running(tmp_path) as rig:
        assert isinstance(rig.worker, RemoteWorker)
        assert rig.worker.tls is not None
        url = f"wss://{HOST}:{rig.worker.port}"
        other = make_certificate(tmp_path / "other", HOST)
        for ca in (other.ca, None):
            told = await fault("media-a1", WorkerAddress.remote(url, TOKEN, ca))
            assert "not trusted" in told
            assert "PATCHBAY_MEDIA_CA" in told
        by_name = f"wss://localhost:{rig.worker.port}"
        told = await fault("media-a1", WorkerAddress.remote(by_name, TOKEN, rig.worker.tls.ca))
        assert "not trusted" in told
        assert "localhost" in told


async def test_another_worker_than_the_settings_name(tmp_path: Path) -> None:
    worker = RemoteWorker(tmp_path, "media-a1", name="media-b7", tls=make_certificate(tmp_path / "tls", HOST))
    await worker.start()
    try:
        await until_listening(worker)
        told = await fault("media-a1", worker.address)
        assert "worker_id_mismatch" in told
        assert "media-b7" in told
        assert "PATCHBAY_MEDIA_NAME=media-a1" in told
    finally:
        await worker.stop()


async def test_tls_on_one_side_only(tmp_path: Path) -> None:
    plain = RemoteWorker(tmp_path, "media-p1")
    secure = RemoteWorker(tmp_path, "media-s1", tls=make_certificate(tmp_path / "tls", HOST))
    for worker in (plain, secure):
        await worker.start()
    try:
        for worker in (plain, secure):
            await until_listening(worker)
        told = await fault("media-p1", WorkerAddress.remote(f"wss://{HOST}:{plain.port}", TOKEN))
        assert "PATCHBAY_TLS_CERT" in told
        told = await fault("media-s1", WorkerAddress.remote(f"ws://{HOST}:{secure.port}", TOKEN))
        assert "wss://" in told
    finally:
        for worker in (plain, secure):
            await worker.stop()


async def test_nobody_there_and_no_such_name() -> None:
    told = await fault("media-a1", WorkerAddress.remote(f"wss://{HOST}:{free_port()}", TOKEN))
    assert "no worker runs there" in told
    told = await fault("media-a1", WorkerAddress.remote("wss://nobody.invalid:7443", TOKEN))
    assert "PATCHBAY_MEDIA_URLS" in told


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"media_listen": "192.0.2.1:7443"}, "no loopback address"),
        ({"media_listen": "192.0.2.1:7443", "media_token": ""}, "media_token"),
        ({}, "PATCHBAY_MEDIA_LISTEN"),
        ({"media_listen": f"{HOST}:1"}, ""),
    ],
)
async def test_settings_that_make_no_worker(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    worker = RemoteWorker(tmp_path, "media-a1", environment={})
    values = {"PATCHBAY_MEDIA_LISTEN": "", **{f"PATCHBAY_{name.upper()}": value for name, value in settings.items()}}
    blocker = None
    if settings.get("media_listen") == f"{HOST}:1":  # a port that is taken
        blocker = await asyncio.start_server(lambda reader, writer: writer.close(), HOST, 0)
        values["PATCHBAY_MEDIA_LISTEN"] = f"{HOST}:{blocker.sockets[0].getsockname()[1]}"
        said = "can't be listened on"
    worker.environment = {name.removeprefix("PATCHBAY_").lower(): value for name, value in values.items() if value}
    worker.without = tuple(name.removeprefix("PATCHBAY_").lower() for name, value in values.items() if not value)
    await worker.start()
    assert worker.process is not None
    assert await asyncio.wait_for(worker.process.wait(), 20) == 78
    assert said in worker.log.read_text()
    assert "Traceback" not in worker.log.read_text()
    if blocker is not None:
        blocker.close()


async def test_the_doctor_asks_every_worker(tmp_path: Path) -> None:
    async with remote_running(tmp_path) as rig:
        assert isinstance(rig.worker, RemoteWorker)
        assert rig.worker.tls is not None
        here = f"wss://{HOST}:{rig.worker.port}"
        settings = {
            "data_dir": str(tmp_path / "node"), "media_token": TOKEN, "media_ca": str(rig.worker.tls.ca),
            "media_urls": f"media-a1={here},media-b1={here},media-c1=wss://{HOST}:{free_port()}",
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "server", "doctor", cwd=ROOT, env=clean_environment(settings),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said = (await asyncio.wait_for(process.communicate(), 30))[0].decode()
        assert process.returncode == 1
        assert "ok    media worker media-a1" in said
        assert "MISS  media worker media-b1: worker_id_mismatch" in said
        assert "media-c1" in said
        assert "no worker runs there" in said
        assert TOKEN not in said


# --- several control nodes ---------------------------------------------------------------------------


class Hanging(Listener):
    """A control node whose database does not answer: it takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.tried = 0

    async def on_report(self, worker_id: str, session_id: str, epoch: int, report: MediaReport) -> None:
        self.tried += 1
        await self.go.wait()
        await super().on_report(worker_id, session_id, epoch, report)


async def test_a_node_that_hangs_holds_no_reports(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        hanging, third = Hanging(), Listener()
        engines = [WorkersClient({"media-1": rig.worker.socket}) for _ in range(2)]
        for engine, listener in zip(engines, (hanging, third), strict=True):
            await engine.start(listener)
            await listener.until(lambda listener=listener: bool(listener.ups))  # type: ignore[misc]
        names = [f"s{number}" for number in range(40)]
        began = time.monotonic()
        for name in names:
            caller = rig.caller(name)
            for part in (1, 2):
                await caller.bridge(RecordingOrder("rec", part, "customer", "agent"))
            await caller.bridge(None)

        def told(name: str) -> list[MediaReport]:
            return [report for listener in (rig.listener, third) for report in listener.all(name)]

        await eventually(lambda: all(len(told(name)) == 2 for name in names))
        took_s = time.monotonic() - began
        print(f"all taken after {took_s:.1f} s; {hanging.tried} sessions were given to the one that hangs")
        assert hanging.tried > 0
        assert rig.listener.reports, "the three share the work"
        assert third.reports
        assert STALL_S < took_s < STALL_S + 4
        for name in names:
            assert told(name) == [PartClosed("rec", 1), PartClosed("rec", 2)], "once, and in order"
        hanging.go.set()  # late, each of them is one that another node took: the domain drops it
        await eventually(lambda: len(hanging.reports) == hanging.tried > 0)
        for engine in engines:
            await engine.stop()
        await rig.engine.stop()
        last = Listener()
        engine = WorkersClient({"media-1": rig.worker.socket})
        await engine.start(last)
        await last.until(lambda: bool(last.ups))
        await engine.list_legs("media-1")
        assert last.reports == [], "all were acknowledged"
        await engine.stop()


async def test_a_silent_worker_is_doubted_and_a_refusing_one_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_link, "HUNG_S", 2.0)
    async with remote_running(tmp_path) as rig:
        assert rig.worker.process is not None
        rig.worker.process.send_signal(signal.SIGSTOP)
        try:
            await rig.listener.until(lambda: bool(rig.listener.downs))
            assert not rig.engine.gone("media-a1"), "others may reach it"
            assert "nothing was heard" in rig.engine.faults()["media-a1"]
        finally:
            rig.worker.process.send_signal(signal.SIGCONT)
        await rig.listener.until(lambda: len(rig.listener.ups) == 2)
        assert not rig.engine.faults()
