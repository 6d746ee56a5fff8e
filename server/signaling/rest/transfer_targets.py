"""/transfer-targets: whom and what a call can be handed over to."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from server.signaling.access import STAFF
from server.signaling.rest.endpoint import Call, Endpoint, Endpoints, Nothing
from server.signaling.rest.models import RestModel


class TargetQuery(RestModel):
    """`q` is part of a name."""

    q: Annotated[str, Field(max_length=100)] | None = None


class TargetAgentView(RestModel):
    """`free`: takes a call now."""

    user_id: str
    name: str
    state: str
    free: bool


class TargetQueueView(RestModel):
    """`open`: within its hours."""

    queue_id: str
    name: str
    waiting: int
    open: bool


class TargetsView(RestModel):
    """Agents on duty, the free ones first, and active queues: at most 50 each."""

    agents: list[TargetAgentView]
    queues: list[TargetQueueView]


async def list_targets(call: Call[Nothing, TargetQuery]) -> TargetsView:
    found = await call.deps.targets.find(call.user, call.query.q)
    return TargetsView.model_validate(found, from_attributes=True)


ENDPOINTS: Endpoints = (
    Endpoint(
        "GET",
        "/transfer-targets",
        "List whom and what a call can be handed over to",
        STAFF,
        list_targets,
        query=TargetQuery,
        answer=TargetsView,
    ),
)
