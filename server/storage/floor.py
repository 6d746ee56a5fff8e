"""The floor from the database: one page of agents, then what these hold, both by index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from server.domain.agent import Agent, AgentState, ContactState
from server.domain.directory import Role
from server.domain.floor import FloorAgent, FloorContact, FloorFilter, FloorNext
from server.storage import codec
from server.storage.admin_repository import QUEUE, USER
from server.storage.faults import translated
from server.storage.runtime_tables import agent, segment, session


class StoredFloor:
    """`Floor` over a database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def agents(self, tenant: str, wanted: FloorFilter, limit: int, offset: int) -> tuple[FloorAgent, ...]:
        """By name. Raises StorageUnavailable."""
        state = sa.func.coalesce(agent.c.state, AgentState.OFFLINE.value)
        on_duty = state != AgentState.OFFLINE.value
        query = (
            sa.select(USER.c.id, USER.c.name, agent.c.body)
            .select_from(USER.outerjoin(agent, agent.c.user_id == USER.c.id))
            .where(USER.c.tenant == tenant, USER.c.active)
            # Admins and supervisors may take calls; those who do not are no agents.
            .where(on_duty if wanted.on_duty else sa.or_(USER.c.role == Role.AGENT.value, on_duty))
            .order_by(sa.func.lower(USER.c.name), USER.c.id)
            .limit(limit)
            .offset(offset)
        )
        if wanted.text:
            query = query.where(sa.func.lower(USER.c.name).contains(wanted.text.lower(), autoescape=True))
        with translated():
            async with self._engine.connect() as connection:
                found = [
                    (user_id, name, codec.AGENT.validate_python(body) if body is not None else None)
                    for user_id, name, body in (await connection.execute(query)).all()
                ]
                details = await _details(connection, [row for _, _, row in found if row is not None])
        return tuple(_shown(user_id, name, row, details) for user_id, name, row in found)


async def _details(connection: AsyncConnection, agents: Sequence[Agent]) -> Mapping[str, Any]:
    """The rows of the segments that agents hold, by id."""
    ids = [contact.segment_id for row in agents for contact in row.contacts]
    if not ids:
        return {}
    query = (
        sa.select(
            segment.c.id,
            segment.c.offered_at,
            segment.c.accepted_at,
            segment.c.talk_ended_at,
            session.c.customer_name,
            QUEUE.c.name.label("queue_name"),
        )
        .select_from(segment.join(session, session.c.id == segment.c.session_id))
        .outerjoin(QUEUE, QUEUE.c.id == segment.c.queue_id)
        .where(segment.c.id.in_(ids))
    )
    return {row.id: row for row in (await connection.execute(query)).all()}


def _shown(user_id: str, name: str, row: Agent | None, details: Mapping[str, Any]) -> FloorAgent:
    if row is None:
        return FloorAgent(user_id, name, AgentState.OFFLINE, None, None, False, None, None, None, ())
    contacts = []
    for contact in row.contacts:
        detail = details.get(contact.segment_id)
        if detail is None:  # it ended between the two queries
            continue
        since = {
            ContactState.RINGING: detail.offered_at,
            ContactState.ON_CONTACT: detail.accepted_at or detail.offered_at,
            ContactState.WRAP_UP: detail.talk_ended_at or detail.offered_at,
        }[contact.state]
        contacts.append(
            FloorContact(
                session_id=contact.session_id,
                segment_id=contact.segment_id,
                channel=contact.channel,
                state=contact.state,
                queue_name=detail.queue_name or "",
                customer_name=detail.customer_name,
                since=since,
            )
        )
    chosen = row.next_state
    return FloorAgent(
        user_id=user_id,
        name=name,
        state=row.state,
        reason_id=row.reason_id,
        since=row.since,
        live=row.live,
        fault=row.fault,
        forced_by=row.forced_by,
        next_state=FloorNext(chosen.chosen, chosen.reason_id, chosen.forced_by) if chosen is not None else None,
        contacts=tuple(contacts),
    )
