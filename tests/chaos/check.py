"""What must hold after a run, as verdicts and figures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.stage import Stage, now_ms
from tests.helpers import invariants as inv
from tests.helpers.invariants import Log, Numbers, Talk, Verdict, read_log


@dataclass(frozen=True, slots=True)
class Limits:
    """What depends on the machine's speed. `make chaos` measures against what the product promises; a test on a machine
    that does other things, too, asks only for what no slowness excuses."""

    control_gap_s: float = 0.4  # a packet is 60 ms; the rest is a machine with two cores that starts a Python program
    worker_gap_s: float = 2.0
    recording_off_ms: int = inv.RECORDING_MS


PROMISED, UNTIMED = Limits(), Limits(5.0, 10.0, 3_000)


async def look(scene: Stage, limits: Limits, *, parts: bool = False) -> tuple[Log, list[Verdict], list[Talk]]:
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
        inv.recordings_whole(log, scene.folder / "recordings", off_ms=limits.recording_off_ms, parts=parts),
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
