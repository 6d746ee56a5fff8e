"""Passing values for agents: the parked calls that each may fetch."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from server.services.admin_ports import Directory
from server.services.call_control import may_fetch
from server.services.ports import Commit, StepStore, StorageUnavailable
from server.signaling import protocol as wire
from server.signaling.hub import Hub
from server.signaling.views import parked_view

log = structlog.get_logger()
LOOK_S = 1.0  # what another node parks is seen by then; what is parked here at once


class ParkedViews:
    """`CommitListener` that reads the parked calls of every tenant that has people here, and sends what changed."""

    def __init__(self, hub: Hub, store: StepStore, directory: Directory) -> None:
        self._hub = hub
        self._store = store
        self._directory = directory
        self._changed = asyncio.Event()
        self._shown: set[str] = set()  # tenants that had parked calls at the last look

    def on_commit(self, commit: Commit) -> None:
        if any(save.after.parked or (save.before is not None and save.before.parked) for save in commit.sessions):
            self._changed.set()

    async def run(self) -> None:
        """Tell, for ever."""
        while True:
            self._changed.clear()
            try:
                for tenant in self._hub.tenants():
                    await self._tell(tenant)
            except StorageUnavailable as error:
                log.warning("parked_calls_postponed", error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._changed.wait()

    async def _tell(self, tenant: str) -> None:
        parked = [session for session in await self._store.parked(tenant) if session.owner is None]
        if not parked and tenant not in self._shown:
            return
        (self._shown.add if parked else self._shown.discard)(tenant)
        profiles = [await self._directory.agent(tenant, person_id) for person_id in self._hub.persons(tenant)]
        agents = [profile for profile in profiles if profile is not None]
        queues = {queue.queue_id: queue for queue in await self._directory.queues(tenant)}
        for agent in agents:
            mine = [s for s in parked if may_fetch(s, queues.get(s.queue.queue_id), agent)]
            told = wire.ParkedChanged(calls=[parked_view(session) for session in mine])
            # Nothing is no news to who was told nothing; a tab of before there was parking does not know the word.
            if mine or self._hub.has_told(agent.user_id, told.type):
                self._hub.send_live(agent.user_id, told.model_dump(mode="json"))
