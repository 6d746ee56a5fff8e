"""Prompts that a plan has played once: which are over, and why. A name of its own keeps each turn apart from others of
the same prompt, also where several are mixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from server.domain.media import PromptEnd, PromptEnded, Route
from server.media.relay.music import PROMPT, turn_name


class Turns:
    """The turns of one session's plan."""

    def __init__(self, report: Callable[[PromptEnded], None]) -> None:
        self._report = report
        self._turns: dict[tuple[str, str], Route] = {}  # by the leg that hears and the turn's name
        self._over: set[tuple[str, str]] = set()

    def follow(self, routes: Sequence[Route]) -> None:
        """The plan is this from now on. What is no longer in it is forgotten, without a word."""
        once = [route for route in routes if route.turn and route.hears.startswith(PROMPT)]
        self._turns = {(route.leg_id, turn_name(route.hears, route.turn)): route for route in once}
        self._over &= self._turns.keys()

    def routes(self, routes: Sequence[Route]) -> list[Route]:
        """What is to be wired now: turns under their names, without those that are over."""
        wired = []
        for route in routes:
            name = turn_name(route.hears, route.turn)
            if (route.leg_id, name) not in self._turns:
                wired.append(route)
            elif (route.leg_id, name) not in self._over:
                wired.append(replace(route, hears=name))
        return wired

    def ended(self, name: str, leg_id: str, reason: PromptEnd = PromptEnd.PLAYED) -> None:
        """For one of those who hear it. Another leg that hears the same turn may have come back to it from an anchor of
        its own, and is at another place in it."""
        if (leg_id, name) in self._turns:
            self._end((leg_id, name), reason)

    def unplayable(self, name: str) -> None:
        """For everybody who hears it."""
        for key in [key for key in self._turns if key[1] == name]:
            self._end(key, PromptEnd.UNPLAYABLE)

    def pressed(self, leg_id: str) -> bool:
        """The leg pressed a key: whether that ended a prompt."""
        cut = [
            key for key, route in self._turns.items() if key[0] == leg_id and route.barge_in and key not in self._over
        ]
        for key in cut:
            self._end(key, PromptEnd.KEY)
        return bool(cut)

    def fail(self) -> None:
        """None of them can be played."""
        for key in self._turns:
            self._end(key, PromptEnd.UNPLAYABLE)

    def _end(self, key: tuple[str, str], reason: PromptEnd) -> None:
        if key not in self._over:
            self._over.add(key)
            route = self._turns[key]
            self._report(PromptEnded(route.leg_id, route.hears, route.turn, reason))
