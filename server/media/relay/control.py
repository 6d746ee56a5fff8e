"""The worker's control socket: JSON messages on WebSockets (server/media/worker_protocol.py).

Served by aiohttp on a UNIX socket of mode 0600, or for other machines on TLS with a token; nothing else here depends
on the transport."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from aiohttp import WSMsgType, web

from server.ids import new_id
from server.media import worker_orders
from server.media import worker_protocol as wire
from server.media.relay.gate import TokenGate
from server.media.relay.parts import PartsShelf
from server.media.relay.reports import Report
from server.media.relay.worker import Worker
from server.services.ports import LegTelemetry, MediaError

log = structlog.get_logger(__name__)

SEND_QUEUE = 20_000  # messages; a control node that is further behind is cut off and gets its reports again
HEARTBEAT_S = 5.0


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a worker waits for control nodes: a UNIX socket, or an address of the network with its token.

    `tls` None: plain, on a loopback address only."""

    path: Path | None = None
    host: str = ""
    port: int = 0
    token: str = ""
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return str(self.path) if self.path is not None else f"{self.host}:{self.port}"


class _Connection:
    """One control node. Messages go through a bounded queue, so that a slow reader stalls nobody."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.id = new_id("con")
        self.socket = socket
        self.queue: asyncio.Queue[str] = asyncio.Queue(SEND_QUEUE)
        self.overrun = asyncio.Event()

    def send(self, message: str) -> None:
        try:
            self.queue.put_nowait(message)
        except asyncio.QueueFull:
            self.overrun.set()

    async def pump(self) -> None:
        while not self.overrun.is_set():
            await self.socket.send_str(await self.queue.get())
        await self.socket.close(code=1008, message=b"too slow")


class ControlServer:
    """Serves one worker to any number of control nodes. reports.py tells who gets a report; the newest gets the legs'
    telemetry."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._connections: list[_Connection] = []
        self._runner: web.AppRunner | None = None
        worker.on_telemetry = self.tell_load

    async def serve(self, listen: Listen) -> None:
        """Begin to listen; a UNIX socket is one that only this user may open. Raises OSError."""
        app = web.Application(middlewares=[TokenGate(listen.token).middleware()] if listen.path is None else ())
        app.router.add_get(wire.CONTROL_PATH, self._handle)
        app.router.add_get(wire.INFO_PATH, self._info)
        PartsShelf(self._worker.settings.spool).add_routes(app.router)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.2)
        await self._runner.setup()
        if listen.path is None:
            await web.TCPSite(self._runner, listen.host, listen.port, ssl_context=listen.tls).start()
            return
        listen.path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, str(listen.path)).start()
        finally:
            os.umask(mask)

    async def drain(self, timeout_s: float) -> None:
        """Wait until all reports are acknowledged, at most so long; 100 ms for the goodbyes to leave."""
        await asyncio.sleep(0.1)
        if self._connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._worker.reports.settled.wait()

    async def close(self) -> None:
        for connection in list(self._connections):
            await connection.socket.close(code=1001)
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=wire.MAX_MESSAGE_BYTES, compress=False)
        await socket.prepare(request)
        connection = _Connection(socket)
        connection.send(self._hello())
        self._connections.append(connection)
        reports = self._worker.reports
        reports.connect(connection.id, lambda report: connection.send(_report(report)), time.monotonic())
        try:
            async with asyncio.TaskGroup() as tasks:
                pump = tasks.create_task(connection.pump())
                await self._read(connection, tasks)
                pump.cancel()
        except* (ConnectionError, wire.ProtocolError) as group:
            log.warning("control_connection_failed", errors=[str(error) for error in group.exceptions])
        finally:
            self._connections.remove(connection)
            reports.disconnect(connection.id, time.monotonic())
        return socket

    def _hello(self) -> str:
        return wire.encode("hello", **wire.info_to_json(self._worker.info()))

    async def _info(self, request: web.Request) -> web.Response:
        return web.Response(text=self._hello(), content_type="application/json")

    async def _read(self, connection: _Connection, tasks: asyncio.TaskGroup) -> None:
        async for frame in connection.socket:
            if frame.type is not WSMsgType.TEXT:
                break
            kind, message = wire.decode(frame.data)
            if kind == "ack":
                self._worker.reports.acknowledge(connection.id, wire.field(message, "seq", int), time.monotonic())
                continue
            request_id = wire.field(message, "id", str)
            tasks.create_task(self._answer(connection, request_id, self._dispatch(kind, message)))

    async def _answer(
        self, connection: _Connection, request_id: str, work: Coroutine[Any, Any, dict[str, Any]]
    ) -> None:
        try:
            fields = await work
        except MediaError as error:
            fields = {"ok": False, "error": {"code": error.code, "message": error.message}}
        except wire.ProtocolError as error:
            fields = {"ok": False, "error": {"code": "internal", "message": f"malformed request: {error}"}}
        connection.send(wire.encode("legs" if "legs" in fields else "result", id=request_id, **fields))

    async def _dispatch(self, kind: str, message: dict[str, Any]) -> dict[str, Any]:
        worker = self._worker
        match kind:
            case "order":
                stamp = worker_orders.stamp_from_json(wire.field(message, "stamp", dict))
                order = worker_orders.order_from_json(wire.field(message, "order", dict))
                # shielded: an order once begun is finished, even if the one who gave it goes away
                result = await asyncio.shield(asyncio.ensure_future(worker.order(stamp, order)))
                return {"ok": True, "sdp": result.sdp}
            case "list_legs":
                return {"ok": True, "legs": wire.legs_to_json(worker.legs())}
            case "close_leg":
                worker.close_leg(wire.field(message, "session_id", str), wire.field(message, "leg_id", str))
                return {"ok": True, "sdp": None}
            case "drain":
                worker.draining = True
                return {"ok": True, "sdp": None}
        raise wire.ProtocolError(f"unknown type {kind!r}")

    def tell_load(self, legs: list[LegTelemetry]) -> None:
        """Every connection hears the load, and that this process lives; the newest the legs as well."""
        info = self._worker.info()
        for connection in self._connections:
            told = legs if connection is self._connections[-1] else []
            connection.send(wire.encode("telemetry", **wire.news_to_json(info), legs=wire.telemetry_to_json(told)))


def _report(report: Report) -> str:
    return wire.encode(
        "report",
        seq=report.seq,
        session_id=report.session_id,
        epoch=report.epoch,
        report=wire.report_to_json(report.report),
    )
