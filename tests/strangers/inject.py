"""Strangers who send RTP into running calls: how much of it arrives at the worker, and how much at anybody's ear.

The worker runs in this process, so that what it drops can be counted: a packet that the kernel dropped proves nothing.
Four calls; a phone listens in each, and remembers all that it is sent. Strangers pretend to be who speaks to it:

| call | the leg under attack | what strangers know |
| --- | --- | --- |
| locked | a phone that speaks | its ports, codec, SSRC and the sequence number it is at |
| browser | a browser that speaks G.711 | its ports and codec, and they guess SSRCs |
| silent | a phone that has not spoken yet | its ports and codec, and they guess SSRCs and numbers |
| keyed | a phone with SDES that has not spoken yet | all but the key: they send whole streams in sequence |

A stranger who sends a whole stream in the clear to a phone's leg before the phone has spoken, and after the address of
its SDP was silent for a while, can't be told from a phone behind a NAT; so "silent" is attacked with guesses only.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from server.domain.media import ApplyPlan, MediaOrder, MediaPlan, OpenLeg, ReleaseSession, Route
from server.media.peer import Peer
from server.media.relay.aiortc_seam import SecureLink
from server.media.relay.leg import Leg
from server.media.relay.link import Binding
from server.media.relay.plain_link import PlainLink
from server.media.relay.udp_ports import PortRange
from server.media.relay.worker import Worker, WorkerSettings
from server.services.ports import OrderResult, OrderStamp
from tests.helpers.plain_peer import PlainPeer, plain_peer

MARK = b"strangers were here "
PAYLOAD = MARK * 8  # 160 bytes: 20 ms of G.711
SOURCES = 256  # sockets
HOSTS = 16  # addresses of the loopback network that they are on; the first is the peers' own
BURST = 64
PATIENCE = 100  # turns of the loop
SUITE = "AES_CM_128_HMAC_SHA1_80"


@dataclass
class Injected:
    """`arrived`: packets of strangers that the worker read and dropped. `strange`: those that somebody was sent.
    `heard`: packets that the listeners were sent in all."""

    sent: int = 0
    arrived: int = 0
    strange: int = 0
    heard: int = 0
    by_call: dict[str, tuple[int, int]] = field(default_factory=dict)  # arrived, strange


@dataclass
class Call:
    name: str
    ports: list[int]
    leg: Leg
    listener: PlainPeer
    speaker: PlainPeer | None  # whose SSRC and numbers strangers know
    streams: bool  # they send in sequence

    @property
    def dropped(self) -> int:
        links = [cast(SecureLink | PlainLink, anchor.link) for anchor in self.leg.anchors]
        return sum(link.dropped_stranger + link.dropped_srtp for link in links)

    @property
    def strange(self) -> int:
        return sum(count for payload, count in self.listener.payloads.items() if MARK[:8] in payload)

    def packet(self, dice: random.Random, number: int) -> bytes:
        ssrc, sequence, stamp = dice.getrandbits(32), dice.getrandbits(16), dice.getrandbits(32)
        if self.streams:
            ssrc, sequence, stamp = 7, number // SOURCES & 0xFFFF, number * 160 & 0xFFFFFFFF
        elif self.speaker is not None and number % 2:
            ssrc, sequence = self.speaker.ssrc, (self.speaker._sequence + dice.randrange(1, 6)) & 0xFFFF
        return struct.pack("!BBHII", 0x80, 0, sequence, stamp, ssrc) + PAYLOAD


class _Worker:
    """A worker in this process, with one session a call."""

    def __init__(self, folder: Path, tasks: asyncio.TaskGroup) -> None:
        bindings = (Binding("127.0.0.1", ("127.0.0.1",)),)
        self._worker = Worker(WorkerSettings("w", folder, bindings, PortRange(), 100), tasks)
        self._worker.start()
        self._version = 0

    async def order(self, session: str, order: MediaOrder) -> OrderResult:
        self._version += 1
        return await self._worker.order(OrderStamp("default", session, 1, self._version, 0), order)

    def leg(self, session: str, leg_id: str) -> Leg:
        return self._worker._sessions[session].legs[leg_id]

    async def bridge(self, session: str, listener: PlainPeer, offer: str) -> str:
        """The answer to the customer's offer."""
        plain = "UDP/TLS" not in offer
        await self.order(session, ApplyPlan(MediaPlan((Route("customer", "agent"), Route("agent", "customer")))))
        answer = await self.order(session, OpenLeg("customer", 1, offer, plain=plain))
        heard = await self.order(session, OpenLeg("agent", 1, listener.offer(), plain=True))
        listener.take(heard.sdp or "")
        return answer.sdp or ""


