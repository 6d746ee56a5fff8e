"""Which way each leg's sound takes: relayed, played or mixed."""

from __future__ import annotations

import pytest

from server.domain.media import Route, Source
from server.media.relay.wiring import Present, Wiring, wire
from server.media.sdp import Codec

OPUS, PCMU, PCMA, DTMF = (
    Codec("opus", 111, 48_000),
    Codec("pcmu", 0, 8000),
    Codec("pcma", 8, 8000),
    Codec("telephone-event", 101, 8000),
)
BROWSER = (OPUS, PCMU, PCMA, DTMF)
PHONE = (PCMU, DTMF)


def wired(plan: dict[str, str], **legs: Present) -> Wiring:
    routes = [Route(leg, name) for leg, names in plan.items() for name in names.split()]
    return wire(routes, legs)


A, B, C = (Present(BROWSER, OPUS) for _ in range(3))


def test_one_leg_is_relayed() -> None:
    assert wired({"a": "b", "b": "a"}, a=A, b=B) == Wiring(relayed={"a": "b", "b": "a"})


def test_several_are_mixed() -> None:
    found = wired({"a": "b c", "b": "a", "c": "a b"}, a=A, b=B, c=C)
    assert found == Wiring(relayed={"b": "a"}, mixed={"a": ("b", "c"), "c": ("a", "b")})


def test_the_order_and_repetition_of_routes_and_oneself_do_not_count() -> None:
    assert wired({"a": "b b a"}, a=A, b=B) == Wiring(relayed={"a": "b"})


def test_prompts() -> None:
    assert wired({"a": Source.HOLD_MUSIC}, a=A) == Wiring(played={"a": Source.HOLD_MUSIC})
    assert wired({"a": f"b {Source.HOLD_MUSIC}"}, a=A, b=B) == Wiring(mixed={"a": ("b", "hold_music")})
    assert wired({"a": f"b {Source.SILENCE}"}, a=A, b=B) == Wiring(relayed={"a": "b"})
    assert wired({"a": Source.SILENCE}, a=A) == Wiring()


@pytest.mark.parametrize("absent", [None, Present(BROWSER, None)])
def test_comfort_stands_for_who_is_not_there(absent: Present | None) -> None:
    others = {} if absent is None else {"b": absent}
    assert wired({"a": "b"}, a=A, **others) == Wiring(played={"a": Source.COMFORT})
    assert wired({"a": "b c"}, a=A, c=C, **others) == Wiring(relayed={"a": "c"})


def test_who_cannot_be_reached_hears_nothing() -> None:
    assert wired({"a": "b", "b": "a"}, a=Present((), OPUS), b=B) == Wiring(relayed={"b": "a"})


def test_what_one_says_and_the_other_does_not_take_is_transcoded() -> None:
    phone = Present(PHONE, PCMU)
    assert wired({"a": "b", "b": "a"}, a=A, b=phone) == Wiring(relayed={"a": "b"}, mixed={"b": ("a",)})
    switched = Present(BROWSER, PCMU)
    assert wired({"a": "b", "b": "a"}, a=switched, b=phone) == Wiring(relayed={"a": "b", "b": "a"})


def test_who_takes_nothing_that_we_can_encode_is_relayed_to() -> None:
    odd = Present((Codec("ilbc", 97, 8000),), None)
    assert wired({"b": "a c"}, a=A, b=odd, c=C) == Wiring(relayed={"b": "a"})
