"""/agents: who does what now, and the states that supervisors put agents into."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from server.domain import floor as now
from server.domain.agent import Agent, Chosen
from server.services.refusals import Refused
from server.signaling.access import SUPERVISORS
from server.signaling.rest.endpoint import Call, Endpoint, Endpoints, Nothing
from server.signaling.rest.models import Id, Page, PageQuery, RestModel, cursor_of, read_cursor

LAST_OFFSET = 100_000  # twice the greatest center; a cursor past it is nobody's


class AgentQuery(PageQuery):
    """`q` is part of a name; `on_duty` leaves out who is offline."""

    q: Annotated[str, Field(max_length=100)] | None = None
    on_duty: bool = False


class HeldContact(RestModel):
    """`state` is ringing, on_contact or wrap_up, since `since`."""

    session_id: str
    segment_id: str
    channel: str
    state: str
    queue_name: str
    customer_name: str
    since: int


class ChosenNext(RestModel):
    state: Chosen
    reason_id: str | None
    forced_by: str | None


class AgentNow(RestModel):
    """`since` is null for somebody who was never here. `live`: their console answers; `fault`: and can't take calls
    (no_microphone, microphone_muted, no_media). `forced_by` is the name of the supervisor who chose the state."""

    user_id: str
    name: str
    state: str
    reason_id: str | None
    since: int | None
    live: bool
    fault: str | None
    forced_by: str | None
    next_state: ChosenNext | None
    contacts: list[HeldContact]


class AgentsNow(Page[AgentNow]):
    """`at` is the server's time: how long something has lasted is the difference to it."""

    at: int


class ForceState(RestModel):
    """`reason_id` is wanted for a break and ignored otherwise. During a contact it becomes the next state."""

    state: Chosen
    reason_id: Id | None = None


class ForcedState(RestModel):
    user_id: str
    state: str
    next_state: ChosenNext | None


def _shown(agent: now.FloorAgent) -> AgentNow:
    return AgentNow.model_validate(agent, from_attributes=True)


def _forced(agent: Agent) -> ForcedState:
    chosen = agent.next_state
    later = None
    if chosen is not None:
        later = ChosenNext(state=chosen.chosen, reason_id=chosen.reason_id, forced_by=chosen.forced_by)
    return ForcedState(user_id=agent.user_id, state=agent.state, next_state=later)


async def list_agents(call: Call[Nothing, AgentQuery]) -> AgentsNow:
    query = call.query
    offset, _ = read_cursor(query.cursor) or (0, "")
    if offset > LAST_OFFSET:
        raise Refused("invalid", "this cursor is not one of ours")
    wanted = now.FloorFilter(query.q, query.on_duty)
    found = await call.deps.floor.agents(call.user, wanted, query.limit + 1, offset)
    more = cursor_of(offset + query.limit, "") if len(found) > query.limit else None
    shown = [_shown(agent) for agent in found[: query.limit]]
    return AgentsNow(items=shown, next=more, at=call.deps.clock.now_ms())


async def force_state(call: Call[ForceState, Nothing]) -> ForcedState:
    body = call.body
    return _forced(await call.deps.floor.force(call.user, call.part("user_id"), body.state, body.reason_id))


ENDPOINTS: Endpoints = (
    Endpoint(
        "GET", "/agents", "List agents as they are now, by name", SUPERVISORS, list_agents, query=AgentQuery,
        answer=AgentsNow,
    ),
    Endpoint(
        "POST",
        "/agents/{user_id}/state",
        "Put an agent into a state, at once or after the contacts that are held",
        SUPERVISORS,
        force_state,
        body=ForceState,
        answer=ForcedState,
        codes=("not_found", "agent_away", "changed_meanwhile"),
    ),
)  # fmt: skip
