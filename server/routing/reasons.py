"""PURE: the reasons that are kept with a decision, and those why a session waits.

They are JSON-ready, so they go into the event log as they are:

    {"strategy", "at", "queue_id", "asked" (domain.requirements.to_json), "step" (0: what the queue asks at first),
     "sticky" (the one agent whom it waits for), "waited_ms", "priority", "weight", "channel",
     "ringing" (for how many others already), "session_version", "position" (of the router's index),
     "candidates": [{"agent_id", "verdict", "score", "idle_ms", "version"}], at most MAX_CANDIDATES, in the order in
     which they would be asked,
     "others": {reason: how many}}

Verdicts: chosen, and those of `policy.verdict`. Reasons of the others: able (not shown), lacks_skill, not_the_last
(the session waits for the agent whom its customer last had), being_offered (by this router, at this moment),
unreachable (the tab), and the states of agents who take nothing now.

The versions say which rows were seen: the events of the session and of each candidate, folded up to them, are what
this decision was made of (`tests/stories/test_routing_reasons.py` makes each of them again).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from server.domain.requirements import to_json
from server.domain.router_state import WaitingSession
from server.routing.policy import verdict
from server.routing.pools import Lane, Pool
from server.routing.scoring import Rank

MAX_CANDIDATES = 20


def reasons(
    session: WaitingSession,
    lane: Lane,
    seen: Iterable[Rank],
    chosen: str | None,
    others: Mapping[str, int],
    position: int,
    now: int,
) -> dict[str, object]:
    """`seen`: the candidates in their order; `chosen` None: nobody yet."""
    pool, routing = lane.pool, lane.queue.routing
    return {
        "strategy": routing.strategy.value,
        "at": now,
        "queue_id": session.queue_id,
        "asked": to_json(pool.key.asked),
        "step": lane.step,
        "sticky": pool.key.only,
        "waited_ms": max(0, now - session.entered_at),
        "priority": session.priority,
        "weight": routing.weight,
        "channel": session.channel,
        "ringing": len(session.ringing),
        "session_version": session.version,
        "position": position,
        "candidates": [
            {
                "agent_id": agent_id,
                "verdict": "chosen" if agent_id == chosen else verdict(session, agent_id, now),
                "score": score,
                "idle_ms": max(0, now - idle_since),
                "version": version,
            }
            for score, idle_since, agent_id, version in seen
        ],
        "others": dict(others),
    }


def others(pool: Pool, states: Mapping[str, int], being_offered: int, shown: int) -> dict[str, int]:
    """Everybody on duty who is not among the `shown` candidates, counted by the reason. `states`: how many are in
    which state."""
    rest = states.get("ready", 0) - len(pool.agents) - being_offered
    counts = {
        "able": len(pool.agents) - shown,
        "being_offered": being_offered,
        "lacks_skill" if pool.key.only is None else "not_the_last": rest,
        **{state: count for state, count in states.items() if state != "ready"},
    }
    return {reason: count for reason, count in counts.items() if count > 0}
