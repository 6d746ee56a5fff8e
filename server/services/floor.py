"""What supervisors see of their agents, and the states that they put them into."""

from __future__ import annotations

import structlog

from server.domain import machine
from server.domain.administration import AuditEntry
from server.domain.agent import Agent, Chosen, StateForced
from server.domain.directory import AuthedUser
from server.domain.floor import FloorAgent, FloorFilter
from server.ids import new_id
from server.services.admin_ports import AdminRepository, Directory, Floor
from server.services.ports import Clock, Conflict, StorageUnavailable
from server.services.refusals import Refused, invalid, not_found
from server.services.stepper import Stepper

log = structlog.get_logger()


class FloorService:
    def __init__(
        self, floor: Floor, stepper: Stepper, directory: Directory, repository: AdminRepository, clock: Clock
    ) -> None:
        self._floor = floor
        self._stepper = stepper
        self._directory = directory
        self._repository = repository
        self._clock = clock

    async def agents(self, actor: AuthedUser, wanted: FloorFilter, limit: int, offset: int) -> tuple[FloorAgent, ...]:
        return await self._floor.agents(actor.tenant, wanted, limit, offset)

    async def force(self, actor: AuthedUser, user_id: str, state: Chosen, reason_id: str | None) -> Agent:
        """Choose for an agent: at once, or after the contacts that are held.

        Raises Refused: not_found, agent_away, invalid (reason_id), changed_meanwhile."""
        profile = await self._directory.agent(actor.tenant, user_id)
        if profile is None or not profile.active:
            raise not_found("agent")
        if state is not Chosen.BREAK:
            reason_id = None
        elif reason_id is None:
            raise invalid("reason_id", "reason_required", "a break has a reason")
        elif reason_id not in await self._directory.break_reason_ids(actor.tenant):
            raise invalid("reason_id", "unknown_reason", "no such active break reason")
        forced = StateForced(state, reason_id, actor.user_id, actor.name)
        try:
            agent = await self._stepper.apply_agent(actor.tenant, user_id, forced, create=True)
        except machine.Refused as refusal:
            raise Refused(refusal.code, "this agent has no console open") from None
        except Conflict:
            raise Refused("changed_meanwhile", "others changed this agent at the same time; try again") from None
        await self._audit(actor, user_id, {"state": state.value, "reason_id": reason_id})
        return agent

    async def _audit(self, actor: AuthedUser, user_id: str, detail: dict[str, object]) -> None:
        """The agent's own log tells it already, in the step's transaction: a line that fails here is not worth telling
        the supervisor that nothing was done."""
        entry = AuditEntry(
            new_id("aud"), actor.tenant, self._clock.now_ms(), actor.user_id, "state_forced", "user", user_id, detail
        )
        try:
            async with self._repository.writing() as transaction:
                await transaction.audit(entry)
        except StorageUnavailable as error:
            log.error("audit_line_lost", action=entry.action, user_id=user_id, error=str(error))
