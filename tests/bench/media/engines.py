"""What carries the benchmark's calls: a media worker of ours, or rtpengine (Debian's, in user space)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import shutil
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from server.domain.media import LegUp, OpenLeg, RecordingOrder, ReleaseSession
from server.media.archive_jobs import ArchiveJobs
from server.media.capture import part_files
from tests.bench.media.load import Browser, Phone, Ready
from tests.helpers.rtc_peer import Rig, running
from tests.helpers.sealing import RING

SPEAK_EVERY_S = 0.1
ANSWER_S = 5.0
SERVER_CORE = 0


class Engine(Protocol):
    """`pid`: the process that is billed."""

    pid: int

    async def connect(self, session: str, phones: bool) -> list[Ready]:
        """One bridged, recorded call: a browser, and a phone or another browser."""
        ...


class Relay:
    """A media worker."""

    def __init__(self, rig: Rig) -> None:
        assert rig.worker.process is not None
        self.rig = rig
        self.pid = rig.worker.process.pid

    async def connect(self, session: str, phones: bool) -> list[Ready]:
        caller, legs = self.rig.caller(session), []
        await caller.bridge(RecordingOrder(f"r-{session}", 1, "customer", "agent"))
        agent = Phone() if phones else Browser()
        for leg_id, peer in (("customer", Browser()), ("agent", agent)):
            result = await caller.order(OpenLeg(leg_id, 1, await peer.offer(), plain=isinstance(peer, Phone)))
            legs.append(await peer.answer(result.sdp or ""))
            up = asyncio.create_task(self.rig.listener.until_report(LegUp(leg_id, 1), session=session))
            while not up.done():
                await peer.speak()
                await asyncio.wait({up}, timeout=SPEAK_EVERY_S)
            await up
        return legs

    async def release(self, session: str) -> None:
        await self.rig.caller(session, epoch=2).order(ReleaseSession())

    async def finalise(self, sessions: Sequence[str]) -> list[float]:
        """End these calls and archive their recordings one after the other, as a node does; CPU ms for each second of a
        recording, the start of the process that does it included."""
        duration_ms = 0
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        async with ArchiveJobs(idle_s=60) as jobs:
            for session in sessions:
                await self.release(session)
                files = part_files(self.rig.worker.spool, "default", session, f"r-{session}", 1)
                customer, agent = (self.rig.worker.folder / f"{session}.{side}.opus" for side in ("customer", "agent"))
                duration_ms += (await jobs.archive([files], customer, agent, seal=RING.new_seal())).duration_ms
        after = resource.getrusage(resource.RUSAGE_CHILDREN)  # of children that have ended
        used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return [1e6 * used_s / duration_ms]


@contextlib.asynccontextmanager
async def relay(folder: Path) -> AsyncIterator[Relay]:
    async with running(folder, "--bind", "127.0.0.1", "--capacity", "2000", "--log-level", "error") as rig:
        engine = Relay(rig)
        _pin(engine.pid)
        yield engine


def _pin(pid: int) -> None:
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {SERVER_CORE})


def encode(value: object) -> bytes:
    """Bencode, as rtpengine's NG protocol speaks it (BEP 3)."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, Mapping):
        pairs = sorted((str(key).encode(), one) for key, one in value.items())
        return b"d" + b"".join(encode(key) + encode(one) for key, one in pairs) + b"e"
    assert isinstance(value, Sequence), value
    return b"l" + b"".join(encode(one) for one in value) + b"e"


def decode(data: bytes, at: int = 0) -> tuple[object, int]:
    """The value that begins there, and where it ends."""
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1 : end]), end + 1
    if kind in (b"l", b"d"):
        found, at = [], at + 1
        while data[at : at + 1] != b"e":
            one, at = decode(data, at)
            found.append(one)
        if kind == b"l":
            return found, at + 1
        return dict(zip(map(_text, found[::2]), found[1::2], strict=True)), at + 1
    colon = data.index(b":", at)
    end = colon + 1 + int(data[at:colon])
    return data[colon + 1 : end], end


def _text(value: object) -> str:
    assert isinstance(value, bytes)
    return value.decode()


class Rtpengine:
    """A daemon, ordered about by its NG protocol over UDP."""

    def __init__(self, pid: int, address: tuple[str, int]) -> None:
        self.pid = pid
        self._address = address
        self._cookies = itertools.count()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.connect(address)
        self._one_at_a_time = asyncio.Lock()

    async def ask(self, **order: object) -> dict[str, object]:
        """Raises TimeoutError; RuntimeError when the order is refused."""
        cookie = b"%d" % next(self._cookies)
        loop = asyncio.get_running_loop()
        async with self._one_at_a_time, asyncio.timeout(ANSWER_S):
            named = {key.replace("_", "-"): value for key, value in order.items()}
            await loop.sock_sendall(self._socket, cookie + b" " + encode(named))
            said = b""
            while said != cookie:
                said, _, body = (await loop.sock_recv(self._socket, 65535)).partition(b" ")
        answer, _ = decode(body)
        assert isinstance(answer, dict)
        if answer.get("result") not in (b"ok", b"pong"):
            raise RuntimeError(str(answer))
        return answer

    async def connect(self, session: str, phones: bool) -> list[Ready]:
        if not phones:
            raise NotImplementedError("the yardstick is browser to phone")
        browser, phone = Browser(), Phone()
        call: dict[str, object] = {"call_id": session, "from_tag": "customer", "replace": ["origin"]}
        call["record_call"] = "on"
        offered = await self.ask(
            command="offer", sdp=await browser.offer(), transport_protocol="RTP/AVP", ICE="remove", DTLS="off",
            SDES=["off"], rtcp_mux=["demux"], **call,
        )  # fmt: skip
        legs = [await phone.answer(_sdp(offered))]
        answered = await self.ask(
            command="answer", to_tag="agent", sdp=await phone.offer(), transport_protocol="UDP/TLS/RTP/SAVPF",
            ICE="force", SDES=["off"], **call,
        )  # fmt: skip
        return [await browser.answer(_sdp(answered)), *legs]


def _sdp(answer: Mapping[str, object]) -> str:
    sdp = answer["sdp"]
    assert isinstance(sdp, bytes)
    return sdp.decode()


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.asynccontextmanager
async def rtpengine(folder: Path) -> AsyncIterator[Rtpengine | None]:
    """None where it is not installed. Raw pcap files are what it records at the least cost."""
    program = shutil.which("rtpengine")
    if program is None:
        yield None
        return
    spool, port, pidfile = folder / "rtpengine", _free_port(), folder / "rtpengine.pid"
    spool.mkdir()
    process = await asyncio.create_subprocess_exec(
        program, "--foreground", "--table=-1", "--interface=127.0.0.1", f"--listen-ng=127.0.0.1:{port}",
        "--port-min=40000", "--port-max=48999", "--log-stderr", "--log-level=3", f"--pidfile={pidfile}",
        "--num-threads=1", f"--recording-dir={spool}", "--recording-method=pcap", "--recording-format=raw",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    engine = Rtpengine(process.pid, ("127.0.0.1", port))
    try:
        await _answers(engine)
        _pin(process.pid)
        yield engine
    finally:
        process.kill()  # it has nothing to keep
        await process.wait()


async def _answers(engine: Rtpengine) -> None:
    async with asyncio.timeout(10 * ANSWER_S):
        while True:
            try:
                await engine.ask(command="ping")
                return
            except (OSError, TimeoutError):  # it does not listen yet
                await asyncio.sleep(SPEAK_EVERY_S)
