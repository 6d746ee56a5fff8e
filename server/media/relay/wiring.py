"""Who hears whom, and by which way: from the plan's routes and from what is connected now. Pure.

A leg that hears one other leg gets its packets as they are (*relayed*); one that hears a prompt is *played* it. Only
where several are heard at once, or the two have no codec in common, the way goes through the mixer (*mixed*)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from server.domain.media import Route, Source
from server.media.mixer.formats import BY_NAME, SPEECH, Format
from server.media.relay.music import is_prompt
from server.media.sdp import Codec


@dataclass(frozen=True, slots=True)
class Present:
    """A leg as it is now. `takes`: what it can be sent, () when it can't be reached; `says`: what it sends, None when
    it can't be heard."""

    takes: tuple[Codec, ...]
    says: Codec | None


@dataclass(slots=True)
class Wiring:
    """By the leg that hears: another leg, a prompt, or several of either."""

    relayed: dict[str, str] = field(default_factory=dict)
    played: dict[str, str] = field(default_factory=dict)
    mixed: dict[str, tuple[str, ...]] = field(default_factory=dict)


def wire(routes: Iterable[Route], legs: Mapping[str, Present]) -> Wiring:
    """The comfort tone stands for a leg that is to be heard and is not there, unless somebody else is heard."""
    hears: dict[str, list[str]] = {}
    for route in routes:
        if route.hears not in (Source.SILENCE, route.leg_id, *hears.setdefault(route.leg_id, [])):
            hears[route.leg_id].append(route.hears)
    found = Wiring()
    for leg_id, wanted in hears.items():
        leg = legs.get(leg_id)
        if leg is None or not leg.takes:
            continue
        there = [name for name in wanted if is_prompt(name) or speaks(legs.get(name)) is not None]
        if len(there) > 1 and encodable(leg.takes) is not None:
            found.mixed[leg_id] = tuple(there)
        elif there:
            _one(found, leg_id, there[0], legs)
        elif wanted:
            found.played[leg_id] = Source.COMFORT
    return found


def _one(found: Wiring, leg_id: str, heard: str, legs: Mapping[str, Present]) -> None:
    if is_prompt(heard):
        found.played[leg_id] = heard
    elif meets(speaks(legs[heard]), legs[leg_id].takes) or encodable(legs[leg_id].takes) is None:
        found.relayed[leg_id] = heard
    else:
        found.mixed[leg_id] = (heard,)


def speaks(leg: Present | None) -> Codec | None:
    return leg.says if leg is not None else None


def meets(says: Codec | None, takes: Iterable[Codec]) -> bool:
    """What one says can be relayed to one who takes these."""
    return says is not None and any((says.name, says.clock_rate) == (one.name, one.clock_rate) for one in takes)


def encodable(takes: Iterable[Codec]) -> Codec | None:
    """What the mixer sends to somebody who takes these: the first that it can encode."""
    return next((codec for codec in takes if codec.name in SPEECH), None)


def form_of(codec: Codec) -> Format:
    return BY_NAME[codec.name]
