"""Prompts that are played once: each turn ends once, and what is no longer wanted ends without a word."""

from __future__ import annotations

from server.domain.media import PromptEnd, PromptEnded, Route
from server.media.relay.turns import Turns

HASH = "prompt:" + 32 * "a"
GREETING = Route("customer", HASH, turn=1, barge_in=True)
NOTICE = Route("customer", HASH, turn=2)
LOOP = Route("agent", HASH)
TALK = Route("agent", "customer")


def turns(*routes: Route) -> tuple[Turns, list[PromptEnded]]:
    told: list[PromptEnded] = []
    made = Turns(told.append)
    made.follow(routes)
    return made, told


def names(made: Turns, *routes: Route) -> list[str]:
    return [route.hears for route in made.routes(routes)]


def test_a_turn_has_a_name_of_its_own_until_it_is_over() -> None:
    plan = (GREETING, LOOP, TALK)
    made, told = turns(*plan)
    assert names(made, *plan) == [f"{HASH}#1", HASH, "customer"]
    made.ended(f"{HASH}#1", "customer")
    made.ended(f"{HASH}#1", "customer")
    assert told == [PromptEnded("customer", HASH, 1, PromptEnd.PLAYED)]
    assert names(made, *plan) == [HASH, "customer"]
    made.follow(plan)
    assert names(made, *plan) == [HASH, "customer"], "the plan may be said again"


def test_another_turn_plays_it_anew_and_what_is_not_wanted_ends_without_a_word() -> None:
    made, told = turns(GREETING)
    made.follow([NOTICE])
    made.ended(f"{HASH}#1", "customer")
    assert (told, names(made, NOTICE)) == ([], [f"{HASH}#2"])


def test_a_key_ends_what_may_be_interrupted_by_who_hears_it() -> None:
    made, told = turns(GREETING, NOTICE)
    assert not made.pressed("agent")
    assert made.pressed("customer")
    assert not made.pressed("customer")
    assert told == [PromptEnded("customer", HASH, 1, PromptEnd.KEY)]
    assert names(made, GREETING, NOTICE) == [f"{HASH}#2"]


def test_each_who_hears_a_turn_is_told_when_it_is_over_for_them() -> None:
    both = (NOTICE, Route("agent", HASH, turn=2))
    made, told = turns(*both)
    made.ended(f"{HASH}#2", "agent")
    assert names(made, *both) == [f"{HASH}#2"], "the customer hears it still"
    made.ended(f"{HASH}#2", "customer")
    assert [(one.leg_id, one.reason) for one in told] == [("agent", "played"), ("customer", "played")]


def test_all_who_hear_what_can_not_be_played_are_told() -> None:
    made, told = turns(NOTICE, Route("agent", HASH, turn=2))
    made.unplayable(f"{HASH}#2")
    assert [(one.leg_id, one.reason) for one in told] == [("customer", "unplayable"), ("agent", "unplayable")]


def test_when_playing_fails_each_is_told_once() -> None:
    made, told = turns(GREETING, NOTICE)
    made.pressed("customer")
    made.fail()
    assert [one.reason for one in told] == [PromptEnd.KEY, PromptEnd.UNPLAYABLE]
