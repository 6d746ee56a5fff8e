"""Agents: what they choose, and whether their tab lives."""

from __future__ import annotations

import asyncio

import structlog

from server.domain import agent as ag
from server.domain.agent import Agent, Chosen, ContactState
from server.domain.directory import AuthedUser
from server.domain.machine import Refused, Stale
from server.domain.session import Session
from server.services.admin_ports import Directory
from server.services.ports import StepStore, StorageUnavailable
from server.services.sessions import SessionService
from server.services.stepper import Stepper

log = structlog.get_logger()
VANISH_S = 3.0  # a reload takes about a second: an offer that rings meanwhile stays where it is


class AgentService:
    """`group` is the parent of the timers that withdraw an offer from a tab that died while it rang."""

    def __init__(
        self,
        store: StepStore,
        stepper: Stepper,
        directory: Directory,
        sessions: SessionService,
        group: asyncio.TaskGroup,
    ) -> None:
        self._store = store
        self._stepper = stepper
        self._directory = directory
        self._sessions = sessions
        self._group = group
        self._vanishing: dict[str, asyncio.Task[None]] = {}

    async def came_live(self, user: AuthedUser) -> Agent:
        """The agent's tab is connected. Makes the agent's row at the first time."""
        timer = self._vanishing.pop(user.user_id, None)
        if timer is not None:
            timer.cancel()
        try:
            return await self._stepper.apply_agent(user.tenant, user.user_id, ag.WentLive(), create=True)
        except Stale:
            return await self.agent(user)

    async def went_dead(self, tenant: str, user_id: str) -> None:
        """The tab is gone: no new offer from now; what rings is withdrawn after VANISH_S."""
        try:
            await self._stepper.apply_agent(tenant, user_id, ag.WentDead())
        except (Stale, Refused):
            return
        except StorageUnavailable as error:
            log.warning("agent_dead_postponed", user_id=user_id, error=str(error))
        if user_id not in self._vanishing:
            self._vanishing[user_id] = self._group.create_task(self._vanish(tenant, user_id), name=f"vanish {user_id}")

    async def all_dead(self) -> None:
        """After a start: no tab is connected to this process yet."""
        for agent in await self._store.agents():
            if agent.live:
                await self.went_dead(agent.tenant, agent.user_id)

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

    async def agent(self, user: AuthedUser) -> Agent:
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

    async def _vanish(self, tenant: str, user_id: str) -> None:
        """Withdraw what rings, unless the tab is back by then (that cancels this task)."""
        while True:
            await asyncio.sleep(VANISH_S)
            try:
                await self._stepper.apply_agent(tenant, user_id, ag.WentDead())
            except (Stale, Refused):
                pass  # as a rule: it was said when it happened
            except StorageUnavailable:
                continue
            except Exception:  # a boundary: a timer's failure is its own
                log.exception("vanish_failed", user_id=user_id)
            break
        self._vanishing.pop(user_id, None)
        try:
            agent = await self._store.agent(user_id)
            for contact in agent.contacts if agent is not None and not agent.live else ():
                if contact.state is ContactState.RINGING:
                    await self._sessions.vanish(contact.session_id, contact.segment_id, user_id)
        except Exception:
            log.exception("vanish_failed", user_id=user_id)
