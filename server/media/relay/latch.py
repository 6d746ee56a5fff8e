"""From which address a phone's packets come, when its SDP may be wrong about it (symmetric RTP, RFC 4961; "latching").

A phone behind a NAT names an address that nobody sees. So the source is learnt from its packets, once, and only from
packets that look like the negotiated stream (RFC 3550 appendix A.1): several in sequence, of one SSRC, from one
address, with a negotiated payload type. RFC 7362 section 4 names what is wrong with that: whoever else comes first
would win. Hence the address that the SDP named goes first, one of the same host next, and all the world last, where
of two hosts that speak at once neither is taken: no sound is better than a stranger's ear. Once an address is taken,
nothing but a new generation of the leg (a re-INVITE) lets go of it. Pure: `now` is an argument, s."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from server.media.relay.link import Address

ANNOUNCED_PACKETS = 2  # RFC 3550's MIN_SEQUENTIAL
FOREIGN_PACKETS = 5
SAME_HOST_PATIENCE_S = 0.5  # how long the named address has to speak first: a few packets
FOREIGN_PATIENCE_S = 1.0
RIVAL_S = 1.0  # who was heard so lately still speaks
CANDIDATES_KEPT = 1024  # a spray from more ports than this within a packet's time delays the lock


@dataclass(slots=True)
class _Candidate:
    ssrc: int
    sequence: int
    count: int
    heard_at: float


class Latch:
    """`address`: where the peer's RTP comes from, None until it is known. `begun`: when it could be known, s."""

    def __init__(self, announced: Address | None, payload_types: Collection[int], begun: float) -> None:
        self.announced = announced
        self.address: Address | None = None
        self._payload_types = frozenset(payload_types)
        self._begun = begun
        self._candidates: OrderedDict[Address, _Candidate] = OrderedDict()

    def learn(self, packet: bytes, source: Address, now: float) -> bool:
        """Whether this packet settles where the peer is; it is the first one to be taken then. Not called once
        `address` is known."""
        if self.announced is None or len(packet) < 12 or packet[0] & 0xC0 != 0x80:
            return False
        if packet[1] & 0x7F not in self._payload_types:
            return False
        ssrc, sequence = int.from_bytes(packet[8:12], "big"), int.from_bytes(packet[2:4], "big")
        known = self._candidates.get(source)
        if known is None or known.ssrc != ssrc or sequence != (known.sequence + 1) & 0xFFFF:
            known = self._candidates[source] = _Candidate(ssrc, sequence, 0, now)
            if len(self._candidates) > CANDIDATES_KEPT:
                self._candidates.popitem(last=False)
        known.sequence = sequence
        known.count += 1
        known.heard_at = now
        wanted, patience_s = self._terms(source)
        if known.count < wanted or now - self._begun < patience_s:
            return False
        if source[0] != self.announced[0] and self._has_rival(source, now):
            return False
        self.take(source)
        return True

    def take(self, source: Address) -> None:
        """Something surer than counting says that this is the peer."""
        self.address = source
        self._candidates.clear()

    def _has_rival(self, source: Address, now: float) -> bool:
        """Another host could be the peer as well as this one."""
        return any(
            address[0] != source[0] and one.count >= FOREIGN_PACKETS and now - one.heard_at < RIVAL_S
            for address, one in self._candidates.items()
        )

    def _terms(self, source: Address) -> tuple[int, float]:
        if source == self.announced:
            return ANNOUNCED_PACKETS, 0.0
        if self.announced is not None and source[0] == self.announced[0]:
            return FOREIGN_PACKETS, SAME_HOST_PATIENCE_S
        return FOREIGN_PACKETS, FOREIGN_PATIENCE_S
