"""What strangers may put on a socket before anything of ours reads it.

python-socketio trusts its clients: a frame that it can't parse ends as a traceback in the log, or, where the parser of
engineio fails, as an HTTP answer in the middle of a WebSocket; attachments of a binary event are kept until the last
one has come; and an event named `connect` or `disconnect` runs the handler of that name, so that a client could log
itself off, or in again with a fresh allowance. So each frame is looked at as it comes in: one that no client of ours
would send, or one too many, ends its connection (close code 1000, the client may come back), and costs a line of log.

The private names of python-socketio and engineio are touched here only; tests/wire/test_socket_fuzz.py holds them.
"""

from __future__ import annotations

import asyncio
from typing import Any

import socketio
import structlog
from engineio.async_drivers.aiohttp import WebSocket
from socketio.packet import ACK, CONNECT, DISCONNECT, EVENT, Packet

log = structlog.get_logger()
BURST, PER_SECOND = 300.0, 100.0  # frames: far above what a tab sends, far below what would slow the others
CONNECT_COST = 20.0  # a login is looked up in the database
BYTES_PER_TOKEN = 8192  # a large frame takes longer to parse than a small one
MAX_ACK_ID = 2**53
CLOSE_FRAME, PONG_FRAME, MESSAGE_FRAME = "1", "3", "4"
RESERVED = frozenset({"connect", "disconnect"})


class Allowance:
    """A token bucket: `take` is False when more is asked than there is."""

    def __init__(self, burst: float, per_second: float) -> None:
        self._burst, self._per_second = burst, per_second
        self._tokens = burst
        self._at = asyncio.get_running_loop().time()

    def take(self, tokens: float = 1.0) -> bool:
        now = asyncio.get_running_loop().time()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True


class FrameRefused(OSError):
    """The connection ends. An OSError, which is what the driver raises for a connection that has ended."""


class GuardedWebSocket(WebSocket):  # type: ignore[misc]  # engineio ships no types
    """engineio's driver for aiohttp; `wait` gives the next frame, or raises to end the connection."""

    def __init__(self, handler: Any, server: Any) -> None:
        super().__init__(handler, server)
        self._allowance = Allowance(BURST, PER_SECOND)

    async def wait(self) -> str:
        frame = await super().wait()
        try:
            cost = frame_cost(frame)
            if not self._allowance.take(cost):
                raise FrameRefused("flood")
        except FrameRefused as reason:
            log.warning("socket_frame_refused", reason=str(reason), address=self.environ["aiohttp.request"].remote)
            raise
        return str(frame)


def guard(sio: socketio.AsyncServer) -> None:
    """Have a Socket.IO server read its WebSockets through the guard."""
    sio.eio._async = {**sio.eio._async, "websocket": GuardedWebSocket}


def frame_cost(frame: str | bytes) -> float:
    """What a frame takes from its connection's allowance. Raises FrameRefused for one that no client of ours sends."""
    if isinstance(frame, bytes):
        raise FrameRefused("binary")
    kind, size_cost = frame[:1], 1.0 + len(frame) / BYTES_PER_TOKEN
    if kind in (CLOSE_FRAME, PONG_FRAME) and len(frame) == 1:
        return size_cost
    if kind != MESSAGE_FRAME:
        raise FrameRefused("unknown_frame")
    try:
        packet = Packet(encoded_packet=frame[1:])
    except (ValueError, TypeError, RecursionError):
        raise FrameRefused("malformed") from None
    if packet.attachment_count:
        raise FrameRefused("binary")
    match packet.packet_type:
        case kind if kind == CONNECT and isinstance(packet.data, dict | None):
            return CONNECT_COST
        case kind if kind == DISCONNECT:
            return size_cost
        case kind if kind == EVENT and _is_event(packet.data) and (packet.id or 0) <= MAX_ACK_ID:
            return size_cost
        case kind if kind == ACK and isinstance(packet.data, list) and packet.id is not None:
            return size_cost
    raise FrameRefused("malformed")


def _is_event(data: object) -> bool:
    return isinstance(data, list) and bool(data) and isinstance(data[0], str) and data[0] not in RESERVED
