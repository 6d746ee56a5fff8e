"""The router: woken by what commits, it chooses, claims, and assigns.

The store is an index that all nodes share; each node follows its log of changes in a snapshot of its own, where it
chooses. The assignment is the session's step, guarded by the versions of the session and the agent. When the step
refuses, the claim is released, the rows of both are read anew, and the next round decides again. No round waits for
assignments: each lands in a later round (flights.py), so one slow commit delays one session. Every tick looks
too, so a lost wake-up costs a second at most; once in a while the index is made anew from the database, and at once
when the store says that it is lost. A session that rings for all is offered to one agent after the other, each time
as what the step before has made of it, until nobody more can be asked.

Any node may route any tenant. One of them goes first (`Nodes.mine`), the others only at their ticks: what they would
otherwise do is choose the same head and lose the claim. While the store is away routing pauses; `on_pause` tells.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
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
from server.routing.flights import Flight, Flights, Landing
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
ROUND_S = 0.005  # from one round to the next: each costs some milliseconds, however little there is to do
REBUILD_S = 30.0
REBUILD_SHARE = 50  # a rebuild that takes long comes that many times its length apart
CLAIM_MS = 5_000  # many times the length of a step; a node that died with a claim delays a session this long
BENCH_MS = 30_000  # a session whose assignment failed for a cause of ours
PAUSED_S = 3.0  # routing that stands still for longer is told to people
LOST_S = 0.25  # a session or an agent that another node has claimed is left alone for so long
MAX_REFUSED = 5  # of a session between two ticks: a bound against two rows that disagree for ever
BATCH = 32  # assignments of a tenant that are on their way at once: more would only wait for the database

Assign = Callable[[str, AgentOffered], Awaitable[Session]]


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
        self._flights = Flights(self._assign_one, self._woken.set)
        self._refused: Counter[str] = Counter()  # by session id, since the last tick
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
        try:
            await self._run()
        finally:
            await self._give_up()

    async def _give_up(self) -> None:
        """Claims that nobody releases would keep their sessions waiting for seconds, while other nodes are here."""
        left = await self._flights.end()
        with suppress(RouterStoreUnavailable):
            for tenant in {flight.tenant for flight in left}:
                await self._store.release(tenant, [flight.claim_id for flight in left if flight.tenant == tenant])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        ticked = looked = loop.time()
        paused = False
        while True:
            began = loop.time()
            self._woken.clear()
            tick = began - ticked >= TICK_S
            ticked = began if tick else ticked
            try:
                with Work("route") as work:
                    work.worth = await self._round(tick)
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
            await asyncio.sleep(began + ROUND_S - loop.time())

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
        """Rounds until nothing is on its way and nothing more can be matched. True when something was matched."""
        matched = await self._round(tick)
        while await self._flights.next():
            matched = await self._round(tick=False, first=tick) or matched
        return matched

    async def _round(self, tick: bool, *, first: bool = False) -> bool:
        """Take in what changed and what has landed, then send off what can be matched, where this node goes `first` or
        at a tick. True when something was matched."""
        matched = False
        if tick:
            self._refused.clear()
        if asyncio.get_running_loop().time() >= self._rebuild_at:
            await self.rebuild()
        landed = await self._take_in_landed()
        await self._write()
        for tenant in self._tenants | landed.keys():
            chooses = tick or first or self._nodes.mine(tenant)
            if chooses or tenant in landed:
                matched = await self._route_safely(tenant, landed.get(tenant, ()), chooses) or matched
        return matched

    async def _take_in_landed(self) -> Mapping[str, Sequence[Flight]]:
        """By tenant. Raises StorageUnavailable when it is not known what became of one."""
        by_tenant: dict[str, list[Flight]] = {}
        landed = self._flights.landed()
        for flight, _ in landed:
            by_tenant.setdefault(flight.tenant, []).append(flight)
        try:
            for flight, landing in landed:
                note("claim", landing.name.lower())
                if landing is Landing.REFUSED:
                    await self._look_again(flight)
            if by_tenant:
                await self._write()
        finally:
            for tenant, flights in by_tenant.items():
                await self._store.release(tenant, [flight.claim_id for flight in flights])
        if any(landing is Landing.UNKNOWN for _, landing in landed):
            raise StorageUnavailable("an assignment got no answer")
        return by_tenant

    async def _route_safely(self, tenant: str, landed: Sequence[Flight], chooses: bool) -> bool:
        """One tenant's fault is its own."""
        try:
            return await self._route(tenant, landed, chooses)
        except (StorageUnavailable, RouterStoreUnavailable):
            raise
        except Exception:
            log.exception("routing_failed", tenant=tenant)
            self._snapshots.pop(tenant, None)
            self._lost = [one for one in self._lost if one[1].tenant != tenant]
            return False

    async def rebuild(self) -> None:
        """Make the index anew from the database. A doubt that comes meanwhile is about what was not read: it stands."""
        loop = asyncio.get_running_loop()
        began, self._rebuild_at = loop.time(), math.inf
        try:
            await self._read_all()
        except BaseException:
            self._rebuild_at = 0.0
            raise
        if self._rebuild_at == math.inf:
            self._rebuild_at = loop.time() + max(REBUILD_S, REBUILD_SHARE * (loop.time() - began))

    async def _read_all(self) -> None:
        marks = {tenant: await self._store.mark(tenant) for tenant in list(self._tenants)}
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

    async def _route(self, tenant: str, landed: Sequence[Flight], chooses: bool) -> bool:
        snapshot = await self._snapshot(tenant)
        for flight in landed:  # the snapshot knows by now what became of it
            flight.snapshot.settle(flight.match, self._clock.now_ms())
        matched = chooses and await self._send_off(tenant, snapshot)
        self.on_look(snapshot)
        return matched

    async def _send_off(self, tenant: str, snapshot: Snapshot) -> bool:
        """Choose, claim, and send what is granted on its way."""
        self._settle_lost()
        room = BATCH - self._flights.in_air(tenant)
        now = self._clock.now_ms()
        matches = snapshot.choose(now, room) if room > 0 else []
        if not matches:
            return False
        claims = [Claim(match.session_id, match.agent_id, new_id("clm"), now + CLAIM_MS) for match in matches]
        granted = await self._store.claim(tenant, claims, now)
        for match, claim, yes in zip(matches, claims, granted, strict=True):
            if yes:
                self._flights.send(Flight(tenant, snapshot, match, claim.request_id))
            else:
                note("claim", "lost")
                self._leave_alone(snapshot, match)
        return True

    def _leave_alone(self, snapshot: Snapshot, lost: Match) -> None:
        """Another node has claimed the session or the agent, and is about to tell what became of it, or has died: both
        stay reserved for a moment, and others are matched meanwhile."""
        loop = asyncio.get_running_loop()
        self._lost.append((loop.time() + LOST_S, snapshot, lost))
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

    async def _assign_one(self, flight: Flight) -> Landing:
        match = flight.match
        try:
            await self._assign(match.session_id, AgentOffered(match.agent_id, match.agent_name, match.why))
        except (Stale, Refused, Conflict) as reason:
            log.info("assignment_refused", session_id=match.session_id, agent_id=match.agent_id, reason=str(reason))
            return Landing.REFUSED
        except StorageUnavailable:
            return Landing.UNKNOWN
        except Exception:  # one session's failure is its own: the others are routed meanwhile
            log.exception("assignment_failed", session_id=match.session_id, agent_id=match.agent_id)
            flight.snapshot.bench(match.session_id, self._clock.now_ms() + BENCH_MS)
            return Landing.REFUSED
        return Landing.ASSIGNED

    async def _look_again(self, flight: Flight) -> None:
        """Rows and index disagree: the database is right. A row that can't be read is its own session's fault."""
        try:
            await self._read_anew(flight)
        except StorageUnavailable:
            raise
        except Exception:
            log.exception("rows_unreadable", session_id=flight.match.session_id, agent_id=flight.match.agent_id)

    async def _read_anew(self, flight: Flight) -> None:
        match = flight.match
        session, agent = await self._steps.session(match.session_id), await self._steps.agent(match.agent_id)
        if session is not None:
            self._hear(flight.tenant, waiting_word(session))
        if agent is not None:
            self._hear(flight.tenant, agent_word(agent))
        self._refused[match.session_id] += 1
        if self._refused[match.session_id] >= MAX_REFUSED:
            flight.snapshot.bench(match.session_id, self._clock.now_ms() + round(TICK_S * 1000))


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
