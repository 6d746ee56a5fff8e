"""What must hold after a routing storm: from the database alone, and from what the people were made to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from server.domain import events as ev
from server.domain.endings import SegmentEnd, VisitOutcome
from server.services.ports import NODE_DEAD_MS
from tests.bench.report import Figure, at_most, percentile
from tests.chaos.routing_stage import QUEUES, SKILLED_STEPS, Center
from tests.chaos.stage import now_ms
from tests.helpers import invariants as inv
from tests.helpers.free_agents import nobody_waits_in_vain
from tests.helpers.invariants import CLAIM_MS, LATE_MS, TICK_MS, Log, Verdict, read_log

# After a fault that counts anew: a dead node is noticed, a claim in its hand runs out, its agents' tabs are back.
SETTLES_MS = NODE_DEAD_MS + CLAIM_MS + TICK_MS


@dataclass(frozen=True, slots=True)
class Limits:
    """`idle_ms`: somebody waits while an agent is free who could take it. A look is a tick at most, and the nodes, the
    database and everybody's lines share a few cores here. `overtaken_ms` and `late_ms`: as in `order_kept` and
    `deadlines_kept`. A test on a machine that does other things, too, asks only for what no slowness excuses."""

    idle_ms: int = TICK_MS + 1_500
    overtaken_ms: int = TICK_MS
    late_ms: int = LATE_MS


PROMISED, UNTIMED = Limits(), Limits(idle_ms=6_000, overtaken_ms=6_000, late_ms=10_000)
EARLY_MS = 200  # nodes' clocks apart, and a look that was begun before the offer was saved


def look(scene: Center, limits: Limits = PROMISED) -> tuple[list[Verdict], list[Figure]]:
    log, now = read_log(scene.patchbay.database), now_ms()
    settled = [(began, ended + SETTLES_MS) for began, ended in scene.disturbed]
    idle, waits_s = nobody_waits_in_vain(log, _who_fits(scene), settled, limits.idle_ms)
    verdicts = [
        inv.none_lost_or_doubled(log, {guest.session_id: guest.name for guest in scene.guests}, ended=True),
        inv.rows_are_folds(log),
        inv.only_allowed_steps(log),
        inv.capacity_kept(log),
        asked_skills_kept(log, scene),
        inv.order_kept(log, scene.disturbed, limits.overtaken_ms),
        inv.deadlines_kept(log, (), now, limits.late_ms),
        inv.seconds_add_up(log, now),
        inv.nothing_left(log),
        idle,
    ]
    return verdicts, [*_counts(log, scene), *_waits(waits_s, idle, limits)]


def fits(levels: Mapping[str, int], asked: Mapping[str, int]) -> bool:
    return all(levels.get(skill, 0) >= level for skill, level in asked.items())


def asked_skills_kept(log: Log, scene: Center) -> Verdict:
    """Nobody is offered what asks for more: the queue with steps, at the step that the waiting had reached."""
    verdict = Verdict("never an agent without what is asked for")
    for steps in log.steps.values():
        for line in steps:
            session, event = line.after, line.event
            if not isinstance(event, ev.AgentOffered) or session.queue.queue_id != scene.queue_ids["Skilled"]:
                continue
            visit = session.visits[-1]
            waited_ms = line.at - visit.entered_at + EARLY_MS
            asked = [asked for after_s, asked in SKILLED_STEPS if waited_ms >= after_s * 1000][-1]
            verdict.check(
                fits(scene.levels[event.agent_id], asked),
                f"{session.id} v{session.version}: {event.agent_id} after {waited_ms} ms",
            )
    return verdict


def _who_fits(scene: Center) -> dict[str, frozenset[str]]:
    """By queue: who has what it asks at first."""
    asked = {scene.queue_ids[queue.name]: queue.listed or SKILLED_STEPS[0][1] for queue in QUEUES}
    people = scene.levels.items()
    return {queue_id: frozenset(user for user, levels in people if fits(levels, a)) for queue_id, a in asked.items()}


def _counts(log: Log, scene: Center) -> list[Figure]:
    offers = [line.at for steps in log.steps.values() for line in steps if isinstance(line.event, ev.AgentOffered)]
    segments = [segment for session in log.sessions.values() for segment in session.segments]
    visits = [visit.outcome for session in log.sessions.values() for visit in session.visits]
    ends = {end: sum(s.end_reason is end for s in segments) for end in SegmentEnd}
    refused = sum((seat.did for seat in scene.seats), start=type(scene.seats[0].did)())
    counts = {
        "agents": len(scene.seats),
        "control nodes killed": len(scene.kills),
        "Redis restarted": len(scene.disturbed) - len(scene.kills),
        "sessions": len(log.sessions),
        "offers": len(offers),
        "answered": sum(s.talk_started_at is not None for s in log.sessions.values()),
        "abandoned": sum(outcome is VisitOutcome.ABANDONED for outcome in visits),
        "flowed out": sum(outcome is VisitOutcome.FLOWED_OUT for outcome in visits),
        "offers declined": ends[SegmentEnd.REJECTED],
        "offers missed": ends[SegmentEnd.MISSED],
        "offers withdrawn": ends[SegmentEnd.WITHDRAWN],
        "messages refused": sum(count for what, count in refused.items() if what.startswith("refused")),
    }
    rate = len(offers) / max(1.0, (max(offers) - min(offers)) / 1000)
    found = [Figure(f"router: {name}", count, "", None, None) for name, count in counts.items()]
    return [*found, Figure("router: offers a second", round(rate, 2), "1/s", None, None)]


def _waits(waits_s: list[float], idle: Verdict, limits: Limits) -> list[Figure]:
    """Of everybody's freedom: how long somebody waited meanwhile who could have been offered."""
    shares = ((0.5, "p50"), (0.99, "p99"), (1.0, "max"))
    return [
        *(Figure(f"router: wait beside a free agent, {name}", round(percentile(waits_s, share), 3), "s", None, None)
          for share, name in shares),
        at_most("router: the same, faults not counted, max", idle.worst / 1000, "s", limits.idle_ms / 1000),
    ]  # fmt: skip
