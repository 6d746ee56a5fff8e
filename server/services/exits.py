"""Ways out of a queue that something outside has to carry out: calling back when a session's turn comes, and voicemail.

Nothing here decides whether a session may leave that way: the frozen rules of its queue do. What an installation has no
adapter for is not offered to admins, and left out of the rules.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from server.domain import events as ev
from server.domain.leg import LegState
from server.domain.machine import Refused, Stale
from server.domain.queue_life import Exit
from server.domain.session import Session
from server.services.media_link import MediaLink
from server.services.ports import CallbackDialer, Commit, StepStore, StorageUnavailable, Voicemail
from server.services.stepper import Stepper

log = structlog.get_logger()
LOOK_S = 5.0  # a call that is to be made has its grace of 30 s


@dataclass(frozen=True, slots=True)
class Exits:
    """What this installation can do beside another queue and the end."""

    dialer: CallbackDialer | None = None
    voicemail: Voicemail | None = None

    @property
    def possible(self) -> frozenset[Exit]:
        there = {Exit.QUEUE: True, Exit.CALLBACK: self.dialer is not None, Exit.VOICEMAIL: self.voicemail is not None}
        return frozenset(way for way, is_there in there.items() if is_there)


class ExitService:
    """`CommitListener` that has customers dialled whose turn has come, and voicemails begun."""

    def __init__(
        self, exits: Exits, store: StepStore, stepper: Stepper, link: MediaLink, group: asyncio.TaskGroup
    ) -> None:
        self._exits = exits
        self._store = store
        self._stepper = stepper
        self._link = link
        self._group = group
        self._running: set[str] = set()

    @property
    def busy(self) -> bool:
        return bool(self._running)

    async def run(self) -> None:
        """Begin what nobody began, or what failed, again and again: the node that was about to may have died."""
        while True:
            await self.resume()
            await asyncio.sleep(LOOK_S)

    async def resume(self) -> None:
        if self._exits == Exits():
            return
        try:
            for session in await self._store.open_sessions():
                if session.customer_leg.state is LegState.WANTED or session.flow is not None:
                    self._look_at(session)
        except StorageUnavailable as error:
            log.warning("exits_postponed", error=str(error))

    def on_commit(self, commit: Commit) -> None:
        for save in commit.sessions:
            if save.before is None or (save.before.flow, save.before.callback) != (
                save.after.flow,
                save.after.callback,
            ):
                self._look_at(save.after)

    def _look_at(self, session: Session) -> None:
        dialer, voicemail, callback = self._exits.dialer, self._exits.voicemail, session.callback
        if dialer is not None and callback is not None and callback.begun:
            self._begin(f"{session.id} dialled", self._dial(dialer, session, callback.number))
        if voicemail is not None and session.flow is not None:
            self._begin(f"{session.id} recorded", voicemail.begin(session.id, session.customer_leg.id))

    async def _dial(self, dialer: CallbackDialer, session: Session, number: str) -> None:
        """An agent is asked for it at this moment: it needs a worker first."""
        if session.worker_id is None:
            worker = self._link.place()
            if worker is None:  # no sound could be had; its grace ends it
                return
            with suppress(Stale, Refused):
                await self._stepper.apply(session.id, ev.Placed(worker.worker_id, worker.incarnation))
        await dialer.dial(session.id, session.customer_leg.id, number)

    def _begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        if name in self._running:
            work.close()
            return
        self._running.add(name)
        self._group.create_task(self._guarded(name, work), name=f"exit {name}")

    async def _guarded(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # one session's failure is its own; its deadline ends it
            log.exception("exit_failed", session_id=name.partition(" ")[0])
        finally:
            self._running.discard(name)


def rule_of(wanted: Exit, possible: Collection[Exit]) -> Exit:
    """The exit of a session that arrives now: a queue may have been set up where more was possible."""
    return wanted if wanted in possible else Exit.QUEUE
