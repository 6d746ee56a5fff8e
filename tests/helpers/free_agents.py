"""Of a center's log: who waited while somebody was free who could have taken it (RELIABILITY.md, invariant 6)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from server.domain import events as ev
from server.domain.session import REJECT_PAUSE_MS
from tests.helpers.invariants import Log, Verdict, routable_spans

Span = tuple[int, int]  # UTC ms


def nobody_waits_in_vain(
    log: Log, fit: Mapping[str, frozenset[str]], disturbed: Sequence[Span], limit_ms: int
) -> tuple[Verdict, list[float]]:
    """No session waits for longer than `limit_ms` beside an agent who is free all along, is one of those who `fit` its
    queue, and did not decline it. Times that are `disturbed` do not count. Also the same with everything counted,
    seconds: the longest wait beside each span of an agent's freedom."""
    verdict = Verdict("nobody waits while a fitting agent is free", unit="ms, faults not counted")
    waits = _Waits(log)
    everything = []
    for user_id, free in _free_spans(log):
        longest, counted, who = 0, 0, ""
        for session_id, span in waits.beside(user_id, free, [q for q, users in fit.items() if user_id in users]):
            longest = max(longest, span[1] - span[0])
            apart = max(_apart_from(span, disturbed), default=0)
            if apart > counted:
                counted, who = apart, session_id
        everything.append(longest / 1000)
        verdict.worst = max(verdict.worst, counted)
        verdict.check(counted <= limit_ms, f"{user_id} free from {free[0]} to {free[1]}: {who} waits {counted} ms")
    return verdict, everything


class _Waits:
    """When each session could have been offered, by queue."""

    def __init__(self, log: Log) -> None:
        lists: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
        for began, ended, session in routable_spans(log):
            lists[session.queue.queue_id].append((began, ended, session.id))
        self._spans = {
            queue_id: (np.array([s[0] for s in some]), np.array([s[1] for s in some]), [s[2] for s in some])
            for queue_id, some in lists.items()
        }
        self._declined: dict[tuple[str, str], list[int]] = defaultdict(list)
        for session_id, steps in log.steps.items():
            for line in steps:
                if isinstance(line.event, ev.AgentRejected):
                    self._declined[session_id, line.event.agent_id].append(line.at)

    def beside(self, user_id: str, free: Span, queue_ids: Sequence[str]) -> Iterator[tuple[str, Span]]:
        """Sessions that could have been offered while the agent was free, and when both was so."""
        for queue_id in queue_ids:
            if queue_id not in self._spans:
                continue
            begins, ends, ids = self._spans[queue_id]
            both = np.minimum(ends, free[1]) - np.maximum(begins, free[0])
            for at in np.flatnonzero(both > 0):
                if not any(free[0] - REJECT_PAUSE_MS < when < free[1] for when in self._declined[ids[at], user_id]):
                    yield ids[at], (max(int(begins[at]), free[0]), min(int(ends[at]), free[1]))


def _free_spans(log: Log) -> Iterator[tuple[str, Span]]:
    """Each time in which an agent's row says: may be offered something."""
    for user_id, steps in log.agent_steps.items():
        began: int | None = None
        for line in steps:
            if line.after.available and began is None:
                began = line.at
            elif not line.after.available and began is not None:
                yield user_id, (began, line.at)
                began = None


def _apart_from(span: Span, disturbed: Sequence[Span]) -> Iterator[int]:
    """Lengths of the parts of a span that lie in none of the others."""
    at = span[0]
    for began, ended in sorted(disturbed):
        if began >= span[1]:
            break
        if began > at:
            yield began - at
        at = max(at, ended)
    if span[1] > at:
        yield span[1] - at
