"""The floor from the database: one page of agents, then what these hold, both by index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from server.domain.agent import Agent, AgentState, ContactState
from server.domain.directory import Role
from server.domain.floor import FloorAgent, FloorContact, FloorFilter, FloorNext
from server.services.ports import Unreadable
from server.storage import readable
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
            # The body as text: one that can't be read is told by its columns, and takes no other with it.
            sa.select(USER.c.id, USER.c.name, agent.c.state, agent.c.live, sa.cast(agent.c.body, sa.Text))
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
                rows = (await connection.execute(query)).all()
                read = {user_id: one for user_id, *_, body in rows if (one := _read(user_id, body)) is not None}
                details = await _details(connection, list(read.values()))
        return tuple(
            _shown(user_id, name, read[user_id], details) if user_id in read else _outline(user_id, name, state, live)
            for user_id, name, state, live, _ in rows
        )


def _read(user_id: str, body: str | None) -> Agent | None:
    try:
        return readable.agent(user_id, body) if body is not None else None
    except Unreadable:
        return None


def _outline(user_id: str, name: str, state: str | None, live: bool | None) -> FloorAgent:
    """Somebody who was never here, or whose row this version can't read."""
    return FloorAgent(user_id, name, state or AgentState.OFFLINE, None, None, bool(live), None, None, None, ())


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


def _shown(user_id: str, name: str, row: Agent, details: Mapping[str, Any]) -> FloorAgent:
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
