"""PURE: a decision, and the reasons that are kept with it.

The reasons are JSON-ready, so they go into the event log as they are:

    {"strategy", "at", "queue_id", "asked" (domain.requirements.to_json), "step" (0: what the queue asks at first),
     "waited_ms", "priority", "weight", "channel", "session_version", "position" (of the router's index),
     "candidates": [{"agent_id", "verdict", "score", "idle_ms", "version"}], at most MAX_CANDIDATES, in the order in
     which they would be asked,
     "others": {reason: how many}}

Verdicts: chosen, able, ringing (it rings for this agent already), rejected_lately, excluded. Reasons of the others:
able (not shown), lacks_skill, being_offered (by this router, at this moment), unreachable (the tab), and the states of
agents who take nothing now.

The versions say which rows were seen: the events of the session and of each candidate, folded up to them, are what
this decision was made of (`tests/stories/test_routing_reasons.py` makes each of them again).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from server.domain.router_state import WaitingSession
from server.domain.session import REJECT_PAUSE_MS

MAX_CANDIDATES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """A session, and the agent it is to be offered to."""

    session_id: str
    agent_id: str
    agent_name: str
    why: Mapping[str, object]


def verdict(session: WaitingSession, agent_id: str, now: int) -> str:
    """Of an agent who is free and has the skills."""
    if agent_id in session.ringing:
        return "ringing"
    if agent_id in session.excluded:
        return "excluded"
    if any(by == agent_id and now - at < REJECT_PAUSE_MS for by, at in session.rejected_by):
        return "rejected_lately"
    return "able"


def asked_again_at(session: WaitingSession, now: int) -> int | None:
    """When the next agent who rejected the session may be asked again."""
    ends = [at + REJECT_PAUSE_MS for _, at in session.rejected_by if now - at < REJECT_PAUSE_MS]
    return min(ends, default=None)
