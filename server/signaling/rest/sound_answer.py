"""A recording's sound as an HTTP answer: ranges, conditions and HEAD of RFC 9110, in bounded pieces.

aiohttp's FileResponse sends files as they lie on the disk, and a recording lies there sealed."""

from __future__ import annotations

import asyncio
import re

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from server.services.admin_ports import FileReady
from server.services.ports import Sound, SoundDamaged

log = structlog.get_logger()
PIECE_BYTES = 64 * 1024  # of memory for each listener; one chunk of a sealed file
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


class Unsatisfiable(Exception):
    """The range begins behind the end: 416."""


def read_range(text: str | None, size_bytes: int) -> tuple[int, int] | None:
    """(start, length) of a Range header; None where the whole is to be sent: without one, of another unit, malformed,
    or several at once (RFC 9110 section 14.2 lets a server ignore them). Raises Unsatisfiable."""
    match = _RANGE.fullmatch((text or "").replace(" ", ""))
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if not first:  # the last so many bytes
        length = min(int(last), size_bytes)
        if not length:
            raise Unsatisfiable
        return size_bytes - length, length
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size_bytes:
        raise Unsatisfiable
    end = min(int(last), size_bytes - 1) if last else size_bytes - 1
    return start, end - start + 1


def _named(text: str | None, etag: str) -> bool:
    """Whether a list of entity tags, or *, has this one; weak ones count (RFC 9110 section 13.1.2)."""
    tags = [tag.strip().removeprefix("W/") for tag in (text or "").split(",")]
    return etag in tags or tags == ["*"]


async def answer_sound(request: web.Request, found: FileReady) -> web.Response:
    """Takes the sound and closes it, at the latest when it is sent."""
    size, etag = found.sound.size_bytes, f'"{found.etag}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Type": found.content_type,
        "Content-Disposition": f'inline; filename="{found.filename}"',
        "Cache-Control": "private, max-age=3600",
    }
    if _named(request.headers.get("If-None-Match"), etag):
        await asyncio.to_thread(found.sound.close)
        return web.Response(status=304, headers=headers)
    status, start, length = 200, 0, size
    if request.headers.get("If-Range", etag) == etag:  # another one's rest would be of no use
        try:
            wanted = read_range(request.headers.get("Range"), size)
        except Unsatisfiable:
            await asyncio.to_thread(found.sound.close)
            return web.Response(status=416, headers=headers | {"Content-Range": f"bytes */{size}"})
        if wanted is not None:
            status, (start, length) = 206, wanted
            headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
    if request.method == "HEAD":
        await asyncio.to_thread(found.sound.close)
        return web.Response(status=status, headers=headers | {"Content-Length": str(length)})
    return web.Response(status=status, headers=headers, body=_Body(request, found.sound, start, length))


class _Body(Payload):
    """A part of a sound. It is read while it is sent: a slow listener costs one piece of memory, and no thread."""

    def __init__(self, request: web.Request, sound: Sound, start: int, length: int) -> None:
        super().__init__(None)
        self._request = request
        self._sound = sound
        self._start = start
        self._size = length

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("sound is no text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        at, end = self._start, self._start + (self._size or 0)
        try:
            while at < end:
                piece = await asyncio.to_thread(self._sound.read, at, min(PIECE_BYTES, end - at))
                if not piece:
                    raise SoundDamaged("it ends too early")
                await writer.write(piece)
                at += len(piece)
        except (SoundDamaged, OSError) as error:
            if not isinstance(error, ConnectionError):
                log.error("recording_not_sent", path=self._request.path, why=str(error))
                if self._request.transport is not None:  # the length is promised: only a broken connection says so
                    self._request.transport.abort()
            raise ConnectionResetError from error
        finally:
            await asyncio.to_thread(self._sound.close)
