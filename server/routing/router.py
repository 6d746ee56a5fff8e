"""The router: woken by what commits, it chooses, claims, and assigns.

The store is an index that all nodes share; the assignment is the session's step, guarded by the versions of the
session and the agent. When the step refuses, the claim is released and the next look decides again. Every tick looks
too, so a lost wake-up costs a second at most; every REBUILD_S the index is made anew from the database, and at once
when the store says that it is lost.

Any node may route any tenant. One of them goes first (`Nodes.mine`), the others only at their ticks: what they would
otherwise do is choose the same head and lose the claim. While the store is away routing pauses; `on_pause` tells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import Enum, auto

import structlog

from server.domain.agent import Agent
from server.domain.directory import DEFAULT_TENANT
from server.domain.effects import routable
from server.domain.events import AgentOffered
from server.domain.machine import Refused, Stale
from server.domain.router_state import Claim, FreeAgent, RouterState, RoutingView, WaitingSession
from server.domain.session import Session
from server.ids import new_id
from server.probes import Work, note
from server.routing.policy import Match, choose
from server.services.admin_ports import Directory
from server.services.ports import (
    Bus,
    Clock,
    Commit,
    Conflict,
    Membership,
    Notice,
    RouterStore,
    RouterStoreUnavailable,
    StepStore,
    StorageUnavailable,
)

log = structlog.get_logger()
TICK_S = 1.0
REBUILD_S = 30.0
CLAIM_MS = 5_000  # many times the length of a step; a node that died with a claim delays a session this long
BENCH_MS = 30_000  # a session whose assignment failed for a cause of ours
PAUSED_S = 3.0  # routing that stands still for longer is told to people
MAX_ROUNDS = 50  # of choosing in one look: a bound against two rows that disagree for ever

Assign = Callable[[str, AgentOffered], Awaitable[Session]]


class _Tried(Enum):
    """How it went with a match: `LOST` to another node's claim, `REFUSED` by the rows."""

    ASSIGNED = auto()
    LOST = auto()
    REFUSED = auto()


