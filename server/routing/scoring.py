"""PURE: how a strategy ranks the agents who may take a session. The smallest rank is asked first.

A rank rests on what the agent's row said last, so a list of agents stays in its order between two rows. Ties go to
whoever is idle longer, then by id.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

from server.domain.agent import HOUR_MS
from server.domain.directory import AgentProfile
from server.domain.queue_routing import Strategy
from server.domain.requirements import Requirement, skills_of
from server.domain.router_state import PresentAgent

Rank = tuple[float, int, str, int]  # score, idle since, agent id, version of the agent's row
Ranking = Callable[[PresentAgent, AgentProfile], Rank]


def ranking(strategy: Strategy, asked: Requirement, midnight: int) -> Ranking:
    """`midnight`: when today began in the queue's time zone, UTC epoch ms."""
    skills = tuple(skills_of(asked))

    def rank(agent: PresentAgent, profile: AgentProfile) -> Rank:
        return (score(strategy, skills, midnight, agent, profile), agent.idle_since, agent.agent_id, agent.version)

    return rank


def score(
    strategy: Strategy, skills: tuple[str, ...], midnight: int, agent: PresentAgent, profile: AgentProfile
) -> float:
    """What the strategy compares; less is better."""
    match strategy:
        case Strategy.LONGEST_IDLE | Strategy.RING_ALL:
            return agent.idle_since
        case Strategy.LEAST_OCCUPIED:
            return round(occupancy(agent), 4)
        case Strategy.BEST_SKILL:
            return -sum(profile.level(skill) for skill in skills)
        case Strategy.FEWEST_SESSIONS:
            return handled_since(agent, midnight)
        case Strategy.ROUND_ROBIN:
            return agent.offered_at


def occupancy(agent: PresentAgent) -> float:
    """(on contact + wrap-up) ÷ (on contact + wrap-up + ready), 0 to 1, of the states that ended since login."""
    whole = agent.busy_ms + agent.ready_ms
    return agent.busy_ms / whole if whole else 0.0


def handled_since(agent: PresentAgent, midnight: int) -> int:
    """Sessions answered today. Counts are kept by the hour: where midnight is no full hour of UTC, from its hour on."""
    return sum(count for hour, count in agent.handled if hour >= midnight // HOUR_MS)


def midnight_in(zone: str, now: int) -> int:
    """When today began in a time zone, UTC epoch ms; where midnight came twice, the first time."""
    local = datetime.fromtimestamp(now / 1000, ZoneInfo(zone))
    return round(local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).timestamp() * 1000)
