"""WebRTC peers by the hundred: real ICE, DTLS and SRTP, but what they say was encoded once, and nothing is decoded.

    async with light_peers() as peers:  # a process of their own, so that their load stalls nobody
        peer = peers.make(7, "customer")  # person 7, with the customers' tone
        answer = ...(await peer.offer())
        await peer.answer(answer)
        ...
        ears = await peers.ears()  # what each person heard of whom, and when

A person says valid Opus packets of 60 ms: three frames of the tone and, as padding (RFC 6716 section 3.2.5), the
person's number. So who hears whom is read from the payload, whoever forwarded it, and a decoder hears the tone.
`LightPeer` is what `Customer` and `ScriptedAgent` use of `server.media.peer.Peer`. What a person hears is kept over
all their peers: a new one in the place of an old one makes no gap of its own.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from array import array
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import uvloop

from server.media.peer import FRAME, RATE, Heard, sine
from server.media.relay.aiortc_seam import Identity, SecureLink
from server.media.relay.link import Binding
from server.media.relay.rtp import HEADER
from server.media.relay.udp_ports import PortRange
from server.media.sdp import parse_offer
from server.process import die_with_parent
from tests.helpers.system import ROOT

PITCHES_HZ = {"customer": 440.0, "agent": 880.0}
LOOP_S = 3  # of the tone; whole packets and whole periods
WARM_UP_S = 1  # the encoder begins in another mode
FRAMES = 3  # of 20 ms in a packet
PACKET_S = 0.06
SLOTS = 6  # peers take turns within a packet's time, so that no burst of hundreds delays anybody
PAYLOAD_TYPE = 111
PERSON_BYTES = 4
STALL_S = 0.05
BUSY_S = 20.0  # the process has many answers to give
LINE_BYTES = 1 << 20
BINDING = Binding("127.0.0.1", ("127.0.0.1",))
OFFER = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF {payload_type}\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n"
    "a=rtpmap:{payload_type} opus/48000/2\r\na=ptime:60\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n"
    "a=fingerprint:sha-256 {print}\r\na=setup:actpass\r\n"
)


@dataclass(frozen=True)
class Ear:
    """What one person heard: of each other person (by number) the arrivals of their packets, seconds of the machine's
    monotonic clock. `other` counts packets that nobody of us said: music, comfort tone."""

    of: Mapping[int, list[float]]
    other: int


def encode_tone(pitch_hz: float) -> list[bytes]:
    """Opus packets of 60 ms, to be said in a loop, each to be followed by a person's number. Constant bit rate, so that
    three frames fit into one packet without lengths."""
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate, encoder.layout, encoder.format = RATE, "mono", "s16"
    encoder.bit_rate = 16_000
    encoder.options = {"vbr": "off", "application": "lowdelay", "frame_duration": "20"}
    samples = sine(pitch_hz)
    coded: list[bytes] = []
    for count in range((LOOP_S + WARM_UP_S) * RATE // FRAME):
        at = count * FRAME % len(samples)
        frame = av.AudioFrame.from_ndarray(samples[at : at + FRAME].reshape(1, -1), "s16", "mono")
        frame.sample_rate, frame.pts = RATE, count * FRAME
        coded += [bytes(packet) for packet in encoder.encode(frame)]
    coded = coded[-(LOOP_S * RATE // FRAME) :]
    heads, sizes = {packet[0] for packet in coded}, {len(packet) for packet in coded}
    assert len(heads) == len(sizes) == 1, (heads, sizes)
    head = bytes((heads.pop() & 0xFC | 3, 0x40 | FRAMES, PERSON_BYTES))
    return [head + b"".join(f[1:] for f in coded[i : i + FRAMES]) for i in range(0, len(coded), FRAMES)]


# --- in the test ---------------------------------------------------------------------------------------


class LightPeer:
    """`Peer`, as far as callers and agents need it."""

    def __init__(self, peers: LightPeers, number: int, person: int, tone: str) -> None:
        self._peers = peers
        self._number, self._person, self._tone = number, person, tone
        self.state = "new"
        self._heard = asyncio.Event()

    async def offer(self, candidates: bool = False) -> str:
        return str(await self._peers.ask("offer", self._number, person=self._person, tone=self._tone))

    async def answer(self, sdp: str) -> None:
        self.state = "connecting"
        await self._peers.ask("answer", self._number, sdp=sdp)

    def heard(self) -> Heard:
        """`at` is above 0 from the first packet on; pitch and level are not measured."""
        return Heard(0.0, 0.0, PACKET_S if self._heard.is_set() else 0.0)

    async def wait_for(self, good: Callable[[Heard], bool], timeout_s: float = 10, least_s: float = 0) -> Heard:
        async with asyncio.timeout(timeout_s):
            await self._heard.wait()
        return self.heard()

    async def close(self) -> None:
        if self.state != "closed":
            self.state = "closed"
            await self._peers.ask("close", self._number)

    def told(self, what: str) -> None:
        """By the process: connected, lost, heard."""
        if what == "heard":
            self._heard.set()
        elif self.state != "closed":
            self.state = {"lost": "failed"}.get(what, what)


class LightPeers:
    """The process that holds the peers, from outside. Made by `light_peers`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._peers: dict[int, LightPeer] = {}
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._asked = 0

    def make(self, person: int, tone: str) -> Any:
        """A new peer of this person; `Any`, since it stands where a `Peer` does."""
        number = len(self._peers)
        self._peers[number] = LightPeer(self, number, person, tone)
        return self._peers[number]

    async def ears(self) -> dict[int, Ear]:
        """What each person has heard so far."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ears.json"
            await self.ask("dump", 0, path=str(path))
            found = json.loads(path.read_text())
        return {
            int(person): Ear({int(other): at for other, at in ear["of"].items()}, ear["other"])
            for person, ear in found.items()
        }

    async def stalls(self) -> list[tuple[float, float]]:
        """(from, to), s of the monotonic clock: when the process itself did not get to run, so that nobody said or
        heard anything. What is heard late for that is no fault of who brought it."""
        return [(began, ended) for began, ended in await self.ask("stalls", 0)]

    async def cpu_s(self) -> float:
        """CPU time that the process has taken so far."""
        return float(await self.ask("cpu", 0))

    async def ask(self, what: str, peer: int, **more: object) -> Any:
        assert self.process.stdin is not None
        self._asked += 1
        answered = self._waiting[self._asked] = asyncio.get_running_loop().create_future()
        self.process.stdin.write(json.dumps({"id": self._asked, "do": what, "peer": peer, **more}).encode() + b"\n")
        async with asyncio.timeout(BUSY_S):
            return await answered

    async def read(self) -> None:
        """Take what the process says until it ends."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            said = json.loads(line)
            if "id" in said:
                waiting = self._waiting.pop(said["id"])
                if waiting.done():
                    continue
                if "error" in said:
                    waiting.set_exception(RuntimeError(said["error"]))
                else:
                    waiting.set_result(said["result"])
            else:
                self._peers[said["peer"]].told(said["told"])


