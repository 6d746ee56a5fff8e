"""A supervisor says who is to get a session that waits, and how soon."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from server.domain import machine
from server.domain.directory import AuthedUser
from server.domain.events import RoutingChanged
from server.domain.requirements import ANYONE, Requirement, from_json, to_json
from server.domain.session import Session
from server.services.admin_ports import Directory
from server.services.ports import Conflict, StepStore, Unreadable
from server.services.refusals import Refused, invalid, not_found
from server.services.stepper import Stepper


@dataclass(frozen=True, slots=True)
class Steering:
    """What is to change; None leaves it as it is. `asks` is asked beside what the queue asks."""

    priority: int | None = None
    asks: Requirement | None = None
    preferred: tuple[str, ...] | None = None
    excluded: tuple[str, ...] | None = None


class SteeringService:
    def __init__(self, store: StepStore, stepper: Stepper, directory: Directory) -> None:
        self._store = store
        self._stepper = stepper
        self._directory = directory

    async def current(self, tenant: str, session_id: str) -> Steering | None:
        """Of a session that waits; None for any other, and for one that this version can't read."""
        try:
            session = await self._store.session(session_id)
        except Unreadable:
            return None
        if session is None or session.tenant != tenant or session.visit is None:
            return None
        asks = from_json(json.loads(session.asks)) if session.asks else None
        return Steering(session.priority, asks, session.preferred, session.excluded)

    async def change(self, actor: AuthedUser, session_id: str, wanted: Steering) -> Session:
        """Counts from the next offer on; what rings goes on. The session's own log tells who changed what.

        Raises Refused: not_found, not_waiting, invalid (an agent), changed_meanwhile."""
        await self._check_agents(actor.tenant, "preferred", wanted.preferred or ())
        await self._check_agents(actor.tenant, "excluded", wanted.excluded or ())
        before = await self._store.session(session_id)
        if before is None or before.tenant != actor.tenant:
            raise not_found("session")
        if before.visit is None:
            raise Refused("not_waiting", "this session waits for nobody")
        changed = RoutingChanged(
            priority=before.priority if wanted.priority is None else wanted.priority,
            asks=before.asks if wanted.asks is None else _stored(wanted.asks),
            preferred=before.preferred if wanted.preferred is None else wanted.preferred,
            excluded=before.excluded if wanted.excluded is None else wanted.excluded,
            changed_by=actor.user_id,
        )
        try:
            return await self._stepper.apply(session_id, changed)
        except machine.Stale as reason:
            if reason.code == "no_change":
                return before
            raise Refused("not_waiting", "this session waits for nobody") from None
        except Conflict:
            raise Refused("changed_meanwhile", "others changed this session at the same time; try again") from None

    async def _check_agents(self, tenant: str, field: str, ids: Sequence[str]) -> None:
        for index, user_id in enumerate(ids):
            profile = await self._directory.agent(tenant, user_id)
            if profile is None or not profile.active:
                raise invalid(f"{field}.{index}", "unknown_agent", "no such active user")


def _stored(asks: Requirement) -> str:
    return "" if asks == ANYONE else json.dumps(to_json(asks), separators=(",", ":"))
