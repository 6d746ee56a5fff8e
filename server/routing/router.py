"""The router: woken by what commits, it chooses, claims, and assigns.

The store is an index that all nodes share; each node follows its log of changes in a snapshot of its own, where it
chooses. The assignment is the session's step, guarded by the versions of the session and the agent. When the step
refuses, the claim is released, the rows of both are read anew, and the next round decides again. Every tick looks
too, so a lost wake-up costs a second at most; once in a while the index is made anew from the database, and at once
when the store says that it is lost. A session that rings for all is offered to one agent after the other, each time
as what the step before has made of it, until nobody more can be asked.

Any node may route any tenant. One of them goes first (`Nodes.mine`), the others only at their ticks: what they would
otherwise do is choose the same head and lose the claim. While the store is away routing pauses; `on_pause` tells.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from enum import Enum, auto
from itertools import chain

import structlog

from server.domain.agent import Agent, AgentState
from server.domain.directory import DEFAULT_TENANT
from server.domain.effects import routable
from server.domain.events import AgentOffered
from server.domain.machine import Refused, Stale
from server.domain.requirements import from_json
from server.domain.router_state import Claim, Entry, Gone, PresentAgent, RoutingView, WaitingSession, Word
from server.domain.session import Session
from server.ids import new_id
from server.probes import Work, note
from server.routing.policy import Match
from server.routing.snapshot import PORTION, Snapshot
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
REBUILD_SHARE = 50  # a rebuild that takes long comes that many times its length apart
CLAIM_MS = 5_000  # many times the length of a step; a node that died with a claim delays a session this long
BENCH_MS = 30_000  # a session whose assignment failed for a cause of ours
PAUSED_S = 3.0  # routing that stands still for longer is told to people
LOST_S = 0.25  # a session or an agent that another node has claimed is left alone for so long
MAX_ROUNDS = 50  # of choosing in one look: a bound against two rows that disagree for ever
BATCH = 32  # matches that are claimed and assigned at once: what comes meanwhile waits for the slowest of them

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
        self._heard: dict[tuple[str, type, str], Word] = {}  # the newest of each row; written by each look
        self._tenants: set[str] = {DEFAULT_TENANT}
        self._snapshots: dict[str, Snapshot] = {}
        self._lost: list[tuple[float, Snapshot, Match]] = []  # loop time until which each stays reserved
        self._rebuild_at = 0.0  # loop time; 0: at the next look
        self.on_look: Callable[[RoutingView], None] = lambda view: None
        self.on_pause: Callable[[bool], None] = lambda paused: None
        self.on_renewed: Callable[[int], None] = lambda entries: None

    def on_commit(self, commit: Commit) -> None:
        for session in commit.sessions:
            self._hear(session.after.tenant, waiting_word(session.after))
        for agent in commit.agents:
            self._hear(agent.after.tenant, agent_word(agent.after))
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
        snapshot = self._snapshots.get(tenant)
        return snapshot is not None and snapshot.ready(queue_id) > 0

    def explain(self, tenant: str, session_id: str) -> Mapping[str, object] | None:
        """`Explanations`: why a waiting session waits, as far as this node's snapshot knows; None for any other."""
        snapshot = self._snapshots.get(tenant)
        return snapshot.explain(session_id, self._clock.now_ms()) if snapshot is not None else None

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
                self._start_over()
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
        self._tenants |= {tenant for tenant, _, _ in self._heard}
        self._heard.clear()
        self._snapshots.clear()
        self._lost.clear()
        self._rebuild_at = 0.0
        self._woken.clear()

    async def look(self, *, tick: bool = True) -> bool:
        """Take in what changed, then match until nothing more can be matched, where this node goes first or at a
        tick. True when something was matched."""
        matched = False
        if asyncio.get_running_loop().time() >= self._rebuild_at:
            await self.rebuild()
        await self._write()
        for tenant in tuple(self._tenants):
            if tick or self._nodes.mine(tenant):
                matched = await self._route_safely(tenant) or matched
        return matched

    async def _route_safely(self, tenant: str) -> bool:
        """One tenant's fault is its own."""
        try:
            return await self._route(tenant)
        except (StorageUnavailable, RouterStoreUnavailable):
            raise
        except Exception:
            log.exception("routing_failed", tenant=tenant)
            self._snapshots.pop(tenant, None)
            self._lost = [one for one in self._lost if one[1].tenant != tenant]
            return False

    async def rebuild(self) -> None:
        """Make the index anew from the database."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        marks = {tenant: await self._store.mark(tenant) for tenant in self._tenants}
        sessions, agents = await self._steps.open_sessions(), await self._steps.agents()
        entries: dict[str, list[Entry]] = {tenant: [] for tenant in self._tenants}
        words = chain(((s.tenant, waiting_word(s)) for s in sessions), ((a.tenant, agent_word(a)) for a in agents))
        for number, (tenant, word) in enumerate(words, 1):
            if not isinstance(word, Gone):
                entries.setdefault(tenant, []).append(word)
            if number % PORTION == 0:
                await asyncio.sleep(0)
        self._tenants |= entries.keys()
        for tenant, found in entries.items():
            await self._store.replace_all(tenant, marks.get(tenant, 0), found)
        self._rebuild_at = loop.time() + max(REBUILD_S, REBUILD_SHARE * (loop.time() - began))

    def _hear(self, tenant: str, word: Word) -> None:
        match word:
            case Gone(kind, gone_id):
                key = (tenant, kind, gone_id)
            case WaitingSession():
                key = (tenant, WaitingSession, word.session_id)
            case PresentAgent():
                key = (tenant, PresentAgent, word.agent_id)
        known = self._heard.get(key)
        if known is None or known.version <= word.version:
            self._heard[key] = word

    async def _write(self) -> None:
        """Bring the index up to what was saved here, and wake the node that goes first."""
        heard, self._heard = self._heard, {}
        by_tenant: dict[str, list[Word]] = {}
        for (tenant, _, _), word in heard.items():
            by_tenant.setdefault(tenant, []).append(word)
        for tenant, words in by_tenant.items():
            await self._store.write(tenant, words)
        if by_tenant:
            self._tenants |= by_tenant.keys()
            self._bus.publish(Notice(routing=tuple(by_tenant)))

    async def _route(self, tenant: str) -> bool:
        snapshot = await self._snapshot(tenant)
        matched = False
        for _ in range(MAX_ROUNDS):
            self._settle_lost()
            matches = snapshot.choose(self._clock.now_ms(), BATCH)
            if not matches:
                break
            lost: set[Match] = set()
            try:
                results = await self._try(tenant, snapshot, matches)
                lost = {match for match, result in results.items() if result is _Tried.LOST}
                await self._write()
                await self._catch_up(snapshot)
            finally:
                for match in matches:
                    if match not in lost:
                        snapshot.settle(match, self._clock.now_ms())
            self._leave_alone(snapshot, lost)
            matched = True
        self.on_look(snapshot)
        return matched

    def _leave_alone(self, snapshot: Snapshot, lost: Iterable[Match]) -> None:
        """Another node has claimed the session or the agent, and is about to tell what became of it, or has died: both
        stay reserved for a moment, and others are matched meanwhile."""
        loop = asyncio.get_running_loop()
        for match in lost:
            self._lost.append((loop.time() + LOST_S, snapshot, match))
            loop.call_later(LOST_S, self._woken.set)

    def _settle_lost(self) -> None:
        now = asyncio.get_running_loop().time()
        due, self._lost = [one for one in self._lost if one[0] <= now], [one for one in self._lost if one[0] > now]
        for _, snapshot, match in due:
            snapshot.settle(match, self._clock.now_ms())

    async def _snapshot(self, tenant: str) -> Snapshot:
        """This node's snapshot of a tenant, brought up to date."""
        if tenant not in self._snapshots:
            self._snapshots[tenant] = Snapshot(tenant)
        snapshot = self._snapshots[tenant]
        queues, profiles = await self._directory.queues(tenant), await self._directory.agents(tenant)
        snapshot.set_up(queues, profiles, self._clock.now_ms())
        await self._catch_up(snapshot)
        return snapshot

    async def _catch_up(self, snapshot: Snapshot) -> None:
        changes = await self._store.changes(snapshot.tenant, snapshot.position, snapshot.proof)
        now = self._clock.now_ms()
        if not changes.lost:
            for word in changes.words:
                snapshot.take(word, now)
            snapshot.position, snapshot.proof = changes.position, changes.proof
            return
        state = await self._store.state(snapshot.tenant, now)
        if not state.built:
            log.warning("router_index_lost", tenant=snapshot.tenant)
            await self.rebuild()
            state = await self._store.state(snapshot.tenant, now)
        entries: tuple[Entry, ...] = (*state.waiting, *state.agents)
        for _ in snapshot.renew(entries, state.position, state.proof, now):
            await asyncio.sleep(0)  # sockets are served meanwhile
        self.on_renewed(len(entries))

    async def _try(self, tenant: str, snapshot: Snapshot, matches: Sequence[Match]) -> dict[Match, _Tried]:
        now = self._clock.now_ms()
        claims = [Claim(match.session_id, match.agent_id, new_id("clm"), now + CLAIM_MS) for match in matches]
        granted = await self._store.claim(tenant, claims, now)
        won = [match for match, yes in zip(matches, granted, strict=True) if yes]
        try:
            tried = await asyncio.gather(*(self._assign_one(snapshot, match) for match in won))
        finally:
            await self._store.release(tenant, [c.request_id for c, yes in zip(claims, granted, strict=True) if yes])
        results = dict.fromkeys(matches, _Tried.LOST) | dict(zip(won, tried, strict=True))
        await self._read_anew(tenant, [match for match, result in results.items() if result is _Tried.REFUSED])
        for result in results.values():
            note("claim", result.name.lower())
        return results

    async def _assign_one(self, snapshot: Snapshot, match: Match) -> _Tried:
        try:
            await self._assign(match.session_id, AgentOffered(match.agent_id, match.agent_name, match.why))
        except (Stale, Refused, Conflict) as reason:
            log.info("assignment_refused", session_id=match.session_id, agent_id=match.agent_id, reason=str(reason))
            return _Tried.REFUSED
        except StorageUnavailable:
            raise
        except Exception:  # one session's failure is its own: the others are routed meanwhile
            log.exception("assignment_failed", session_id=match.session_id, agent_id=match.agent_id)
            snapshot.bench(match.session_id, self._clock.now_ms() + BENCH_MS)
            return _Tried.REFUSED
        return _Tried.ASSIGNED

    async def _read_anew(self, tenant: str, refused: Iterable[Match]) -> None:
        """Rows and index disagree: the database is right."""
        for match in refused:
            session, agent = await self._steps.session(match.session_id), await self._steps.agent(match.agent_id)
            if session is not None:
                self._hear(tenant, waiting_word(session))
            if agent is not None:
                self._hear(tenant, agent_word(agent))


