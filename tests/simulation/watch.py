"""The invariants of RELIABILITY, held against every commit and, four times a second, against time.

The rules are written here anew, as tables and plain comparisons: they must not share a mistake with the product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from server.domain import events as ev
from server.domain.agent import Agent, Chosen, ContactState
from server.domain.directory import AgentProfile, QueueConfig
from server.domain.leg import LegState
from server.domain.queue_routing import Strategy
from server.domain.segment import Role, SegmentState
from server.domain.session import Session, SessionState
from server.services.ports import AgentSave, Save, SessionSave

SAMPLE_S = 0.25
OFFERED_WITHIN_S = 1.0  # liveness: a free agent and a waiting session find each other
LATE_S = 0.3  # latency, and that samples are taken now and then
REJECT_PAUSE_S = 30.0
SKEW_S = 0.5  # between any two nodes' clocks, at most
TAB_NOTICED_S = 8.0
DEADLINE_S = 1.2
LEVEL, RELAX_AFTER_S, RELAXED_LEVEL = 3, 15, 1  # of the one skill that a queue asks for, and what it asks for later

_S, _G = SessionState, SegmentState
SESSION_EDGES: frozenset[tuple[SessionState | None, SessionState]] = frozenset(
    {
        (None, _S.ARRIVING), (None, _S.QUEUED), (_S.ARRIVING, _S.QUEUED), (_S.ARRIVING, _S.ENDED),
        (_S.QUEUED, _S.CONNECTED), (_S.QUEUED, _S.ENDED), (_S.CONNECTED, _S.QUEUED), (_S.CONNECTED, _S.ENDED),
        (_S.CONNECTED, _S.PARKED), (_S.PARKED, _S.CONNECTED), (_S.PARKED, _S.QUEUED), (_S.PARKED, _S.ENDED),
        (_S.QUEUED, _S.PLACE_KEPT), (_S.PLACE_KEPT, _S.QUEUED), (_S.PLACE_KEPT, _S.ENDED),
    }
)  # fmt: skip
SEGMENT_EDGES: frozenset[tuple[SegmentState | None, SegmentState]] = frozenset(
    {
        (None, _G.OFFERED), (None, _G.CONNECTING),
        (_G.OFFERED, _G.CONNECTING), (_G.OFFERED, _G.DONE), (_G.CONNECTING, _G.TALKING),
        (_G.CONNECTING, _G.DONE), (_G.TALKING, _G.HELD), (_G.HELD, _G.TALKING), (_G.TALKING, _G.WRAP_UP),
        (_G.HELD, _G.WRAP_UP), (_G.TALKING, _G.DONE), (_G.HELD, _G.DONE), (_G.WRAP_UP, _G.DONE),
    }
)  # fmt: skip
OWNS = (_G.CONNECTING, _G.TALKING, _G.HELD)
OPEN = (_G.OFFERED, *OWNS)
RINGS_AT_MOST = 20
HELD_AS = {
    _G.OFFERED: ContactState.RINGING,
    _G.CONNECTING: ContactState.ON_CONTACT,
    _G.TALKING: ContactState.ON_CONTACT,
    _G.HELD: ContactState.ON_CONTACT,
    _G.WRAP_UP: ContactState.WRAP_UP,
}


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclass
class Watch:
    """`now_s` is the loop's time and `at_ms` the same moment as UTC epoch ms; `index` reads the router's index itself.
    `settled` is set when faults are over and what they broke has had its time to heal."""

    now_s: Callable[[], float]
    at_ms: Callable[[], int]
    index: Callable[[], Any]
    queues: Mapping[str, QueueConfig]
    profiles: Mapping[str, AgentProfile]
    capacity: int = 1
    settled: bool = False
    slack_s: float = 2.5  # how old what a router knew may have been when it chose
    sessions: dict[str, Session] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    tabs: dict[str, float] = field(default_factory=dict)  # of agents whose tab lives: since when
    dead_since: dict[str, float] = field(default_factory=dict)
    offers: int = 0
    commits: int = 0
    _routable_since: dict[str, float] = field(default_factory=dict)
    _unasked_since: dict[str, float] = field(default_factory=dict)  # of those that ring for nobody
    _free_since: dict[str, float] = field(default_factory=dict)
    _indexed_since: dict[str, float] = field(default_factory=dict)  # as one that rings for nobody
    _ringing_since: dict[str, float] = field(default_factory=dict)  # by the index
    _claim_tried: dict[str, float] = field(default_factory=dict)  # session id -> the last try, or its end
    _quiet_until: float = 0.0
    _changed_at: dict[str, float] = field(default_factory=dict)
    _heard: dict[str, int] = field(default_factory=dict)  # id -> the newest version that the index was told of
    _live_claims: dict[str, tuple[str, str, int]] = field(default_factory=dict)  # session, agent, expires_at

    # --- every commit ---

    def on_saved(self, save: Save) -> None:
        self.commits += 1
        before_agents = {agent.after.user_id: self.agents.get(agent.after.user_id) for agent in save.agents}
        for session in save.sessions:
            self._session(session, save)
        for agent in save.agents:
            self._agent(agent)
        for session in save.sessions:
            self._contacts_of_session(session.after)
            for _, event in session.events:
                if isinstance(event, ev.AgentOffered):
                    self._offer(session, event, before_agents.get(event.agent_id))
        for agent in save.agents:
            self._contacts_of_agent(agent.after)

    def _session(self, save: SessionSave, whole: Save) -> None:
        after, known = save.after, self.sessions.get(save.after.id)
        name = f"session {after.id}"
        _hold(_version(save.before) == _version(known), f"{name}: saved over a version that the step had not seen")
        _hold(after.version == _version(known) + len(save.events), f"{name}: versions do not count the events")
        if known is not None:
            _hold((after.created_at, after.tenant) == (known.created_at, known.tenant), f"{name}: is another one")
            _hold(after.epoch >= known.epoch, f"{name}: epoch fell from {known.epoch} to {after.epoch}")
            self._ended_once(known, after)
        self._edges(known, after)
        self._agents_of(after, name)
        waits = [visit for visit in after.visits if visit.outcome is None]
        waiting = after.state in (_S.QUEUED, _S.PLACE_KEPT)
        _hold(len(waits) == waiting, f"{name}: {after.state} with {len(waits)} open waits")
        current = known
        for _, event in save.events:
            self._event(current, event, whole.now)
        self.sessions[after.id] = after
        room = RINGS_AT_MOST if self._rings_all(after) else 1
        self._note(self._routable_since, after.id, is_routable(after, room))
        self._note(self._unasked_since, after.id, is_routable(after, 1))

    def _agents_of(self, s: Session, name: str) -> None:
        """One has it; or it rings, for several only where the queue rings all, and for nobody twice. Others are there
        only beside an owner in talk."""
        owner = [segment for segment in s.segments if segment.state in OWNS and segment.role is Role.OWNER]
        beside = [
            segment.agent_id for segment in s.segments if segment.state in OPEN and segment.role is not Role.OWNER
        ]
        owners = [segment.agent_id for segment in owner]
        ringing = [x.agent_id for x in s.segments if x.state is _G.OFFERED and x.role is Role.OWNER]
        _hold(
            not beside or [x.state in (_G.TALKING, _G.HELD) for x in owner] == [True],
            f"{name}: {beside} without an owner",
        )
        _hold(len({*owners, *beside}) == len(owners) + len(beside), f"{name}: {owners} and {beside} twice")
        _hold(len(owners) <= 1, f"{name}: owned by {owners}")
        _hold(not (owners and ringing), f"{name}: {owners} has it, and it rings for {ringing}")
        most = RINGS_AT_MOST if self._rings_all(s) else 1
        _hold(len(set(ringing)) == len(ringing) <= most, f"{name}: rings for {ringing}")

    def _rings_all(self, s: Session) -> bool:
        return self.queues[s.queue.queue_id].routing.strategy is Strategy.RING_ALL

    def _ended_once(self, before: Session, after: Session) -> None:
        if before.state is _S.ENDED:
            same = (after.state, after.ended_at, after.end_reason) == (before.state, before.ended_at, before.end_reason)
            _hold(same, f"session {after.id}: ended twice, as {before.end_reason} and {after.end_reason}")

    def _edges(self, before: Session | None, after: Session) -> None:
        was = before.state if before is not None else None
        edge = (was, after.state)
        _hold(was is after.state or edge in SESSION_EDGES, f"session {after.id}: {was} -> {after.state}")
        old = {segment.id: segment.state for segment in before.segments} if before is not None else {}
        lost = {stood for segment_id, stood in old.items() if after.segment(segment_id) is None}
        _hold(lost <= {_G.DONE}, f"session {after.id}: lost a segment")
        counted = before.folded + len(before.segments) if before is not None else 0
        _hold(after.folded + len(after.segments) >= counted, f"session {after.id}: miscounts its segments")
        for segment in after.segments:
            stood = old.get(segment.id)
            known = stood is segment.state or (stood, segment.state) in SEGMENT_EDGES
            _hold(known, f"segment {segment.id}: {stood} -> {segment.state}")

    def _event(self, before: Session | None, event: ev.Event, now: int) -> None:
        if before is None:
            return
        if isinstance(event, ev.DeadlinePassed):
            _hold(now >= event.at, f"session {before.id}: {event.kind} passed {event.at - now} ms early")
            if event.kind in ("offer", "wrap_up"):
                limits = [
                    segment.offer_deadline_at if event.kind == "offer" else segment.wrap_up_deadline_at
                    for segment in before.segments
                    if segment.id == event.key
                    and segment.state is (_G.OFFERED if event.kind == "offer" else _G.WRAP_UP)
                ]
                _hold(limits == [event.at], f"session {before.id}: a {event.kind} deadline that is not its own")
        if isinstance(event, (ev.LegAnswered, ev.LegWentUp, ev.LegWentDown, ev.LegRefused)):
            current = event.epoch == before.epoch and before.worker_id is not None
            _hold(current, f"session {before.id}: {type(event).__name__} of epoch {event.epoch} in {before.epoch}")

    def _agent(self, save: AgentSave) -> None:
        after, known = save.after, self.agents.get(save.after.user_id)
        name = f"agent {after.user_id}"
        _hold(_version(save.before) == _version(known), f"{name}: saved over a version that the step had not seen")
        _hold(after.version == _version(known) + len(save.events), f"{name}: versions do not count the events")
        _hold(len(after.contacts) <= self.capacity, f"{name}: holds {len(after.contacts)} contacts")
        self.agents[after.user_id] = after
        self._changed_at[after.user_id] = self.now_s()
        self._note(self._free_since, after.user_id, self._is_free(after))

    def _contacts_of_session(self, s: Session) -> None:
        for segment in s.segments:
            agent = self.agents.get(segment.agent_id)
            held = {contact.segment_id: contact.state for contact in agent.contacts} if agent is not None else {}
            wanted = HELD_AS.get(segment.state)
            _hold(
                held.get(segment.id) is wanted, f"segment {segment.id} is {segment.state}, its agent has it otherwise"
            )

    def _contacts_of_agent(self, agent: Agent) -> None:
        for contact in agent.contacts:
            session = self.sessions.get(contact.session_id)
            segment = session.segment(contact.segment_id) if session is not None else None
            state = HELD_AS.get(segment.state) if segment is not None else None
            _hold(state is contact.state, f"agent {agent.user_id} holds {contact.segment_id}, which does not say so")

    # --- offers ---

    def _offer(self, save: SessionSave, event: ev.AgentOffered, agent: Agent | None) -> None:
        self.offers += 1
        s, now_ms = save.after, self.at_ms()
        who, name = event.agent_id, f"offer of {save.after.id} to {event.agent_id}"
        _hold(agent is not None, f"{name}: no such agent")
        assert agent is not None
        ready = agent.chosen is Chosen.READY and not agent.missed and agent.fault is None
        _hold(ready, f"{name}: the agent is on {agent.chosen}{', missed' if agent.missed else ''}")
        _hold(agent.live, f"{name}: the agent's tab is dead")
        _hold(len(agent.contacts) < self.capacity, f"{name}: the agent is busy")
        if event.handed_over_by:  # an agent's choice, not the router's
            return
        _hold(self.able(who, s, now_ms, -SKEW_S), f"{name}: the agent lacks the skill")
        declined = _rejected(s, who, now_ms, REJECT_PAUSE_S - 2 * SKEW_S)
        _hold(not declined, f"{name}: the agent has just declined it")
        if self.settled and who in self.dead_since:
            _hold(self.now_s() - self.dead_since[who] < TAB_NOTICED_S, f"{name}: nobody sits there")
        self._order(s, event, name)

    def _order(self, s: Session, event: ev.AgentOffered, name: str) -> None:
        """Nobody of the same queue whom the same agent could have taken was waiting before; where this one rang for
        others already, nobody at all who rang for none. The router goes by its index: what was saved and got lost on
        the way there (a node died, the store went back) is known after the next rebuild."""
        chosen_s = self.now_s() - max(0, self.at_ms() - int(str(event.why["at"]))) / 1000
        before_s = chosen_s - self.slack_s
        index = None
        rings = any(x.state is _G.OFFERED and x.agent_id != event.agent_id for x in s.segments)
        joins = rings and self._ringing_since.get(s.id, chosen_s) <= before_s
        for other in self.sessions.values():
            earlier = other.queue.queue_id == s.queue.queue_id and (joins or _place(other) < _place(s))
            if not earlier or other.id == s.id or self._unasked_since.get(other.id, chosen_s) > before_s:
                continue
            known = self._indexed_since.get(other.id, chosen_s) <= before_s
            tried = self._claim_tried.get(other.id, -1e9) > before_s
            declined = _rejected(other, event.agent_id, self.at_ms(), REJECT_PAUSE_S + self.slack_s + 2 * SKEW_S)
            at = int(str(event.why["at"]))
            if known and not tried and not declined and self.able(event.agent_id, other, at, self.slack_s + SKEW_S):
                index = index or self.index()
                there = any(w.session_id == other.id and not w.held and not w.ringing for w in index.waiting)
                claimed = any(c.session_id == other.id for c in index.claims)
                _hold(not there or claimed, f"{name}: {other.id} was first")

    def able(self, agent_id: str, s: Session, at: int, early_s: float = 0.0) -> bool:
        """The agent has what the queue asks of the session at a moment, and `early_s` before it."""
        skill = self.queues[s.queue.queue_id].skills[0][0]
        entered_at = max((visit.entered_at for visit in s.visits), default=s.created_at)
        relaxed = at - entered_at - early_s * 1000 >= RELAX_AFTER_S * 1000
        return dict(self.profiles[agent_id].skills).get(skill, 0) >= (RELAXED_LEVEL if relaxed else LEVEL)

    # --- the router's store ---

    def on_claims(self, claims: Sequence[Any], granted: Sequence[bool], now: int) -> None:
        """Each claim reserves a session and an agent that no other claim has."""
        index = self.index()
        over = [request_id for request_id, (_, _, until) in self._live_claims.items() if until <= now]
        for request_id in over:  # by the clock of whoever asks, who may get nothing
            del self._live_claims[request_id]
        for claim, given in zip(claims, granted, strict=True):
            self._claim_tried[claim.session_id] = self.now_s()
            if not given:
                continue
            for request_id, (session_id, agent_id, _) in self._live_claims.items():
                other = session_id != claim.session_id and agent_id != claim.agent_id
                _hold(
                    other or request_id == claim.request_id,
                    f"claim of {claim.session_id} for {claim.agent_id}: claimed already",
                )
            waits = any(w.session_id == claim.session_id and not w.held for w in index.waiting)
            _hold(waits, f"claim of {claim.session_id}, which does not wait")
            self._live_claims[claim.request_id] = (claim.session_id, claim.agent_id, claim.expires_at)

    def on_release(self, request_ids: Sequence[str]) -> None:
        for request_id in request_ids:
            claim = self._live_claims.pop(request_id, None)
            if claim is not None:
                self._claim_tried[claim[0]] = self.now_s()

    def on_words(self, words: Sequence[Any]) -> None:
        """The index was told of versions, and may never fall behind them."""
        for word in words:
            key = id_of(word)
            self._heard[key] = max(word.version, self._heard.get(key, 0))

    def index_lost(self) -> None:
        """The store was made to forget all, or the newest of what it knew."""
        self._live_claims.clear()
        self._heard.clear()

    # --- time ---

    def be_lenient(self, seconds: float) -> None:
        """Something was broken on purpose: so long it may take to heal."""
        self._quiet_until = max(self._quiet_until, self.now_s() + seconds)

    def sample(self) -> None:
        index, now_s = self.index(), self.now_s()
        _keep_since(self._indexed_since, {w.session_id for w in index.waiting if not w.held and not w.ringing}, now_s)
        _keep_since(self._ringing_since, {w.session_id for w in index.waiting if w.ringing}, now_s)
        for claim in index.claims:
            self._claim_tried[claim.session_id] = now_s
        for key, entry in [*((w.session_id, w) for w in index.waiting), *((a.agent_id, a) for a in index.agents)]:
            newest = self._heard.get(key, 0)
            _hold(entry.version >= newest, f"the index went back to version {entry.version} of {key} from {newest}")
        if self.settled and now_s >= self._quiet_until:
            self._liveness(now_s)

    def on_snapshot(self, node: str, position: int, proof: str, versions: Mapping[str, int]) -> None:
        """A node that has read the whole log of changes knows what the index knows."""
        index = self.index()
        if index.built and (index.position, index.proof) == (position, proof):
            there = {id_of(entry): entry.version for entry in (*index.waiting, *index.agents)}
            apart = sorted({*there.items()} ^ {*versions.items()})
            _hold(not apart, f"the snapshot of {node} at {position} differs from the index in {apart}")

    def _liveness(self, now_s: float) -> None:
        since = now_s - OFFERED_WITHIN_S - LATE_S
        free = [
            agent_id for agent_id, at in self._free_since.items() if at <= since and agent_id not in self.dead_since
        ]
        for session_id, at in self._routable_since.items():
            if at > since:
                continue
            s = self.sessions[session_id]
            for agent_id in free:
                pause_s = REJECT_PAUSE_S + OFFERED_WITHIN_S + LATE_S + SKEW_S
                lenient_s = OFFERED_WITHIN_S + LATE_S + SKEW_S
                if self.able(agent_id, s, self.at_ms(), lenient_s) and not _rejected(
                    s, agent_id, self.at_ms(), pause_s
                ):
                    raise Violation(f"session {session_id} waits beside {agent_id}, who is free")
        limit = self.at_ms() - round((DEADLINE_S + SKEW_S) * 1000)
        for s in self.sessions.values():
            if s.parked is not None and all(x.state not in OWNS for x in s.segments):
                _hold(s.parked.until > limit, f"session {s.id} is parked beyond its limit")
            for segment in s.segments:
                if segment.state is _G.OFFERED:
                    _hold(segment.offer_deadline_at > limit, f"offer {segment.id} outlives its deadline")
                if segment.state is _G.WRAP_UP:
                    _hold((segment.wrap_up_deadline_at or 0) > limit, f"wrap-up {segment.id} outlives its deadline")
        for agent_id, agent in self.agents.items():
            gone_s = now_s - self.dead_since.get(agent_id, now_s)
            _hold(not agent.live or gone_s < TAB_NOTICED_S, f"agent {agent_id} is live without a tab")
            here_s = now_s - self.tabs.get(agent_id, now_s)
            _hold(agent.live or here_s < TAB_NOTICED_S, f"agent {agent_id} has a tab and is not live")

    # --- the end ---

    def nothing_left(self, known: Sequence[str]) -> None:
        """Everybody has gone home: no session is open, nobody holds one, and the index says what the rows say."""
        for session_id in known:
            _hold(session_id in self.sessions, f"session {session_id} was confirmed and is not there")
        for s in self.sessions.values():
            _hold(s.done, f"session {s.id} is left {s.state}")
        for agent in self.agents.values():
            _hold(not agent.contacts, f"agent {agent.user_id} is left with {agent.contacts}")
        index = self.index()
        _hold(not index.waiting, f"the index still has {[w.session_id for w in index.waiting]} waiting")
        _hold(not index.claims, f"the index still has claims: {index.claims}")
        listed = {entry.agent_id for entry in index.agents if entry.channels}
        free = {agent_id for agent_id, agent in self.agents.items() if self._is_free(agent)}
        just_now = {agent_id for agent_id, at in self._changed_at.items() if at > self.now_s() - LATE_S}
        wrong = sorted((listed ^ free) - just_now)
        _hold(not wrong, f"the index has {wrong} otherwise than the rows")

    def _is_free(self, agent: Agent) -> bool:
        there = agent.chosen is Chosen.READY and agent.live and not agent.missed and agent.fault is None
        return there and len(agent.contacts) < self.capacity

    def _note(self, since: dict[str, float], key: str, holds: bool) -> None:
        if holds:
            since.setdefault(key, self.now_s())
        else:
            since.pop(key, None)


def id_of(word: Any) -> str:
    """Of a word or an entry of the router's index."""
    return str(getattr(word, "session_id", None) or getattr(word, "agent_id", None) or word.id)


def is_routable(s: Session, room: int) -> bool:
    """Queued, nobody's, its customer there; it rings for less than `room` agents."""
    there = s.customer_leg.state in (LegState.OPENING, LegState.UP) and s.worker_id is not None
    ringing = sum(segment.state is _G.OFFERED for segment in s.segments)
    return s.state is _S.QUEUED and there and ringing < room and all(x.state not in OWNS for x in s.segments)


def _keep_since(since: dict[str, float], there: set[str], now_s: float) -> None:
    for key in since.keys() - there:
        del since[key]
    for key in there:
        since.setdefault(key, now_s)


def _place(s: Session) -> tuple[int, int, str]:
    return (s.priority, s.created_at, s.id)


def _rejected(s: Session, agent_id: str, at: int, pause_s: float) -> bool:
    return any(r.agent_id == agent_id and at - r.at < pause_s * 1000 for r in s.rejections)


def _version(row: Session | Agent | None) -> int:
    return row.version if row is not None else 0


def _hold(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Violation(otherwise)
