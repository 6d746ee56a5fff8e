"""PURE: one tenant's waiting sessions and agents, indexed so that a match costs the same among 50 and 50,000.

Words come in (`take`), matches come out (`choose`). Who is matched is reserved until `settle`: by then the index has
heard what became of it. A session that nobody can take does not block the ones behind it: they wait for other
people. Times are UTC epoch ms, given by the caller; nothing here reads a clock, so the same words give the same
matches, in the product, in tests and in what-if runs.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from sortedcontainers import SortedList

from server.domain.capacity import VOICE
from server.domain.directory import AgentProfile, QueueConfig
from server.domain.queue_routing import Strategy
from server.domain.requirements import AllOf, Requirement, keys_of, meets
from server.domain.router_state import Gone, PresentAgent, QueueLook, WaitingSession, Word
from server.routing.policy import Match, asked_again_at, verdict
from server.routing.pools import Lane, LaneKey, Place, Pool, PoolKey, Urgency, new_pool, place_in, step_of, urgency
from server.routing.reasons import MAX_CANDIDATES, others, reasons
from server.routing.scoring import Rank, midnight_in

MAX_TRIED = 50  # sessions of a lane that are tried before the lane has to wait for something to change
DAY_LOOK_MS = 60_000
PORTION = 250  # entries of a renewal at once: some 10 ms
WORKING = frozenset({"ready", "ringing", "on_contact", "wrap_up"})  # of the states of `PresentAgent`


@dataclass(slots=True)
class _Desk:
    entry: PresentAgent
    ranks: dict[PoolKey, Rank] = field(default_factory=dict)  # where the agent stands now
    generation: int = -1
    fitting: tuple[Pool, ...] = ()  # pools that the agent's skills fit, as of `generation`


@dataclass(slots=True)
class _Wait:
    entry: WaitingSession
    place: Place
    lane: Lane | None = None


class Snapshot:
    """Not thread-safe, never awaits."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.position, self.proof = 0, ""  # of the newest word
        self._queue_list: Sequence[QueueConfig] = ()
        self._profile_list: Sequence[AgentProfile] = ()
        self._queues: dict[str, QueueConfig] = {}
        self._profiles: dict[str, AgentProfile] = {}
        self._desks: dict[str, _Desk] = {}
        self._waits: dict[str, _Wait] = {}
        self._in_queue: dict[str, SortedList[Place]] = {}
        self._pools: dict[PoolKey, Pool] = {}
        self._by_skill: dict[str | None, dict[PoolKey, Pool]] = {}  # None: pools that need no certain skill
        self._generation = 0
        self._ripe: dict[LaneKey, Lane] = {}  # somebody waits and somebody is free
        self._timers: list[tuple[int, str]] = []  # when a session's lane must be looked up again
        self._reserved: dict[str, str] = {}  # session id -> agent id
        self._reserved_agents: set[str] = set()
        self._benched: dict[str, int] = {}  # session id -> until when it is left alone
        self._stuck: dict[str, set[str]] = {}  # agent id -> sessions that wait for them as long as they are on duty
        self._states: Counter[str] = Counter()
        self._day_look_at = 0
        self._served: dict[str, tuple[AgentProfile, tuple[str, ...]]] = {}

    # --- what is known ---

    def set_up(self, queues: Sequence[QueueConfig], profiles: Sequence[AgentProfile], now: int) -> None:
        """The directory. Cheap when it is the same as before."""
        if queues is not self._queue_list and tuple(queues) != tuple(self._queue_list):
            self._set_queues(queues, now)
        if profiles is not self._profile_list:
            self._set_profiles(profiles, now)
        self._queue_list, self._profile_list = queues, profiles

    def replace(self, entries: Iterable[WaitingSession | PresentAgent], position: int, proof: str, now: int) -> None:
        """Begin anew with the whole of the index. Reservations go on."""
        for _ in self.renew(entries, position, proof, now):
            pass

    def renew(
        self, entries: Iterable[WaitingSession | PresentAgent], position: int, proof: str, now: int
    ) -> Iterator[None]:
        """`replace` in portions: tens of thousands of agents take seconds. In between it answers with what it has; its
        position is the new one at the end only."""
        sessions: set[str] = set()
        agents: set[str] = set()
        for number, entry in enumerate(entries, 1):
            known: WaitingSession | PresentAgent | None
            if isinstance(entry, WaitingSession):
                sessions.add(entry.session_id)
                wait = self._waits.get(entry.session_id)
                known = wait.entry if wait is not None else None
            else:
                agents.add(entry.agent_id)
                desk = self._desks.get(entry.agent_id)
                known = desk.entry if desk is not None else None
            if entry != known:
                self.take(entry, now)
            if number % PORTION == 0:
                yield
        for session_id in self._waits.keys() - sessions:
            self._drop_session(session_id)
        for agent_id in self._desks.keys() - agents:
            self._drop_agent(agent_id, now)
        self.position, self.proof = position, proof

    def take(self, word: Word, now: int) -> None:
        """The newest word about a session or an agent."""
        match word:
            case WaitingSession():
                self._drop_session(word.session_id)
                wait = _Wait(word, place_in(word, self._queues.get(word.queue_id)))
                self._waits[word.session_id] = wait
                self._in_queue.setdefault(word.queue_id, SortedList()).add(wait.place)
                self._enter_lane(wait, now)
            case PresentAgent():
                desk = self._desks.get(word.agent_id)
                came = desk is None
                if desk is None:
                    desk = self._desks[word.agent_id] = _Desk(word)
                else:
                    self._leave_pools(desk)
                    self._states[desk.entry.state] -= 1
                    desk.entry = word
                self._states[word.state] += 1
                self._enter_pools(desk)
                if came:
                    self._unstick(word.agent_id, now)
            case Gone(kind, gone_id):
                if kind is WaitingSession:
                    self._drop_session(gone_id)
                    self._benched.pop(gone_id, None)
                else:
                    self._drop_agent(gone_id, now)

    def bench(self, session_id: str, until: int) -> None:
        """Leave a session alone for a while."""
        self._benched[session_id] = until
        heapq.heappush(self._timers, (until, session_id))

    # --- deciding ---

    def choose(self, now: int, limit: int = 64) -> list[Match]:
        """Matches for as many sessions as there are agents for, each agent and session at most once, and reserved
        until `settle`. A session goes before others by its queue's weight, its priority, its arrival; one that rings
        already, and would ring for one more, after all others."""
        self._advance(now)
        matches: list[Match] = []
        ripe = [(lane.first or self._first_urgency(lane, now), lane) for lane in self._ripe.values()]
        heapq.heapify(ripe)
        while ripe and len(matches) < limit:
            urgent, lane = heapq.heappop(ripe)
            found = self._pick(lane, now)
            if found is None:
                self._ripe.pop(lane.key, None)
                continue
            wait, agent_id = found
            own = urgency(wait.entry, lane.queue, now)
            if own == urgent:
                matches.append(self._match(wait, lane, agent_id, now))
                self._reserve(wait, agent_id)
                if lane.waiting:
                    heapq.heappush(ripe, (lane.first or self._first_urgency(lane, now), lane))
            else:  # nobody can take those before it in the lane
                heapq.heappush(ripe, (own, lane))
        return matches

    def settle(self, match: Match, now: int) -> None:
        """The match was made, or failed: what the index says of both counts again."""
        self._reserved.pop(match.session_id, None)
        self._reserved_agents.discard(match.agent_id)
        wait, desk = self._waits.get(match.session_id), self._desks.get(match.agent_id)
        if wait is not None:
            self._leave_lane(wait)
            self._enter_lane(wait, now)
        if desk is not None:
            self._leave_pools(desk)
            self._enter_pools(desk)

    def explain(self, session_id: str, now: int) -> Mapping[str, object] | None:
        """The reasons why a waiting session waits, in the form of a decision's; None when it waits not."""
        wait = self._waits.get(session_id)
        queue = self._queues.get(wait.entry.queue_id) if wait is not None else None
        if wait is None or queue is None:
            return None
        step, _ = step_of(wait.entry, queue, now)
        lane = wait.lane or self._lane(wait.entry, queue, step, None, now)
        why = self._why(wait, lane, None, now)
        self._forget_unused(lane)
        place = self._in_queue[queue.queue_id].bisect_right(wait.place)
        return why | {"held": wait.entry.held, "place": place}

    # --- RoutingView ---

    def queues(self) -> dict[str, QueueLook]:
        return {
            queue.queue_id: QueueLook(
                queue,
                tuple(self._waits[place[2]].entry for place in self._in_queue.get(queue.queue_id, ())),
                self.ready(queue.queue_id),
            )
            for queue in self._queues.values()
        }

    def ready(self, queue_id: str) -> int:
        """How many agents are free for a queue, with all that its steps allow."""
        queue = self._queues.get(queue_id)
        if queue is None or not queue.active:
            return 0
        return max(len(self._pools[key].agents) for key in _keys_of_queue(queue))

    def waiting(self) -> Iterator[WaitingSession]:
        return (wait.entry for wait in self._waits.values())

    def staffed(self, queue_ids: Collection[str]) -> frozenset[str]:
        """A pass over the agents that ends as soon as every queue has one: among many agents that is soon."""
        found: set[str] = set()
        for desk in self._desks.values():
            if len(found) == len(queue_ids):
                break
            if desk.entry.state in WORKING:
                found.update(queue_id for queue_id in self.queues_of(desk.entry.agent_id) if queue_id in queue_ids)
        return frozenset(found)

    def queues_of(self, agent_id: str) -> tuple[str, ...]:
        profile = self._profiles.get(agent_id)
        if profile is None:
            return ()
        known = self._served.get(agent_id)
        if known is None or known[0] is not profile:
            served = tuple(q.queue_id for q in self._queues.values() if q.active and q.serves(profile))
            known = self._served[agent_id] = (profile, served)
        return known[1]

    def knows(self, agent_id: str) -> bool:
        return agent_id in self._profiles

    # --- queues and profiles ---

    def _set_queues(self, queues: Sequence[QueueConfig], now: int) -> None:
        self._queues = {queue.queue_id: queue for queue in queues}
        self._served.clear()
        wanted = {key for queue in queues if queue.active for key in _keys_of_queue(queue)}
        for pool in list(self._pools.values()):
            pool.lasting = pool.key in wanted
        fresh = [self._make_pool(key, now) for key in wanted if key not in self._pools]
        for pool in fresh:
            pool.lasting = True
        self._fill(fresh)
        for wait in self._waits.values():
            self._leave_lane(wait)
        for waiting in self._in_queue.values():
            waiting.clear()
        for wait in self._waits.values():
            wait.place = place_in(wait.entry, self._queues.get(wait.entry.queue_id))
            self._in_queue.setdefault(wait.entry.queue_id, SortedList()).add(wait.place)
            self._enter_lane(wait, now)
        for pool in list(self._pools.values()):
            self._drop_unused(pool)

    def _set_profiles(self, profiles: Sequence[AgentProfile], now: int) -> None:
        before, self._profiles = self._profiles, {profile.user_id: profile for profile in profiles}
        for agent_id, desk in tuple(self._desks.items()):
            if before.get(agent_id) != self._profiles.get(agent_id):
                self._leave_pools(desk)
                desk.generation = -1
                self._enter_pools(desk)
                self._unstick(agent_id, now)

    # --- pools ---

    def _make_pool(self, key: PoolKey, now: int) -> Pool:
        pool = self._pools[key] = new_pool(key, now)
        for skill in keys_of(key.asked) or (None,):
            self._by_skill.setdefault(skill, {})[key] = pool
        self._generation += 1
        return pool

    def _fill(self, fresh: Sequence[Pool]) -> None:
        """One pass over all agents, however many pools are new."""
        if not fresh:
            return
        if all(pool.key.only is not None for pool in fresh):
            desks: Iterable[_Desk] = [self._desks[p.key.only] for p in fresh if p.key.only in self._desks]
        else:
            desks = self._desks.values()
        for desk in desks:
            profile = self._free(desk)
            if profile is not None:
                for pool in fresh:
                    if pool.key.only in (None, desk.entry.agent_id) and meets(pool.key.asked, profile.level):
                        self._enter_pool(desk, profile, pool)

    def _drop_unused(self, pool: Pool) -> None:
        if pool.lasting or pool.lanes or pool.key not in self._pools:
            return
        for rank in pool.agents:
            self._desks[rank[2]].ranks.pop(pool.key, None)
        del self._pools[pool.key]
        for skill in keys_of(pool.key.asked) or (None,):
            del self._by_skill[skill][pool.key]
        self._generation += 1

    def _fitting(self, desk: _Desk, profile: AgentProfile) -> tuple[Pool, ...]:
        if desk.generation != self._generation:
            agent_id = desk.entry.agent_id
            found: dict[PoolKey, Pool] = {}
            for skill in (None, *(skill for skill, _ in profile.skills)):
                found |= self._by_skill.get(skill, {})
            desk.fitting = tuple(
                pool for key, pool in found.items() if key.only in (None, agent_id) and meets(key.asked, profile.level)
            )
            desk.generation = self._generation
        return desk.fitting

    def _enter_pools(self, desk: _Desk) -> None:
        profile = self._free(desk)
        if profile is not None:
            for pool in self._fitting(desk, profile):
                self._enter_pool(desk, profile, pool)

    def _free(self, desk: _Desk) -> AgentProfile | None:
        """The profile of who may be offered something now."""
        entry = desk.entry
        profile = self._profiles.get(entry.agent_id)
        if not entry.channels or profile is None or not profile.active or entry.agent_id in self._reserved_agents:
            return None
        return profile

    def _enter_pool(self, desk: _Desk, profile: AgentProfile, pool: Pool) -> None:
        if pool.key.channel in desk.entry.channels:
            rank = desk.ranks[pool.key] = pool.rank(desk.entry, profile)
            pool.agents.add(rank)
            for lane in pool.lanes.values():
                self._ripe[lane.key] = lane

    def _leave_pools(self, desk: _Desk) -> None:
        for key, rank in desk.ranks.items():
            pool = self._pools.get(key)
            if pool is not None:
                pool.agents.remove(rank)
        desk.ranks.clear()

    def _drop_agent(self, agent_id: str, now: int) -> None:
        desk = self._desks.pop(agent_id, None)
        if desk is not None:
            self._leave_pools(desk)
            self._states[desk.entry.state] -= 1
            self._unstick(agent_id, now)

    def _unstick(self, agent_id: str, now: int) -> None:
        """An agent came or went: who waits for them in particular may have to wait for somebody else now."""
        for session_id in tuple(self._stuck.get(agent_id, ())):
            self._leave_lane(self._waits[session_id])
            self._enter_lane(self._waits[session_id], now)

    # --- lanes ---

    def _enter_lane(self, wait: _Wait, now: int) -> None:
        session = wait.entry
        queue = self._queues.get(session.queue_id)
        if session.held or queue is None or session.session_id in self._reserved:
            return
        benched = self._benched.get(session.session_id, 0)
        if benched > now:
            return  # its timer is set
        step, next_at = step_of(session, queue, now)
        if next_at is not None:
            heapq.heappush(self._timers, (next_at, session.session_id))
        sticky = self._sticky(session, queue, now)
        lane = self._lane(session, queue, step, sticky, now)
        wait.lane = lane
        lane.waiting.add(wait.place)
        lane.first = None
        if lane.pool.agents:
            self._ripe[lane.key] = lane

    def _sticky(self, session: WaitingSession, queue: QueueConfig, now: int) -> str | None:
        """The agent whom a session waits for in particular: somebody on duty who may take it."""
        agent_id, until = session.sticky_agent, session.arrived_at + queue.routing.sticky_s * 1000
        if agent_id is None or now >= until:
            return None
        self._stuck.setdefault(agent_id, set()).add(session.session_id)
        heapq.heappush(self._timers, (until, session.session_id))
        profile = self._profiles.get(agent_id)
        step, _ = step_of(session, queue, now)
        able = (
            agent_id in self._desks
            and profile is not None
            and profile.active
            and meets(_asked(session, queue, step), profile.level)
            and agent_id not in session.excluded
            and all(by != agent_id for by, _ in session.rejected_by)
        )
        return agent_id if able else None

    def _lane(self, session: WaitingSession, queue: QueueConfig, step: int, sticky: str | None, now: int) -> Lane:
        routing = queue.routing
        key = PoolKey(_asked(session, queue, step), session.channel, routing.strategy, routing.time_zone, sticky)
        lane_key = LaneKey(queue.queue_id, key, bool(session.ringing))
        pool = self._pools.get(key)
        if pool is None:
            pool = self._make_pool(key, now)
            self._fill([pool])
        lane = pool.lanes.get(lane_key)
        if lane is None:
            lane = pool.lanes[lane_key] = Lane(lane_key, queue, step, pool)
        return lane

    def _leave_lane(self, wait: _Wait) -> None:
        lane, wait.lane = wait.lane, None
        if lane is not None:
            lane.waiting.remove(wait.place)
            lane.first = None
            self._forget_unused(lane)

    def _forget_unused(self, lane: Lane) -> None:
        if not lane.waiting:
            lane.pool.lanes.pop(lane.key, None)
            self._ripe.pop(lane.key, None)  # its pool stays until the next look: whoever left may be back at once

    def _drop_session(self, session_id: str) -> None:
        wait = self._waits.pop(session_id, None)
        if wait is not None:
            self._leave_lane(wait)
            self._in_queue[wait.entry.queue_id].remove(wait.place)
            stuck = self._stuck.get(wait.entry.sticky_agent or "", set())
            stuck.discard(session_id)
            if not stuck:
                self._stuck.pop(wait.entry.sticky_agent or "", None)

    def _advance(self, now: int) -> None:
        """What time alone changes: steps, sticky agents, pauses that end, a new day."""
        while self._timers and self._timers[0][0] <= now:
            _, session_id = heapq.heappop(self._timers)
            if self._benched.get(session_id, now + 1) <= now:
                del self._benched[session_id]
            wait = self._waits.get(session_id)
            if wait is not None:
                self._leave_lane(wait)
                self._enter_lane(wait, now)
        if now >= self._day_look_at:
            self._day_look_at = now + DAY_LOOK_MS
            for pool in list(self._pools.values()):
                self._drop_unused(pool)
                if pool.lasting or pool.lanes:
                    self._begin_day(pool, now)

    def _begin_day(self, pool: Pool, now: int) -> None:
        counts = pool.key.strategy is Strategy.FEWEST_SESSIONS
        midnight = midnight_in(pool.key.time_zone, now) if counts else pool.midnight
        if midnight != pool.midnight:
            anew = new_pool(pool.key, now)
            pool.midnight, pool.rank = anew.midnight, anew.rank
            ranks = {rank[2]: pool.rank(self._desks[rank[2]].entry, self._profiles[rank[2]]) for rank in pool.agents}
            for agent_id, rank in ranks.items():
                self._desks[agent_id].ranks[pool.key] = rank
            pool.agents = SortedList(ranks.values())

    # --- one match ---

    def _first_urgency(self, lane: Lane, now: int) -> Urgency:
        urgent = urgency(self._waits[lane.waiting[0][2]].entry, lane.queue, now)
        # A priority that grows is another one at each look; lanes are made anew when the queue's rules change.
        lane.first = urgent if not lane.queue.routing.grow_s else None
        return urgent

    def _pick(self, lane: Lane, now: int) -> tuple[_Wait, str] | None:
        """The first session of a lane that somebody can take, and that agent."""
        if not lane.pool.agents:
            return None
        for place in islice(lane.waiting, MAX_TRIED):
            wait = self._waits[place[2]]
            agent_id = next(self._able(wait.entry, lane.pool, now), None)
            if agent_id is not None:
                return wait, agent_id
            again = asked_again_at(wait.entry, now)
            if again is not None:
                heapq.heappush(self._timers, (again, wait.entry.session_id))
        return None

    def _able(self, session: WaitingSession, pool: Pool, now: int) -> Iterator[str]:
        """Agents who may take a session, in the order in which they are asked."""
        for agent_id in session.preferred:
            desk = self._desks.get(agent_id)
            if desk is not None and pool.key in desk.ranks and verdict(session, agent_id, now) == "able":
                yield agent_id
        for rank in pool.agents:
            if verdict(session, rank[2], now) == "able":
                yield rank[2]

    def _reserve(self, wait: _Wait, agent_id: str) -> None:
        self._reserved[wait.entry.session_id] = agent_id
        self._reserved_agents.add(agent_id)
        self._leave_lane(wait)
        self._leave_pools(self._desks[agent_id])

    def _match(self, wait: _Wait, lane: Lane, agent_id: str, now: int) -> Match:
        why = self._why(wait, lane, agent_id, now)
        return Match(wait.entry.session_id, agent_id, self._profiles[agent_id].name, why)

    def _why(self, wait: _Wait, lane: Lane, chosen: str | None, now: int) -> dict[str, object]:
        session, pool = wait.entry, lane.pool
        first = [rank for agent_id in session.preferred if (rank := self._ranks(agent_id).get(pool.key)) is not None]
        ranked = (rank for rank in islice(pool.agents, MAX_CANDIDATES) if rank not in first)
        shown = [*first, *ranked][:MAX_CANDIDATES]
        if chosen is not None and all(rank[2] != chosen for rank in shown):
            shown[-1:] = [self._ranks(chosen)[pool.key]]
        being_offered = len(self._reserved_agents & self._desks.keys())
        rest = others(pool, self._states, being_offered, len(shown))
        return reasons(session, lane, shown, chosen, rest, self.position, now)

    def _ranks(self, agent_id: str) -> Mapping[PoolKey, Rank]:
        desk = self._desks.get(agent_id)
        return desk.ranks if desk is not None else {}


def _asked(session: WaitingSession, queue: QueueConfig, step: int) -> Requirement:
    asked = queue.asks[step]
    return asked if session.asks is None else AllOf((asked, session.asks))


def _keys_of_queue(queue: QueueConfig) -> list[PoolKey]:
    """The pools that a queue asks for as such, step by step."""
    routing = queue.routing
    return [PoolKey(asked, VOICE, routing.strategy, routing.time_zone) for asked in queue.asks]
