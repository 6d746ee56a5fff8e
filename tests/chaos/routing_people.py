"""Agents and customers of the routing storm, without sound. They do what is usual: agents decline, let it ring, close
their tabs; customers lose patience. What gets no answer they look up and do again."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

import aiohttp

from server.ids import new_id
from server.services.auth import COOKIE
from tests.chaos.line import Line, Lost, No, View
from tests.chaos.people import FIRST_AGENT, Entrance, address
from tests.helpers.staff import Hired
from tests.unit.test_media_sdp import CHROMIUM

LOOK_S = 0.5  # at the latest
AGAIN_S = 1.0  # what was said is said again when nothing follows
TALK_S, WRAP_UP_S, ANSWER_S = (6.0, 20.0), (0.2, 1.5), (0.1, 0.8)
AWAY_S = (1.0, 8.0)  # some come back within the 3 s of a reload
# What becomes of an offer, of a hundred.
DECLINES, LETS_RING, CLOSES_TAB = 6, 3, 3


class Seat:
    """An agent at the desk. `did`: what the dice said, counted."""

    def __init__(self, http: aiohttp.ClientSession, url: str, hired: Hired, number: int, dice: random.Random) -> None:
        headers = address(FIRST_AGENT + number) | {"Cookie": f"{COOKIE}={hired.token}"}
        self.hired = hired
        self.line = Line(http, url, "/agent", headers)
        self.agent: View = {}
        self.contacts: dict[str, View] = {}
        self.did: Counter[str] = Counter()
        self.going_home = False
        self._dice = dice
        self._due: dict[tuple[str, str], float] = {}  # (segment, state): when to do something about it
        self._leaves: set[str] = set()  # offers that are left ringing

    @property
    def ready(self) -> bool:
        return self.agent.get("state") == "ready"

    async def work(self) -> None:
        """For ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._next_s()):
                    await self.line.changed.wait()
            self.line.changed.clear()
            with suppress(Lost):
                try:
                    await self._look()
                except No as no:  # it was done before, or overtaken
                    self.did[f"refused: {no}"] += 1
                    self.line.behind = True

    def _next_s(self) -> float:
        if not self.line.open:
            return LOOK_S
        now = asyncio.get_running_loop().time()
        return max(0.01, min([LOOK_S, *(at - now for at in self._due.values())]))

    async def _look(self) -> None:
        if not self.line.open:
            return
        if self.line.behind:
            synced = await self.line.sync()
            self.agent = synced["agent"]
            self.contacts = {contact["segment_id"]: contact for contact in synced["contacts"]}
        self._hear()
        if self.going_home:
            if "offline" not in (self.agent["chosen"], (self.agent["next_state"] or {}).get("state")):
                await self._chooses("offline")
        elif self.agent["state"] in ("missed", "offline"):
            self.did["missed"] += self.agent["state"] == "missed"
            await self._chooses("ready")
        for contact in list(self.contacts.values()):
            await self._attend(contact)

    def _hear(self) -> None:
        for body in self.line.news:
            if body["type"] == "agent.changed" and body["agent"]["version"] >= self.agent["version"]:
                self.agent = body["agent"]
            elif body["type"] in ("offer.made", "contact.changed"):
                contact = body["contact"]
                known = self.contacts.get(contact["segment_id"])
                if known is None or contact["version"] >= known["version"]:
                    self.contacts[contact["segment_id"]] = contact
        self.line.news.clear()
        for segment_id in [s for s, c in self.contacts.items() if c["state"] == "done"]:
            del self.contacts[segment_id]
        open_ = {(c["segment_id"], c["state"]) for c in self.contacts.values()}
        self._due = {key: at for key, at in self._due.items() if key in open_}

    async def _chooses(self, state: str) -> None:
        await self.line.ask("agent.set_state", {"state": state, "reason_id": None})
        self.line.behind = True

    async def _attend(self, contact: View) -> None:
        """Do what is due about it; what was done before and shows no effect is done again."""
        key, now = (contact["segment_id"], contact["state"]), asyncio.get_running_loop().time()
        ref = {"session_id": contact["session_id"], "segment_id": contact["segment_id"]}
        if key not in self._due:
            spans = {"offered": ANSWER_S, "wrap_up": WRAP_UP_S}
            self._due[key] = now + self._dice.uniform(*spans.get(contact["state"], TALK_S))
            if contact["state"] == "offered":
                await self.line.ask("offer.ack", ref)
        if now < self._due[key]:
            return
        self._due[key] = now + AGAIN_S
        match contact["state"]:
            case "offered":
                await self._answer(ref)
            case "wrap_up":
                await self.line.ask("contact.wrap_up", {**ref, "notes": "chaos", "disposition_id": None})
            case "talking":
                await self.line.ask("contact.hang_up", ref)

    async def _answer(self, ref: Mapping[str, str]) -> None:
        if ref["segment_id"] in self._leaves:
            return
        drawn = self._dice.randrange(100)
        if drawn < DECLINES:
            self.did["declined"] += 1
            await self.line.ask("offer.reject", dict(ref))
        elif drawn < DECLINES + LETS_RING:
            self.did["let it ring"] += 1
            self._leaves.add(ref["segment_id"])
        elif drawn < DECLINES + LETS_RING + CLOSES_TAB:
            self.did["closed the tab"] += 1
            await self.line.leave(self._dice.uniform(*AWAY_S))
        else:
            await self.line.ask("offer.accept", {**ref, "sdp": CHROMIUM})


class Guest:
    """A customer who waits, until the talk is over or patience is. `call` is the newest view."""

    def __init__(self, http: aiohttp.ClientSession, entrance: Entrance, number: int, patience_s: float) -> None:
        self.session_id = new_id("ses")
        self.name = f"Customer {number}"
        self.call: View = {}
        self.gone = False
        token = {"token": entrance.token(self.session_id)}
        self.line = Line(http, entrance.url, "/customer", address(number), token)
        self._patience_s = patience_s

    @property
    def waits(self) -> bool:
        return not self.gone and self.call.get("state") not in ("connected", "ended")

    def loses_patience(self) -> None:
        self._patience_s = 0.0
        self.line.changed.set()

    async def live(self) -> None:
        """From the call to its end."""
        keeping = asyncio.create_task(self.line.keep(), name=self.name)
        loop = asyncio.get_running_loop()
        came_at = loop.time()
        try:
            while self.call.get("state") != "ended":
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self.line.changed.wait()
                self.line.changed.clear()
                with suppress(Lost):
                    try:
                        await self._look(loop.time() - came_at > self._patience_s)
                    except No:
                        self.line.behind = True
        finally:
            self.gone = True
            keeping.cancel()
            await asyncio.wait([keeping])

    async def _look(self, impatient: bool) -> None:
        if not self.line.open:
            return
        if self.line.behind:
            self.call = (await self.line.sync())["call"] or {}
        for body in self.line.news:
            if body["type"] == "call.changed" and body["call"]["version"] >= self.call.get("version", 0):
                self.call = body["call"]
        self.line.news.clear()
        if not self.call:
            self.call = (await self.line.ask("call.request", {"name": self.name, "sdp": CHROMIUM}))["call"]
        elif impatient and self.call["state"] not in ("connected", "ended"):
            await self.line.ask("call.hang_up", {})
            self.line.behind = True
