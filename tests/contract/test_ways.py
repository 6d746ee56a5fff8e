"""A compiled way and Python's path are twins: the same datagrams give the same packets, statistics and recording.

Two phones at a session of the relay, on real sockets; each datagram is carried before the next is sent, so that both
twins see the same. Times differ from run to run: what depends on them is judged by itself."""

from __future__ import annotations

import asyncio
import base64
import ctypes
import random
import socket
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pylibsrtp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.domain.media import MediaPlan, OpenLeg, RecordingOrder, Route
from server.media.capture import CapturedPacket, open_file, part_files, read_capture
from server.media.relay import leg as legs
from server.media.relay import sockets, ways
from server.media.relay.aiortc_seam import Identity
from server.media.relay.leg import Anchor, Network
from server.media.relay.link import Binding
from server.media.relay.mixer import Mixer
from server.media.relay.music import Library
from server.media.relay.plain_link import PlainLink
from server.media.relay.rtp import HEADER, InStream, Packet
from server.media.relay.session import RelaySession, Studio
from server.media.relay.udp_ports import PortRange
from server.media.sdp import Codec
from tests.helpers.fuzz import examples

SUITE = "AES_CM_128_HMAC_SHA1_80"
HOST = "127.0.0.1"
TONE = bytes(range(1, 161))
LEVEL_ID = 3
PCMU = Codec("pcmu", 0, 8000)

pytestmark = pytest.mark.skipif(ways.load() is None, reason="there is no compiled part")


