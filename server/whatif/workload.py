"""PURE: what comes to a center in some span, and who works: recorded, or drawn for a synthetic day.

Times are UTC epoch milliseconds, spans of time milliseconds. What a workload says does not depend on how the center is
set up, so two set-ups are compared under the very same calls, patience and talks.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from server.domain.agent import Chosen
from server.domain.directory import AgentProfile, QueueConfig

HOUR_MS = 3_600_000
Draw = Callable[[random.Random, float], int]


@dataclass(frozen=True, slots=True)
class Arrival:
    """`patience_ms`: how long the customer waits for the answer, through all queues; None: as long as it takes.
    `answers_ms` are the agents' times from offer to accept, of the first offer, the next one, and so on, then again
    from the first. `connect_ms`: from the accept until both can hear each other."""

    session_id: str
    at: int
    queue_id: str
    talk_ms: int
    patience_ms: int | None = None
    wrap_up_ms: int = 0
    answers_ms: tuple[int, ...] = (0,)
    connect_ms: int = 0
    sticky_agent: str | None = None


@dataclass(frozen=True, slots=True)
class Shift:
    """An agent wants sessions from `since` until `until`, and is then on a break or offline. What is held at the end
    is seen through."""

    agent_id: str
    since: int
    until: int
    then: Chosen = Chosen.OFFLINE


@dataclass(frozen=True, slots=True)
class Workload:
    """`since` ≤ arrivals < `until`, by time; shifts may reach beyond."""

    since: int
    until: int
    arrivals: tuple[Arrival, ...]
    shifts: tuple[Shift, ...]


@dataclass(frozen=True, slots=True)
class Center:
    """The set-up: the queues, and everybody who may serve them."""

    queues: tuple[QueueConfig, ...]
    profiles: tuple[AgentProfile, ...]


# --- a synthetic day ---------------------------------------------------------------------------------


def exponential(draw: random.Random, mean_ms: float) -> int:
    """For the checks against Erlang's formulas."""
    return round(draw.expovariate(1 / mean_ms)) if mean_ms else 0


def log_normal(spread: float) -> Draw:
    """`spread`: standard deviation ÷ mean. Talk times and patience are near to it: Brown et al. (2005), "Statistical
    Analysis of a Telephone Call Center", JASA 100, section 3.2."""
    variance = math.log(1 + spread * spread)

    def draw(source: random.Random, mean_ms: float) -> int:
        return round(source.lognormvariate(math.log(mean_ms) - variance / 2, math.sqrt(variance))) if mean_ms else 0

    return draw


@dataclass(frozen=True, slots=True)
class Stream:
    """Calls of one queue. `per_hour`: the rate in each hour of the span, repeated from the first when it is longer.
    The times are means; `patience_ms` None: nobody leaves."""

    queue_id: str
    per_hour: tuple[float, ...]
    talk_ms: float
    patience_ms: float | None = None
    wrap_up_ms: int = 0
    answer_ms: float = 0
    talk: Draw = exponential
    patience: Draw = exponential


def synthetic(since: int, until: int, streams: Sequence[Stream], shifts: Sequence[Shift], seed: int) -> Workload:
    """Poisson arrivals; the same seed gives the same day."""
    arrivals: list[Arrival] = []
    for stream in streams:
        draw = random.Random(f"{seed} {stream.queue_id}")  # a queue more changes nothing of the others
        for at in _poisson(draw, since, until, stream.per_hour):
            left = None if stream.patience_ms is None else stream.patience(draw, stream.patience_ms)
            talk_ms = stream.talk(draw, stream.talk_ms)
            answers = tuple(exponential(draw, stream.answer_ms) for _ in range(3)) if stream.answer_ms else (0,)
            name = f"{stream.queue_id}-{len(arrivals):07}"
            arrivals.append(Arrival(name, at, stream.queue_id, talk_ms, left, stream.wrap_up_ms, answers))
    arrivals.sort(key=lambda arrival: (arrival.at, arrival.session_id))
    return Workload(since, until, tuple(arrivals), tuple(shifts))


def _poisson(draw: random.Random, since: int, until: int, per_hour: Sequence[float]) -> list[int]:
    """A process whose rate is the same within an hour: each hour begins anew, which a Poisson process does anyway."""
    found: list[int] = []
    edges = [*range(since, until, HOUR_MS), until]
    for number, (begins, ends) in enumerate(pairwise(edges)):
        rate = per_hour[number % len(per_hour)] / HOUR_MS
        at = begins + draw.expovariate(rate) if rate else ends
        while at < ends:
            found.append(int(at))
            at += draw.expovariate(rate)
    return found
