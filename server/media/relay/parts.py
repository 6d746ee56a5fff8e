"""Recording parts on this worker's disk, for control nodes of other machines: found by their ids, never by a path.

GET    /v1/parts                                                     the recordings of which parts lie here
GET    /v1/parts/{tenant}/{session_id}/{recording_id}/{part}/{side}  a capture file; ranges are served
DELETE /v1/parts/{tenant}/{session_id}/{recording_id}                its archive is safe; fine to repeat
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from pathlib import Path

from aiohttp import web

from server.media import worker_protocol as wire
from server.media.capture import SAFE_NAME, part_files, part_folders

SENT_AT_ONCE = 2  # calls come first
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
            response = web.FileResponse(path)
            await response.prepare(request)  # sends it all
            return response

    async def _discard(self, request: web.Request) -> web.Response:
        ids = _ids(request)
        if ids is None:
            return _error(400, "bad_id")
        folder = part_files(self._spool, *ids, 1).customer.parent
        await asyncio.to_thread(shutil.rmtree, folder, True)
        return web.Response(status=204)


def _ids(request: web.Request) -> tuple[str, str, str] | None:
    """Tenant, session and recording; None for what could leave the spool."""
    tenant, session_id, recording_id = (request.match_info[name] for name in ("tenant", "session_id", "recording_id"))
    good = all(SAFE_NAME.match(name) for name in (tenant, session_id, recording_id))
    return (tenant, session_id, recording_id) if good else None


def _error(status: int, code: str) -> web.Response:
    return web.json_response({"error": {"code": code}}, status=status)
