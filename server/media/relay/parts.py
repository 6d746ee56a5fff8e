"""Recording parts on this worker's disk, for control nodes of other machines: found by their ids, never by a path.

GET    /v1/parts                                                     the recordings of which parts lie here
GET    /v1/parts/{tenant}/{session_id}/{recording_id}/{part}/{side}  a capture file
DELETE /v1/parts/{tenant}/{session_id}/{recording_id}                its archive is safe; fine to repeat

Files are sent a few at a time. A reader that takes nothing for STALLED_S is cut off: others wait for its turn.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from pathlib import Path

import structlog
from aiohttp import web

from server.media import worker_protocol as wire
from server.media.capture import SAFE_NAME, part_files, part_folders

log = structlog.get_logger(__name__)

SENT_AT_ONCE = 2  # calls come first
STALLED_S = 5.0  # less than a node waits for its first byte (remote_parts.READ_TIMEOUT_S)
CHUNK_BYTES = 64 * 1024
LISTED = 5_000  # what is more is listed once these are gone


class PartsShelf:
    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._sending = asyncio.Semaphore(SENT_AT_ONCE)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        one = wire.PARTS_PATH + "/{tenant}/{session_id}/{recording_id}"
        router.add_get(wire.PARTS_PATH, self._list)
        router.add_get(one + "/{part}/{side}", self._send)
        router.add_delete(one, self._discard)

    async def _list(self, request: web.Request) -> web.Response:
        folders = await asyncio.to_thread(lambda: list(itertools.islice(part_folders(self._spool), LISTED)))
        parts = [dict(zip(("tenant", "session_id", "recording_id"), ids, strict=True)) for ids in folders]
        return web.Response(text=wire.encode("parts", parts=parts), content_type="application/json")

    async def _send(self, request: web.Request) -> web.StreamResponse:
        part, side = request.match_info["part"], request.match_info["side"]
        if not part.isascii() or not part.isdecimal() or side not in ("customer", "agent"):
            return _error(400, "bad_id")
        ids = _ids(request)
        if ids is None:
            return _error(400, "bad_id")
        files = part_files(self._spool, *ids, int(part))
        path = files.customer if side == "customer" else files.agent
        if not await asyncio.to_thread(path.is_file):
            return _error(404, "no_part")
        async with self._sending:
            return await _send_file(request, path)

    async def _discard(self, request: web.Request) -> web.Response:
        ids = _ids(request)
        if ids is None:
            return _error(400, "bad_id")
        folder = part_files(self._spool, *ids, 1).customer.parent
        await asyncio.to_thread(shutil.rmtree, folder, True)
        return web.Response(status=204)


async def _send_file(request: web.Request, path: Path) -> web.StreamResponse:
    """Not aiohttp's FileResponse: that waits for its reader for ever."""
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    file = await asyncio.to_thread(open, path, "rb")
    try:
        left = response.content_length = os.fstat(file.fileno()).st_size
        await response.prepare(request)
        while chunk := await asyncio.to_thread(file.read, min(CHUNK_BYTES, left)):
            left -= len(chunk)
            async with asyncio.timeout(STALLED_S):
                await response.write(chunk)
        async with asyncio.timeout(STALLED_S):
            await response.write_eof()
    except TimeoutError:
        log.warning("part_not_read", path=request.path, peer=request.remote, left_bytes=left, waited_s=STALLED_S)
        if request.transport is not None:
            request.transport.abort()
    finally:
        await asyncio.to_thread(file.close)
    return response


def _ids(request: web.Request) -> tuple[str, str, str] | None:
    """Tenant, session and recording; None for what could leave the spool."""
    tenant, session_id, recording_id = (request.match_info[name] for name in ("tenant", "session_id", "recording_id"))
    good = all(SAFE_NAME.match(name) for name in (tenant, session_id, recording_id))
    return (tenant, session_id, recording_id) if good else None


def _error(status: int, code: str) -> web.Response:
    return web.json_response({"error": {"code": code}}, status=status)
