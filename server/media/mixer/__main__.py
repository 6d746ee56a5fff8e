"""The mixer: `python -m server.media.mixer --socket-fd N`. A media worker starts one at its own start.

One thread, one loop: packets and setups come in over the socket pair, and every 20 ms what each mix's listeners hear
goes out. It ends with its parent, or when the other end of the socket is closed. It holds nothing that must last: the
worker starts another one and says all setups again."""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import select
import signal
import socket
import time
from types import FrameType

import structlog

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy comes: filters of 16 taps gain nothing by threads

from server import log as logs
from server.media.mixer.desk import Desk
from server.media.mixer.formats import FRAME_MS
from server.media.mixer.protocol import MAX_BYTES, READY, beat_to_bytes
from server.process import die_with_parent

log = structlog.get_logger(__name__)

BEHIND_MS = 200.0  # a stall longer than this is skipped, not caught up with a burst
BATCH = 256  # messages between two looks at the clock


def serve(sock: socket.socket) -> None:
    """Until the other side closes."""
    desk = Desk()
    sock.setblocking(False)
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    gc.collect()
    gc.freeze()  # modules are looked through no more: a full collection is short, and due after fewer mixes
    sock.send(READY)
    due_ms = _now_ms() + FRAME_MS
    while True:
        wait_ms = due_ms - _now_ms() if desk.mixes else 1000.0
        if poll.poll(max(0.0, wait_ms)) and not _read(desk, sock):
            return
        if desk.beat is not None:
            with contextlib.suppress(BlockingIOError):  # the worker is busy: it is tried again 20 ms later
                sock.send(beat_to_bytes(desk.beat))
                desk.beat = None
        now_ms = _now_ms()
        if not desk.mixes:
            due_ms = now_ms + FRAME_MS
        elif now_ms >= due_ms:
            for message in desk.tick(due_ms):
                with contextlib.suppress(BlockingIOError):  # the worker is busy: this frame is lost to one listener
                    sock.send(message)
            due_ms = due_ms + FRAME_MS if now_ms - due_ms < BEHIND_MS else now_ms + FRAME_MS


def _read(desk: Desk, sock: socket.socket) -> bool:
    """What has come; False when the other side is gone."""
    for _ in range(BATCH):
        try:
            message = sock.recv(MAX_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not message:
            return False
        try:
            desk.take(message, _now_ms())
        except ValueError as error:
            log.error("mixer_message_refused", error=str(error))
    return True


def _now_ms() -> float:
    return time.monotonic_ns() / 1e6


def main() -> None:
    parent = os.getppid()

    def told(number: int, frame: FrameType | None) -> None:
        """A whole service is told to end, and its worker may have to drain first: it closes the socket in the end."""
        if os.getppid() != parent:
            raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    die_with_parent()
    parser = argparse.ArgumentParser(prog="python -m server.media.mixer", description="A media worker's mixer.")
    parser.add_argument("--socket-fd", required=True, type=int, help="its end of the socket pair")
    given = parser.parse_args()
    logs.configure("info", None)
    with socket.socket(fileno=given.socket_fd) as sock, contextlib.suppress(BrokenPipeError, ConnectionError):
        serve(sock)


if __name__ == "__main__":
    main()
