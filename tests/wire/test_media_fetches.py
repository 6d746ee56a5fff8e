"""Many parts that are fetched from one worker: a few at a time, since that worker carries calls."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web

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
