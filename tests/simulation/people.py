"""Customers, agents and their media, who see what is committed a little later and act through whatever node they reach.

They lose tabs and lines, lose patience, go away and keep their place, decline, miss, take breaks, say things twice and
in the wrong order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from random import Random
from typing import Any, Protocol

from server.domain import events as ev
from server.domain.agent import Agent, Chosen
from server.domain.directory import AuthedUser
from server.domain.directory import Role as UserRole
from server.domain.events import Customer
from server.domain.leg import Leg, LegState
from server.domain.machine import IllegalTransition, Refused, Stale
from server.domain.media import OpenLeg
from server.domain.segment import Role, Segment, SegmentState
from server.domain.session import Session, SessionState
from server.services.ports import Conflict, Connection, OutboxRow, Save, StorageUnavailable
from server.services.tokens import CustomerToken
from tests.simulation.node import Node, NodeDied
from tests.simulation.virtual_loop import Owner
from tests.simulation.watch import OPEN, Watch

TENANT = "default"
TALK_S, PATIENCE_S, WRAP_UP_S, ANSWER_S = 7.0, 45.0, 2.5, 1.5  # on average
AWAY_S = 6.0
HAND_AFTER_S = 2.0
FETCH_AFTER_S = 7.0
NEVER_S = 10_000.0
TRY_AGAIN_S = 0.3
TOLD_S = 3.0  # by then a tab is connected, or its node has said that it is not


class World(Protocol):
    """What people live in."""

    random: Random
    watch: Watch

    def node(self) -> Node | None:
        """One that is up, any; None while there is none."""
        ...


class People(Owner):
    """Everybody. `on_saved` shows them a commit."""

    def __init__(
        self, world: World, agents: list[str], entries: list[str], queues: list[str], leaving: Random, handing: Random
    ) -> None:
        """`leaving` and `handing` are apart from the world's chance, so that a seed of before customers went away, or
        agents handed them on, is the same still, up to the first who does."""
        super().__init__()
        self._world = world
        self._random = world.random
        self._leaving = leaving
        self._handing = handing
        self._queues = queues
        self._entries = entries
        self._loop = asyncio.get_running_loop()
        self._agents = agents
        self._tabs: dict[str, tuple[Node, str]] = {}
        self._away: set[str] = set()  # customers who will not come back
        self.confirmed: list[str] = []
        self.ended: set[str] = set()
        self.on_error: Callable[[BaseException], None] = lambda error: None

    # --- what they see ---

    def on_saved(self, save: Save) -> None:
        for session in save.sessions:
            before, after = session.before, session.after
            if after.ended and (before is None or not before.ended):
                self.ended.add(after.id)
            self._see_customer_leg(before, after)
            if after.state is SessionState.PARKED and before is not None and before.state is not SessionState.PARKED:
                for _ in range(self._handing.randint(0, 2)):  # 0: nobody cares
                    self._later(self._handing.expovariate(1 / FETCH_AFTER_S), self._fetch(after.id))
            for segment in after.segments:
                old = before.segment(segment.id) if before is not None else None
                if old is None or old.state is not segment.state or old.leg.state is not segment.leg.state:
                    self._see_segment(after, segment, old)
            for order in session.orders:
                if isinstance(order.order, OpenLeg):
                    self._later(self._random.expovariate(20), self._open(order, after.epoch))
        for agent in save.agents:
            was_missed = agent.before is not None and agent.before.missed
            if agent.after.missed and not was_missed and not agent.after.contacts:
                self._later(self._random.uniform(0.5, 6), self._choose(agent.after, Chosen.READY))

    def _see_customer_leg(self, before: Session | None, s: Session) -> None:
        was = before.customer_leg.state if before is not None else LegState.WANTED
        leg = s.customer_leg
        if leg.state is LegState.LOST and was is not LegState.LOST and s.id not in self._away:
            self._later(self._random.uniform(0.2, 2), self._offer_again(s.id, None))

    def _see_segment(self, s: Session, segment: Segment, old: Segment | None) -> None:
        stood = old.state if old is not None else None
        if segment.state is SegmentState.OFFERED and stood is None:
            self._later(self._random.uniform(0.01, 0.3), self._answer(s, segment))
        elif segment.state is SegmentState.TALKING and stood is SegmentState.CONNECTING:
            self._later(self._random.expovariate(1 / TALK_S), self._hang_up(s, segment))
            if segment.role is Role.OWNER and self._handing.random() < 0.2:
                self._later(self._handing.expovariate(1 / HAND_AFTER_S), self._hand_on(s, segment))
        elif segment.state is SegmentState.WRAP_UP and stood is not SegmentState.WRAP_UP:
            wrap_up = self._wrap_up(s, segment)
            self._later(self._random.expovariate(1 / WRAP_UP_S), wrap_up)
        if segment.leg.state is LegState.LOST and segment.state in OPEN and segment.agent_id in self._tabs:
            self._later(self._random.uniform(0.2, 2), self._offer_again(s.id, segment.id))

    # --- customers ---

    def call(self, session_id: str) -> None:
        self.act(self._call(session_id))

    async def _call(self, session_id: str) -> None:
        token = CustomerToken(TENANT, session_id, self._random.choice(self._entries), 2**60)
        patience_s = self._random.expovariate(1 / PATIENCE_S)
        began = self._loop.time()
        await self._insist(lambda node: node.core.sessions.call(token, Customer("Li"), "v=0"))
        self.confirmed.append(session_id)
        if self._random.random() < 0.03:  # the page was loaded twice
            await self._insist(lambda node: node.core.sessions.call(token, Customer("Li"), "v=0"))
        if self._random.random() < 0.08:
            self._later(self._random.expovariate(1 / 8), self._lose_line(session_id))
        if self._leaving.random() < 0.15:
            self._later(self._leaving.expovariate(1 / 4), self._go_away(token))
        await asyncio.sleep(max(0.0, began + patience_s - self._loop.time()))
        s = self._world.watch.sessions[session_id]
        if s.state in (SessionState.ARRIVING, SessionState.QUEUED, SessionState.PLACE_KEPT):
            await self._insist(lambda node: node.core.sessions.customer_hang_up(token))

    async def _go_away(self, token: CustomerToken) -> None:
        """The place is kept; most come back in time, some say so twice."""
        await self._insist(lambda node: node.core.sessions.keep_place(token))
        await asyncio.sleep(self._leaving.expovariate(1 / AWAY_S))
        for _ in range(2 if self._leaving.random() < 0.1 else 1):
            await self._insist(lambda node: node.core.sessions.take_place(token))
        await self._offer_again(token.session_id, None)

    async def _lose_line(self, session_id: str) -> None:
        """A reload, a change of network, or for ever."""
        s = self._world.watch.sessions[session_id]
        if self._random.random() < 0.3:
            self._away.add(session_id)
        leg = s.customer_leg
        if leg.is_up:
            await self._report(s.id, ev.LegWentDown(leg.id, leg.generation, s.epoch, "ice_failed"))

    async def _offer_again(self, session_id: str, segment_id: str | None) -> None:
        def offer() -> ev.Event | None:
            s = self._world.watch.sessions[session_id]
            leg: Leg | None = s.customer_leg
            if segment_id is not None:
                segment = s.segment(segment_id)
                leg = segment.leg if segment is not None else None
            if leg is None or leg.state not in (LegState.LOST, LegState.WANTED):
                return None
            return ev.LegOffered(leg.id, leg.generation + 1, "v=0")

        event = offer()
        if event is not None:
            await self._insist(lambda node: node.core.stepper.apply(session_id, event))

    # --- media ---

    async def _open(self, row: OutboxRow, epoch: int) -> None:
        """The worker opens a leg: its answer, and sound a little later, maybe told twice, maybe first."""
        order = row.order
        assert isinstance(order, OpenLeg)
        session_id, leg_id, generation = row.key.session_id, order.leg_id, order.generation
        answered = ev.LegAnswered(leg_id, generation, row.epoch, "v=0")
        went_up = ev.LegWentUp(leg_id, generation, row.epoch)
        chance = self._random.random()
        if chance < 0.01:
            await self._report(session_id, ev.LegRefused(leg_id, generation, row.epoch, "no_ports"))
            return
        if chance < 0.1:
            self._later(self._random.expovariate(10), self._report(session_id, went_up))
        await self._report(session_id, answered)
        if session_id in self._away:
            return
        await asyncio.sleep(self._random.expovariate(8))
        if chance > 0.9:
            self._later(self._random.expovariate(2), self._report(session_id, went_up))
        await self._report(session_id, went_up)

    async def _report(self, session_id: str, event: ev.Event) -> None:
        await self._insist(lambda node: node.core.stepper.apply(session_id, event, skip_stale=True))

    async def lose_worker(self, worker_id: str, instead: str) -> None:
        """A media worker dies; two nodes see it."""
        for s in list(self._world.watch.sessions.values()):
            if not s.ended and s.worker_id == worker_id:
                lost = ev.WorkerLost(worker_id, instead, s.epoch)
                for _ in range(2):
                    self._later(self._random.expovariate(2), self._report(s.id, lost))

    # --- agents ---

    def begin_shift(self) -> None:
        for agent_id in self._agents:
            self.act(self._shift(agent_id))

    async def _shift(self, agent_id: str) -> None:
        await asyncio.sleep(self._random.random())
        await self._come(agent_id)
        await self._choose_as(agent_id, Chosen.READY)
        while True:
            await asyncio.sleep(self._random.expovariate(1 / 25))
            chance = self._random.random()
            if chance < 0.3:
                await self._choose_as(agent_id, Chosen.BREAK)
                await asyncio.sleep(self._random.expovariate(1 / 6))
                await self._choose_as(agent_id, Chosen.READY)
            elif chance < 0.5:
                await self._leave(agent_id)
                await asyncio.sleep(self._random.choice((0.5, 2, 12)) * (0.5 + self._random.random()))
                await self._come(agent_id)

    async def _come(self, agent_id: str) -> None:
        """A tab connects to a node, and stays until that one dies."""
        while True:
            node = self._world.node()
            if node is None:
                await asyncio.sleep(TRY_AGAIN_S)
                continue
            tab_id = f"tab_{self._random.getrandbits(40)}"
            before = self._tabs.get(agent_id)
            if before is not None:
                before[0].tabs.discard(agent_id)
            self._tabs[agent_id] = (node, tab_id)
            self._seen_there(agent_id)
            try:
                await node.ask(node.connect(TENANT, agent_id, tab_id))
            except (StorageUnavailable, NodeDied):
                node.tabs.discard(agent_id)
                await asyncio.sleep(TRY_AGAIN_S)
                continue
            return

    async def _leave(self, agent_id: str) -> None:
        tab = self._tabs.pop(agent_id, None)
        self._world.watch.tabs.pop(agent_id, None)
        self._world.watch.dead_since[agent_id] = self._loop.time()
        if tab is not None and not tab[0].dead:
            try:
                await tab[0].ask(tab[0].disconnect(TENANT, agent_id, tab[1]))
            except (StorageUnavailable, NodeDied):
                return

    def node_died(self, node: Node) -> None:
        """Tabs that were connected to it look for another one."""
        for agent_id, tab in list(self._tabs.items()):
            if tab[0] is node:
                soon = self._random.random() < 0.75
                self._later(self._random.uniform(0.3, 3) if soon else 30.0, self._come_if_gone(agent_id, node))
                self._world.watch.tabs.pop(agent_id, None)
                self._world.watch.dead_since.setdefault(agent_id, self._loop.time())

    def take_over(self, connections: Mapping[str, Connection]) -> None:
        """Whose row names another tab has lost the desk to it, and is told so (server/signaling/hub.py does). Since
        that tab is a dead node's, whose word came late, nobody sits there: the person takes over again."""
        now_s = self._loop.time()
        for agent_id, (node, tab_id) in list(self._tabs.items()):
            row = connections.get(agent_id)
            here_s = now_s - self._world.watch.tabs.get(agent_id, now_s)
            if row is not None and row.tab_id != tab_id and here_s >= TOLD_S:
                self._world.watch.tabs.pop(agent_id, None)
                self._world.watch.dead_since.setdefault(agent_id, now_s)
                self._later(TRY_AGAIN_S, self._come_if_gone(agent_id, node))

    async def _come_if_gone(self, agent_id: str, node: Node) -> None:
        if self._tabs.get(agent_id, (None,))[0] is node:
            await self._come(agent_id)

    def _seen_there(self, agent_id: str) -> None:
        self._world.watch.dead_since.pop(agent_id, None)
        self._world.watch.tabs[agent_id] = self._loop.time()

    async def _answer(self, s: Session, segment: Segment) -> None:
        if segment.agent_id not in self._tabs:
            return
        user, chance = _user(segment.agent_id), self._random.random()
        if chance < 0.05:
            return  # missed
        await asyncio.sleep(self._random.expovariate(1 / ANSWER_S))
        if chance < 0.15:
            await self._insist(lambda node: node.core.sessions.reject(user, s.id, segment.id))
            return
        for _ in range(2 if chance > 0.95 else 1):  # a double click
            await self._insist(lambda node: node.core.sessions.accept(user, s.id, segment.id, "v=0"))

    async def _hang_up(self, s: Session, segment: Segment) -> None:
        chance = self._random.random()
        if chance < 0.6:
            token = CustomerToken(TENANT, s.id, "", 2**60)
            await self._insist(lambda node: node.core.sessions.customer_hang_up(token))
        if chance > 0.5:  # both at once, sometimes
            user = _user(segment.agent_id)
            await self._insist(lambda node: node.core.sessions.agent_hang_up(user, s.id, segment.id))

    async def _hand_on(self, s: Session, segment: Segment) -> None:
        """The owner transfers the call, or calls somebody in; in the end the customer has had enough of it."""
        mine = _user(segment.agent_id), s.id, segment.id
        other, chance = self._handing.choice(self._agents), self._handing.random()
        queue_id = self._handing.choice(self._queues)
        if chance < 0.15:
            await self._insist(lambda node: node.core.calls.park(*mine))
        elif chance < 0.3:
            await self._insist(lambda node: node.core.calls.transfer_to_queue(*mine, queue_id))
        elif chance < 0.5:
            await self._insist(lambda node: node.core.calls.transfer_to_agent(*mine, other))
        else:
            await self._insist(lambda node: node.core.calls.consult(*mine, other))
            for _ in range(self._handing.randint(1, 4)):
                await asyncio.sleep(self._handing.expovariate(1 / HAND_AFTER_S))
                await self._direct(s.id, mine)
        await asyncio.sleep(self._handing.expovariate(1 / TALK_S))
        token = CustomerToken(TENANT, s.id, "", 2**60)
        await self._insist(lambda node: node.core.sessions.customer_hang_up(token))

    async def _fetch(self, session_id: str) -> None:
        """Two agents at once, free ones first; who has it offers a leg, or never connects."""
        free = [agent_id for agent_id, agent in self._world.watch.agents.items() if agent.open_channels]
        self._handing.shuffle(free)
        for agent_id in [*free, self._handing.choice(self._agents)][:2]:
            self.act(self._fetch_as(agent_id, session_id))
        await asyncio.sleep(self._handing.uniform(0.2, 2))
        owner = self._world.watch.sessions[session_id].owner
        if owner is not None and owner.state is SegmentState.CONNECTING and self._handing.random() < 0.9:
            await self._offer_again(session_id, owner.id)

    async def _fetch_as(self, agent_id: str, session_id: str) -> None:
        await self._insist(lambda node: node.core.calls.fetch(_user(agent_id), session_id))

    async def _direct(self, session_id: str, mine: tuple[AuthedUser, str, str]) -> None:
        """What an owner may do with who was called in, whether anybody has come or not."""
        guests = self._world.watch.sessions[session_id].guests
        guest_id = guests[-1].id if guests else "seg_nobody"
        wish = self._handing.choice(("swap", "confer", "complete", "release", "again", "mute"))
        other, on = self._handing.choice(self._agents), self._handing.random() < 0.5

        def act(node: Node) -> Coroutine[Any, Any, None]:
            calls = node.core.calls
            match wish:
                case "swap":
                    return calls.swap(*mine, on)
                case "confer":
                    return calls.confer(*mine)
                case "complete":
                    return calls.complete(*mine, guest_id)
                case "release":
                    return calls.release_guest(*mine, guest_id)
                case "again":
                    return calls.consult(*mine, other)
                case _:
                    return calls.mute(*mine, on)

        await self._insist(act)

    async def _wrap_up(self, s: Session, segment: Segment) -> None:
        if self._random.random() < 0.2:
            return  # until the deadline
        user = _user(segment.agent_id)
        await self._insist(lambda node: node.core.sessions.wrap_up(user, s.id, segment.id, "", None))

    async def _choose(self, agent: Agent, chosen: Chosen) -> None:
        await self._choose_as(agent.user_id, chosen)

    async def _choose_as(self, agent_id: str, chosen: Chosen) -> None:
        reason = "brk_lunch" if chosen is Chosen.BREAK else None
        await self._insist(lambda node: node.core.agents.choose(_user(agent_id), chosen.value, reason))

    # --- how they act ---

    def act(self, work: Coroutine[Any, Any, None]) -> None:
        """Something that somebody does; what goes wrong in it is nobody's plan."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                self.on_error(error)

        self.spawn(guarded())

    def _later(self, seconds: float, work: Coroutine[Any, Any, None]) -> None:
        async def wait_and_act() -> None:
            try:
                await asyncio.sleep(seconds)
            except BaseException:
                work.close()
                raise
            await work

        self.act(wait_and_act())

    async def _insist(self, act: Callable[[Node], Coroutine[Any, Any, Any]]) -> None:
        """Until a node has done it, or has said that it can't be done (any more)."""
        while True:
            node = self._world.node()
            if node is not None:
                try:
                    await node.ask(act(node))
                    return
                except (Stale, Refused):
                    return
                except IllegalTransition:
                    raise
                except (StorageUnavailable, Conflict, NodeDied):
                    pass
            await asyncio.sleep(TRY_AGAIN_S * (0.5 + self._random.random()))


def _user(agent_id: str) -> AuthedUser:
    return AuthedUser(TENANT, agent_id, agent_id, agent_id, UserRole.AGENT, None)
