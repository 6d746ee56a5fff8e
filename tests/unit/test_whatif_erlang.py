"""The what-if agrees with Erlang's formulas: one queue, one skill, exponential talks and patience.

Waits that follow each other remember the same queue, so plain means over 100,000 arrivals still swing by 10 %. Hence
replications, each after a warm-up, and control variates: what the drawn arrivals and talks differ from their known
means by explains much of the swing and is taken out by linear regression. Source: Law, "Simulation Modeling and
Analysis", section 11.4. The interval that is printed is the regression's.

Without abandonment even that leaves the ASA at ± 6 % over 140,000 arrivals. There every single wait is held against
Kiefer and Wolfowitz's recursion (first come, first served: who is asked makes no difference), which is quick enough
for the millions of arrivals that an ASA within 3 % needs."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from server.domain.directory import AgentProfile, QueueConfig, Role
from server.domain.endings import VisitOutcome
from server.domain.reports import Counted, numbers
from server.whatif.engine import simulate
from server.whatif.outcome import abandoned_share
from server.whatif.workload import HOUR_MS, Center, Shift, Stream, Workload, synthetic
from tests.helpers.erlang import Expected, erlang_a, erlang_c

AGENTS = 10
LOAD = 8.0  # Erlang
TALK_MS = 180_000
TARGET_S = 20
WARM_UP = 300  # arrivals: at load 0.8 the memory of an empty start fades within about 70
NEAR = 0.03


@dataclass(frozen=True, slots=True)
class Replication:
    """`more_calls` and `longer_talks`: the drawn ones ÷ the wanted ones − 1."""

    arrivals: int
    waits: float
    asa: float
    in_time: float
    abandons: float
    occupancy: float
    more_calls: float
    longer_talks: float


def drawn(load: float, patience: float | None, arrivals: int, seed: int) -> Workload:
    """`load` in Erlang, `patience` in mean talks."""
    rate = load / TALK_MS
    until = round((WARM_UP + arrivals) / rate)
    stream = Stream("que_a", (rate * HOUR_MS,), TALK_MS, None if patience is None else patience * TALK_MS)
    return synthetic(0, until, [stream], [Shift(f"usr_{n:02}", 0, until) for n in range(AGENTS)], seed)


def recursion(calls: Iterable[tuple[float, float]]) -> list[float]:
    """Waits of calls (when, talk), first come, first served, without abandonment; in the unit of the calls. Source:
    Kiefer and Wolfowitz (1955), "On the theory of queues with many servers", Transactions of the AMS 78."""
    free_at = [0.0] * AGENTS
    waits = []
    for at, talk in calls:
        begins = max(at, free_at[0])
        heapq.heapreplace(free_at, begins + talk)
        waits.append(begins - at)
    return waits


def replication(load: float, patience: float | None, arrivals: int, seed: int) -> Replication:
    queue = QueueConfig("que_a", "default", "A", (("skl_a", 1),), 20, 0, False, False, TARGET_S, True)
    people = tuple(
        AgentProfile(f"usr_{n:02}", "default", f"{n}", True, Role.AGENT, (("skl_a", 5),)) for n in range(AGENTS)
    )
    workload = drawn(load, patience, arrivals, seed)
    outcome = simulate(Center((queue,), people), workload)
    if patience is None:
        waits = [visit.wait_ms for visit in outcome.visits if visit.outcome is VisitOutcome.ANSWERED]
        expected = recursion((arrival.at, arrival.talk_ms) for arrival in workload.arrivals)
        assert waits == expected[: len(waits)], "every single wait, to the millisecond"
        assert len(waits) > 0.95 * len(workload.arrivals), "all but those who wait when the shifts end"
    seen = [visit for visit in outcome.visits if visit.entered_at >= WARM_UP * TALK_MS / load]
    found = numbers(seen)
    answered = [visit for visit in seen if visit.outcome is VisitOutcome.ANSWERED]
    assert outcome.occupancy is not None
    more_calls, longer_talks = controls(workload, load)
    return Replication(
        arrivals=len(seen),
        waits=sum(visit.wait_ms > 0 for visit in seen) / len(seen),
        asa=found.answer_wait_ms / len(answered) / TALK_MS,
        in_time=found.counts[Counted.ANSWERED_IN_TIME] / len(seen),
        abandons=abandoned_share(found) or 0.0,
        occupancy=outcome.occupancy,
        more_calls=more_calls,
        longer_talks=longer_talks,
    )


def controls(workload: Workload, load: float) -> tuple[float, float]:
    """How many more calls, and how much longer talks, were drawn than wanted, as shares."""
    came = len(workload.arrivals)
    talk_ms = sum(arrival.talk_ms for arrival in workload.arrivals) / came
    return came / (load / TALK_MS * workload.until) - 1, talk_ms / TALK_MS - 1


def estimate(figures: Sequence[float], variates: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The mean at the wanted rates, and half of its 95 % interval."""
    known = np.array([[1.0, *pair] for pair in variates])
    wanted = np.array(figures)
    weights, *_ = np.linalg.lstsq(known, wanted, rcond=None)
    rest = wanted - known @ weights
    variance = float(rest @ rest) / (len(figures) - 3) * float(np.linalg.inv(known.T @ known)[0, 0])
    return float(weights[0]), 2.0 * math.sqrt(variance)  # 2.0: Student's t at 40 replications and more