@asynccontextmanager
async def light_peers() -> AsyncIterator[LightPeers]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.helpers.light_peer", cwd=ROOT, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES, preexec_fn=die_with_parent,
    )  # fmt: skip
    peers = LightPeers(process)
    reading = asyncio.create_task(peers.read())
    try:
        yield peers
    finally:
        assert process.stdin is not None
        process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        reading.cancel()
        await asyncio.wait([reading])


# --- in the process of its own -------------------------------------------------------------------------


class _Person:
    """What one person heard, over all their peers."""

    def __init__(self) -> None:
        self.of: dict[int, array[float]] = {}
        self.other = 0


class _LightPeer:
    """`LinkUser`: one peer connection."""

    def __init__(self, world: _World, number: int, person: int, tone: str) -> None:
        self._world = world
        self._number = number
        self._ear = world.people.setdefault(person, _Person())
        self._packets = [payload + person.to_bytes(PERSON_BYTES, "big") for payload in world.tones[tone]]
        self._link = SecureLink(self, world.unanswered, world.identity)
        self._ssrc = random.getrandbits(32)
        self._count = 0
        self._heard = False

    async def offer(self) -> str:
        await self._link.open([BINDING], self._world.ports, self._ssrc)
        link = self._link
        return OFFER.format(
            payload_type=PAYLOAD_TYPE, ufrag=link.ufrag, password=link.password, print=link.fingerprint.value
        )

    def answer(self, sdp: str) -> None:
        # The link was made before anybody answered; `ice_lite` made it the controlling one, as who offers is.
        self._link._offer = replace(parse_offer(sdp), ice_lite=False)
        self._link.start(self._world.tasks)

    def say(self) -> None:
        link = self._link
        if link.connected:
            count = self._count
            self._count += 1
            timestamp = count * FRAMES * FRAME & 0xFFFFFFFF
            head = HEADER.pack(0x80, PAYLOAD_TYPE, count & 0xFFFF, timestamp, self._ssrc)
            link.send_rtp(head + self._packets[count % len(self._packets)])

    async def close(self) -> None:
        await self._link.close()

    def on_connected(self) -> None:
        self._world.tell({"peer": self._number, "told": "connected"})

    def on_lost(self, reason: str) -> None:
        self._world.tell({"peer": self._number, "told": "lost"})

    def on_rtp(self, packet: bytes, now_ns: int) -> None:
        if not self._heard:
            self._heard = True
            self._world.tell({"peer": self._number, "told": "heard"})
        payload = packet[HEADER.size :]
        if payload[:-PERSON_BYTES] in self._world.known:
            speaker = int.from_bytes(payload[-PERSON_BYTES:], "big")
            self._ear.of.setdefault(speaker, array("d")).append(now_ns / 1e9)
        else:
            self._ear.other += 1

    def on_rtcp(self, packet: bytes, now_ns: int) -> None:
        pass

    def on_moved(self) -> None:
        pass

    def read_back(self) -> None:
        pass


