"""PURE: which waiting session goes to which free agent now, and why.

Longest idle first: the head of each queue, in the order of arrival over all queues, takes the agent who has
been idle longest among those who have its skills. A session that nobody can take does not block the ones behind it
that somebody can: they wait for other people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.domain.directory import AgentProfile, QueueConfig
from server.domain.router_state import FreeAgent, RouterState, WaitingSession

REJECT_PAUSE_MS = 30_000  # an agent who declined a session is not asked again at once
MAX_REASONS = 20  # candidates kept with a decision; a queue of a thousand agents must not fill the event log


@dataclass(frozen=True, slots=True)
class Match:
    """A decision. `why` is JSON-ready: strategy, and for each candidate its rank or the reason it was passed over."""

    session_id: str
    agent_id: str
    agent_name: str
    why: Mapping[str, object]


def choose(
    state: RouterState, queues: Mapping[str, QueueConfig], profiles: Mapping[str, AgentProfile], now: int
) -> list[Match]:
    """Matches for as many sessions as there are agents for, each agent and session at most once."""
    claimed_sessions = {claim.session_id for claim in state.claims}
    free = [a for a in state.free if a.agent_id not in {claim.agent_id for claim in state.claims}]
    free.sort(key=lambda a: (a.idle_since, a.agent_id))
    matches: list[Match] = []
    for session in sorted(state.waiting, key=lambda w: w.order_key):
        if not free:
            break
        queue = queues.get(session.queue_id)
        if session.held or session.session_id in claimed_sessions or queue is None:
            continue
        chosen, reasons = _pick(session, queue, free, profiles, now)
        if chosen is not None:
            free.remove(chosen)
            why = {"strategy": "longest_idle", "at": now, "candidates": reasons}
            matches.append(Match(session.session_id, chosen.agent_id, profiles[chosen.agent_id].name, why))
    return matches


def _pick(
    session: WaitingSession,
    queue: QueueConfig,
    free: Sequence[FreeAgent],
    profiles: Mapping[str, AgentProfile],
    now: int,
) -> tuple[FreeAgent | None, list[dict[str, object]]]:
    chosen: FreeAgent | None = None
    reasons: list[dict[str, object]] = []
    for agent in free:
        verdict = _verdict(session, queue, profiles.get(agent.agent_id), now)
        if verdict == "able" and chosen is None:
            chosen, verdict = agent, "chosen"
        if len(reasons) < MAX_REASONS or verdict == "chosen":
            reasons.append({"agent_id": agent.agent_id, "idle_ms": now - agent.idle_since, "verdict": verdict})
    return chosen, reasons


def _verdict(session: WaitingSession, queue: QueueConfig, profile: AgentProfile | None, now: int) -> str:
    if profile is None or not profile.active:
        return "inactive"
    if not queue.serves(profile):
        return "lacks_skill"
    if any(agent == profile.user_id and now - at < REJECT_PAUSE_MS for agent, at in session.rejected_by):
        return "rejected_lately"
    return "able"