FIGURES: dict[str, Callable[[Replication | Expected], float]] = {
    "waits": lambda r: r.waits,
    "asa": lambda r: r.asa,
    "in_time": lambda r: r.in_time,
    "abandons": lambda r: r.abandons,
    "occupancy": lambda r: r.occupancy,
}


def compared(title: str, found: Sequence[Replication], wanted: Expected, names: Sequence[str]) -> dict[str, float]:
    """How far each figure is from the formula's, as a share of it. Prints them with their intervals."""
    apart = {}
    print(f"\n{title}: {sum(one.arrivals for one in found)} arrivals in {len(found)} replications")
    for name in names:
        right = FIGURES[name](wanted)
        mean, half = estimate([FIGURES[name](r) for r in found], [(r.more_calls, r.longer_talks) for r in found])
        apart[name] = abs(mean - right) / right
        print(f"  {name:<10} {mean:.5f} ± {half:.5f} (95 %), formula {right:.5f}, apart {mean / right - 1:+.2%}")
        if name != "occupancy":  # it counts the empty start, too
            assert abs(mean - right) <= 2 * half, f"{name} is further off than chance explains"
    return apart


def test_without_abandonment_it_is_erlang_c() -> None:
    found = [replication(LOAD, None, 2500, seed) for seed in range(1, 57)]
    wanted = erlang_c(AGENTS, LOAD, TARGET_S * 1000 / TALK_MS)
    apart = compared("Erlang C", found, wanted, ("waits", "in_time", "occupancy", "asa"))
    assert sum(one.arrivals for one in found) >= 135_000
    del apart["asa"]  # the next test's
    assert max(apart.values()) <= NEAR, apart


def test_the_recursion_that_it_equals_has_erlang_cs_asa() -> None:
    """In mean talks, over 4,000,000 arrivals."""
    figures, variates = [], []
    for seed in range(1, 401):
        draw = np.random.default_rng(seed)
        gaps, talks = draw.exponential(1 / LOAD, WARM_UP + 10_000), draw.exponential(1.0, WARM_UP + 10_000)
        waits = recursion(zip(np.cumsum(gaps).tolist(), talks.tolist(), strict=True))[WARM_UP:]
        figures.append(sum(waits) / len(waits))
        variates.append((float(gaps.mean()) * LOAD - 1, float(talks.mean()) - 1))
    mean, half = estimate(figures, variates)
    right = erlang_c(AGENTS, LOAD, 0).asa
    print(f"\nASA over 4,000,000 arrivals: {mean:.5f} ± {half:.5f} (95 %), formula {right:.5f}")
    assert half / right <= NEAR
    assert abs(mean - right) / right <= NEAR


def test_with_abandonment_it_is_erlang_a() -> None:
    found = [replication(9.0, 2.0, 1700, seed) for seed in range(1, 43)]
    apart = compared("Erlang A", found, erlang_a(AGENTS, 9.0, 2.0), ("waits", "asa", "abandons", "occupancy"))
    assert sum(one.arrivals for one in found) >= 65_000
    assert max(apart.values()) <= NEAR, apart
