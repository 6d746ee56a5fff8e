"""PURE: what a run comes to, in the numbers of the reports (docs/metrics.md), with 95 % confidence intervals.

Waits that follow each other are alike, so their spread says too little of how sure a mean is. The intervals are of
batch means: the visits in their order are cut into BATCHES batches, whose figures are nearly independent. Source:
Law, "Simulation Modeling and Analysis", section 9.5.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from server.domain.reports import Counted, QueueNumbers, VisitFacts, numbers

BATCHES = 20
T_19 = 2.093  # Student's t, 97.5 %, BATCHES − 1 degrees of freedom
MIN_VISITS = 10 * BATCHES  # fewer make batches that say nothing

Figure = Callable[[QueueNumbers], float | None]


@dataclass(frozen=True, slots=True)
class AgentTimes:
    """Milliseconds of one agent in the span."""

    on_contact_ms: int
    wrap_up_ms: int
    ready_ms: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """`visits` by the time of entering. `turned_away`: by queue, calls that opening hours refused; they are no visits.
    `times` by agent."""

    visits: tuple[VisitFacts, ...]
    times: Mapping[str, AgentTimes]
    turned_away: Mapping[str, int]

    def of(self, queue_id: str | None) -> list[VisitFacts]:
        """One queue's visits; None: all."""
        return [visit for visit in self.visits if queue_id in (None, visit.queue_id)]

    @property
    def occupancy(self) -> float | None:
        """Of all agents together; see `occupancy`."""
        return occupancy(self.times.values())


def occupancy(times: Iterable[AgentTimes]) -> float | None:
    """(on contact + wrap-up) ÷ (on contact + wrap-up + ready), 0 to 1; None when nobody worked."""
    every = list(times)
    busy_ms = sum(one.on_contact_ms + one.wrap_up_ms for one in every)
    whole_ms = busy_ms + sum(one.ready_ms for one in every)
    return busy_ms / whole_ms if whole_ms else None


def half_width(visits: Sequence[VisitFacts], figure: Figure) -> float | None:
    """Half of the 95 % confidence interval of a figure; None with too few visits, or nothing to divide in a batch."""
    if len(visits) < MIN_VISITS:
        return None
    edges = [len(visits) * number // BATCHES for number in range(BATCHES + 1)]
    means = [figure(numbers(visits[edges[n] : edges[n + 1]])) for n in range(BATCHES)]
    known = [mean for mean in means if mean is not None]
    if len(known) < BATCHES:
        return None
    middle = sum(known) / BATCHES
    deviation = math.sqrt(sum((mean - middle) ** 2 for mean in known) / (BATCHES - 1))
    return T_19 * deviation / math.sqrt(BATCHES)


def abandoned_share(found: QueueNumbers) -> float | None:
    """Abandoned ÷ offered, short abandons included, 0 to 1: what Erlang A tells. The reports' rate leaves them out."""
    offered = found.counts[Counted.OFFERED]
    return found.counts[Counted.ABANDONED] / offered if offered else None