class _World:
    def __init__(self, tasks: asyncio.TaskGroup, tell: Callable[[object], None]) -> None:
        self.tasks = tasks
        self.tell = tell
        self.identity = Identity()
        self.ports = PortRange()
        self.tones = {name: encode_tone(pitch) for name, pitch in PITCHES_HZ.items()}
        self.known = {payload for tone in self.tones.values() for payload in tone}
        self.people: dict[int, _Person] = {}
        self.stalls: list[tuple[float, float]] = []
        self._peers: dict[int, _LightPeer] = {}
        own = OFFER.format(payload_type=PAYLOAD_TYPE, ufrag="none", password="0" * 22, print="00:" * 31 + "00")
        self.unanswered = replace(parse_offer(own), ice_lite=True, dtls_role="passive")

    async def do(self, asked: Mapping[str, Any]) -> object:
        number = asked["peer"]
        match asked["do"]:
            case "offer":
                peer = self._peers[number] = _LightPeer(self, number, asked["person"], asked["tone"])
                return await peer.offer()
            case "answer":
                if number in self._peers:
                    self._peers[number].answer(asked["sdp"])
            case "close":
                if number in self._peers:
                    await self._peers.pop(number).close()
            case "dump":
                ears = {
                    person: {
                        "of": {o: [round(at, 4) for at in times] for o, times in ear.of.items()},
                        "other": ear.other,
                    }
                    for person, ear in self.people.items()
                }
                Path(asked["path"]).write_text(json.dumps(ears))
            case "stalls":
                return self.stalls
            case "cpu":
                return time.process_time()
        return None

    async def talk(self) -> None:
        """Everybody says a packet each 60 ms, in turns. Who is late catches up."""
        loop = asyncio.get_running_loop()
        began, turn = loop.time(), 0
        while True:
            turn += 1
            due = began + turn * PACKET_S / SLOTS
            await asyncio.sleep(max(0.0, due - loop.time()))
            if (now := loop.time()) - due > STALL_S:
                self.stalls.append((due, now))
                began += now - due  # a browser does not make up for it either
            for number, peer in self._peers.items():
                if number % SLOTS == turn % SLOTS:
                    peer.say()


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    output, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout)

    def tell(said: object) -> None:
        output.write(json.dumps(said).encode() + b"\n")

    async def answer(world: _World, asked: Mapping[str, Any]) -> None:
        try:
            tell({"id": asked["id"], "result": await world.do(asked)})
        except Exception as error:  # a boundary: the test is told what went wrong
            tell({"id": asked["id"], "error": repr(error)})

    async with asyncio.TaskGroup() as tasks:
        world = _World(tasks, tell)
        talking = tasks.create_task(world.talk())
        while line := await reader.readline():
            tasks.create_task(answer(world, json.loads(line)))
        talking.cancel()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()


if __name__ == "__main__":
    uvloop.run(_serve())
