"""A leg and its peer connections ("anchors"), one for each generation.

    opening ──► connected (ICE + DTLS) ──► up (and RTP came) ──► closed
       └────────────┴───── setup_timeout, failed, lost ──────────┘

The anchor's link is what the SDP asks for: ICE, DTLS and SRTP to a browser, RTP to a phone. A phone that we call is
offered something first; its anchor is `opening` until it answers and speaks. One that holds us (it said that it will
send nothing) is up as soon as it is connected, and its silence alarms nobody.

A leg *speaks* through its newest anchor that is up and is *spoken to* there as well; before the first one is
up, sound goes to the newest connected one, so that a silent microphone hears music. When a newer anchor comes
up, the older ones close. Only the newest generation is reported on. Before an anchor is opened, all but the one
that is spoken to are closed and their ports free again: a leg never holds more than two, however many offers come.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
import zlib
from dataclasses import dataclass
from typing import Protocol

import structlog

from server.domain.media import DigitPressed, LegDown, LegQuiet, LegUp, MediaReport, OfferLeg
from server.media.mixer.formats import SPEECH
from server.media.relay import dtmf, rtcp, rtp
from server.media.relay.aiortc_seam import Identity, SecureLink
from server.media.relay.dialer import Dialer
from server.media.relay.link import Binding, Link
from server.media.relay.plain_link import PlainLink
from server.media.relay.recorder import PartRecorder
from server.media.relay.rtp import InStream, OutStream, Packet
from server.media.relay.sockets import of_loop
from server.media.relay.udp_ports import PortRange
from server.media.relay.ways import Laying, Way, Ways
from server.media.sdp import Codec, Offer, parse_offer
from server.media.sdp_plain import PlainMedia, is_plain, our_offer, parse_plain
from server.services.ports import LegTelemetry, MediaError

log = structlog.get_logger(__name__)

SETUP_TIMEOUT_S = 10.0
QUIET_S = 2.0  # longer than any jitter, shorter than a caller's "hello?"
RTP_LOST_S = 60.0  # connected, but no sound for so long: the peer's audio is broken, a new anchor may cure it
PHONE_SETUP_TIMEOUT_S = RTP_LOST_S  # signalling says whether a phone is there; it may ring without a sound
RINGING_TIMEOUT_S = 190.0  # nobody answered our offer: SIP gives up before (timer C, RFC 3261 section 16.6)
CLOSE_TIMEOUT_S = 2.0
SWITCH_EVERY_NS = 200_000_000  # a peer that changes its codec more often is followed at this pace


@dataclass(frozen=True, slots=True)
class Network:
    """What a worker gives each of its legs."""

    bindings: tuple[Binding, ...]
    ports: PortRange
    identity: Identity
    tasks: asyncio.TaskGroup

    @property
    def loopback(self) -> bool:
        """The worker is on loopback alone: so may its peers be."""
        return all(ipaddress.ip_address(binding.bind).is_loopback for binding in self.bindings)


class LegUser(Protocol):
    """The session a leg belongs to."""

    def report(self, report: MediaReport) -> None: ...

    def rewire(self) -> None:
        """Some leg can be heard or reached that could not before, or the other way round."""


class Anchor:
    """One peer connection of a leg. `offer`: what the peer said, or with `offering` what we ask until it answers."""

    def __init__(
        self, leg: Leg, generation: int, offer: Offer | PlainMedia, network: Network, offering: bool = False
    ) -> None:
        self.leg = leg
        self.generation = generation
        self.offer = offer
        self.offering = offering
        self.called = offer.codecs if offering else ()  # what was offered to the peer
        self.link: Link
        if isinstance(offer, PlainMedia):
            origin = zlib.crc32(f"{leg.session_id}/{leg.leg_id}".encode()), generation
            self.link = PlainLink(self, offer, origin, offering)
        else:
            self.link = SecureLink(self, offer, network.identity)
        self.out = OutStream(offer.codecs, offer.audio_level_id, self.link.send_rtp, self.link)
        self.stream: InStream | None = None
        self.up = False
        self.up_at = 0.0
        self.quiet = False
        self.silent = False
        self.quiet_changes = 0
        self.closed = False
        self.opened_at = time.monotonic()
        self.rtp_at = self.opened_at
        self.rtcp_at = 0.0
        self.packets_in = 0
        self.lost_before = 0
        self.level = rtp.NO_LEVEL
        self._sounded = False  # something else than digital silence came
        self.dialer = Dialer(leg.user.rewire)
        self._hushed = False  # comfort noise came last: the silence that follows is meant (RFC 3389)
        self._keys = dtmf.KeyReader()
        self._presses = 0
        self.says = offer.codecs[0]  # what the peer sends: the first of the answer, until it sends something else
        self._says_since_ns = 0
        self._warned = False
        self._closing: asyncio.Task[None] | None = None
        self._network = network
        self._ways = of_loop().ways
        self._way: Way | None = None  # that brings what the peer says to who hears it
        self._codecs = {codec.payload_type: codec for codec in offer.codecs}
        self._level_id = offer.audio_level_id

    async def open(self) -> str:
        """Open sockets, start connecting; returns the SDP answer. Raises MediaError(no_ports)."""
        answer = await self.link.open(self._network.bindings, self._network.ports, self.out.ssrc)
        self.link.start(self._network.tasks)
        return answer

    def take_answer(self, sdp: str) -> None:
        """The peer's answer to our offer. Raises MediaError: bad_sdp, sdp_too_large, no_audio."""
        assert isinstance(self.link, PlainLink)
        answer = parse_plain(sdp, loopback=self._network.loopback).within(self.called)
        self.end_ways()
        self.link.take_answer(answer)
        self.offering = False
        self.offer = answer
        self._level_id = answer.audio_level_id
        self.says = answer.codecs[0]
        # Another stream, should there have been an answer before: its numbers must not be used twice under one key
        self.out = OutStream(answer.codecs, None, self.link.send_rtp, self.link)
        self._codecs |= {codec.payload_type: codec for codec in answer.codecs}
        self.opened_at = self.rtp_at = time.monotonic()

    @property
    def held(self) -> bool:
        """The peer said that it will send nothing."""
        return isinstance(self.offer, PlainMedia) and not self.offering and not self.offer.receives

    def on_connected(self) -> None:
        self.rtp_at = time.monotonic()
        if self.held and not self.up and not self.closed:
            self.leg.anchor_up(self)
        else:
            self.leg.user.rewire()

    def on_lost(self, reason: str) -> None:
        self.leg.anchor_lost(self, reason)

    def on_moved(self) -> None:
        self.end_ways()

    def on_rtp(self, data: bytes, now_ns: int) -> None:
        if self._way is not None:
            self._way.end()
        packet = rtp.parse(data, self._codecs, self._level_id)
        if packet is None:
            return
        stream = self.stream
        if stream is None or stream.ssrc != packet.ssrc:
            if stream is not None:
                self.lost_before += stream.lost
            stream = self.stream = InStream(packet)
        stream.add(packet, now_ns)
        self.packets_in += 1
        self.rtp_at = now_ns / 1e9
        level = packet.level
        if level is not None and level & 0x7F < self.level:
            self.level = level & 0x7F
        if not self._sounded:
            self._sounded = rtp.sounds(packet)
        if not self.up and not self.closed and self.link.connected:
            self.leg.anchor_up(self)
        codec, leg = packet.codec, self.leg
        if codec is not self.says or self._hushed:
            self._note_codec(codec, now_ns)
        if leg._speaking is self:
            recorder = leg._recorder
            if recorder is not None:
                recorder.take(leg.leg_id, packet, now_ns)
            for ear in leg._listeners:
                ear.forward(stream, packet, now_ns)
            if codec.name == "telephone-event":
                self._note_key(packet, now_ns)
            elif self._ways is not None:
                self._lay_way(self._ways, stream, packet)

    # --- ways ---

    def _lay_way(self, ways: Ways, stream: InStream, packet: Packet) -> None:
        """The packet was passed on; if that was as it usually is, those like it need not come by here."""
        leg, codec = self.leg, packet.codec
        ears = leg._listeners
        if len(ears) != 1 or not self._sounded or self.closed or not (codec is self.says and stream.follows(codec)):
            return
        out = ears[0]
        if not isinstance(out, OutStream) or out.carrier is None or not out.follows(stream, codec):
            return
        source, target = self.link.coming, out.carrier.going
        recorder = leg._recorder
        writer = recorder.writer(leg.leg_id, packet) if recorder is not None else None
        if source is not None and target is not None:
            laying = Laying(
                source, stream, packet.codec, self._level_id, writer, out, target, self._count, self._way_ended
            )
            self._way = ways.lay(laying)

    def _count(self, heard_ns: int, packets: int, level: int, refused: int) -> None:
        self.packets_in += packets
        if packets:
            self.rtp_at = heard_ns / 1e9
            self.level = min(self.level, level)
        if packets or refused:
            self.link.heard(heard_ns, refused)

    def _way_ended(self) -> None:
        self._way = None

    def read_back(self) -> None:
        if self._way is not None:
            self._way.read_back()

    def end_ways(self) -> None:
        """From this peer, and to it."""
        if self._way is not None:
            self._way.end()
        if self.out.way is not None:
            self.out.way.end()

    # --- what is told ---

    def _note_codec(self, codec: Codec, now_ns: int) -> None:
        self._hushed = codec.name == "cn"
        if codec is self.says or now_ns - self._says_since_ns <= SWITCH_EVERY_NS or codec.name not in SPEECH:
            return
        self.says, self._says_since_ns = codec, now_ns
        self.leg.user.rewire()  # who can't decode it hears it through the mixer

    def on_rtcp(self, data: bytes, now_ns: int) -> None:
        rtcp.note(data, self.stream, self.out, now_ns)
        if self._hushed:
            self.rtp_at = now_ns / 1e9  # a peer that is silent on purpose shows in this way that it is there

    def _note_key(self, packet: Packet, now_ns: int) -> None:
        digit, limit = self._keys.take(packet), self.leg.press_limit
        if digit is not None and limit.admits(now_ns):
            self._presses += 1
            self.leg.user.report(DigitPressed(self.leg.leg_id, self.generation, digit, self._presses))
        elif digit is not None and limit.dropped == 1:
            log.warning("keys_flooded", session_id=self.leg.session_id, leg=self.leg.leg_id)

    def check(self, now: float) -> None:
        """Once a second: time limits and RTCP."""
        self.read_back()
        silent = now - self.rtp_at
        if not self.up:
            if now - self.opened_at > self._setup_timeout_s():
                self.leg.anchor_lost(self, "setup_timeout")
            return
        if silent > RTP_LOST_S and not self.held:
            self.leg.anchor_lost(self, "rtp_lost")
            return
        quiet = silent > QUIET_S and not self._hushed and not self.held
        never_heard = not self._sounded and now - self.up_at > QUIET_S and not self.held
        if (quiet, never_heard) != (self.quiet, self.silent):
            self.quiet, self.silent = quiet, never_heard
            self.quiet_changes += 1
            self.leg.anchor_quiet(self)
        if self.out.unsendable and not self._warned:
            self._warned = True  # dead air: both sides must be moved to a codec that they share
            log.warning("codec_not_negotiated", session_id=self.leg.session_id, leg=self.leg.leg_id)
        if now - self.rtcp_at > rtcp.REPORT_EVERY_S:
            self.rtcp_at = now
            if self.out.way is not None:
                self.out.way.read_back()
            self.link.send_rtcp(rtcp.compound(self.out, self.stream, time.monotonic_ns()))

    def _setup_timeout_s(self) -> float:
        if isinstance(self.offer, Offer):
            return SETUP_TIMEOUT_S
        return RINGING_TIMEOUT_S if self.offering else PHONE_SETUP_TIMEOUT_S

    def dial(self, digits: str) -> None:
        """Press keys towards the peer. Raises MediaError: no_dtmf, bad_digits."""
        self.dialer.dial(digits, self.offer.codecs, self.out, self._network.tasks)

    def close(self) -> None:
        """Close in the background; harmless when repeated."""
        if not self.closed:
            self.closed = True
            self.end_ways()
            self.dialer.stop()
            self._closing = self._network.tasks.create_task(self._close())

    async def ended(self) -> None:
        """Wait until a closed anchor's ports are free, CLOSE_TIMEOUT_S at most."""
        if self._closing is not None:
            await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.link.close()
        except Exception:  # a boundary: whatever a dying link raises, the worker lives on
            log.warning("link_close_failed", session_id=self.leg.session_id, exc_info=True)


