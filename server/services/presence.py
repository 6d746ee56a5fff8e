"""Whether agents' tabs live: the rows are made to say what the sockets show.

Nothing here reacts to a single event: `settle` compares the row with the sockets of this moment, one at a time for
each agent, so a disconnection that is saved late can't overrule the connection that followed it. What a fault left
undone is found by the next look. An offer that rings in a tab that stays away is withdrawn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from server.domain import agent as ag
from server.domain.agent import Agent, ContactState
from server.domain.machine import Refused, Stale
from server.services.ports import Clock, Commit, Conflict, StepStore, StorageUnavailable
from server.services.sessions import SessionService
from server.services.stepper import Stepper

log = structlog.get_logger()
LOOK_S = 1.0
VANISH_MS = 3_000  # a reload takes about a second: an offer that rings meanwhile stays where it is

IsLive = Callable[[str], bool]


class Presence:
    """`CommitListener`. `is_live(user_id)` tells whether the agent's tab is connected here and answers pings."""

    def __init__(
        self, store: StepStore, stepper: Stepper, sessions: SessionService, clock: Clock, is_live: IsLive
    ) -> None:
        self._store = store
        self._stepper = stepper
        self._sessions = sessions
        self._clock = clock
        self._is_live = is_live
        self._known: dict[str, Agent] = {}  # as last committed
        self._locks: dict[str, asyncio.Lock] = {}

    def on_commit(self, commit: Commit) -> None:
        for save in commit.agents:
            self._known[save.after.user_id] = save.after

    async def start(self) -> None:
        """Take in the rows; no tab is connected to this process yet."""
        for agent in await self._store.agents():
            self._known[agent.user_id] = agent
        await self.look()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Mend every row that differs from the sockets, and withdraw what rings in an empty chair."""
        for agent in list(self._known.values()):
            if agent.live != self._is_live(agent.user_id):
                await self.settle(agent.tenant, agent.user_id)
            elif not agent.live and agent.contacts:
                await self._withdraw(agent)

    async def settle(self, tenant: str, user_id: str) -> None:
        """Make the agent's row say whether the tab lives now. Makes the row where there is none."""
        async with self._locks.setdefault(user_id, asyncio.Lock()):
            event = ag.WentLive() if self._is_live(user_id) else ag.WentDead()
            try:
                await self._stepper.apply_agent(tenant, user_id, event, create=True)
            except (Stale, Refused):
                return
            except (StorageUnavailable, Conflict) as error:  # the next look tries again
                log.warning("presence_postponed", user_id=user_id, error=str(error))

    async def _withdraw(self, agent: Agent) -> None:
        if agent.dead_since is None or self._clock.now_ms() - agent.dead_since < VANISH_MS:
            return
        for contact in agent.contacts:
            if contact.state is ContactState.RINGING:
                with suppress(Stale, Refused, StorageUnavailable, Conflict):
                    await self._sessions.vanish(contact.session_id, contact.segment_id, agent.user_id)