class Router:
    """Routes all tenants that have waiting sessions or free agents. `assign` posts the offer to the session."""

    def __init__(
        self,
        store: RouterStore,
        steps: StepStore,
        directory: Directory,
        clock: Clock,
        nodes: Membership,
        bus: Bus,
        assign: Assign,
    ) -> None:
        self._store = store
        self._steps = steps
        self._directory = directory
        self._clock = clock
        self._nodes = nodes
        self._bus = bus
        self._assign = assign
        self._woken = asyncio.Event()
        self._changes: asyncio.Queue[Session | Agent] = asyncio.Queue()  # emptied by each look, or `_start_over`
        self._tenants: set[str] = {DEFAULT_TENANT}
        self._rebuild_at = 0.0  # loop time; 0: at the next look
        self._benched: dict[str, int] = {}  # session id -> until when it is left alone
        self._ready_queues: dict[str, frozenset[str]] = {}
        self.on_look: Callable[[RoutingView], None] = lambda view: None
        self.on_pause: Callable[[bool], None] = lambda paused: None

    def on_commit(self, commit: Commit) -> None:
        for session in commit.sessions:
            self._changes.put_nowait(session.after)
        for agent in commit.agents:
            self._changes.put_nowait(agent.after)
        self._woken.set()

    def on_notice(self, notice: Notice) -> None:
        """Another node has written to the index."""
        if notice.routing:
            self._tenants.update(notice.routing)
            self._woken.set()

    def wake(self) -> None:
        self._woken.set()

    def doubt(self) -> None:
        """The index may lack what was saved: the next look makes it anew."""
        self._rebuild_at = 0.0

    def agents_ready(self, tenant: str, queue_id: str) -> bool:
        """`Availability`: some agent of the queue could take a session now."""
        return queue_id in self._ready_queues.get(tenant, frozenset())

    async def run(self) -> None:
        """Route for ever."""
        loop = asyncio.get_running_loop()
        ticked = looked = loop.time()
        paused = False
        while True:
            self._woken.clear()
            tick = loop.time() - ticked >= TICK_S
            ticked = loop.time() if tick else ticked
            try:
                with Work("route") as work:
                    work.worth = await self.look(tick=tick)
                looked = loop.time()
            except (StorageUnavailable, RouterStoreUnavailable) as error:
                log.error("routing_paused", error=str(error))
                self._start_over()
            except Exception:
                log.exception("routing_failed")
            if paused != (loop.time() - looked > PAUSED_S):
                paused = not paused
                self.on_pause(paused)
            try:
                async with asyncio.timeout(max(0.0, ticked + TICK_S - loop.time())):
                    await self._woken.wait()
            except TimeoutError:
                pass

    def _start_over(self) -> None:
        """What was taken in meanwhile may be lost: the next look reads the rows. They say what waits here, too, and an
        hour without Redis must not pile it up."""
        while not self._changes.empty():
            self._tenants.add(self._changes.get_nowait().tenant)
        self._rebuild_at = 0.0
        self._woken.clear()

    async def look(self, *, tick: bool = True) -> bool:
        """Take in what changed, then match until nothing more can be matched, where this node goes first or at a
        tick. True when something was matched."""
        matched = False
        if asyncio.get_running_loop().time() >= self._rebuild_at:
            await self.rebuild()
        await self._take_in_changes()
        for tenant in tuple(self._tenants):
            if (tick or self._nodes.mine(tenant)) and await self._route(tenant):
                matched = True
        return matched

    async def rebuild(self) -> None:
        """Make the index anew from the database."""
        marks = {tenant: await self._store.mark(tenant) for tenant in self._tenants}
        sessions, agents = await self._steps.open_sessions(), await self._steps.agents()
        self._tenants |= {s.tenant for s in sessions} | {a.tenant for a in agents}
        for tenant in self._tenants:
            waiting = [_waiting(s) for s in sessions if s.tenant == tenant and s.visit is not None]
            free = [_free(a) for a in agents if a.tenant == tenant and a.available]
            await self._store.replace_all(tenant, marks.get(tenant, 0), waiting, free)
        self._rebuild_at = asyncio.get_running_loop().time() + REBUILD_S

    async def _take_in_changes(self) -> None:
        """Bring the index up to what was saved here, and wake the node that goes first."""
        tenants: set[str] = set()
        while not self._changes.empty():
            changed = self._changes.get_nowait()
            tenants.add(changed.tenant)
            await self._take_in(changed)
        if tenants:
            self._tenants |= tenants
            self._bus.publish(Notice(routing=tuple(tenants)))

    async def _take_in(self, changed: Session | Agent) -> None:
        if isinstance(changed, Agent):
            if changed.available:
                await self._store.put_free(changed.tenant, _free(changed))
            else:
                await self._store.drop_free(changed.tenant, changed.user_id, changed.version)
        elif changed.visit is not None:
            await self._store.put_waiting(changed.tenant, _waiting(changed))
        else:
            await self._store.drop_waiting(changed.tenant, changed.id, changed.version)

    async def _route(self, tenant: str) -> bool:
        matched = False
        queues = {q.queue_id: q for q in await self._directory.queues(tenant)}
        profiles = {p.user_id: p for p in await self._directory.agents(tenant)}
        for _ in range(MAX_ROUNDS):
            state = self._without_benched(await self._state(tenant))
            matches = choose(state, queues, profiles, self._clock.now_ms())
            if not matches:
                break
            benched = len(self._benched)
            results = {await self._try(tenant, match) for match in matches}
            matched = True
            await self._take_in_changes()
            if _Tried.ASSIGNED in results:
                continue
            if _Tried.REFUSED in results:  # rows and index disagree: the database is right
                await self.rebuild()
            if len(self._benched) == benched:
                break
        state = await self._state(tenant)
        free = [profiles[a.agent_id] for a in state.free if a.agent_id in profiles]
        self._ready_queues[tenant] = frozenset(q.queue_id for q in queues.values() if any(q.serves(p) for p in free))
        self.on_look(RoutingView(tenant, state, tuple(queues.values()), tuple(profiles.values())))
        return matched

    async def _state(self, tenant: str) -> RouterState:
        state = await self._store.state(tenant, self._clock.now_ms())
        if not state.built:
            log.warning("router_index_lost", tenant=tenant)
            await self.rebuild()
            state = await self._store.state(tenant, self._clock.now_ms())
        return state

    def _without_benched(self, state: RouterState) -> RouterState:
        now = self._clock.now_ms()
        self._benched = {session_id: until for session_id, until in self._benched.items() if until > now}
        return replace(state, waiting=tuple(w for w in state.waiting if w.session_id not in self._benched))

    async def _try(self, tenant: str, match: Match) -> _Tried:
        tried = await self._claim_and_assign(tenant, match)
        note("claim", tried.name.lower())
        return tried

    async def _claim_and_assign(self, tenant: str, match: Match) -> _Tried:
        now = self._clock.now_ms()
        claim = Claim(match.session_id, match.agent_id, new_id("clm"), now + CLAIM_MS)
        if not await self._store.claim(tenant, claim, now):
            return _Tried.LOST
        try:
            await self._assign(match.session_id, AgentOffered(match.agent_id, match.agent_name, match.why))
        except (Stale, Refused, Conflict) as reason:
            log.info("assignment_refused", session_id=match.session_id, agent_id=match.agent_id, reason=str(reason))
            return _Tried.REFUSED
        except StorageUnavailable:
            raise
        except Exception:  # one session's failure is its own: the others are routed meanwhile
            log.exception("assignment_failed", session_id=match.session_id, agent_id=match.agent_id)
            self._benched[match.session_id] = now + BENCH_MS
            return _Tried.REFUSED
        finally:
            await self._store.release(tenant, claim.request_id)
        return _Tried.ASSIGNED


def _waiting(s: Session) -> WaitingSession:
    rejected = tuple((r.agent_id, r.at) for r in s.rejections)
    return WaitingSession(s.id, s.queue.queue_id, s.order_key, rejected, held=not routable(s), version=s.version)


def _free(a: Agent) -> FreeAgent:
    return FreeAgent(a.user_id, a.idle_since, a.version)
