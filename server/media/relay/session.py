"""One session on a worker: its legs, its plan, its recording, under one epoch."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from server.domain.media import (
    DigitPressed,
    MediaPlan,
    MediaReport,
    OfferLeg,
    OpenLeg,
    PartClosed,
    PromptEnd,
    RecordingFailed,
    RecordingOrder,
)
from server.media.capture import Opener, part_files
from server.media.relay.leg import Ear, Leg, Network
from server.media.relay.mixer import Mixer
from server.media.relay.music import Library, Player, is_turn
from server.media.relay.recorder import PartContext, PartRecorder
from server.media.relay.session_mix import Hearing, SessionMix
from server.media.relay.turns import Turns
from server.media.relay.wiring import Present, Wiring, encodable, meets, speaks, wire
from server.services.ports import MediaError

log = structlog.get_logger(__name__)

MAX_FAILED_PARTS = 16


@dataclass(frozen=True, slots=True)
class Studio:
    """What a worker gives each of its sessions."""

    network: Network
    library: Library
    spool: Path
    opener: Opener
    music_wanted: asyncio.Event  # wakes the music timer
    mixer: Mixer


class RelaySession:
    """Makes the legs' wiring equal to the plan whenever the plan or a leg changes."""

    def __init__(
        self, tenant: str, session_id: str, epoch: int, studio: Studio, report: Callable[[MediaReport], None]
    ) -> None:
        self.tenant = tenant
        self.session_id = session_id
        self.epoch = epoch
        self.legs: dict[str, Leg] = {}
        self.plan = MediaPlan()
        self.players: dict[str, Player] = {}  # by the leg that hears it
        self._mix = SessionMix(studio.mixer, studio.library, self.rewire)
        self._turns = Turns(self.report)
        self._relayed: dict[str, str] = {}  # who hears whom without the mixer
        self._studio = studio
        self._report = report
        self._recorder: PartRecorder | None = None
        self._failed_parts: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._closed = False

    # --- orders ---

    async def open_leg(self, order: OpenLeg | OfferLeg) -> str:
        """Open a leg or re-anchor it; returns our SDP. Raises MediaError."""
        leg_id, generation = order.leg_id, order.generation
        leg = self.legs.get(leg_id)
        if leg is not None and generation <= leg.generation:
            raise MediaError("stale_generation", f"leg {leg_id} is at generation {leg.generation}")
        if leg is None:
            leg = Leg(self.session_id, leg_id, self)
        if isinstance(order, OfferLeg):
            answer = await leg.offer(order, self._studio.network)
        else:
            answer = await leg.open(generation, order.sdp, self._studio.network, order.plain)
        if self._closed:  # a higher epoch or a release came by while the sockets opened
            leg.close()
            raise MediaError("stale_epoch", "the session was closed meanwhile")
        leg.recorder = self._recorder
        self.legs[leg_id] = leg  # also when it was closed meanwhile: the order is the newer wish
        return answer

    def known_leg(self, leg_id: str) -> Leg:
        """A leg that was opened. Raises MediaError(unknown_leg)."""
        leg = self.legs.get(leg_id)
        if leg is None:
            raise MediaError("unknown_leg", f"no leg is called {leg_id}")
        return leg

    def apply(self, plan: MediaPlan) -> None:
        named = {route.leg_id for route in plan.routes} | {route.hears for route in plan.routes}
        if plan.recording is not None:
            named |= {plan.recording.customer_leg, plan.recording.agent_leg}
        for leg_id in [leg_id for leg_id in self.legs if leg_id not in named]:
            self.legs.pop(leg_id).close()
        self.plan = plan
        self._turns.follow(plan.routes)
        self._record(plan.recording)
        self.rewire()

    async def obeyed(self) -> None:
        """Wait until what `apply` took away from a leg reaches it no more: the mixer is another process."""
        await self._mix.obeyed()

    def close_leg(self, leg_id: str) -> None:
        leg = self.legs.pop(leg_id, None)
        if leg is not None:
            leg.close()
            self.rewire()

    def close(self) -> None:
        """Close the legs and finalise the recording. Legs report nothing from here on."""
        self._record(None)
        self._closed = True
        self._mix.close()
        self.players.clear()
        for leg in self.legs.values():
            leg.close()
        self.legs.clear()

    # --- legs ---

    def report(self, report: MediaReport) -> None:
        if self._closed:
            return
        self._report(report)
        if isinstance(report, DigitPressed) and self._turns.pressed(report.leg_id):
            self.rewire()

    def rewire(self) -> None:
        """Work out who hears whom from the plan and from what is connected now."""
        if self._closed:
            return
        facts = {leg_id: _present(leg) for leg_id, leg in self.legs.items()}
        wiring = wire(self._turns.routes(self.plan.routes), facts)
        left = {leg_id: self._mix.heard_by(leg_id).get(heard) for leg_id, heard in wiring.relayed.items()}
        self._mix.apply(self._hearings(wiring), {leg_id: now.says for leg_id, now in facts.items() if now.says})
        for leg_id, heard in wiring.mixed.items():
            before = self._relayed.get(leg_id)
            if (
                before in heard
                and not self._mix.started(leg_id)
                and meets(speaks(facts.get(before)), facts[leg_id].takes)
            ):
                wiring.relayed[leg_id] = before  # heard until the mix is
        self._relayed = wiring.relayed
        self._connect(wiring.relayed)
        for leg_id, tap in left.items():
            anchor = self.legs[leg_id].hearing
            if tap is not None and anchor is not None:
                tap.catch_up(anchor.out, time.monotonic_ns())
        self._play(wiring.played)

    def _hearings(self, wiring: Wiring) -> dict[str, Hearing]:
        found = {}
        for leg_id, heard in wiring.mixed.items():
            anchor = self.legs[leg_id].hearing
            codec = encodable(anchor.offer.codecs) if anchor is not None else None
            if anchor is not None and codec is not None:
                found[leg_id] = Hearing(anchor.out, codec, heard)
        return found

    def _connect(self, relayed: Mapping[str, str]) -> None:
        """Tell each leg who takes its packets: other legs' streams, and the mixer."""
        ears: dict[str, list[Ear]] = {}
        for leg_id, heard in relayed.items():
            anchor = self.legs[leg_id].hearing
            if anchor is not None:
                ears.setdefault(heard, []).append(anchor.out)
        for leg_id, leg in self.legs.items():
            tap = self._mix.tap(leg_id)
            leg.listeners = (*ears.get(leg_id, ()), *((tap,) if tap is not None else ()))

    def _play(self, played: Mapping[str, str]) -> None:
        players: dict[str, Player] = {}
        for leg_id, source in played.items():
            anchor = self.legs[leg_id].hearing
            if anchor is None:
                continue
            player = self.players.get(leg_id)
            if player is None or player.source != source or player.codecs != anchor.offer.codecs:
                player = self._studio.library.player(source, anchor.offer.codecs)
            if player is not None:
                players[leg_id] = player
            elif is_turn(source):
                self._turns.ended(source, leg_id, PromptEnd.UNPLAYABLE)
        for source in self._mix.missing:
            self._turns.unplayable(source)
        self.players = players
        if self.plays:
            self._studio.music_wanted.set()

    @property
    def plays(self) -> bool:
        """`play` is to be called every 20 ms."""
        return bool(self.players) or self._mix.plays

    def play(self, now_ns: int) -> None:
        """One packet of music to each leg that hears music, and to the mix."""
        for leg_id, player in self.players.items():
            leg = self.legs.get(leg_id)
            anchor = leg.hearing if leg is not None else None
            if anchor is not None:
                anchor.out.forward(player, player.next(), now_ns)
        self._mix.play(now_ns)
        over = [(player.source, leg_id) for leg_id, player in self.players.items() if player.over]
        over += self._mix.over
        for turn, leg_id in over:
            self._turns.ended(turn, leg_id)
        if over:
            self.rewire()

    def fall_silent(self) -> None:
        """No more music until the next rewiring: it failed."""
        self.players = {}
        self._mix.fall_silent()
        self._turns.fail()

    # --- recording ---

    @property
    def recording(self) -> bool:
        return self._recorder is not None

    def _record(self, order: RecordingOrder | None) -> None:
        running = self._recorder
        if running is not None and (order is None or _key(order) != _key(running.order)):
            self._stop(running)
            running = None
        if order is None or _key(order) in self._failed_parts:
            return
        if running is not None:
            running.follow(order)
            return
        files = part_files(self._studio.spool, self.tenant, self.session_id, order.recording_id, order.part)
        context = PartContext(self.session_id, self.epoch, files)
        recorder = PartRecorder(order, context, self._studio.opener, lambda code: self._failed(order, code))
        if recorder.failed:
            return
        self._recorder = recorder
        self._attach()

    def _attach(self) -> None:
        for leg in self.legs.values():
            leg.recorder = self._recorder

    def _stop(self, recorder: PartRecorder) -> None:
        self._recorder = None
        self._attach()
        recorder.close()
        if not recorder.failed:
            self.report(PartClosed(recorder.order.recording_id, recorder.order.part))

    def _failed(self, order: RecordingOrder, code: str) -> None:
        log.error("recording_failed", session_id=self.session_id, part=order.part, code=code)
        self._failed_parts[_key(order)] = None
        if len(self._failed_parts) > MAX_FAILED_PARTS:
            self._failed_parts.popitem(last=False)
        self._recorder = None
        self._attach()
        self.report(RecordingFailed(order.recording_id, order.part, code))
        self.report(PartClosed(order.recording_id, order.part))

    def flush(self) -> None:
        if self._recorder is not None:
            self._recorder.flush()


def _present(leg: Leg) -> Present:
    reached, heard = leg.hearing, leg.speaking
    return Present(reached.offer.codecs if reached is not None else (), heard.says if heard is not None else None)


def _key(order: RecordingOrder) -> tuple[str, int]:
    return order.recording_id, order.part
