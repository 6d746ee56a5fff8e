"""Turns deadlines that have passed into events. The rows are durable, so any node may sweep them; the local timer only
makes it prompt. Each deadline has a node that goes first; the others take what it left."""

from __future__ import annotations

import asyncio

import structlog

from server.domain.agent import AgentDeadlinePassed, agent_deadlines
from server.domain.deadlines import deadlines
from server.domain.events import DeadlinePassed
from server.domain.machine import Refused, Stale
from server.services.nodes import Nodes
from server.services.ports import Clock, Commit, Conflict, DueDeadline, StepStore, StorageUnavailable
from server.services.stepper import Stepper

log = structlog.get_logger()
SWEEP_S = 0.5
PAGE = 200
AFTER_FAULT_MS = 30_000
LEFT_MS = 400  # a deadline that is overdue by this is anybody's


class DeadlineSweep:
    def __init__(self, store: StepStore, stepper: Stepper, clock: Clock, nodes: Nodes) -> None:
        self._store = store
        self._stepper = stepper
        self._clock = clock
        self._nodes = nodes
        self._next_at = 0  # until when nothing was due at the last sweep
        self._woken = asyncio.Event()
        self._failed: dict[DueDeadline, int] = {}  # until when it is left alone

    def on_commit(self, commit: Commit) -> None:
        due = [d.at for save in commit.sessions for d in deadlines(save.after)]
        due += [d.at for saved in commit.agents for d in agent_deadlines(saved.after)]
        if due and min(due) < self._next_at:
            self._woken.set()

    async def run(self) -> None:
        """Sweep for ever: at the next deadline, and at least every SWEEP_S."""
        while True:
            self._woken.clear()
            wait_s = SWEEP_S
            try:
                taken = await self.sweep()
                next_at = await self._store.next_deadline()
                # A deadline that is due and can't take effect waits like everything else: no spinning on it.
                if next_at is not None and (taken or next_at > self._clock.now_ms()):
                    wait_s = min(SWEEP_S, max(0.005, (next_at - self._clock.now_ms()) / 1000))
                self._next_at = self._clock.now_ms() + round(wait_s * 1000)
            except StorageUnavailable as error:
                log.error("deadline_sweep_failed", error=str(error))
            try:
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def sweep(self) -> int:
        """Post every deadline that is due and this node's to post; returns how many took effect. One that failed is
        left alone for a while, and hides no newer one."""
        now = self._clock.now_ms()
        self._failed = {due: until for due, until in self._failed.items() if until > now}
        taken = 0
        for due in await self._store.due(now, limit=PAGE + len(self._failed)):
            if due in self._failed or not (self._nodes.mine(due.owner_id) or due.deadline.at <= now - LEFT_MS):
                continue
            try:
                await self._post(due)
                taken += 1
            except (Stale, Refused):  # it may be a row that an older version did not know, and left behind
                self._failed[due] = now + AFTER_FAULT_MS
            except Conflict:
                continue
            except StorageUnavailable:
                raise
            except Exception:  # one broken row must not stop everybody's deadlines
                owner = "agent_id" if due.owner_id.startswith("usr_") else "session_id"
                log.exception("deadline_failed", kind=due.deadline.kind, **{owner: due.owner_id})
                self._failed[due] = now + AFTER_FAULT_MS
        return taken

    async def _post(self, due: DueDeadline) -> None:
        kind, key, at = due.deadline.kind, due.deadline.key, due.deadline.at
        if due.owner_id.startswith("usr_"):
            await self._stepper.apply_agent(due.tenant, due.owner_id, AgentDeadlinePassed(kind, at))
        else:
            await self._stepper.apply(due.owner_id, DeadlinePassed(kind, key, at))
