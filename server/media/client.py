"""Drives the media workers of this machine over their UNIX sockets: the real `MediaEngine`.

    engine = WorkersClient({"media-1": Path("/run/patchbay/media-1.sock")})
    await engine.start(listener); …; await engine.stop()

A broken connection is made again at once, then with a back-off of 50 ms to 1 s; orders under way are sent
again with their stamp, which makes them safe to repeat. When the socket refuses (ENOENT, ECONNREFUSED) the
process is gone, and the listener hears of it within milliseconds. See client_link.py for one worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from server.domain.media import MediaOrder, OpenLeg
from server.media import worker_protocol as wire
from server.media.client_link import WorkerLink
from server.services.ports import (
    MediaError,
    MediaListener,
    OrderResult,
    OrderStamp,
    WorkerInfo,
    WorkerLeg,
)


class WorkersClient:
    """MediaEngine over UNIX sockets. `sockets`: worker id → path; a worker may come up later."""

    def __init__(self, sockets: Mapping[str, Path]) -> None:
        self._links = {worker_id: WorkerLink(worker_id, path) for worker_id, path in sockets.items()}
        self._task: asyncio.Task[None] | None = None

    async def start(self, listener: MediaListener) -> None:
        """Begin connecting; returns at once. Workers show up by `on_worker_up`."""
        self._task = asyncio.create_task(self._run(listener), name="media-workers")

    async def stop(self) -> None:
        """Drop the connections. Workers keep their calls, and unacknowledged reports for the next client."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _run(self, listener: MediaListener) -> None:
        async with asyncio.TaskGroup() as tasks:
            for link in self._links.values():
                tasks.create_task(link.run(listener))

    def workers(self) -> Sequence[WorkerInfo]:
        """Connected workers with room that are not draining, by their share of capacity in use."""
        usable = [info for info in self.connected() if not info.draining and info.load < info.capacity]
        return sorted(usable, key=lambda info: (info.load / max(1, info.capacity), info.worker_id))

    def connected(self) -> Sequence[WorkerInfo]:
        """Workers that have said hello on their present connection, by id: none right after `start`."""
        infos = [link.info for link in self._links.values() if link.info is not None]
        return sorted(infos, key=lambda info: info.worker_id)

    async def order(self, worker_id: str, stamp: OrderStamp, order: MediaOrder) -> OrderResult:
        """Carry out one order. Raises MediaError, worker_timeout after ORDER_TIMEOUT_S."""
        link = self._link(worker_id)
        answer = await link.ask("order", stamp=wire.stamp_to_json(stamp), order=wire.order_to_json(order))
        if isinstance(order, OpenLeg):
            link.count_leg()
            return OrderResult(sdp=wire.field(answer, "sdp", str))
        return OrderResult()

    async def list_legs(self, worker_id: str) -> Sequence[WorkerLeg]:
        return wire.legs_from_json(await self._link(worker_id).ask("list_legs"))

    async def close_leg(self, worker_id: str, session_id: str, leg_id: str) -> None:
        await self._link(worker_id).ask("close_leg", session_id=session_id, leg_id=leg_id)

    async def drain(self, worker_id: str) -> None:
        """Let no new session be placed on a worker; its live ones stay. Raises MediaError."""
        await self._link(worker_id).ask("drain")

    def _link(self, worker_id: str) -> WorkerLink:
        link = self._links.get(worker_id)
        if link is None:
            raise MediaError("worker_gone", f"no worker {worker_id!r} is configured")
        return link
