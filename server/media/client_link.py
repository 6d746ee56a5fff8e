"""One worker as a control node sees it: a connection that is made again, requests, and reports in order.

Reports of one session reach the listener one after the other; sessions do not wait for each other. Each report is
acknowledged by itself once it was taken; one that comes again (the worker gave it to another node meanwhile, or the
connection broke) is acknowledged again, or is still under way. A report that the listener can't take is tried again
with back-off; after POISON_TRIES it is logged and skipped, since one bad report must not hold up the worker's buffer
for ever. While the database is away every report waits.

A worker sends telemetry once a second on every connection. One that was up and of which nothing was heard for
HUNG_S, over this connection or a new one, counts as lost like one that died; if it wakes up, it comes up again. That it
is silent here says nothing of other nodes: `refused` tells the process that is gone for certain.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import structlog

from server.domain.media import MediaReport
from server.media import worker_protocol as wire
from server.media.transport import CONNECT_TIMEOUT_S, WorkerAddress, WorkerMismatch, fault_of, is_gone
from server.services.ports import MediaError, MediaListener, StorageUnavailable, WorkerInfo

log = structlog.get_logger(__name__)

ORDER_TIMEOUT_S = 5.0  # a set-up takes 10 ms; a worker that stalls so long is as good as gone
HELLO_TIMEOUT_S = 2.0
HEARTBEAT_S = 5.0
HUNG_S = 10.0  # more than a full disk or a swapping machine takes; a caller would hang up soon after
WATCH_S = 0.5
CLOSE_TIMEOUT_S = 0.5  # for the other side's goodbye
BACKOFF_S = (0.05, 1.0)
POISON_TRIES = 20
TAKEN_KEPT = 10_000  # numbers of reports that were taken: as many as a worker keeps
FAULT_LOG_S = 60.0


class _Broken(Exception):
    """The connection ended while a request was under way."""


@dataclass(frozen=True, slots=True)
class _Report:
    seq: int
    session_id: str
    epoch: int
    report: MediaReport


class _Inbox:
    """The reports of one incarnation: which are under way, and which were taken."""

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self._pending: set[int] = set()
        self._taken: OrderedDict[int, None] = OrderedDict()

    def accept(self, seq: int) -> bool:
        """Whether a report is new."""
        if seq in self._pending or seq in self._taken:
            return False
        self._pending.add(seq)
        return True

    def taken(self, seq: int) -> None:
        """Note that a report is safe."""
        self._pending.discard(seq)
        self._taken[seq] = None
        if len(self._taken) > TAKEN_KEPT:
            self._taken.popitem(last=False)

    def is_taken(self, seq: int) -> bool:
        return seq in self._taken


class WorkerLink:
    """Keeps a connection to one worker. `info` is None while there is none; `fault` says why there is none, in words
    for the operator; `refused`: the process is not running, for certain."""

    def __init__(self, worker_id: str, address: WorkerAddress) -> None:
        self.worker_id = worker_id
        self.info: WorkerInfo | None = None
        self.fault: str | None = None
        self.refused = False
        self._address = address
        self._fault_logged_at = 0.0
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._gone = False
        self._known: str | None = None  # the incarnation that the listener believes to be up
        self._doubted: str | None = None  # the one that was given up because it is silent
        self._silent_s = 0.0  # since something came from it
        self._changed = asyncio.Event()
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._ids = itertools.count(1)
        self._inbox = _Inbox("")
        self._queues: dict[tuple[str, str], deque[_Report]] = {}
        self._notices: deque[Callable[[], Awaitable[None]]] = deque()
        self._noticed = asyncio.Event()
        self._listener: MediaListener
        self._tasks: asyncio.TaskGroup

    def count_leg(self) -> None:
        """Count a leg that was just opened, until the next telemetry tells the load."""
        if self.info is not None:
            self.info = replace(self.info, load=self.info.load + 1)

    # --- requests ---

    async def ask(self, kind: str, fields: Callable[[], wire.Json] = dict) -> wire.Json:
        """Send a request, again after a broken connection; returns the answer's fields. `fields` gives those of the
        request anew each time that it is sent. Raises MediaError."""
        try:
            async with asyncio.timeout(ORDER_TIMEOUT_S):
                while True:
                    socket = await self._ready()
                    try:
                        return await self._ask(socket, kind, fields())
                    except _Broken:
                        continue
        except TimeoutError:
            message = f"{self.worker_id} gave no answer within {ORDER_TIMEOUT_S} s"
            raise MediaError("worker_timeout", message) from None

    async def _ready(self) -> aiohttp.ClientWebSocketResponse:
        while True:
            if self._socket is not None:
                return self._socket
            if self._gone:
                raise MediaError("worker_gone", f"{self.worker_id} is not running, or hangs")
            await self._changed.wait()

    async def _ask(self, socket: aiohttp.ClientWebSocketResponse, kind: str, fields: wire.Json) -> wire.Json:
        request_id = str(next(self._ids))
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[request_id] = answer
        try:
            try:
                await socket.send_str(wire.encode(kind, id=request_id, **fields))
            except (ConnectionError, aiohttp.ClientError) as error:
                self._drop(socket)
                raise _Broken from error
            message = await answer
        finally:
            self._answers.pop(request_id, None)
        if not wire.field(message, "ok", bool):
            fault = wire.field(message, "error", dict)
            raise MediaError(wire.field(fault, "code", str), wire.field(fault, "message", str))
        return message

    # --- the connection ---

    async def run(self, listener: MediaListener) -> None:
        """Connect, read, and connect again, until cancelled. May be called again after it failed: reports that
        were not acknowledged come once more, notices that the listener has not taken are kept."""
        self._listener = listener
        self._inbox = _Inbox("")
        self._queues.clear()
        self._silent_s = 0.0
        wait_s = 0.0
        async with self._address.open() as http, asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self._notify())
            self._tasks.create_task(self._watch())
            while True:
                await asyncio.sleep(wait_s)
                try:
                    await self._connected(http)
                    wait_s = 0.0
                except (OSError, aiohttp.ClientError, TimeoutError, wire.ProtocolError, WorkerMismatch) as error:
                    self._failed(error)
                    wait_s = min(BACKOFF_S[1], max(BACKOFF_S[0], wait_s * 2))

    def _failed(self, error: Exception) -> None:
        """Note why there is no connection. A sibling that is not up yet, or again, is no news."""
        if is_gone(error):
            self._note_gone(refused=True)
        fault, now = fault_of(error, self._address), asyncio.get_running_loop().time()
        known, self.fault = self.fault, fault
        if not self._address.is_remote and not isinstance(error, wire.ProtocolError | WorkerMismatch):
            return
        if fault != known or now - self._fault_logged_at >= FAULT_LOG_S:
            self._fault_logged_at = now
            log.warning("worker_unusable", worker=self.worker_id, fault=fault)

    async def _connected(self, http: aiohttp.ClientSession) -> None:
        """One connection, from hello to its end."""
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            socket = await http.ws_connect(
                self._address.url + wire.CONTROL_PATH,
                heartbeat=HEARTBEAT_S,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
                max_msg_size=wire.MAX_MESSAGE_BYTES,
            )
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                frame = await socket.receive()
            if frame.type is not aiohttp.WSMsgType.TEXT:
                raise ConnectionResetError("closed before hello")
            kind, message = wire.decode(frame.data)
            if kind != "hello":
                raise wire.ProtocolError(f"expected hello, got {kind}")
            info = wire.info_from_json(message)
            if info.worker_id != self.worker_id:
                raise WorkerMismatch(self.worker_id, info.worker_id)
            self._welcome(socket, info)
            async for frame in socket:
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    break
                self._silent_s = 0.0
                self._handle(*wire.decode(frame.data))
        finally:
            self._drop(socket)
            await asyncio.shield(socket.close())

    def _welcome(self, socket: aiohttp.ClientWebSocketResponse, info: WorkerInfo) -> None:
        if self._doubted is not None and self._doubted != info.incarnation:
            self._known = self._doubted  # it was given up as silent: now it is gone for certain
        self._doubted = None
        if self._known is not None and self._known != info.incarnation:
            self._note_down()
        if self._inbox.incarnation != info.incarnation:
            self._inbox = _Inbox(info.incarnation)
        self._known, self.info, self._gone, self._socket = info.incarnation, info, False, socket
        self._silent_s = 0.0
        self.fault, self.refused = None, False
        self._wake()
        self._notice(lambda: self._listener.on_worker_up(info))

    def _drop(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        if self._socket is socket:
            self._socket = None
            self.info = None
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(_Broken())
            self._wake()

    def _note_gone(self, *, refused: bool) -> None:
        self._gone = True
        self.refused = refused
        self._doubted = None if refused else self._known
        self._note_down()
        self._wake()

    def _note_down(self) -> None:
        incarnation, self._known = self._known, None
        if incarnation is not None:
            down = incarnation
            self._notice(lambda: self._listener.on_worker_down(self.worker_id, down))

    async def _watch(self) -> None:
        """Give up a worker that hangs. Counted in ticks: a stall of our own is not held against the worker."""
        while True:
            await asyncio.sleep(WATCH_S)
            self._silent_s += WATCH_S
            if self._known is None or self._silent_s < HUNG_S:
                continue
            log.error("worker_hangs", worker=self.worker_id, incarnation=self._known, silent_s=self._silent_s)
            socket = self._socket
            self.fault = f"nothing was heard for {HUNG_S:g} s; look at the worker's machine and the network"
            self._note_gone(refused=False)
            if socket is not None:
                self._drop(socket)
                await socket.close()  # ends `_connected`, which waits for a message

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _notice(self, notice: Callable[[], Awaitable[None]]) -> None:
        self._notices.append(notice)
        self._noticed.set()

    async def _notify(self) -> None:
        """Tell the listener of ups and downs, one after the other."""
        while True:
            while self._notices:
                await self._insist(self._notices[0], "worker notice")
                self._notices.popleft()
            self._noticed.clear()
            await self._noticed.wait()

    # --- what comes in ---

    def _handle(self, kind: str, message: dict[str, Any]) -> None:
        if kind in ("result", "legs"):
            answer = self._answers.get(wire.field(message, "id", str))
            if answer is not None and not answer.done():
                answer.set_result(message)
        elif kind == "report":
            self._take(message)
        elif kind == "telemetry":
            if self.info is not None:
                self.info = wire.with_news(self.info, message)
            try:
                self._listener.on_telemetry(self.worker_id, wire.telemetry_from_json(message))
            except Exception:  # a boundary: telemetry may be lost
                log.exception("telemetry_failed", worker=self.worker_id)
        else:
            raise wire.ProtocolError(f"unexpected {kind}")

    def _take(self, message: dict[str, Any]) -> None:
        seq = wire.field(message, "seq", int)
        if not self._inbox.accept(seq):
            if self._inbox.is_taken(seq):
                self._acknowledge(self._inbox, seq)
            return
        report = _Report(
            seq,
            wire.field(message, "session_id", str),
            wire.field(message, "epoch", int),
            wire.report_from_json(wire.field(message, "report", dict)),
        )
        key = (self._inbox.incarnation, report.session_id)
        queue = self._queues.get(key)
        if queue is not None:
            queue.append(report)
            return
        self._queues[key] = deque([report])
        self._tasks.create_task(self._deliver(key, self._inbox))

    async def _deliver(self, key: tuple[str, str], inbox: _Inbox) -> None:
        """Hand a session's reports to the listener until there are none."""
        queue = self._queues[key]
        while queue:
            item = queue[0]
            await self._insist(
                lambda item=item: self._listener.on_report(  # type: ignore[misc]  # mypy can't infer the default
                    self.worker_id, item.session_id, item.epoch, item.report
                ),
                f"report of session {item.session_id}",
            )
            queue.popleft()
            inbox.taken(item.seq)
            self._acknowledge(inbox, item.seq)
        del self._queues[key]

    def _acknowledge(self, inbox: _Inbox, seq: int) -> None:
        """Without a connection it is left out: the report comes again on the next one."""
        if inbox is self._inbox and self._socket is not None:
            self._tasks.create_task(self._send(self._socket, wire.encode("ack", seq=seq)))

    async def _send(self, socket: aiohttp.ClientWebSocketResponse, message: str) -> None:
        try:
            await socket.send_str(message)
        except (ConnectionError, aiohttp.ClientError):
            self._drop(socket)

    async def _insist(self, call: Callable[[], Awaitable[None]], what: str) -> None:
        """Call the listener until it succeeds, POISON_TRIES times at most."""
        wait_s, tries = BACKOFF_S[0], 0
        while tries < POISON_TRIES:
            try:
                await call()
                return
            except StorageUnavailable as error:  # no fault of the report: it waits for the database
                log.warning("listener_waits", worker=self.worker_id, what=what, error=str(error))
            except Exception:  # a boundary: the listener's fault is logged, and tried again
                log.warning("listener_failed", worker=self.worker_id, what=what, exc_info=True)
                tries += 1
            await asyncio.sleep(wait_s)
            wait_s = min(BACKOFF_S[1], wait_s * 2)
        log.error("listener_gave_up", worker=self.worker_id, what=what, tries=POISON_TRIES)
