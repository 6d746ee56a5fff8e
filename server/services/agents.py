"""What agents choose, and the contacts they hold."""

from __future__ import annotations

from contextlib import suppress

from server.domain import agent as ag
from server.domain.agent import Agent, Chosen, ContactState, Fault
from server.domain.directory import AuthedUser
from server.domain.events import AgentVanished
from server.domain.machine import Refused, Stale
from server.domain.session import Session
from server.services.admin_ports import Directory
from server.services.ports import StepStore
from server.services.stepper import Stepper


class AgentService:
    def __init__(self, store: StepStore, stepper: Stepper, directory: Directory) -> None:
        self._store = store
        self._stepper = stepper
        self._directory = directory

    async def choose(self, user: AuthedUser, state: str, reason_id: str | None) -> Agent:
        """Raises Refused(reason_required, unknown_reason)."""
        chosen = Chosen(state)
        if chosen is not Chosen.BREAK:
            reason_id = None
        elif reason_id is not None and reason_id not in await self._directory.break_reason_ids(user.tenant):
            raise Refused("unknown_reason")
        return await self._stepper.apply_agent(
            user.tenant, user.user_id, ag.StateChosen(chosen, reason_id), create=True
        )

    async def equip(self, user: AuthedUser, fault: str | None) -> Agent:
        """What the agent's tab says of its microphone and media. What rings in a tab that can't answer is withdrawn at
        once, without blame."""
        said = ag.EquipmentChanged(Fault(fault) if fault is not None else None)
        agent = await self._stepper.apply_agent(user.tenant, user.user_id, said, create=True)
        for contact in agent.contacts if agent.fault else ():
            if contact.state is ContactState.RINGING:
                with suppress(Stale):
                    await self._stepper.apply(contact.session_id, AgentVanished(contact.segment_id, user.user_id))
        return agent

    async def take_capacity(self, tenant: str, user_id: str) -> None:
        """Make the agent's row say what the user's record says; somebody who was never an agent has no row yet."""
        agent = await self._store.agent(user_id)
        profile = await self._directory.agent(tenant, user_id)
        if agent is None or profile is None or agent.tenant != tenant or agent.capacity == profile.capacity:
            return
        with suppress(Stale):
            await self._stepper.apply_agent(tenant, user_id, ag.CapacityChanged(profile.capacity))

    async def agent(self, user: AuthedUser) -> Agent:
        """The agent's row, made at the first time."""
        found = await self._store.agent(user.user_id)
        if found is None:
            return await self._stepper.apply_agent(user.tenant, user.user_id, create=True)
        return found

    async def contacts(self, user: AuthedUser) -> list[tuple[Session, str]]:
        """(session, segment id) of each contact that the agent holds."""
        agent = await self.agent(user)
        found = []
        for contact in agent.contacts:
            session = await self._store.session(contact.session_id)
            if session is not None:
                found.append((session, contact.segment_id))
        return found
