"""PURE: a match, and who may take what of those who are free and have the skills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from server.domain.router_state import WaitingSession
from server.domain.session import REJECT_PAUSE_MS


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """A session, and the agent it is to be offered to. `why`: `reasons.reasons`."""

    session_id: str
    agent_id: str
    agent_name: str
    why: Mapping[str, object]


def verdict(session: WaitingSession, agent_id: str, now: int) -> str:
    """Of an agent who is free and has the skills: able, ringing (it rings there already), rejected_lately, excluded."""
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
