"""/sessions/{session_id}/routing: why this agent, and why nobody yet; in words and as data.

The reasons are those that the router kept with each offer (server/routing/reasons.py) or gives at this moment for a
session that waits. Agents see the decisions for sessions that they took, and of the candidates only themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from server.domain.directory import Role
from server.domain.history import CAME_AS, EventRow, SegmentRow
from server.domain.queue_routing import LAST_PRIORITY, PRIORITY, TOP_PRIORITY, Strategy
from server.domain.requirements import ANYONE, from_json, write
from server.domain.session import SessionState
from server.services.refusals import not_found
from server.services.steering import Steering
from server.signaling.access import STAFF, SUPERVISORS
from server.signaling.decision_words import Told, words
from server.signaling.locales import choose_locale
from server.signaling.rest.endpoint import Call, Endpoint, Endpoints, Nothing
from server.signaling.rest.models import Id, RestModel
from server.signaling.rest.queue_routing import Text, ids_of, parsed, skill_names

MAX_AGENTS = 50


class CandidateView(RestModel):
    """`score`: what the strategy compares, less is better; null in decisions of before there were scores."""

    agent_id: str
    agent_name: str
    verdict: str
    score: float | None
    idle_ms: int


class DecisionView(RestModel):
    """`candidates` in the order in which they would be asked, 20 at most; `others`: everybody else by the reason.
    `session_version` and each candidate's `version` in the event's body say which rows were seen."""

    at: int
    queue_id: str
    queue_name: str
    strategy: str
    requirement: str
    step: int = Field(description="how many relaxing steps had passed")
    waited_ms: int
    priority: int
    weight: int
    agent_id: str | None
    agent_name: str | None
    outcome: str | None = Field(description="how the offer ended; null while it goes on, and for who waits")
    candidates: list[CandidateView]
    others: dict[str, int]
    words: list[str]


class SteerSession(RestModel):
    """What is left out stays as it is. Agents are users' ids; `preferred` in the order in which they are asked."""

    priority: Annotated[int, Field(ge=TOP_PRIORITY, le=LAST_PRIORITY)] | None = None
    requirement: Text | None = None
    preferred: Annotated[list[Id], Field(max_length=MAX_AGENTS)] | None = None
    excluded: Annotated[list[Id], Field(max_length=MAX_AGENTS)] | None = None


class SteeringView(RestModel):
    """What was said of this session, or would be its own without that."""

    priority: int
    requirement: str
    preferred: list[str]
    excluded: list[str]


class RoutingView(RestModel):
    """`waiting`: why a session that waits now is not offered, as this node sees it. `steering`: null for agents, and
    when it waits no more."""

    session_id: str
    decisions: list[DecisionView]
    waiting: DecisionView | None
    steering: SteeringView | None


async def read_routing(call: Call[Any, Nothing]) -> RoutingView:
    session_id = call.part("session_id")
    tenant = call.user.tenant
    detail = await call.deps.history.session(tenant, session_id)
    own_only = call.user.role is Role.AGENT
    if detail is None or (own_only and call.user.user_id not in dict(detail.row.agents)):
        raise not_found("session")
    names = _Names(
        await skill_names(call),
        {p.user_id: p.name for p in await call.deps.directory.agents(tenant)},
        {q.queue_id: q.name for q in await call.deps.directory.queues(tenant)},
        call.user.user_id if own_only else None,
        choose_locale(call.user.locale, call.request),
    )
    began = [event for event in detail.events if event.type in CAME_AS]
    decisions = [
        _decision(event.body.get("why") or {}, names, event, _segment(detail.segments, number))
        for number, event in enumerate(began, 1)
        if event.type == "AgentOffered"
    ]
    # The index may be a moment behind the row, and says of a call that was just answered that it waits.
    asked = not own_only and detail.row.state in WAITS
    why = call.deps.explanations.explain(tenant, session_id) if asked else None
    waiting = None if why is None else _decision(why, names, None, None)
    steering = None if why is None else _steering(await call.deps.steering.current(tenant, session_id), names)
    return RoutingView(session_id=session_id, decisions=decisions, waiting=waiting, steering=steering)


async def steer_session(call: Call[SteerSession, Nothing]) -> RoutingView:
    body = call.body
    asks = None
    if body.requirement is not None:
        asks = parsed(body.requirement, ids_of(await skill_names(call)), "requirement")
    wanted = Steering(
        priority=body.priority,
        asks=asks,
        preferred=None if body.preferred is None else tuple(body.preferred),
        excluded=None if body.excluded is None else tuple(body.excluded),
    )
    await call.deps.steering.change(call.user, call.part("session_id"), wanted)
    return await read_routing(call)


