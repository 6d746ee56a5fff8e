"""The worker's end of its mixer (server/media/mixer): a child process that is started with the worker and again when it
dies, and the socket to it.

Nothing here waits, `obeyed` excepted. Packets that the socket does not take are dropped and counted; setups are kept,
as they must arrive, and said again when the socket takes them, and to each new process. Behind them goes a beat that
the mixer says back when it obeys them; the same beat, asked twice a second, tells that it lives (pulse.py): one that
hangs is killed. While no mixer is there, relayed calls go on untouched and mixed ones are silent: that is over when the
next one is ready, half a second later."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections import deque
from collections.abc import Callable

import structlog

from server.media.mixer import protocol
from server.media.mixer.setup import Setup
from server.media.relay.pulse import LOOK_S, Pulse, vital_signs

log = structlog.get_logger(__name__)

AGAIN_S = (0.0, 0.1, 0.5, 2.0)  # before a start that follows a death at once; the last one stays
STEADY_S = 10.0  # a mixer that lived so long did not die of its start
BATCH = 64  # messages a turn of the loop
SOCKET_BUFFER_BYTES = 1 << 20  # half a second of 50 calls

OnFrame = Callable[[str, int, bytes, int], None]
"""Codec's name, number, payload, now (ns): 20 ms for one listener."""