class Ear(Protocol):
    """Who hears a leg: a peer's stream, or the mixer."""

    def forward(self, source: object, packet: Packet, now_ns: int) -> None: ...


class Leg:
    """A participant's sound, whatever peer connection carries it."""

    def __init__(self, session_id: str, leg_id: str, user: LegUser) -> None:
        self.session_id = session_id
        self.leg_id = leg_id
        self.user = user
        self.generation = 0
        self.anchors: list[Anchor] = []  # open ones, newest last
        self._listeners: tuple[Ear, ...] = ()
        self._recorder: PartRecorder | None = None
        self.press_limit = dtmf.PressLimit()
        self.opened_at = time.monotonic()
        self._speaking: Anchor | None = None
        self._down = True  # no generation yet, or the newest generation was reported down

    @property
    def listeners(self) -> tuple[Ear, ...]:
        """Who hears it; set by the session's wiring."""
        return self._listeners

    @listeners.setter
    def listeners(self, listeners: tuple[Ear, ...]) -> None:
        self._end_ways()
        self._listeners = listeners

    @property
    def recorder(self) -> PartRecorder | None:
        return self._recorder

    @recorder.setter
    def recorder(self, recorder: PartRecorder | None) -> None:
        self._end_ways()
        self._recorder = recorder

    @property
    def speaking(self) -> Anchor | None:
        return self._speaking

    @speaking.setter
    def speaking(self, anchor: Anchor | None) -> None:
        self._end_ways()
        self._speaking = anchor

    def _end_ways(self) -> None:
        for anchor in self.anchors:
            anchor.end_ways()

    async def open(self, generation: int, sdp: str, network: Network, plain: bool = False) -> str:
        """Add an anchor; returns its SDP answer. `plain`: it may be a phone's offer. Raises MediaError."""
        is_phone = plain and is_plain(sdp)
        offer = parse_plain(sdp, loopback=network.loopback) if is_phone else parse_offer(sdp)
        return await self._add(Anchor(self, generation, offer, network))

    async def offer(self, order: OfferLeg, network: Network) -> str:
        """Add an anchor for a phone that we call; returns our SDP offer. Raises MediaError."""
        media = our_offer(order.codecs, order.secure)
        return await self._add(Anchor(self, order.generation, media, network, offering=True))

    def answer(self, generation: int, sdp: str) -> None:
        """The phone's answer to our newest offer. Raises MediaError."""
        anchor = next((a for a in self.anchors if a.generation == generation == self.generation), None)
        if anchor is None or not anchor.called:
            raise MediaError("stale_generation", f"leg {self.leg_id} is at generation {self.generation}")
        anchor.take_answer(sdp)

    def dial(self, digits: str) -> None:
        """Press keys where sound to this leg goes. Raises MediaError: no_dtmf, bad_digits."""
        anchor = self._reached
        if anchor is None:
            raise MediaError("no_dtmf", f"leg {self.leg_id} is not connected")
        anchor.dial(digits)

    async def _add(self, anchor: Anchor) -> str:
        await self._make_room()
        try:
            answer = await anchor.open()
        except BaseException:
            anchor.close()
            if not self._down and all(old.generation != self.generation for old in self.anchors):
                self._went_down("failed")  # the newest made room for nothing
            raise
        self.generation = anchor.generation
        self.opened_at = anchor.opened_at
        self._down = False
        self.anchors.append(anchor)
        return answer

    async def _make_room(self) -> None:
        kept = self._reached
        old = [anchor for anchor in self.anchors if anchor is not kept]
        self.anchors = [anchor for anchor in self.anchors if anchor is kept]
        for anchor in old:
            anchor.close()
        for anchor in old:
            await anchor.ended()

    @property
    def hearing(self) -> Anchor | None:
        """Where sound to this leg goes; nowhere while keys are pressed towards it."""
        reached = self._reached
        return None if reached is None or reached.dialer.busy else reached

    @property
    def _reached(self) -> Anchor | None:
        if self.speaking is not None:
            return self.speaking
        return next((a for a in reversed(self.anchors) if a.link.connected), None)

    def anchor_up(self, anchor: Anchor) -> None:
        anchor.up, anchor.up_at = True, time.monotonic()
        if anchor.generation != self.generation:  # overtaken while it connected: good until the newest is up
            if self.speaking is None:
                self.speaking = anchor
                self.user.rewire()
            return
        for old in self.anchors[:-1]:
            old.close()
        self.anchors = [anchor]
        self.speaking = anchor
        self.user.report(LegUp(self.leg_id, anchor.generation))
        self.user.rewire()

    def anchor_lost(self, anchor: Anchor, reason: str) -> None:
        anchor.close()
        if anchor not in self.anchors:
            return
        self.anchors.remove(anchor)
        if self.speaking is anchor:
            self.speaking = None
        if anchor.generation == self.generation and not self._down:
            self._went_down(reason)
        self.user.rewire()

    def _went_down(self, reason: str) -> None:
        self._down = True
        self.user.report(LegDown(self.leg_id, self.generation, reason))

    def anchor_quiet(self, anchor: Anchor) -> None:
        if anchor.generation == self.generation:
            change = anchor.quiet_changes
            self.user.report(LegQuiet(self.leg_id, anchor.generation, anchor.quiet, change, anchor.silent))

    def telemetry(self) -> LegTelemetry | None:
        anchor = self.speaking
        if anchor is None or anchor.stream is None:
            return None
        anchor.read_back()
        if anchor.out.way is not None:
            anchor.out.way.read_back()
        level, anchor.level = anchor.level, rtp.NO_LEVEL
        heard = anchor.out.heard
        return LegTelemetry(
            session_id=self.session_id,
            leg_id=self.leg_id,
            packets_in=anchor.packets_in,
            packets_out=anchor.out.packets,
            lost=anchor.lost_before + anchor.stream.lost,
            jitter_ms=round(anchor.stream.jitter_ms, 2),
            level_dbov=-level,
            codec=anchor.says.name,
            loss_out=heard.loss,
            lost_out=heard.lost,
            jitter_out_ms=heard.jitter_ms,
            rtt_ms=heard.rtt_ms,
        )

    def close(self) -> None:
        for anchor in self.anchors:
            anchor.close()
        self.anchors = []
        self.listeners = ()
        self.speaking = None
        self.recorder = None