def _ports(sdp: str) -> list[int]:
    found = [int(port) for port in re.findall(r"^m=audio (\d+)", sdp, re.MULTILINE)]
    return found if "a=candidate" in sdp or "a=rtcp-mux" in sdp else [*found, found[0] + 1]


@asynccontextmanager
async def _calls(worker: _Worker) -> AsyncIterator[list[Call]]:
    async with AsyncExitStack() as stack:
        ears = [await stack.enter_async_context(plain_peer(880)) for _ in range(4)]
        speaker = await stack.enter_async_context(plain_peer(440))
        silent = await stack.enter_async_context(plain_peer(0))
        keyed = await stack.enter_async_context(plain_peer(0, suite=SUITE))
        browser = Peer(440)
        stack.push_async_callback(browser.close)
        answers = {}
        answers["locked"] = await worker.bridge("locked", ears[0], speaker.offer())
        speaker.take(answers["locked"])
        offer = re.sub(r"(m=audio \d+ \S+) .*", r"\1 0", await browser.offer())
        answers["browser"] = await worker.bridge("browser", ears[1], offer)
        await browser.answer(answers["browser"])
        answers["silent"] = await worker.bridge("silent", ears[2], silent.offer())
        answers["keyed"] = await worker.bridge("keyed", ears[3], keyed.offer())
        await asyncio.gather(ears[0].wait_tone(440), ears[1].wait_tone(440))
        known = {"locked": speaker}
        yield [
            Call(name, _ports(answer), worker.leg(name, "customer"), ear, known.get(name), streams=name == "keyed")
            for (name, answer), ear in zip(answers.items(), ears, strict=True)
        ]
        await asyncio.gather(ears[0].wait_tone(440), ears[1].wait_tone(440))
        for name in answers:
            await worker.order(name, ReleaseSession())


def _sources(count: int) -> list[socket.socket]:
    found = []
    for number in range(count):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((f"127.0.0.{1 + number % HOSTS}", 0))
        sock.setblocking(False)
        found.append(sock)
    return found


async def _spray(calls: Sequence[Call], sources: Sequence[socket.socket], count: int, found: Injected) -> None:
    dice = random.Random(1)
    before = {call.name: call.dropped for call in calls}
    for number in range(count):
        call = calls[number % len(calls)]
        turn = number // len(calls)
        source = sources[turn % len(sources)]
        source.sendto(call.packet(dice, turn), ("127.0.0.1", dice.choice(call.ports)))
        found.sent += 1
        if number % BURST == BURST - 1:
            await asyncio.sleep(0)  # the worker reads: no more may wait than a socket holds
            await _read(calls, before, found.sent)
    await _read(calls, before, found.sent)
    for call in calls:
        found.by_call[call.name] = (call.dropped - before[call.name], call.strange)


async def _read(calls: Sequence[Call], before: Mapping[str, int], sent: int) -> None:
    """Until the worker has read all of it, or what is left was lost on the way."""
    for _ in range(PATIENCE):
        if sum(call.dropped - before[call.name] for call in calls) >= sent:
            return
        await asyncio.sleep(0)


async def inject(folder: Path, count: int) -> Injected:
    """Send so many packets into four calls."""
    found, sources = Injected(), _sources(SOURCES)
    try:
        async with asyncio.TaskGroup() as tasks:
            worker = _Worker(folder, tasks)
            async with _calls(worker) as calls:
                await _spray(calls, sources, count, found)
                found.heard = sum(sum(call.listener.payloads.values()) for call in calls)
            found.arrived = sum(arrived for arrived, _ in found.by_call.values())
            found.strange = sum(call.strange for call in calls)
            worker._worker.close()
            raise _Over
    except* _Over:
        pass
    finally:
        for source in sources:
            source.close()
    return found


class _Over(Exception):
    """Ends the worker's timers."""
