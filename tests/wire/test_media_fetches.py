"""Many parts that are fetched from one worker: a few at a time, since that worker carries calls, and none for ever."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import pytest
from aiohttp import web

from server.media.capture import part_files
from server.media.relay import parts
from server.media.remote_parts import FETCHED_AT_ONCE, RemoteParts
from server.media.transport import WorkerAddress
from server.services.ports import RecordingRef


async def test_what_waited_for_a_worker_comes_a_few_at_a_time(tmp_path: Path) -> None:
    under_way = most = 0

    async def part(request: web.Request) -> web.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)  # the disk at work
        under_way -= 1
        return web.Response(body=b"captured")

    app = web.Application()
    app.router.add_get("/{path:.*}", part)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        remote = RemoteParts({"media-a1": WorkerAddress.remote(f"ws://{host}:{port}", "t" * 32)})
        wanted = [RecordingRef("default", "ses", f"rec{number}") for number in range(40)]
        fetches = (remote.fetch("media-a1", ref, 1, "agent", tmp_path / ref.recording_id) for ref in wanted)
        assert all(await asyncio.gather(*fetches))
    finally:
        await runner.cleanup()
    assert most == FETCHED_AT_ONCE
    assert all((tmp_path / ref.recording_id).read_bytes() == b"captured" for ref in wanted)


async def test_a_reader_that_reads_nothing_loses_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "STALLED_S", 0.5)
    ref = RecordingRef("default", "ses", "rec")
    there = part_files(tmp_path / "spool", "default", "ses", "rec", 1).agent
    there.parent.mkdir(parents=True)
    there.write_bytes(os.urandom(16_000_000))
    app = web.Application()
    parts.PartsShelf(tmp_path / "spool").add_routes(app.router)
    runner = web.AppRunner(app)
    await runner.setup()
    stuck = [socket.socket() for _ in range(3 * parts.SENT_AT_ONCE)]
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        for one in stuck:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.setblocking(False)
            await asyncio.get_running_loop().sock_connect(one, (host, port))
            one.send(b"GET /v1/parts/default/ses/rec/1/agent HTTP/1.1\r\nHost: x\r\n\r\n")
        remote = RemoteParts({"media-a1": WorkerAddress.remote(f"ws://{host}:{port}", "t" * 32)})
        async with asyncio.timeout(9):
            assert await remote.fetch("media-a1", ref, 1, "agent", tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == there.read_bytes()
        for one in stuck:
            assert await all_that_came(one) < len(there.read_bytes()) / 2
    finally:
        for one in stuck:
            one.close()
        await runner.cleanup()


async def all_that_came(one: socket.socket) -> int:
    """Bytes up to the end of the connection."""
    size = 0
    with contextlib.suppress(ConnectionResetError):
        while data := await asyncio.get_running_loop().sock_recv(one, 1 << 20):
            size += len(data)
    return size
