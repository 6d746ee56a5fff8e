"""Whether agents' tabs live: the rows are made to say what the sockets show.

Nothing here reacts to a single event: `settle` compares the row with the sockets of this moment, one at a time for
each agent, so a disconnection that is saved late can't overrule the connection that followed it. What a fault left
undone is found by the next look. An offer that rings in a tab that stays away is withdrawn.

The node that holds an agent's newest tab says whether it lives. A tab whose node is dead is dead: any node says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from server.domain import agent as ag
from server.domain.agent import Agent, ContactState
from server.domain.machine import Refused, Stale
from server.services.nodes import Nodes
from server.services.ports import Clock, Conflict, Connection, StepStore, StorageUnavailable
from server.services.sessions import SessionService
from server.services.stepper import Stepper

log = structlog.get_logger()
LOOK_S = 1.0
VANISH_MS = 3_000  # a reload takes about a second: an offer that rings meanwhile stays where it is

IsLive = Callable[[str], bool]


class Presence:
    """Asks the database whose tab is where; `is_live(user_id)` tells whether a tab on this node answers pings."""

    def __init__(
        self, store: StepStore, stepper: Stepper, sessions: SessionService, clock: Clock, nodes: Nodes, is_live: IsLive
    ) -> None:
        self._store = store
        self._stepper = stepper
        self._sessions = sessions
        self._clock = clock
        self._nodes = nodes
        self._is_live = is_live
        self._locks: dict[str, asyncio.Lock] = {}

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except StorageUnavailable as error:
                log.warning("presence_postponed", error=str(error))

    async def look(self) -> None:
        """Mend every row that differs from the sockets, and withdraw what rings in an empty chair."""
        for seen in await self._store.seen_agents(self._nodes.node_id, self._clock.now_ms()):
            try:
                await self._mend(seen.agent, here=self._is_here(seen.connection))
            except StorageUnavailable:
                raise
            except Exception:  # one agent's failure is its own: the others' tabs come and go
                log.exception("presence_failed", user_id=seen.agent.user_id)

    async def _mend(self, agent: Agent, *, here: bool) -> None:
        if not here and not (self._nodes.sure and self._nodes.mine(agent.user_id)):
            return
        if agent.live != (here and self._is_live(agent.user_id)):
            await self.settle(agent.tenant, agent.user_id)
        elif (not agent.live or agent.fault) and agent.contacts:
            await self._withdraw(agent)

    async def settle(self, tenant: str, user_id: str) -> None:
        """Make the agent's row say whether the newest tab lives now, unless another node is to say it. Makes the row
        where there is none."""
        async with self._locks.setdefault(user_id, asyncio.Lock()):
            try:
                rows = await self._store.persons([user_id])
                connection = rows[0].connection if rows else None
                here = self._is_here(connection)
                if connection is not None and not here and connection.node_id in self._nodes.living:
                    return
                event = ag.WentLive() if here and self._is_live(user_id) else ag.WentDead()
                await self._stepper.apply_agent(tenant, user_id, event, create=True)
            except (Stale, Refused):
                return
            except (StorageUnavailable, Conflict) as error:  # the next look tries again
                log.warning("presence_postponed", user_id=user_id, error=str(error))

    def _is_here(self, connection: Connection | None) -> bool:
        return connection is not None and connection.node_id == self._nodes.node_id

    async def _withdraw(self, agent: Agent) -> None:
        """A tab that says itself that it can't answer has no grace."""
        gone = agent.dead_since is not None and self._clock.now_ms() - agent.dead_since >= VANISH_MS
        if not gone and agent.fault is None:
            return
        for contact in agent.contacts:
            if contact.state is ContactState.RINGING:
                with suppress(Stale, Refused, StorageUnavailable, Conflict):
                    await self._sessions.vanish(contact.session_id, contact.segment_id, agent.user_id)