def waiting_word(s: Session) -> WaitingSession | Gone:
    """What the index says of a session."""
    visit = s.visit
    if visit is None:
        return Gone(WaitingSession, s.id, s.version)
    return WaitingSession(
        session_id=s.id,
        queue_id=s.queue.queue_id,
        arrived_at=s.first_arrival,
        entered_at=visit.entered_at,
        priority=s.priority,
        channel=s.channel,
        held=not routable(s),
        rejected_by=tuple((r.agent_id, r.at) for r in s.rejections),
        asks=from_json(json.loads(s.asks)) if s.asks else None,
        preferred=s.preferred,
        excluded=s.excluded,
        sticky_agent=s.sticky_agent_id,
        ringing=tuple(segment.agent_id for segment in s.ringing),
        away=s.kept_since is not None and s.callback is None,
        version=s.version,
    )


def agent_word(a: Agent) -> PresentAgent | Gone:
    """What the index says of an agent: whoever is logged in counts, also those who take nothing now."""
    channels = a.open_channels
    if a.state is AgentState.OFFLINE and not channels:
        return Gone(PresentAgent, a.user_id, a.version)
    state = "ready" if channels else "unreachable" if a.state is AgentState.READY else a.state.value
    return PresentAgent(
        agent_id=a.user_id,
        state=state,
        channels=channels,
        idle_since=a.idle_since,
        offered_at=a.offered_at,
        busy_ms=a.busy_ms,
        ready_ms=a.ready_ms,
        handled=a.handled,
        version=a.version,
    )
