"""Recording parts that lie on other machines: fetched from the workers that wrote them, over the control transport."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import structlog

from server.media import worker_protocol as wire
from server.media.transport import CONNECT_TIMEOUT_S, WorkerAddress, fault_of
from server.services.ports import RecordingRef

log = structlog.get_logger(__name__)

READ_TIMEOUT_S = 10.0  # without a byte; a part as a whole may take long
CHUNK_BYTES = 256 * 1024
FETCHED_AT_ONCE = 2  # of one worker, by one node: hundreds wait after an outage, and its calls need the CPU
MAX_SIDE_BYTES = 1 << 30  # a day of Opus with its records is about 500 MiB


class WorkerAway(Exception):
    """The worker can't be asked now; the text says why."""


class RemoteParts:
    """`workers`: worker id → address, of those on other machines."""

    def __init__(self, workers: Mapping[str, WorkerAddress]) -> None:
        self.workers = {worker_id: address for worker_id, address in workers.items() if address.is_remote}
        self._turns = {worker_id: asyncio.Semaphore(FETCHED_AT_ONCE) for worker_id in self.workers}

    async def fetch(self, worker_id: str, recording: RecordingRef, part: int, side: str, target: Path) -> bool:
        """Bring a capture file to `target`, which shows the whole file or none; False when the worker has no such file.

        Raises WorkerAway, OSError."""
        address, url = self._address(worker_id), f"{_path(recording)}/{part}/{side}"
        await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True, mode=0o700)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
        try:
            try:
                async with self._turns[worker_id], _Request(address, "GET", url) as response:
                    if response.status == 404:
                        return False
                    response.raise_for_status()
                    await _store(response, temporary)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise WorkerAway(fault_of(error, address)) from None
            await asyncio.to_thread(temporary.replace, target)
            return True
        finally:
            await asyncio.to_thread(temporary.unlink, missing_ok=True)

    async def left(self, worker_id: str) -> list[RecordingRef]:
        """The recordings of which a worker keeps parts. Raises WorkerAway."""
        try:
            async with _Request(self._address(worker_id), "GET", wire.PARTS_PATH, raise_for_status=True) as response:
                kind, message = wire.decode(await response.text())
                if kind != "parts":
                    raise wire.ProtocolError(f"expected parts, got {kind}")
            return [
                RecordingRef(
                    wire.field(row, "tenant", str),
                    wire.field(row, "session_id", str),
                    wire.field(row, "recording_id", str),
                )
                for row in wire.objects(message, "parts")
            ]
        except (aiohttp.ClientError, OSError, TimeoutError, wire.ProtocolError) as error:
            raise WorkerAway(fault_of(error, self._address(worker_id))) from None

    async def discard(self, worker_id: str, recording: RecordingRef) -> None:
        """The archive is safe: let the worker forget its parts. Raises WorkerAway."""
        try:
            async with _Request(self._address(worker_id), "DELETE", _path(recording), raise_for_status=True):
                return
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise WorkerAway(fault_of(error, self._address(worker_id))) from None

    def _address(self, worker_id: str) -> WorkerAddress:
        address = self.workers.get(worker_id)
        if address is None:
            raise WorkerAway(f"no worker {worker_id!r} is configured here")
        return address


class _Request:
    """One request on a connection of its own."""

    def __init__(self, address: WorkerAddress, method: str, path: str, **options: Any) -> None:
        self._address, self._method, self._path, self._options = address, method, path, options

    async def __aenter__(self) -> aiohttp.ClientResponse:
        self._http = self._address.open()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S)
        try:
            self._response = await self._http.request(
                self._method, self._address.url + self._path, allow_redirects=False, timeout=timeout, **self._options
            )
        except BaseException:
            await self._http.close()
            raise
        return self._response

    async def __aexit__(self, *_: object) -> None:
        self._response.close()
        await self._http.close()


async def _store(response: aiohttp.ClientResponse, path: Path) -> None:
    """Raises OSError, aiohttp.ClientError; a body that is shorter than announced is one of these."""
    size = 0
    file = await asyncio.to_thread(open, path, "wb")
    try:
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            size += len(chunk)
            if size > MAX_SIDE_BYTES:
                raise OSError(f"a capture file of more than {MAX_SIDE_BYTES} bytes")
            await asyncio.to_thread(file.write, chunk)
    finally:
        await asyncio.to_thread(file.close)


def _path(recording: RecordingRef) -> str:
    ids = (recording.tenant, recording.session_id, recording.recording_id)
    return "/".join([wire.PARTS_PATH, *(quote(name, safe="") for name in ids)])
