"""PURE: a center in virtual time. Its router is the product's (`routing.snapshot.Snapshot`) and its agents are the
product's (`domain.agent`); only customers and the passing of time are played.

A heap holds what is due. After the events of a moment the snapshot is asked for matches, as the router of a node does.

What is not played:
- Nobody declines an offer, and no connection breaks. Who answers later than the queue's ring time-out has missed the
  offer: it goes on to somebody else, and the agent is ready again after MISSED_BACK_MS.
- Who is turned away by opening hours does not call again, and an agent does not extend the wrap-up beyond what the
  workload says; a queue's limit (with the extensions that it allows) cuts it.
- The center is empty at first. At the end everything that goes on is seen through.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from server.domain import agent as ag
from server.domain.agent import Agent, AgentState, Chosen, ContactState
from server.domain.capacity import VOICE
from server.domain.directory import QueueConfig
from server.domain.endings import VisitOutcome
from server.domain.hours import is_open
from server.domain.reports import VisitFacts
from server.domain.router_state import Gone, PresentAgent, WaitingSession
from server.routing.snapshot import Snapshot
from server.whatif.outcome import AgentTimes, Outcome
from server.whatif.workload import Arrival, Center, Shift, Workload

MISSED_BACK_MS = 60_000  # a guess: how long an agent who missed an offer takes to be ready again
BREAK_REASON = "break"  # any: which break it is makes no difference here


def simulate(center: Center, workload: Workload) -> Outcome:
    """What would have happened. The same arguments give the same outcome."""
    return _Day(center, workload).run()


def agent_word(a: Agent) -> PresentAgent | Gone:
    """What the index says of an agent, as `routing.router.agent_word`: tests hold the two equal."""
    channels = a.open_channels
    if a.state is AgentState.OFFLINE and not channels:
        return Gone(PresentAgent, a.user_id, a.version)
    state = "ready" if channels else "unreachable" if a.state is AgentState.READY else a.state.value
    return PresentAgent(
        a.user_id, state, channels, a.idle_since, a.offered_at, a.busy_ms, a.ready_ms, a.handled, a.version
    )


@dataclass(slots=True)
class _Visit:
    queue: QueueConfig
    entered_at: int
    session_id: str
    number: int
    ended_at: int | None = None
    outcome: VisitOutcome | None = None
    handle_ms: int | None = None


@dataclass(slots=True)
class _Call:
    """`owner`: who rings. `overdue`: the maximum wait passed while somebody rang."""

    arrival: Arrival
    visit: _Visit
    priority: int
    visits: int = 1
    owner: str | None = None
    offers: int = 0
    overdue: bool = False
    waits: bool = True


@dataclass(slots=True)
class _Desk:
    agent: Agent
    on_duty: bool = False
    spent: Counter[AgentState] = field(default_factory=Counter)


class _Day:
    def __init__(self, center: Center, workload: Workload) -> None:
        self._queues = {queue.queue_id: queue for queue in center.queues}
        self._profiles = {profile.user_id: profile for profile in center.profiles if profile.active}
        self._workload = workload
        self._now = workload.since
        self._due: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = count()
        self._snapshot = Snapshot(center.queues[0].tenant if center.queues else "")
        self._snapshot.set_up(center.queues, center.profiles, workload.since)
        self._desks: dict[str, _Desk] = {}
        self._calls: dict[str, _Call] = {}  # those that wait
        self._in_queue: Counter[str] = Counter()
        self._visits: list[_Visit] = []
        self._turned_away: Counter[str] = Counter()
        self._coming = iter(workload.arrivals)

    def run(self) -> Outcome:
        for shift in self._workload.shifts:
            if shift.agent_id in self._profiles and shift.since < shift.until:
                self._at(shift.since, self._begin_shift, shift)
                self._at(shift.until, self._end_shift, shift)
        self._next_arrival()
        due = self._due
        while due:
            self._now = due[0][0]
            while due and due[0][0] == self._now:
                _, _, do, arguments = heapq.heappop(due)
                do(*arguments)
            self._route()
        self._now = max(self._now, self._workload.until)
        return self._outcome()

    def _at(self, at: int, do: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._due, (max(at, self._now), next(self._number), do, arguments))

    # --- customers ---

    def _next_arrival(self) -> None:
        arrival = next(self._coming, None)
        if arrival is not None:
            self._at(arrival.at, self._arrive, arrival)

    def _arrive(self, arrival: Arrival) -> None:
        self._next_arrival()
        queue = self._queues.get(arrival.queue_id)
        hours = queue.life.hours if queue is not None else None
        if queue is None or not queue.active or (hours is not None and not is_open(hours, self._now)):
            self._turned_away[arrival.queue_id] += 1
            return
        call = _Call(arrival, self._visit(arrival, queue, 1), queue.routing.priority)
        while self._full(call.visit.queue):
            if not self._flow_out(call):
                return
        self._wait(call)
        if arrival.patience_ms is not None:
            self._at(arrival.at + arrival.patience_ms, self._leave, call)

    def _visit(self, arrival: Arrival, queue: QueueConfig, number: int) -> _Visit:
        visit = _Visit(queue, self._now, arrival.session_id, number)
        self._visits.append(visit)
        self._in_queue[queue.queue_id] += 1
        return visit

    def _full(self, queue: QueueConfig) -> bool:
        """The visit counts itself."""
        return 0 < queue.life.max_length < self._in_queue[queue.queue_id]

    def _wait(self, call: _Call) -> None:
        """In a queue that was just entered."""
        visit, routing = call.visit, call.visit.queue.routing
        self._calls[call.arrival.session_id] = call
        self._say(call)
        if visit.queue.life.max_wait_s:
            self._at(self._now + visit.queue.life.max_wait_s * 1000, self._waited_too_long, call, visit)
        for step in routing.steps:
            self._at(self._now + step.after_s * 1000, _look)
        if call.arrival.sticky_agent is not None and routing.sticky_s:
            self._at(self._now + routing.sticky_s * 1000, _look)

    def _say(self, call: _Call) -> None:
        arrival, visit = call.arrival, call.visit
        word = WaitingSession(
            arrival.session_id,
            visit.queue.queue_id,
            arrival.at,
            visit.entered_at,
            call.priority,
            held=call.owner is not None,
            sticky_agent=arrival.sticky_agent,
            version=call.offers,
        )
        self._snapshot.take(word, self._now)

    def _leave(self, call: _Call) -> None:
        if call.waits:
            self._let_go(call)
            self._end_wait(call, VisitOutcome.ABANDONED)

    def _waited_too_long(self, call: _Call, visit: _Visit) -> None:
        if not call.waits or call.visit is not visit:
            return
        if call.owner is not None:
            call.overdue = True
        elif self._flow_out(call):
            self._wait(call)

    def _flow_out(self, call: _Call) -> bool:
        """Into the queue that the rules name; False: there is none, and the call ends."""
        queue = self._queues.get(call.visit.queue.life.overflow_queue_id or "")
        if queue is None or not queue.active:
            self._end_wait(call, VisitOutcome.FAILED)
            return False
        self._close(call.visit, VisitOutcome.FLOWED_OUT)
        call.visits += 1
        call.visit, call.overdue = self._visit(call.arrival, queue, call.visits), False
        return True

    def _end_wait(self, call: _Call, outcome: VisitOutcome) -> None:
        call.waits = False
        self._close(call.visit, outcome)
        self._calls.pop(call.arrival.session_id, None)
        self._snapshot.take(Gone(WaitingSession, call.arrival.session_id, call.offers), self._now)

    def _close(self, visit: _Visit, outcome: VisitOutcome) -> None:
        visit.ended_at, visit.outcome = self._now, outcome
        self._in_queue[visit.queue.queue_id] -= 1

    # --- offers and talks ---

    def _route(self) -> None:
        while matches := self._snapshot.choose(self._now):
            for match in matches:
                self._offer(self._calls[match.session_id], match.agent_id)
            for match in matches:
                self._snapshot.settle(match, self._now)

    def _offer(self, call: _Call, agent_id: str) -> None:
        arrival = call.arrival
        answer_ms = arrival.answers_ms[call.offers % len(arrival.answers_ms)]
        ring_ms = call.visit.queue.ring_timeout_s * 1000
        call.offers += 1
        call.owner = agent_id
        self._step(agent_id, ag.ContactOffered(arrival.session_id, arrival.session_id, VOICE))
        if answer_ms >= ring_ms > 0:
            self._at(self._now + ring_ms, self._miss, call, call.offers)
        elif answer_ms + arrival.connect_ms:
            self._at(self._now + answer_ms + arrival.connect_ms, self._answer, call, call.offers)
        else:
            self._answer(call, call.offers)
            return
        self._say(call)

    def _miss(self, call: _Call, offer: int) -> None:
        if not call.waits or call.offers != offer:
            return
        assert call.owner is not None
        self._at(self._now + MISSED_BACK_MS, self._back, call.owner)
        self._let_go(call, missed=True)
        if not call.overdue:
            self._say(call)
        elif self._flow_out(call):
            self._wait(call)

    def _let_go(self, call: _Call, *, missed: bool = False) -> None:
        if call.owner is not None:
            self._step(call.owner, ag.ContactReleased(call.arrival.session_id, missed))
            call.owner = None

    def _answer(self, call: _Call, offer: int) -> None:
        if not call.waits or call.offers != offer:
            return
        assert call.owner is not None
        self._end_wait(call, VisitOutcome.ANSWERED)
        self._step(call.owner, ag.ContactMoved(call.arrival.session_id, ContactState.ON_CONTACT))
        self._at(self._now + call.arrival.talk_ms, self._talk_over, call, call.owner)

    def _talk_over(self, call: _Call, agent_id: str) -> None:
        queue, session_id = call.visit.queue, call.arrival.session_id
        limit_s = queue.wrap_up_s + queue.routing.wrap_up_extend_s * queue.routing.wrap_up_extensions
        wrap_up_ms = min(call.arrival.wrap_up_ms, limit_s * 1000) if queue.wrap_up_s else 0
        call.visit.handle_ms = call.arrival.talk_ms + wrap_up_ms
        if wrap_up_ms:
            self._step(agent_id, ag.ContactMoved(session_id, ContactState.WRAP_UP))
            self._at(self._now + wrap_up_ms, self._step, agent_id, ag.ContactReleased(session_id))
        else:
            self._step(agent_id, ag.ContactReleased(session_id))

    # --- agents ---

    def _begin_shift(self, shift: Shift) -> None:
        agent_id = shift.agent_id
        desk = self._desks.get(agent_id)
        if desk is None:
            profile = self._profiles[agent_id]
            agent = Agent(agent_id, profile.tenant, 1, self._now, self._now, live=True, capacity=profile.capacity)
            desk = self._desks[agent_id] = _Desk(agent)
        desk.on_duty = True
        self._step(agent_id, ag.StateChosen(Chosen.READY))

    def _end_shift(self, shift: Shift) -> None:
        self._desks[shift.agent_id].on_duty = False
        reason = BREAK_REASON if shift.then is Chosen.BREAK else None
        self._step(shift.agent_id, ag.StateChosen(shift.then, reason))

    def _back(self, agent_id: str) -> None:
        desk = self._desks[agent_id]
        if desk.on_duty and desk.agent.missed:
            self._step(agent_id, ag.StateChosen(Chosen.READY))

    def _step(self, agent_id: str, event: ag.AgentEvent) -> None:
        desk = self._desks[agent_id]
        before = desk.agent
        desk.agent = after = ag.step_agent(before, event, self._now)
        if after.since != before.since:
            desk.spent[before.state] += self._within(before.since, after.since)
        self._snapshot.take(agent_word(after), self._now)

    def _within(self, since: int, until: int) -> int:
        """How much of a time lies in the span that is looked at, ms."""
        return max(0, min(until, self._workload.until) - max(since, self._workload.since))

    # --- what became of it ---

    def _outcome(self) -> Outcome:
        facts = tuple(
            VisitFacts(
                visit_id=f"{v.session_id}.{v.number}",
                session_id=v.session_id,
                queue_id=v.queue.queue_id,
                entered_at=v.entered_at,
                outcome=v.outcome,
                wait_ms=(self._now if v.ended_at is None else v.ended_at) - v.entered_at,
                target_ms=v.queue.service_level_s * 1000,
                handle_ms=v.handle_ms,
            )
            for v in self._visits
            if v.entered_at < self._workload.until
        )
        times: Mapping[str, AgentTimes] = {
            agent_id: AgentTimes(
                desk.spent[AgentState.ON_CONTACT], desk.spent[AgentState.WRAP_UP], desk.spent[AgentState.READY]
            )
            for agent_id, desk in self._desks.items()
        }
        return Outcome(facts, times, dict(self._turned_away))


def _look() -> None:
    """Nothing but time changes: steps relax, a sticky agent is waited for no more."""
