"""Drives media workers, of this machine over their UNIX sockets and of others over TLS: the real `MediaEngine`.

    engine = WorkersClient({"media-1": Path("/run/patchbay/media-1.sock")})
    engine = WorkersClient({"media-a1": WorkerAddress.remote("wss://10.0.0.5:7443", token)})
    await engine.start(listener); …; await engine.stop()

A broken connection is made again at once, then with a back-off of 50 ms to 1 s; orders under way are sent
again with their stamp, which makes them safe to repeat. When the socket refuses (ENOENT, ECONNREFUSED) the
process is gone, and the listener hears of it within milliseconds; a process that hangs is given up after
HUNG_S. See client_link.py for one worker. A failure in one worker's link is logged and the link begun anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from server.domain.media import MediaOrder, OfferLeg, OpenLeg
from server.media import worker_orders
from server.media import worker_protocol as wire
from server.media.client_link import WorkerLink
from server.media.transport import WorkerAddress
from server.services.ports import (
    MediaError,
    MediaListener,
    OrderResult,
    OrderStamp,
    WorkerInfo,
    WorkerLeg,
)

log = structlog.get_logger(__name__)

RESTART_S = 1.0  # a link that failed waits so long: a lasting fault costs one log entry a second


class WorkersClient:
    """MediaEngine over sockets. `workers`: worker id → address, or a sibling's path; a worker may come up later."""

    def __init__(self, workers: Mapping[str, WorkerAddress | Path]) -> None:
        self._links = {
            worker_id: WorkerLink(worker_id, WorkerAddress.local(where) if isinstance(where, Path) else where)
            for worker_id, where in workers.items()
        }
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, listener: MediaListener) -> None:
        """Begin connecting; returns at once. Workers show up by `on_worker_up`."""
        self._tasks = [
            asyncio.create_task(_keep(link, listener), name=f"media worker {worker_id}")
            for worker_id, link in self._links.items()
        ]

    async def stop(self) -> None:
        """Drop the connections. Workers keep their calls, and unacknowledged reports for the next client."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def workers(self) -> Sequence[WorkerInfo]:
        """Connected workers with room that are not draining, by their share of capacity in use."""
        usable = [info for info in self.connected() if not info.draining and info.load < info.capacity]
        return sorted(usable, key=lambda info: (info.load / max(1, info.capacity), info.worker_id))

    def connected(self) -> Sequence[WorkerInfo]:
        """Workers that have said hello on their present connection, by id: none right after `start`."""
        infos = [link.info for link in self._links.values() if link.info is not None]
        return sorted(infos, key=lambda info: info.worker_id)

    def gone(self, worker_id: str) -> bool:
        """Its process is not running, for certain: its socket refuses connections."""
        link = self._links.get(worker_id)
        return link is not None and link.refused

    def faults(self) -> Mapping[str, str]:
        """Worker id → why it can't be used and what to do, for each that is not connected."""
        return {
            worker_id: link.fault or "no connection yet" for worker_id, link in self._links.items() if link.info is None
        }

    async def order(self, worker_id: str, stamp: OrderStamp, order: MediaOrder) -> OrderResult:
        """Carry out one order. Raises MediaError, worker_timeout after ORDER_TIMEOUT_S."""
        link = self._link(worker_id)
        began = time.monotonic()

        def fields() -> wire.Json:
            waited_ms = round((time.monotonic() - began) * 1000)
            return {"stamp": worker_orders.stamp_to_json(stamp), "order": worker_orders.order_to_json(order, waited_ms)}

        answer = await link.ask("order", fields)
        if isinstance(order, OpenLeg | OfferLeg):
            link.count_leg()
            return OrderResult(sdp=wire.field(answer, "sdp", str))
        return OrderResult()

    async def list_legs(self, worker_id: str) -> Sequence[WorkerLeg]:
        return wire.legs_from_json(await self._link(worker_id).ask("list_legs"))

    async def close_leg(self, worker_id: str, session_id: str, leg_id: str) -> None:
        await self._link(worker_id).ask("close_leg", lambda: {"session_id": session_id, "leg_id": leg_id})

    async def drain(self, worker_id: str) -> None:
        """Let no new session be placed on a worker; its live ones stay. Raises MediaError."""
        await self._link(worker_id).ask("drain")

    def _link(self, worker_id: str) -> WorkerLink:
        link = self._links.get(worker_id)
        if link is None:
            raise MediaError("worker_gone", f"no worker {worker_id!r} is configured")
        return link


async def _keep(link: WorkerLink, listener: MediaListener) -> None:
    """Run a link until cancelled, again after any failure: one worker's fault is not the others'."""
    while True:
        try:
            await link.run(listener)
        except Exception:  # a boundary, as said above
            log.exception("media_link_failed", worker=link.worker_id)
        await asyncio.sleep(RESTART_S)
