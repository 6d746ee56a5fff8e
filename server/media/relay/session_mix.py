"""What goes through the mixer for one session: taps on who speaks, prompts that are mixed in, feeds to who hears."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from server.media.mixer.arrivals import Arrivals
from server.media.mixer.formats import FRAME_MS, OPUS, Format
from server.media.mixer.protocol import knows, packet_to_bytes
from server.media.mixer.setup import Listener, Setup
from server.media.relay.mixer import Mixer
from server.media.relay.music import Library, Player, is_prompt, is_turn
from server.media.relay.rtp import OutStream, Packet
from server.media.relay.wiring import form_of
from server.media.sdp import Codec

WAITS_MORE_MS = 25.0 + FRAME_MS  # a voice may be so far behind its target (mixer/voice.py), and a frame is on its way
RECENT = 12  # packets: more than the longest wait, and what a listener's own buffer takes at once
_PROMPT = Codec("opus", 111, 48_000)  # what prompts are mixed in from: every one is there in Opus


class Tap:
    """Hands a leg's packets to the mixer, as one of those who hear the leg. Those that still wait in the mixer's jitter
    buffer are remembered: whoever goes back to the relay is sent them, and misses nothing."""

    def __init__(self, mixer: Mixer) -> None:
        self.input_id = mixer.new_id()
        self._mixer = mixer
        self._arrivals = Arrivals()  # as in the mixer, so that we know how long it makes them wait
        self._recent: deque[tuple[object, Packet, int]] = deque(maxlen=RECENT)

    def forward(self, source: object, packet: Packet, now_ns: int) -> None:
        if not knows(packet.codec.name):
            return
        self._arrivals.note(now_ns / 1e6, 1000 * packet.timestamp / packet.codec.clock_rate)
        self._recent.append((source, packet, now_ns))
        numbers = packet.sequence, packet.timestamp, packet.ssrc
        self._mixer.hand_in(packet_to_bytes(self.input_id, packet.codec.name, numbers, now_ns, packet.payload))

    def catch_up(self, out: OutStream, now_ns: int) -> None:
        """Send what the mixer has not played yet. Some of it may come twice: 20 ms more are better than 20 ms less."""
        waits_ns = (self._arrivals.target_ms + WAITS_MORE_MS) * 1e6
        for source, packet, at_ns in self._recent:
            if now_ns - at_ns < waits_ns:
                out.forward(source, packet, now_ns)


class Feed:
    """What the mixer sends to one leg. `started`: it has sent something."""

    def __init__(self, mixer: Mixer, on_start: Callable[[], None]) -> None:
        self.listener_id = mixer.new_id()
        self.started = False
        self.out: OutStream | None = None
        self.hears: tuple[str, ...] = ()
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
        self._ordered = 0  # the mixer's count of orders at our last one
        self.missing: list[str] = []  # turns that can't be played

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
        self.missing = [name for name in names if is_turn(name) and name not in self._players]
        listeners = []
        for leg, hearing in hearings.items():
            feed = self._feeds[leg]
            feed.send_to(hearing.out, hearing.codec)
            feed.hears = hearing.hears
            heard = frozenset(self._taps[name].input_id for name in hearing.hears)
            listeners.append(Listener(feed.listener_id, form_of(hearing.codec), heard))
        inputs = tuple((tap.input_id, _form(name, says)) for name, tap in self._taps.items())
        setup = Setup(self._mix_id, inputs, tuple(listeners))
        self._mixer.set_up(setup, {feed.listener_id: feed.take for feed in self._feeds.values()})
        self._ordered = self._mixer.said

    async def obeyed(self) -> None:
        """Wait until the mixer does as it was told last for this session."""
        await self._mixer.obeyed(self._ordered)

    def _player(self, name: str) -> Player | None:
        if not is_prompt(name):
            return None
        return self._players.get(name) or self._library.player(name, (_PROMPT,))

    def tap(self, leg_id: str) -> Tap | None:
        return self._taps.get(leg_id)

    def heard_by(self, leg_id: str) -> dict[str, Tap]:
        """The taps of whom a leg hears in the mix now."""
        feed = self._feeds.get(leg_id)
        return {name: self._taps[name] for name in feed.hears} if feed is not None and feed.started else {}

    def started(self, leg_id: str) -> bool:
        """The leg hears the mix already."""
        feed = self._feeds.get(leg_id)
        return feed is not None and feed.started

    @property
    def plays(self) -> bool:
        return bool(self._players)

    @property
    def over(self) -> list[tuple[str, str]]:
        """Turns that were played to their end, each with a leg that heard it."""
        ended = [name for name, player in self._players.items() if player.over]
        return [(name, leg_id) for name in ended for leg_id, feed in self._feeds.items() if name in feed.hears]

    def play(self, now_ns: int) -> None:
        """Every 20 ms: one packet of each prompt that is mixed in."""
        for name, player in self._players.items():
            self._taps[name].forward(player, player.next(), now_ns)

    def fall_silent(self) -> None:
        self._players = {}

    def close(self) -> None:
        if self._mix_id is not None:
            self._mixer.end(self._mix_id)
            self._ordered = self._mixer.said
            self._mix_id = None
            self._taps, self._feeds, self._players, self.missing = {}, {}, {}, []


def _form(name: str, says: Mapping[str, Codec]) -> Format:
    return form_of(says[name]) if name in says else OPUS