class Mixer:
    """`run` for as long as the worker lives; the rest at any time."""

    def __init__(self) -> None:
        self.pid: int | None = None  # of the process, while it is ready
        self.dropped = 0  # messages that the socket did not take
        self._next_id = 0
        self._setups: dict[int, Setup] = {}  # by mix
        self._unsaid: dict[int, bytes] = {}  # by mix: what is to be said when the socket takes it
        self._pieces: deque[bytes] = deque()  # of what is being said
        self._orders = 0  # that were given; a beat says how many came before it
        self._asked = 0  # the last beat that was sent
        self._obeyed = 0  # the last one that came back
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._pulse = Pulse()
        self._listeners: dict[int, OnFrame] = {}
        self._sock: socket.socket | None = None
        self._writing = False
        self._ready = asyncio.Event()

    def new_id(self) -> int:
        """Of a mix, an input or a listener."""
        self._next_id = (self._next_id + 1) & 0xFFFFFFFF
        return self._next_id

    # --- mixes ---

    @property
    def said(self) -> int:
        """How many orders were given: for `obeyed`."""
        return self._orders

    def set_up(self, setup: Setup, listeners: dict[int, OnFrame]) -> None:
        """Make a mix equal to this one. `listeners`: where the frames go."""
        old = self._setups.get(setup.mix_id)
        for one in old.listeners if old is not None else ():
            self._listeners.pop(one.listener_id, None)
        self._listeners.update(listeners)
        if setup != old:
            self._setups[setup.mix_id] = setup
            self._say(setup.mix_id, protocol.setup_to_bytes(setup))

    def end(self, mix_id: int) -> None:
        setup = self._setups.pop(mix_id, None)
        if setup is None:
            return
        for one in setup.listeners:
            self._listeners.pop(one.listener_id, None)
        self._say(mix_id, protocol.end_to_bytes(mix_id))

    def hand_in(self, message: bytes) -> None:
        """A packet of protocol.py; lost while no mixer is there."""
        if self._sock is None:
            return
        try:
            self._sock.send(message)
        except OSError:  # full, or the process is just dying
            self.dropped += 1

    async def obeyed(self, orders: int) -> None:
        """Wait until the mixer has done so many orders (`said`). What it sent before has been read by then, so nobody
        is sent anything by the old setup any more. A mixer that dies speaks no more either, and the next one is told
        the newest setups before it says its first word: that ends the wait as well. One that hangs is killed."""
        if self._sock is None or self._obeyed >= orders:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((orders, waiter))
        await waiter

    def _say(self, mix_id: int, message: bytes) -> None:
        self._orders += 1
        self._unsaid.pop(mix_id, None)
        self._unsaid[mix_id] = message
        self._say_what_is_left()

    def _say_what_is_left(self) -> None:
        """In order, as far as the socket takes it."""
        sock = self._sock
        if sock is None:
            return  # what is set up is said when the next mixer is ready
        while self._pieces or self._gather():
            try:
                sock.send(self._pieces[0])
            except BlockingIOError:
                if not self._writing:
                    self._writing = True
                    asyncio.get_running_loop().add_writer(sock, self._say_what_is_left)
                return
            except OSError:
                return
            self._pieces.popleft()
        self._stop_writing()

    def _gather(self) -> bool:
        """What is to be said next: a mix, and a beat behind the last of them. False: nothing is."""
        if self._unsaid:
            self._pieces.extend(protocol.pieces(self._unsaid.pop(next(iter(self._unsaid)))))
        elif self._asked < self._orders:
            self._ask()
        return bool(self._pieces)

    def _ask(self) -> None:
        self._asked = self._orders
        self._pieces.append(protocol.beat_to_bytes(self._asked))

    def _stop_writing(self) -> None:
        if self._writing and self._sock is not None:
            asyncio.get_running_loop().remove_writer(self._sock)
        self._writing = False

    # --- the process ---

    async def run(self) -> None:
        """Start a mixer, and another one whenever it dies."""
        deaths = 0
        while True:
            await asyncio.sleep(AGAIN_S[min(deaths, len(AGAIN_S) - 1)])
            began = time.monotonic()
            try:
                status = await self._live()
            except OSError as error:
                status = f"{type(error).__name__}: {error}"
            deaths = 0 if time.monotonic() - began > STEADY_S else deaths + 1
            log.error("mixer_died", status=status, mixes=len(self._setups), deaths=deaths)

    async def _live(self) -> object:
        """One life of the process; its exit status. Raises OSError when it can't be started."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        process: asyncio.subprocess.Process | None = None
        ended: asyncio.Task[int] | None = None
        try:
            with theirs:
                for end in (ours, theirs):
                    end.setblocking(False)
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "server.media.mixer", "--socket-fd", str(theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL, pass_fds=(theirs.fileno(),),
                )  # fmt: skip
            child = process
            asyncio.get_running_loop().add_reader(ours, lambda: self._read(ours, child.pid))
            self._pulse = Pulse()
            ended = asyncio.create_task(process.wait())  # one wait: uvloop keeps those that are given up
            while not (await asyncio.wait({ended}, timeout=LOOK_S))[0]:
                self._look(child)
            return ended.result()
        finally:
            self._lose(ours)
            if ended is not None:
                ended.cancel()
            if process is not None and process.returncode is None:
                process.kill()

    def _look(self, process: asyncio.subprocess.Process) -> None:
        """Ask again for a sign of life; a process that gives none is killed, by its own id."""
        if self._pulse.look(vital_signs(process.pid)):
            log.error("mixer_hangs", pid=process.pid, silent_s=self._pulse.silent_s)
            process.kill()
        elif self._sock is not None and not self._pieces:
            self._ask()
            self._say_what_is_left()

    def _lose(self, sock: socket.socket) -> None:
        self._stop_writing()
        asyncio.get_running_loop().remove_reader(sock)
        sock.close()
        self._sock = self.pid = None
        self._ready.clear()
        self._unsaid.clear()
        self._pieces.clear()
        self._settle(self._orders)

    def _read(self, sock: socket.socket, pid: int) -> None:
        now_ns = time.monotonic_ns()
        for _ in range(BATCH):
            try:
                message = sock.recv(protocol.MAX_BYTES)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:  # it is dead: `_live` hears it as well
                asyncio.get_running_loop().remove_reader(sock)
                return
            self._pulse.heard()
            if message == protocol.READY:
                self._begin(sock, pid)
                continue
            if message[:1] == protocol.BEAT:
                self._obeyed = protocol.beat_from_bytes(message)
                self._settle(self._obeyed)
                continue
            listener_id, name, number, payload = protocol.frame_from_bytes(message)
            on_frame = self._listeners.get(listener_id)
            if on_frame is not None:
                try:
                    on_frame(name, number, payload, now_ns)
                except Exception:  # a boundary: the other mixes go on
                    log.exception("mixed_frame_failed")

    def _settle(self, number: int) -> None:
        """What was ordered up to this is obeyed."""
        due = [waiter for wanted, waiter in self._waiters if wanted <= number]
        self._waiters = [one for one in self._waiters if one[0] > number]
        for waiter in due:
            if not waiter.done():
                waiter.set_result(None)

    def _begin(self, sock: socket.socket, pid: int) -> None:
        self._sock, self.pid = sock, pid
        self._asked = 0
        self._unsaid = {mix_id: protocol.setup_to_bytes(setup) for mix_id, setup in self._setups.items()}
        self._say_what_is_left()
        self._ready.set()
        log.info("mixer_ready", pid=pid, mixes=len(self._setups))

    async def ready(self) -> None:
        """Wait until a mixer is there."""
        await self._ready.wait()
