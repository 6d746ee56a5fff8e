"""Supervisors in a call: they listen, coach, barge in, take over. By role, and each begin, change and take-over is
audited, beside the session's own log."""

from __future__ import annotations

import structlog

from server.domain import events as ev
from server.domain.administration import AuditEntry
from server.domain.directory import AuthedUser, Role
from server.domain.machine import Refused
from server.domain.segment import Monitor
from server.domain.session import Session
from server.ids import new_id
from server.services.admin_ports import AdminRepository
from server.services.ports import Clock, StepStore, StorageUnavailable
from server.services.stepper import Stepper

log = structlog.get_logger()
MAY = frozenset({Role.SUPERVISOR, Role.ADMIN})


class SupervisionService:
    """Each raises Refused (forbidden, not_in_call and those that are named), Stale, Conflict, StorageUnavailable."""

    def __init__(self, store: StepStore, stepper: Stepper, repository: AdminRepository, clock: Clock) -> None:
        self._store = store
        self._stepper = stepper
        self._repository = repository
        self._clock = clock

    async def begin(self, user: AuthedUser, session_id: str) -> Session:
        """Listen to a talk. Raises Refused: takes_part_already, too_many_take_part, agent_unavailable (in a call of
        their own)."""
        session = await self._apply(user, session_id, ev.SupervisionBegun(user.user_id, user.name))
        await self._audit(user, session_id, "supervision_begun")
        return session

    async def change(self, user: AuthedUser, session_id: str, segment_id: str, monitor: Monitor) -> None:
        await self._apply(user, session_id, ev.SupervisionChanged(segment_id, user.user_id, monitor.value))
        await self._audit(user, session_id, f"supervision_{monitor.value}")

    async def take_over(self, user: AuthedUser, session_id: str, segment_id: str) -> None:
        await self._apply(user, session_id, ev.SupervisorTookOver(segment_id, user.user_id))
        await self._audit(user, session_id, "supervision_taken_over")

    async def _apply(self, user: AuthedUser, session_id: str, event: ev.Event) -> Session:
        if user.role not in MAY:
            raise Refused("forbidden")
        session = await self._store.session(session_id)
        if session is None or session.tenant != user.tenant:
            raise Refused("not_in_call")  # as of one that is over: ids can't be probed
        return await self._stepper.apply(session_id, event)

    async def _audit(self, user: AuthedUser, session_id: str, action: str) -> None:
        """The session's log tells it already, in the step's transaction: a line that fails here loses nothing."""
        entry = AuditEntry(
            new_id("aud"), user.tenant, self._clock.now_ms(), user.user_id, action, "session", session_id, {}
        )
        try:
            async with self._repository.writing() as transaction:
                await transaction.audit(entry)
        except StorageUnavailable as error:
            log.error("audit_line_lost", action=action, session_id=session_id, error=str(error))
