"""Load, step, save with the version, commit, tell: the one way in which sessions and agents change.

A session has one writer at a time within the process (its mailbox); across processes the rows' versions decide
and the loser loads and steps again. What a session's step means for agents is stepped and saved in the same
transaction, so an agent is never over capacity and never holds a contact that is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import structlog

from server.domain import agent as ag
from server.domain.agent import Agent, AgentEvent, step_agent
from server.domain.effects import agent_events, former_orders, orders
from server.domain.events import Event, RecordingArchived
from server.domain.machine import Refused, Stale
from server.domain.session import Session
from server.domain.session_step import step
from server.probes import Work, note
from server.services.ports import (
    AgentSave,
    Clock,
    Commit,
    CommitListener,
    Conflict,
    OutboxKey,
    OutboxRow,
    Presenter,
    Push,
    Save,
    SessionSave,
    StepStore,
    StorageUnavailable,
)

log = structlog.get_logger()
MAX_ATTEMPTS = 20  # a version conflict each time means two nodes fight over one row; more tries won't help


class Stepper:
    """Applies events to sessions and agents. All changes of either go through here."""

    def __init__(
        self, store: StepStore, presenter: Presenter, clock: Clock, listeners: Sequence[CommitListener] = ()
    ) -> None:
        self._store = store
        self._presenter = presenter
        self._clock = clock
        self._listeners = list(listeners)
        self.on_doubt: Callable[[], None] = lambda: None  # a save's outcome is unknown
        self._mailboxes: dict[str, tuple[asyncio.Lock, int]] = {}

    def listen(self, listener: CommitListener) -> None:
        self._listeners.append(listener)

    async def apply(
        self, session_id: str, *events: Event, consumed: Sequence[OutboxKey] = (), skip_stale: bool = False
    ) -> Session:
        """Apply events to one session in one transaction; all of them or none.

        `skip_stale`: an event that is stale is left out instead of raised (the rest still counts).
        Raises Stale, Refused, IllegalTransition, Conflict, StorageUnavailable."""
        async with self._mailbox(session_id):
            with Work("step", session_id=session_id, events=_names(events)) as work:
                return await self._apply(work, session_id, events, consumed, skip_stale)

    async def _apply(
        self, work: Work, session_id: str, events: Sequence[Event], consumed: Sequence[OutboxKey], skip_stale: bool
    ) -> Session:
        for _ in range(MAX_ATTEMPTS):
            before = await self._store.session(session_id)
            now = self._clock.now_ms()
            save, after = await self._step(before, events, consumed, skip_stale, now)
            if save is None:
                assert after is not None  # a first event is never skipped as stale
                work.result = "unchanged"
                return after
            try:
                await self._commit(save)
            except Conflict:
                note("conflict")
                continue
            work.result = "saved"
            return save.sessions[0].after if save.sessions else after or save.sessions[0].after
        raise Conflict(f"session {session_id}: {MAX_ATTEMPTS} attempts lost")

    async def apply_agent(self, tenant: str, user_id: str, *events: AgentEvent, create: bool = False) -> Agent:
        """Apply events to one agent. `create` makes the row first where there is none.

        Raises Stale, Refused, Conflict, StorageUnavailable."""
        with Work("step", agent_id=user_id, events=_names(events)) as work:
            return await self._apply_agent(work, tenant, user_id, events, create)

    async def _apply_agent(
        self, work: Work, tenant: str, user_id: str, events: Sequence[AgentEvent], create: bool
    ) -> Agent:
        for _ in range(MAX_ATTEMPTS):
            before = await self._store.agent(user_id)
            now = self._clock.now_ms()
            all_events = (ag.AgentCreated(user_id, tenant), *events) if before is None and create else events
            if not all_events and before is not None:
                work.result = "unchanged"
                return before
            saved = _step_agent(before, all_events, now)
            pushes = tuple(self._presenter.agent_pushes(before, saved.after))
            try:
                await self._commit(Save(tenant, now, agents=(saved,), pushes=pushes))
            except Conflict:
                note("conflict")
                continue
            work.result = "saved"
            return saved.after
        raise Conflict(f"agent {user_id}: {MAX_ATTEMPTS} attempts lost")

    async def _step(
        self,
        before: Session | None,
        events: Sequence[Event],
        consumed: Sequence[OutboxKey],
        skip_stale: bool,
        now: int,
    ) -> tuple[Save | None, Session | None]:
        current = before
        taken: list[tuple[int, Event]] = []
        rows: list[OutboxRow] = []
        told: list[tuple[str, AgentEvent]] = []
        pushes: list[Push] = []
        archives: dict[str, Mapping[str, object]] = {}
        for event in events:
            try:
                after = step(current, event, now)
            except Stale:
                if not skip_stale:
                    raise
                continue
            taken.append((after.version, event))
            rows += _outbox(current, after, event)
            told += agent_events(current, after)
            pushes += self._presenter.session_pushes(current, after, event)
            if isinstance(event, RecordingArchived):
                archives[event.recording_id] = event.archive
            current = after
        if current is None or (not taken and not consumed):
            return None, current
        agents = await self._step_agents(told, now)
        for saved in agents:
            pushes += self._presenter.agent_pushes(saved.before, saved.after)
        sessions = (SessionSave(before, current, tuple(taken), tuple(rows), archives),) if taken else ()
        return Save(current.tenant, now, sessions, tuple(agents), tuple(pushes), tuple(consumed)), current

    async def _step_agents(self, told: Sequence[tuple[str, AgentEvent]], now: int) -> list[AgentSave]:
        by_agent: dict[str, list[AgentEvent]] = {}
        for agent_id, event in told:
            by_agent.setdefault(agent_id, []).append(event)
        saves = []
        for agent_id, events in by_agent.items():
            agent = await self._store.agent(agent_id)
            if agent is None:
                raise Refused("agent_unavailable")
            try:
                saves.append(_step_agent(agent, events, now))
            except Stale:
                # The agent's row holds no such contact: only a repair by hand can do that. The session goes on.
                log.warning("agent_contact_missing", agent_id=agent_id, events=[type(e).__name__ for e in events])
        return saves

    async def _commit(self, save: Save) -> None:
        # Shielded: a caller that is cancelled here must not leave listeners in the dark about a saved step.
        await asyncio.shield(self._save_and_tell(save))

    async def _save_and_tell(self, save: Save) -> None:
        try:
            messages = await self._store.save(save)
        except StorageUnavailable:  # it may have been saved all the same
            self.on_doubt()
            raise
        commit = Commit(save.sessions, save.agents, messages)
        for listener in self._listeners:
            listener.on_commit(commit)

    @asynccontextmanager
    async def _mailbox(self, session_id: str) -> AsyncIterator[None]:
        lock, users = self._mailboxes.get(session_id, (asyncio.Lock(), 0))
        self._mailboxes[session_id] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._mailboxes[session_id]
            if users == 1:
                del self._mailboxes[session_id]
            else:
                self._mailboxes[session_id] = (lock, users - 1)


def _step_agent(before: Agent | None, events: Sequence[AgentEvent], now: int) -> AgentSave:
    current = before
    taken: list[tuple[int, AgentEvent]] = []
    for event in events:
        current = step_agent(current, event, now)
        taken.append((current.version, event))
    assert current is not None
    return AgentSave(before, current, tuple(taken))


def _outbox(before: Session | None, after: Session, event: Event) -> list[OutboxRow]:
    """The step's orders, to the worker that holds the session and to one that it is leaving."""
    to = [(after.worker_id, after.epoch, order) for order in orders(before, after, event)]
    to += [(former.worker_id, former.epoch, order) for former, order in former_orders(before, after)]
    return [
        OutboxRow(OutboxKey(after.id, after.version, index), after.tenant, worker_id, epoch, order)
        for index, (worker_id, epoch, order) in enumerate(to)
        if worker_id is not None
    ]


def _names(events: Sequence[Event] | Sequence[AgentEvent]) -> str:
    return ",".join(type(event).__name__ for event in events)
