"""What must hold after a run, as verdicts and figures."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tests.bench.report import Figure, at_most, percentile
from tests.chaos.stage import Stage, now_ms
from tests.helpers import invariants as inv
from tests.helpers.invariants import Log, Numbers, Talk, Verdict, read_log

CONTROL_GAP_S = 0.4  # a packet is 60 ms; the rest is a machine with two cores that starts a Python program
SET_UP_S = 3.0


async def look(scene: Stage, *, parts: bool = False) -> tuple[Log, list[Verdict], list[Talk]]:
    """Everything but the gaps, whose limit depends on what was done to the media workers."""
    ears = await scene.peers.ears()
    log = read_log(scene.patchbay.database)
    now = now_ms()
    names = {session_id: f"Customer {customer.number}" for session_id, customer in scene.customers.items()}
    disturbed = [*((at, at) for at in scene.kills), *scene.outages]
    heard = Verdict("each hears the other, and nobody else")
    numbers = Numbers(
        {session_id: customer.number for session_id, customer in scene.customers.items()},
        {desk.user_id: desk.number for desk in scene.desks},
        time.time() - time.monotonic(),
    )
    talks = inv.talks(log, ears, numbers, heard, await scene.peers.stalls())
    verdicts = [
        inv.none_lost_or_doubled(log, names, ended=True),
        inv.rows_are_folds(log),
        inv.only_allowed_steps(log),
        inv.capacity_kept(log),
        inv.order_kept(log, disturbed),
        inv.deadlines_kept(log, scene.outages, now),
        inv.seconds_add_up(log, now),
        inv.recordings_whole(log, scene.folder / "recordings", parts=parts),
        inv.nothing_left(log),
        heard,
    ]
    return log, verdicts, talks


def gaps(name: str, talks: Sequence[Talk], limit_s: float) -> Verdict:
    """No side of a talk goes without the other for longer than this."""
    verdict = Verdict(name, unit="s")
    for talk in talks:
        verdict.worst = round(max(verdict.worst, talk.longest_s), 3)
        verdict.check(
            talk.longest_s <= limit_s, f"{talk.segment_id}: the {talk.side} hears nothing {talk.longest_s:.2f} s"
        )
    return verdict


def figures(prefix: str, verdicts: Sequence[Verdict], talks: Sequence[Talk], limit_s: float) -> list[Figure]:
    """As tests/bench/report.py prints them."""
    found = [at_most(f"{prefix}: faults: {v.name}", len(v.faults), f"/{v.looked_at}", 0) for v in verdicts]
    longest = [talk.longest_s for talk in talks]
    if longest:
        found += [
            Figure(f"{prefix}: longest gap, p50 of talks", round(percentile(longest, 0.5), 3), "s", None, None),
            Figure(f"{prefix}: longest gap, p99 of talks", round(percentile(longest, 0.99), 3), "s", None, None),
            at_most(f"{prefix}: longest gap", max(longest), "s", limit_s),
        ]
    return found
