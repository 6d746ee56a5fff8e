"""What happened in a span, from the tables that steps write, as a workload that can be played again.

- **Arrivals** are waits in queues: a first one, and what it flowed out into. A wait that began anew after a talk
  (the agent was lost) is an arrival of its own.
- **Patience**: who left tells it exactly. Of who was answered we know only that it is longer, so the rest is drawn
  from the product-limit estimate of the queue where the wait began (`patience.py`).
- **Answers, talk and wrap-up** of whoever was answered are their own; for the others those of somebody who was
  answered in the same queue are drawn (of any queue, where nobody was).
- **Shifts** are the times in which an agent could take sessions or held one, folded from the agents' events. Those
  begin LOOK_BACK_MS before the span: who is logged in for longer than that without any event is missed.

The set-up is today's; what it was then is not kept. Nor is played what supervisors asked for a single session.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from server.domain import agent as ag
from server.domain.agent import Agent, AgentState, Chosen
from server.domain.endings import VisitOutcome
from server.domain.machine import IllegalTransition, Refused, Stale
from server.domain.reports import QueueNumbers, VisitFilter
from server.storage.codec import AGENT_EVENTS
from server.storage.faults import translated
from server.storage.reports import StoredReports
from server.storage.runtime_tables import agent_event, queue_visit, segment, session
from server.whatif.outcome import AgentTimes
from server.whatif.patience import Patience, Wait, product_limit
from server.whatif.workload import Arrival, Shift, Workload

LOOK_BACK_MS = 36 * 3_600_000  # longer than any shift
AFTER_MS = 3_600_000  # who works at the end of the span goes on so long at most: what waits then is served
REPEATS = 2  # answers that are drawn for offers after the first


class NothingToPlay(Exception):
    """The span holds nothing that a simulation could be made of; the message says what."""


@dataclass(frozen=True, slots=True)
class Past:
    """`numbers` by queue id, and `times` by agent: what happened. `left` and `drawn` count the patiences that are
    known and those that are drawn."""

    workload: Workload
    numbers: Mapping[str, QueueNumbers]
    times: Mapping[str, AgentTimes]
    left: int
    drawn: int


async def read(engine: AsyncEngine, tenant: str, since: int, until: int, now: int, seed: int) -> Past:
    """The span `since` ≤ t < `until` (UTC epoch ms; `now` is a moment after it). Raises NothingToPlay,
    StorageUnavailable."""
    numbers = await StoredReports(engine).numbers(tenant, VisitFilter(now, entered_from=since, entered_to=until))
    with translated():
        async with engine.connect() as connection:
            waits = await _waits(connection, tenant, since, until)
            shifts, times = await _shifts(connection, tenant, since, until, now)
    if not waits:
        raise NothingToPlay("no session came in this span")
    if all(wait.served is None for wait in waits):
        raise NothingToPlay("nobody was answered in this span, so no talk is known to play")
    workload = Workload(since, until, _arrivals(waits, now, seed), shifts)
    left = sum(wait.left for wait in waits)
    return Past(workload, numbers, times, left, len(waits) - left)


# --- sessions ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Served:
    """Milliseconds of one answered session."""

    answer_ms: int
    connect_ms: int
    talk_ms: int
    wrap_up_ms: int


@dataclass(frozen=True, slots=True)
class _Waited:
    """From `at` in `queue_id` until `ended_at`, through all queues that it flowed into."""

    session_id: str
    at: int
    queue_id: str
    ended_at: int | None
    left: bool
    served: _Served | None
    sticky_agent: str | None


async def _waits(connection: AsyncConnection, tenant: str, since: int, until: int) -> list[_Waited]:
    came = sa.select(queue_visit.c.session_id).where(
        queue_visit.c.tenant == tenant, queue_visit.c.entered_at >= since, queue_visit.c.entered_at < until
    )
    visits = (
        sa.select(queue_visit, session.c.body["sticky_agent_id"].as_string().label("sticky_agent"))
        .join(session, session.c.id == queue_visit.c.session_id)
        .where(queue_visit.c.session_id.in_(came))
        .order_by(
            queue_visit.c.session_id, queue_visit.c.entered_at, queue_visit.c.ended_at.is_(None), queue_visit.c.id
        )
    )
    talks = sa.select(segment).where(segment.c.session_id.in_(came), segment.c.done_at.is_not(None))
    served = {
        (row.session_id, row.talk_started_at): _Served(
            row.accepted_at - row.offered_at,
            row.talk_started_at - row.accepted_at,
            row.talk_ended_at - row.talk_started_at,
            row.done_at - row.talk_ended_at,
        )
        for row in await connection.execute(talks)
        if None not in (row.accepted_at, row.talk_started_at, row.talk_ended_at)
    }
    found: list[_Waited] = []
    for _, rows in groupby(await connection.execute(visits), key=lambda row: str(row.session_id)):
        chain: list[sa.Row[tuple[object, ...]]] = []
        every = list(rows)
        for row in every:
            chain.append(row)
            if row.outcome != VisitOutcome.FLOWED_OUT.value or row is every[-1]:
                found += _wait_of(chain, served, since, until)
                chain = []
    return sorted(found, key=lambda wait: (wait.at, wait.session_id))


def _wait_of(
    chain: Sequence[sa.Row[tuple[object, ...]]], served: Mapping[tuple[str, int], _Served], since: int, until: int
) -> list[_Waited]:
    first, last = chain[0], chain[-1]
    if not since <= first.entered_at < until:
        return []
    left = last.outcome == VisitOutcome.ABANDONED.value
    talk = served.get((last.session_id, last.ended_at)) if last.outcome == VisitOutcome.ANSWERED.value else None
    name = f"{first.session_id}.{first.id}"
    return [_Waited(name, first.entered_at, first.queue_id, last.ended_at, left, talk, first.sticky_agent)]


def _arrivals(waits: Sequence[_Waited], now: int, seed: int) -> tuple[Arrival, ...]:
    draw = random.Random(seed)
    patience: dict[str, Patience] = {}
    talks: dict[str, list[_Served]] = defaultdict(list)
    for queue_id, group in _by_queue(waits).items():
        patience[queue_id] = product_limit(Wait(_waited_ms(wait, now), wait.left) for wait in group)
        talks[queue_id] = [wait.served for wait in group if wait.served is not None]
    anywhere = [talk for some in talks.values() for talk in some]
    made = []
    for wait in waits:
        waited_ms = _waited_ms(wait, now)
        known = talks[wait.queue_id] or anywhere
        served = wait.served or draw.choice(known)
        later = (draw.choice(known).answer_ms for _ in range(REPEATS))
        patience_ms = waited_ms if wait.left else patience[wait.queue_id].beyond(waited_ms, draw)
        made.append(
            Arrival(
                wait.session_id,
                wait.at,
                wait.queue_id,
                served.talk_ms,
                patience_ms,
                served.wrap_up_ms,
                (served.answer_ms, *later),
                served.connect_ms,
                wait.sticky_agent,
            )
        )
    return tuple(made)


def _waited_ms(wait: _Waited, now: int) -> int:
    return (now if wait.ended_at is None else wait.ended_at) - wait.at


def _by_queue(waits: Iterable[_Waited]) -> dict[str, list[_Waited]]:
    found: dict[str, list[_Waited]] = defaultdict(list)
    for wait in waits:
        found[wait.queue_id].append(wait)
    return found


# --- agents ------------------------------------------------------------------------------------------


async def _shifts(
    connection: AsyncConnection, tenant: str, since: int, until: int, now: int
) -> tuple[tuple[Shift, ...], dict[str, AgentTimes]]:
    query = (
        sa.select(agent_event.c.user_id, agent_event.c.at, agent_event.c.type, agent_event.c.body)
        .where(
            agent_event.c.tenant == tenant,
            agent_event.c.at >= since - LOOK_BACK_MS,
            agent_event.c.at < min(until + AFTER_MS, now),
        )
        .order_by(agent_event.c.user_id, agent_event.c.version)
    )
    shifts: list[Shift] = []
    times: dict[str, AgentTimes] = {}
    for user_id, rows in groupby(await connection.execute(query), key=lambda row: str(row.user_id)):
        log = ((row.at, AGENT_EVENTS.load(row.type, json.dumps(row.body))) for row in rows)
        worked = _Worked(user_id, tenant, since, until)
        for at, event in log:
            worked.hear(at, event)
        worked.end(min(until + AFTER_MS, now))
        shifts += [shift for shift in worked.shifts if shift.until > since]
        if any((worked.times.on_contact_ms, worked.times.wrap_up_ms, worked.times.ready_ms)):
            times[user_id] = worked.times
    return tuple(shifts), times


class _Worked:
    """One agent's events, folded from offline on: what makes no sense from there is a leftover of before."""

    def __init__(self, user_id: str, tenant: str, since: int, until: int) -> None:
        self.shifts: list[Shift] = []
        self._agent = Agent(user_id, tenant, 1, since - LOOK_BACK_MS, since - LOOK_BACK_MS)
        self._span = (since, until)
        self._began: int | None = None
        self._spent: dict[AgentState, int] = defaultdict(int)

    @property
    def times(self) -> AgentTimes:
        return AgentTimes(
            self._spent[AgentState.ON_CONTACT], self._spent[AgentState.WRAP_UP], self._spent[AgentState.READY]
        )

    def hear(self, at: int, event: ag.AgentEvent) -> None:
        before = self._agent
        try:
            self._agent = after = ag.step_agent(before, event, at)
        except (Stale, Refused, IllegalTransition):
            return
        if after.since != before.since:
            self._add_up(before, at)
        if _on_duty(after) and self._began is None:
            self._began = at
        elif not _on_duty(after) and self._began is not None:
            self._close(at, Chosen.BREAK if after.state is AgentState.BREAK else Chosen.OFFLINE)

    def end(self, at: int) -> None:
        self._add_up(self._agent, at)
        if self._began is not None:
            self._close(at, Chosen.OFFLINE)

    def _close(self, at: int, then: Chosen) -> None:
        began, self._began = self._began, None
        if began is not None and at > began:
            self.shifts.append(Shift(self._agent.user_id, began, at, then))

    def _add_up(self, agent: Agent, at: int) -> None:
        since, until = self._span
        self._spent[agent.state] += max(0, min(at, until) - max(agent.since, since))


def _on_duty(a: Agent) -> bool:
    return bool(a.contacts) or (a.chosen is Chosen.READY and a.live and a.fault is None and not a.missed)
