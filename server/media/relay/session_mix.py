"""What goes through the mixer for one session: taps on who speaks, prompts that are mixed in, feeds to who hears."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from server.media.mixer.formats import FRAME_MS, OPUS, Format
from server.media.mixer.protocol import knows, packet_to_bytes
from server.media.mixer.setup import Listener, Setup
from server.media.relay.mixer import Mixer
from server.media.relay.music import Library, Player, is_prompt
from server.media.relay.rtp import OutStream, Packet
from server.media.relay.wiring import form_of
from server.media.sdp import Codec

_PROMPT = Codec("opus", 111, 48_000)  # what prompts are mixed in from: every one is there in Opus


class Tap:
    """Hands a leg's packets to the mixer, as one of those who hear the leg."""

    def __init__(self, mixer: Mixer) -> None:
        self.input_id = mixer.new_id()
        self._mixer = mixer

    def forward(self, source: object, packet: Packet, now_ns: int) -> None:
        if knows(packet.codec.name):
            numbers = packet.sequence, packet.timestamp, packet.ssrc
            self._mixer.hand_in(packet_to_bytes(self.input_id, packet.codec.name, numbers, now_ns, packet.payload))


class Feed:
    """What the mixer sends to one leg. `started`: it has sent something."""

    def __init__(self, mixer: Mixer, on_start: Callable[[], None]) -> None:
        self.listener_id = mixer.new_id()
        self.started = False
        self.out: OutStream | None = None
        self._on_start = on_start
        self._packet = Packet(_PROMPT, 0, 0, 0, 0, b"", None)

    def send_to(self, out: OutStream, codec: Codec) -> None:
        self.out, self._packet.codec = out, codec

    def take(self, name: str, number: int, payload: bytes, now_ns: int) -> None:
        packet = self._packet
        if self.out is None or name != packet.codec.name:
            return  # from before the leg's codec changed
        if not self.started:
            self.started = True
            self._on_start()
        packet.payload = payload
        packet.sequence = number & 0xFFFF
        packet.timestamp = number * (packet.codec.clock_rate * FRAME_MS // 1000) & 0xFFFFFFFF
        self.out.forward(self, packet, now_ns)


@dataclass(frozen=True, slots=True)
class Hearing:
    """A leg that hears a mix: its stream, what it is sent, and the legs and prompts that it hears."""

    out: OutStream
    codec: Codec
    hears: tuple[str, ...]


class SessionMix:
    """At most one mix a session; none while nobody needs it. `on_start`: a leg has begun to hear the mix."""

    def __init__(self, mixer: Mixer, library: Library, on_start: Callable[[], None]) -> None:
        self._mixer = mixer
        self._library = library
        self._on_start = on_start
        self._mix_id: int | None = None
        self._taps: dict[str, Tap] = {}  # by leg, or by prompt
        self._feeds: dict[str, Feed] = {}  # by the leg that hears
        self._players: dict[str, Player] = {}

    def apply(self, hearings: Mapping[str, Hearing], says: Mapping[str, Codec]) -> None:
        """Make the mix equal to this. `says`: what each leg that is heard sends."""
        if not hearings:
            self.close()
            return
        if self._mix_id is None:
            self._mix_id = self._mixer.new_id()
        names = dict.fromkeys(name for hearing in hearings.values() for name in hearing.hears)
        self._taps = {name: self._taps.get(name) or Tap(self._mixer) for name in names}
        self._feeds = {leg: self._feeds.get(leg) or Feed(self._mixer, self._on_start) for leg in hearings}
        self._players = {name: player for name in names if (player := self._player(name)) is not None}
        listeners = []
        for leg, hearing in hearings.items():
            feed = self._feeds[leg]
            feed.send_to(hearing.out, hearing.codec)
            heard = frozenset(self._taps[name].input_id for name in hearing.hears)
            listeners.append(Listener(feed.listener_id, form_of(hearing.codec), heard))
        inputs = tuple((tap.input_id, _form(name, says)) for name, tap in self._taps.items())
        setup = Setup(self._mix_id, inputs, tuple(listeners))
        self._mixer.set_up(setup, {feed.listener_id: feed.take for feed in self._feeds.values()})

    def _player(self, name: str) -> Player | None:
        if not is_prompt(name):
            return None
        return self._players.get(name) or self._library.player(name, (_PROMPT,))

    def tap(self, leg_id: str) -> Tap | None:
        return self._taps.get(leg_id)

    def started(self, leg_id: str) -> bool:
        """The leg hears the mix already."""
        feed = self._feeds.get(leg_id)
        return feed is not None and feed.started

    @property
    def plays(self) -> bool:
        return bool(self._players)

    def play(self, now_ns: int) -> None:
        """Every 20 ms: one packet of each prompt that is mixed in."""
        for name, player in self._players.items():
            self._taps[name].forward(player, player.next(), now_ns)

    def fall_silent(self) -> None:
        self._players = {}

    def close(self) -> None:
        if self._mix_id is not None:
            self._mixer.end(self._mix_id)
            self._mix_id = None
            self._taps, self._feeds, self._players = {}, {}, {}


def _form(name: str, says: Mapping[str, Codec]) -> Format:
    return form_of(says[name]) if name in says else OPUS