class Phone:
    """One side: a socket, and what it says and hears."""

    def __init__(self, secure: bool, number: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind((HOST, 0))
        self.to = (HOST, 0)
        self.sequence, self.timestamp, self.ssrc = 65530, 0xFFFFFF00, 1000 + number
        self._key = bytes(range(30)) if secure else None
        self._tx = self._session(self._key, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        self._rx: pylibsrtp.Session | None = None
        self.newest = b""

    @staticmethod
    def _session(key: bytes | None, direction: int) -> pylibsrtp.Session | None:
        return pylibsrtp.Session(pylibsrtp.Policy(key=key, ssrc_type=direction)) if key else None

    @property
    def sdp(self) -> str:
        profile = "SAVP" if self._key else "AVP"
        crypto = f"a=crypto:1 {SUITE} inline:{base64.b64encode(self._key).decode()}\r\n" if self._key else ""
        return (
            f"v=0\r\no=- 1 1 IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {HOST}\r\nt=0 0\r\n"
            f"m=audio {self.sock.getsockname()[1]} RTP/{profile} 0 8 101 13\r\n{crypto}"
            "a=rtpmap:101 telephone-event/8000\r\na=rtcp-mux\r\n"
        )

    def take(self, answer: str) -> None:
        self.to = HOST, int(next(x for x in answer.splitlines() if x.startswith("m=audio")).split()[1])
        crypto = next((x for x in answer.splitlines() if x.startswith("a=crypto")), None)
        if crypto is not None:
            key = base64.b64decode(crypto.split("inline:")[1].split("|")[0])
            self._rx = self._session(key, pylibsrtp.Policy.SSRC_ANY_INBOUND)

    def send(self, plain: bytes) -> None:
        try:
            self.newest = self._tx.protect(plain) if self._tx else plain
        except (pylibsrtp.Error, ValueError):  # an old number, or too long a packet: it can't be said
            return
        self.sock.sendto(self.newest, self.to)

    def heard(self) -> list[bytes]:
        got: list[bytes] = []
        while True:
            try:
                data = self.sock.recv(2048)
            except BlockingIOError:
                return got
            if not 191 < data[1] < 224:
                got.append(self._rx.unprotect(data) if self._rx else data)


@dataclass(frozen=True)
class Said:
    """A packet: steps from the one before it, and how it is made."""

    step: int = 1
    payload_type: int = 0
    marker: int = 0
    shape: str = "plain"
    size: int = 160
    other_ssrc: bool = False

    def bytes_by(self, phone: Phone) -> bytes:
        phone.sequence = phone.sequence + self.step & 0xFFFF
        phone.timestamp = phone.timestamp + 160 * self.step & 0xFFFFFFFF
        ssrc = phone.ssrc + (1 << 20 if self.other_ssrc else 0)
        kind = self.payload_type | 0x80 * self.marker
        payload = bytes((phone.sequence + at) % 253 + 1 for at in range(self.size))

        def head(first: int) -> bytes:
            return HEADER.pack(first, kind, phone.sequence, phone.timestamp, ssrc)

        level = bytes((LEVEL_ID << 4, 0x80 | phone.sequence % 128))
        match self.shape:
            case "level":
                return head(0x90) + struct.pack("!HH", 0xBEDE, 1) + level + b"\0\0" + payload
            case "level and more":
                return head(0x90) + struct.pack("!HH", 0xBEDE, 2) + level + b"\x51ab" + bytes(3) + payload
            case "level later":
                return head(0x90) + struct.pack("!HH", 0xBEDE, 2) + b"\x51ab" + level + bytes(3) + payload
            case "empty extension":
                return head(0x90) + struct.pack("!HH", 0xBEDE, 0) + payload
            case "two-byte extension":
                return head(0x90) + struct.pack("!HH", 0x1000, 1) + bytes((LEVEL_ID, 1, 9, 0)) + payload
            case "extension too long":
                return head(0x90) + struct.pack("!HH", 0xBEDE, 0xFFF0) + level + payload
            case "padding":
                return head(0xA0) + payload + b"\0\0\0\4"
            case "contributor":
                return head(0x81) + bytes(4) + payload
        return head(0x80) + payload


@dataclass(frozen=True)
class Datagram:
    """As it is."""

    data: bytes


@dataclass
class Told:
    """What came of it, without what depends on the time or on dice."""

    heard: list[Any] = field(default_factory=list)
    recorded: list[Any] = field(default_factory=list)
    numbers: list[Any] = field(default_factory=list)
    jitter: float = 0.0
    carried: int = 0  # packets that did not come by Python
    capture: list[list[CapturedPacket]] = field(default_factory=list)


Step = Said | Datagram | str
STEADY = [Said(shape="level")] * 4


class Call:
    """A session with two phones."""

    def __init__(self, folder: Path, compiled: bool, secure: tuple[bool, bool], tasks: asyncio.TaskGroup) -> None:
        self.phones = [Phone(one, number) for number, one in enumerate(secure)]
        self.table = sockets.of_loop()
        self.table.ways = ways.load() if compiled else None
        network = Network((Binding(HOST, (HOST,)),), PortRange(), Identity(), tasks)
        studio = Studio(network, Library(None), folder, open_file, asyncio.Event(), Mixer())
        self.session = RelaySession("t", "s", 1, studio, lambda report: None)
        self.files = part_files(folder, "t", "s", "r", 1)
        self.stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.python = 0
        self.told = Told()

    async def open(self, level: bool = True) -> None:
        for name, phone in zip("ab", self.phones, strict=True):
            phone.take(await self.session.open_leg(OpenLeg(name, 1, phone.sdp, plain=True)))
        self.plan()
        await asyncio.sleep(0)
        for name in "ab":
            anchor = self.anchor(name)
            if level:
                anchor._level_id = anchor.out._level_id = LEVEL_ID
            self._spy(anchor)
        for said in (Said(), Said(), Said()):  # the peers are found
            for phone in self.phones:
                self.do(said, phone)
        self.told.heard.clear()

    def _spy(self, anchor: Anchor) -> None:
        link, on_rtp = cast(PlainLink, anchor.link), anchor.on_rtp

        class User:
            def __getattr__(self, name: str) -> Any:
                return getattr(anchor, name)

            def on_rtp(_, data: bytes, now_ns: int) -> None:
                self.python += 1
                on_rtp(data, now_ns)

        link._user = cast(Any, User())

    def anchor(self, name: str) -> Anchor:
        return self.session.legs[name].anchors[-1]

    def plan(self, talk: bool = True, paused: bool = False, record: bool = True) -> None:
        routes = (Route("a", "b"), Route("b", "a")) if talk else (Route("a", "silence"), Route("b", "silence"))
        recording = RecordingOrder("r", 1, "a", "b", paused) if record else None
        self.session.apply(MediaPlan(routes, recording))

    def do(self, step: Step, phone: Phone | None = None) -> None:
        """Carry it out, and hear what it led to."""
        phone = phone or self.phones[0]
        match step:
            case Said():
                phone.send(step.bytes_by(phone))
            case Datagram(data):
                phone.sock.sendto(data, phone.to)
            case "again":
                phone.sock.sendto(phone.newest, phone.to)
            case "damaged":
                phone.sock.sendto(Said().bytes_by(phone) + bytes(10), phone.to)
            case "stranger":
                self.stranger.sendto(Said().bytes_by(phone), phone.to)
            case "other way":
                self.do(Said(shape="level"), self.phones[1])
            case "hold":
                self.plan(talk=False)
            case "talk":
                self.plan()
            case "pause":
                self.plan(paused=True)
            case "flush":
                self.session.flush()
            case "look":
                for name in "ab":
                    self.anchor(name).rtcp_at = 0.0
                    self.anchor(name).check(0.0)
                    telemetry = self.session.legs[name].telemetry()
                    assert telemetry is not None
                    self.told.numbers.append((telemetry.packets_in, telemetry.packets_out, telemetry.level_dbov))
        self.table._look()
        for to, one in enumerate(self.phones):
            self.told.heard += [(to, *self._about(data)) for data in one.heard()]

    def _about(self, data: bytes) -> tuple[Any, ...]:
        first, kind, sequence, timestamp, ssrc = HEADER.unpack_from(data)
        return first, kind, sequence, timestamp, ssrc, data[12:]

    def end(self) -> Told:
        told = self.told
        for name in "ab":
            anchor = self.anchor(name)
            anchor.end_ways()
            stream, link, out = anchor.stream, cast(PlainLink, anchor.link), anchor.out
            assert stream is not None
            told.numbers += [stream.ssrc, stream.highest - stream.base, stream.received, stream.lost]
            told.numbers += [anchor.packets_in, anchor.lost_before, anchor.level, anchor.says.name]
            told.numbers += [link.dropped_stranger, link.dropped_srtp, link.unsent]
            told.numbers += [out.packets, out.octets, out.unsendable]
        told.jitter = cast(InStream, self.anchor("a").stream).jitter
        told.carried = sum(self.anchor(name).packets_in for name in "ab") - self.python
        self.session.close()
        for path in (self.files.customer, self.files.agent):
            segments = read_capture(path.read_bytes())
            assert all(segment.complete for segment in segments)
            told.capture.append([packet for segment in segments for packet in segment.packets])
        told.recorded = [[packet[1:] for packet in side] for side in told.capture]
        told.heard = list(relative(told.heard))
        return told

    def close(self) -> None:
        self.stranger.close()
        for phone in self.phones:
            phone.sock.close()


def relative(heard: list[Any]) -> Iterator[Any]:
    """Numbers from the first of its stream on, and times from the one before it: at a switch time is a matter of the
    clock, and the marker says so."""
    firsts: dict[int, int] = {}
    before: dict[int, int] = {}
    for to, first, kind, sequence, timestamp, _, rest in heard:
        firsts.setdefault(to, sequence)
        step = None if kind & 0x80 or to not in before else timestamp - before[to] & 0xFFFFFFFF
        before[to] = timestamp
        yield to, first, kind, sequence - firsts[to] & 0xFFFF, step, rest


def play(steps: list[Step], compiled: bool, secure: tuple[bool, bool], level: bool = True) -> Told:
    async def run() -> Told:
        with tempfile.TemporaryDirectory() as folder:
            async with asyncio.TaskGroup() as tasks:
                call = Call(Path(folder), compiled, secure, tasks)
                try:
                    await call.open(level)
                    for step in steps:
                        call.do(step)
                    return call.end()
                finally:
                    call.close()

    with no_wait_for_codecs():
        return asyncio.run(run())


@contextmanager
def no_wait_for_codecs() -> Iterator[None]:
    """How fast a run is must not decide which switch is followed."""
    before, legs.SWITCH_EVERY_NS = legs.SWITCH_EVERY_NS, -1
    try:
        yield
    finally:
        legs.SWITCH_EVERY_NS = before


def alike(steps: list[Step], secure: tuple[bool, bool], level: bool = True) -> Told:
    compiled, python = play(steps, True, secure, level), play(steps, False, secure, level)
    assert compiled.heard == python.heard
    assert compiled.recorded == python.recorded
    assert compiled.numbers == python.numbers
    assert python.carried <= 0  # Python saw all, and some that count for nothing
    return compiled


SHAPES = (
    "plain", "level", "level and more", "level later", "empty extension", "two-byte extension", "extension too long",
    "padding", "contributor",
)  # fmt: skip
said = st.builds(
    Said,
    step=st.sampled_from((1, 1, 1, 1, 2, 5, -1, -2, 0, 100, 3000, 3001, 40000)),
    payload_type=st.sampled_from((0, 0, 0, 0, 8, 101, 13, 77)),
    marker=st.sampled_from((0, 0, 0, 1)),
    shape=st.sampled_from(("plain", "level", *SHAPES)),
    size=st.sampled_from((160, 160, 160, 0, 1, 3, 40, 1340, 1460)),
    other_ssrc=st.sampled_from((False, False, False, False, True)),
)
steps = st.lists(
    st.one_of(
        st.just(Said(shape="level")),
        said,
        st.sampled_from(("again", "damaged", "stranger", "other way", "hold", "talk", "pause", "flush", "look")),
        st.builds(Datagram, st.binary(max_size=40)),
        st.builds(
            Datagram, st.builds(lambda head, size: head + bytes(size), st.binary(max_size=20), st.integers(0, 3000))
        ),
    ),
    min_size=1,
    max_size=40,
)
SECURE = [(False, False), (True, False), (False, True), (True, True)]


@pytest.mark.parametrize("secure", SECURE)
@pytest.mark.parametrize("level", [True, False])
def test_steady_speech_is_carried_without_python(secure: tuple[bool, bool], level: bool) -> None:
    speech: list[Step] = [Said(shape="level"), Said(), "other way"]
    told = alike([*STEADY, *speech * 30, "look"], secure, level)
    assert told.carried >= 85
    assert len(told.recorded[0]) == 66 + secure[0]  # the first of those in the clear settles nothing yet
    assert len(told.heard) == 94


@pytest.mark.parametrize("secure", SECURE)
@given(steps=steps)
@settings(deadline=None, max_examples=examples(60))
@pytest.mark.hypothesis
def test_any_datagrams_lead_to_the_same(secure: tuple[bool, bool], steps: list[Step]) -> None:
    alike([*STEADY, *steps, *STEADY], secure)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_among_the_usual_ones(shape: str) -> None:
    for size in (0, 1, 2, 3, 8, 160):
        alike([*STEADY, Said(shape=shape, size=size), *STEADY], (True, True))


def test_the_jitter_is_that_of_the_formula() -> None:
    """By the times that the recording holds, which are those that it was reckoned with."""
    told = play([*STEADY * 20], True, (True, False))
    stream: InStream | None = None
    for at_ns, ssrc, _, _, sequence, timestamp, payload in told.capture[0]:
        packet = Packet(PCMU, 0, sequence, timestamp, ssrc, payload, None)
        stream = stream or InStream(packet)
        stream.add(packet, at_ns)
    assert stream is not None
    assert told.carried > 70
    assert told.jitter == pytest.approx(stream.jitter, rel=1e-3)


def test_the_checksum_is_zlibs() -> None:
    library = ways.load()
    assert library is not None
    crc = library._library.ways_crc
    crc.argtypes, crc.restype = [ctypes.c_char_p, ctypes.c_size_t], ctypes.c_uint32
    dice = random.Random(1)
    for size in (*range(40), 1500):
        data = dice.randbytes(size)
        assert crc(data, size) == zlib.crc32(data)


@contextmanager
def running(secure: tuple[bool, bool] = (True, False)) -> Iterator[Any]:
    """A call whose ways lie, for a test that has no twin: `run(test)` with an async function of the call."""

    def run(test: Any) -> None:
        async def inner() -> None:
            with tempfile.TemporaryDirectory() as folder:
                async with asyncio.TaskGroup() as tasks:
                    call = Call(Path(folder), True, secure, tasks)
                    try:
                        await call.open()
                        for step in STEADY:
                            call.do(step)
                            call.do(step, call.phones[1])
                        call.told.heard.clear()
                        assert call.anchor("a")._way is not None
                        assert call.anchor("b")._way is not None
                        await test(call)
                        call.session.close()
                    finally:
                        call.close()

        asyncio.run(inner())

    yield run


def test_what_changes_ends_the_way_at_once() -> None:
    async def check(call: Call) -> None:
        def lies() -> tuple[bool, bool]:
            return call.anchor("a")._way is not None, call.anchor("b")._way is not None

        for change in ("pause", "talk", "hold"):
            call.do(change)
            assert lies() == (False, False), change
            if change != "hold":
                for step in STEADY:
                    call.do(step)
                    call.do(step, call.phones[1])
                assert lies() == (True, True), f"laid again after {change}"
        call.told.heard.clear()
        for step in STEADY:
            call.do(step)
        assert call.told.heard == [], "who is held is not heard"

    with running() as run:
        run(check)


def test_a_pause_keeps_nothing_of_what_is_said_in_it() -> None:
    async def check(call: Call) -> None:
        call.do("pause")
        paused_at = call.phones[0].sequence
        for step in STEADY * 3:
            call.do(step)
        assert call.anchor("a")._way is not None, "and is carried meanwhile"
        resumed_at = call.phones[0].sequence
        call.do("talk")
        for step in STEADY:
            call.do(step)
        call.session.close()
        (segment,) = read_capture(call.files.customer.read_bytes())
        kept = {packet.sequence for packet in segment.packets}
        assert paused_at in kept
        assert not {(paused_at + n) & 0xFFFF for n in range(1, (resumed_at - paused_at & 0xFFFF) + 1)} & kept
        assert (resumed_at + 1) & 0xFFFF in kept

    with running() as run:
        run(check)


def test_keys_that_are_pressed_take_the_stream_over() -> None:
    """One stream, one numbering: what the way has sent is not sent again under the same number."""

    async def check(call: Call) -> None:
        call.session.legs["b"].dial("1")
        for _ in range(40):
            call.do(Said())
            await asyncio.sleep(0.01)
        sequences = [sequence for to, _, _, sequence, *_ in call.told.heard if to == 1]
        assert any(kind & 0x7F == 101 for to, _, kind, *_ in call.told.heard if to == 1)
        assert len(sequences) == len(set(sequences)) > 20

    with running((True, True)) as run:
        run(check)


def test_a_socket_that_is_closed_leaves_no_way_to_its_number() -> None:
    async def check(call: Call) -> None:
        table = call.table.ways
        assert table is not None
        call.session.close_leg("b")
        assert (table._laid, table._leaving) == ({}, {})
        for step in STEADY:
            call.do(step)
        assert [one for one in call.told.heard if one[0] == 1] == []

    with running() as run:
        run(check)


def test_an_hour_between_two_flushes_loses_nothing() -> None:
    """Records that nobody collects go by Python when their room is full."""
    told = alike([*STEADY, *[Said(size=1200)] * 60], (False, False))
    assert len(told.recorded[0]) == 66