WAITS = frozenset({SessionState.QUEUED, SessionState.PLACE_KEPT})


class _Names:
    """Ids to names; `only`: the one agent who may be named; the reader's `locale`."""

    def __init__(
        self, skills: Mapping[str, str], agents: Mapping[str, str], queues: Mapping[str, str], only: str | None,
        locale: str,
    ) -> None:  # fmt: skip
        self.skills, self.agents, self.queues, self.only, self.locale = skills, agents, queues, only, locale


def _steering(now: Steering | None, names: _Names) -> SteeringView | None:
    if now is None:
        return None
    return SteeringView(
        priority=now.priority or PRIORITY,
        requirement=write(now.asks or ANYONE, names.skills),
        preferred=list(now.preferred or ()),
        excluded=list(now.excluded or ()),
    )


def _segment(segments: Sequence[SegmentRow], number: int) -> SegmentRow | None:
    return next((segment for segment in segments if segment.number == number), None)


def _decision(
    why: Mapping[str, Any], names: _Names, event: EventRow | None, segment: SegmentRow | None
) -> DecisionView:
    agent_id = str(event.body["agent_id"]) if event is not None else None
    queue_id = str(why.get("queue_id") or (segment.queue_id if segment is not None else ""))
    requirement = _requirement(why, names)
    shown = [candidate for candidate in why.get("candidates", ()) if isinstance(candidate, Mapping)]
    view = DecisionView(
        at=int(why.get("at") or (event.at if event is not None else 0)),
        queue_id=queue_id,
        queue_name=names.queues.get(queue_id, ""),
        strategy=str(why.get("strategy", Strategy.LONGEST_IDLE.value)),
        requirement=requirement,
        step=int(why.get("step", 0)),
        waited_ms=int(why.get("waited_ms", 0)),
        priority=int(why.get("priority", 0)),
        weight=int(why.get("weight", 0)),
        agent_id=agent_id,
        agent_name=str(event.body["agent_name"]) if event is not None else None,
        outcome=_outcome(segment),
        candidates=[_candidate(c, names) for c in shown if names.only in (None, c.get("agent_id"))],
        others={str(reason): int(count) for reason, count in dict(why.get("others", {})).items()},
        words=[],
    )
    counts, ringing = _counts(shown, view.others), int(why.get("ringing", 0))
    counts["ringing"] = max(0, counts.get("ringing", 0) - ringing)  # those for whom it rings are asked
    told = Told(
        agent=view.agent_name,
        strategy=view.strategy,
        requirement=requirement,
        step=view.step,
        waited_ms=view.waited_ms,
        counts=counts,
        sticky=bool(why.get("sticky")),
        ringing=ringing,
        held=bool(why.get("held")),
        place=why.get("place"),
        handed_over_by=str(event.body.get("handed_over_by") or "") if event is not None else "",
    )
    return view.model_copy(update={"words": words(told, names.locale)})


def _requirement(why: Mapping[str, Any], names: _Names) -> str:
    try:
        return write(from_json(why["asked"]), names.skills)
    except (KeyError, ValueError):  # of before requirements, or written by a newer version
        return ""


def _candidate(candidate: Mapping[str, Any], names: _Names) -> CandidateView:
    agent_id = str(candidate.get("agent_id", ""))
    score = candidate.get("score")
    return CandidateView(
        agent_id=agent_id,
        agent_name=names.agents.get(agent_id, ""),
        verdict=str(candidate.get("verdict", "")),
        score=None if score is None else float(score),
        idle_ms=int(candidate.get("idle_ms", 0)),
    )


def _outcome(segment: SegmentRow | None) -> str | None:
    if segment is None:
        return None
    return "answered" if segment.talk_started_at is not None else segment.end_reason


def _counts(shown: Sequence[Mapping[str, Any]], others: Mapping[str, int]) -> dict[str, int]:
    counts = dict(others)
    for candidate in shown:
        verdict = str(candidate.get("verdict", ""))
        if verdict != "chosen":
            counts[verdict] = counts.get(verdict, 0) + 1
    return counts


ENDPOINTS: Endpoints = (
    Endpoint(
        "GET",
        "/sessions/{session_id}/routing",
        "Why this agent, and why nobody yet",
        STAFF,
        read_routing,
        answer=RoutingView,
        codes=("not_found",),
    ),
    Endpoint(
        "PATCH",
        "/sessions/{session_id}/routing",
        "Say who is to get a session that waits, and how soon",
        SUPERVISORS,
        steer_session,
        body=SteerSession,
        answer=RoutingView,
        codes=("not_found", "not_waiting", "changed_meanwhile"),
    ),
)
