"""Erlang's formulas for one queue with one skill, exponential talks and patience, to hold the what-if against.

Sources: Erlang C: Kleinrock, "Queueing Systems" I (1975), section 3.5. Erlang A: Mandelbaum and Zeltyn, "Service
Engineering in Action: The Palm/Erlang-A Queue" (2007), section 4; here by summing the birth-death chain's states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Expected:
    """`waits`: share that is not answered at once. `asa`: mean wait of the answered, in units of the mean talk.
    `in_time`: share of all that is answered within the target."""

    waits: float
    abandons: float
    asa: float
    occupancy: float
    in_time: float


def erlang_c(agents: int, load: float, target: float) -> Expected:
    """`load` in Erlang (arrivals per mean talk), less than `agents`; `target` in mean talks."""
    blocked = 1.0  # Erlang B by its recursion
    for number in range(1, agents + 1):
        blocked = load * blocked / (number + load * blocked)
    waits = blocked / (1 - load / agents * (1 - blocked))
    asa = waits / (agents - load)
    return Expected(waits, 0.0, asa, load / agents, 1 - waits * math.exp(-(agents - load) * target))


def erlang_a(agents: int, load: float, patience: float, states: int = 2000) -> Expected:
    """`patience`: its mean, in mean talks. `in_time` is that of a target of 0: who is answered at once.

    In state n > agents, n − agents wait, and each leaves at rate 1 ÷ patience. Abandoned ÷ offered is the rate of
    leaving ÷ load, and the mean number that waits is load × the mean wait of all (Little)."""
    weights = [1.0]
    for n in range(1, states):
        weights.append(weights[-1] * load / (min(n, agents) + max(0, n - agents) / patience))
    whole = sum(weights)
    chance = [weight / whole for weight in weights]
    waiting = sum(max(0, n - agents) * p for n, p in enumerate(chance))
    waits = sum(chance[agents:])
    abandons = waiting / patience / load
    busy = sum(min(n, agents) * p for n, p in enumerate(chance))
    return Expected(waits, abandons, _answered_wait(chance, agents, patience), busy / agents, 1 - waits)


def _answered_wait(chance: list[float], agents: int, patience: float) -> float:
    """Mean wait of the answered. Who arrives as the k-th waiting one moves up at rate agents + j ÷ patience, j being
    those before them, or leaves at rate 1 ÷ patience. `wait` is E[wait; answered], `answered` its probability."""
    wait, answered = 0.0, 1.0  # of who is served next: before the first step
    total_wait, total_answered = 0.0, sum(chance[:agents])
    for k, here in enumerate(chance[agents:]):
        forward, leave = agents + k / patience, 1 / patience
        stays = forward / (forward + leave)
        wait = stays * (wait + answered / (forward + leave))
        answered *= stays
        total_wait += here * wait
        total_answered += here * answered
    return total_wait / total_answered
