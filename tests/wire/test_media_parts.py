"""Recording parts that lie with a worker on another machine: fetched by their ids, whole, and forgotten when asked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from server.domain.media import PartClosed, RecordingOrder
from server.domain.recording import Part
from server.media.archive_jobs import ArchiveJobs
from server.media.archiver import LocalArchiver
from server.media.capture import part_files
from server.media.remote_parts import RemoteParts, WorkerAway
from server.services.ports import ArchiveFault, Collected, LeftParts, RecordingRef
from tests.helpers.remote_worker import RemoteWorker, remote_running
from tests.helpers.rtc_peer import Rig
from tests.helpers.sealing import RING

W = "media-a1"
REF = RecordingRef("default", "s1", "rec")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with remote_running(tmp_path) as one:
        yield one


def remote(rig: Rig) -> RemoteParts:
    assert isinstance(rig.worker, RemoteWorker)
    return RemoteParts({W: rig.worker.address})


def archiver(rig: Rig, folder: Path) -> LocalArchiver:
    """A node's, with a spool of its own."""
    return LocalArchiver(folder / "spool", folder / "recordings", ArchiveJobs(), RING, remote(rig))


def put(rig: Rig, recording_id: str, part: int, data: bytes) -> None:
    files = part_files(rig.worker.spool, "default", "s1", recording_id, part)
    files.customer.parent.mkdir(parents=True, exist_ok=True)
    for path in (files.customer, files.agent):
        path.write_bytes(data)


async def test_a_call_is_archived_on_a_machine_that_did_not_record_it(rig: Rig, tmp_path: Path) -> None:
    caller, _, _ = await rig.call()
    await caller.bridge(RecordingOrder("rec", 1, "customer", "agent"))
    await asyncio.sleep(1.5)  # the length of the call
    await caller.bridge(None)
    await rig.listener.until_report(PartClosed("rec", 1))
    made = []
    for node in ("node-1", "node-2"):  # both at once, into one folder
        made.append(LocalArchiver(tmp_path / node / "spool", tmp_path / "recordings", ArchiveJobs(), RING, remote(rig)))
    parts = [Part(1, W, closed=True, epoch=1)]
    for one in made:
        assert await one.collect(REF, parts) == Collected()
    results = await asyncio.gather(*(one.archive(REF, [1]) for one in made))
    assert results[0] == results[1], "the same file, whoever made it"
    assert results[0].archive["complete"] is True
    assert 1300 < results[0].duration_ms < 2500
    assert not list((tmp_path / "recordings").glob("**/.*")), "nothing temporary stays"
    assert await made[0].left_parts() == [LeftParts(REF, None), LeftParts(REF, W)]
    await made[0].discard_parts(REF, [W])
    assert await made[0].left_parts() == []
    assert not part_files(rig.worker.spool, "default", "s1", "rec", 1).customer.exists()
    assert await made[1].left_parts() == [LeftParts(REF, None)], "each node forgets its own copy"
    await made[1].discard_parts(REF, [W])
    assert await made[1].left_parts() == []


async def test_what_is_here_is_not_fetched_again_and_what_is_nowhere_is_missing(rig: Rig, tmp_path: Path) -> None:
    one = archiver(rig, tmp_path / "node")
    put(rig, "rec", 1, os.urandom(3_000_000))
    parts = [Part(1, W), Part(2, W), Part(3, "media-gone")]
    assert await one.collect(REF, parts) == Collected(missing=(2,), away=(3,))
    here = part_files(tmp_path / "node" / "spool", "default", "s1", "rec", 1)
    there = part_files(rig.worker.spool, "default", "s1", "rec", 1)
    assert here.customer.read_bytes() == there.customer.read_bytes()
    assert sorted(path.name for path in here.customer.parent.iterdir()) == ["1.agent.cap", "1.customer.cap"]
    await rig.worker.stop()
    assert await one.collect(REF, parts) == Collected(away=(2, 3))


async def test_a_worker_that_dies_while_it_sends_leaves_no_half_file(rig: Rig, tmp_path: Path) -> None:
    put(rig, "rec", 1, os.urandom(200_000_000))
    target = tmp_path / "node" / "1.customer.cap"
    fetching = asyncio.create_task(remote(rig).fetch(W, REF, 1, "customer", target))
    async with asyncio.timeout(10):
        while not any(path.stat().st_size for path in target.parent.glob(".*")):  # noqa: ASYNC110  # a file grows
            await asyncio.sleep(0.001)
    rig.worker.kill()
    with pytest.raises(WorkerAway):
        await fetching
    assert list(target.parent.iterdir()) == []


async def test_a_full_disk_passes(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(rig, "rec", 1, b"x" * 1000)

    async def full(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RemoteParts, "fetch", full)
    with pytest.raises(ArchiveFault) as caught:
        await archiver(rig, tmp_path / "node").collect(REF, [Part(1, W)])
    assert (caught.value.code, caught.value.passing) == ("disk_full", True)


async def test_ids_never_become_paths(rig: Rig, tmp_path: Path) -> None:
    assert isinstance(rig.worker, RemoteWorker)
    secret = rig.worker.spool.parent / "secret"
    secret.mkdir(parents=True)
    (secret / "1.customer.cap").write_text("not for you")
    put(rig, "rec", 1, b"y")
    bad = ["..", "%2e%2e", "..%2f..%2fsecret", ".hidden", "a%00b", "x" * 129, "%2fetc"]
    async with rig.worker.address.open() as http:
        for name in bad:
            for path in (f"/v1/parts/{name}/s1/rec/1/customer", f"/v1/parts/default/{name}/rec/1/customer",
                         f"/v1/parts/default/s1/{name}/1/customer", f"/v1/parts/default/s1/rec/{name}/customer",
                         f"/v1/parts/default/s1/rec/1/{name}"):  # fmt: skip
                async with http.get(URL(rig.worker.address.url + path, encoded=True)) as response:
                    assert response.status in (400, 404), path
                    assert "not for you" not in await response.text()
            folder = URL(f"{rig.worker.address.url}/v1/parts/default/s1/{name}", encoded=True)
            async with http.delete(folder) as response:
                assert response.status in (400, 404)
        assert (secret / "1.customer.cap").exists()
        url = f"{rig.worker.address.url}/v1/parts/default/s1/rec/1/customer"
        async with http.get(url) as response:
            assert (response.status, await response.read()) == (200, b"y")
        for part in ("-1", "²", "1.5"):
            async with http.get(f"{rig.worker.address.url}/v1/parts/default/s1/rec/{part}/customer") as response:
                assert response.status == 400
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=rig.worker.address.tls or True)) as stranger:
        for method, path in (("GET", "/v1/parts"), ("DELETE", "/v1/parts/default/s1/rec"), ("GET", url)):
            address = path if path.startswith("http") else rig.worker.address.url + path
            async with stranger.request(method, address) as response:
                assert response.status == 401
    assert part_files(rig.worker.spool, "default", "s1", "rec", 1).customer.exists()
