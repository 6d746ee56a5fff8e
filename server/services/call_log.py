"""One log line for each thing that happens to a session, with its id and without names or numbers."""

from __future__ import annotations

import structlog

from server.domain.session import Session
from server.services.ports import Commit

log = structlog.get_logger()


class CallLog:
    """`CommitListener`: session_arrived, session_answered and session_ended, with times in ms."""

    def on_commit(self, commit: Commit) -> None:
        for save in commit.sessions:
            before, after = save.before, save.after
            if before is None:
                log.info(
                    "session_arrived", session_id=after.id, queue_id=after.queue.queue_id, worker_id=after.worker_id
                )
            if after.talk_started_at is not None and (before is None or before.talk_started_at is None):
                self._answered(after, after.talk_started_at)
            if after.ended_at is not None and (before is None or not before.ended):
                self._ended(after, after.ended_at)

    def _answered(self, s: Session, at: int) -> None:
        owner = s.owner
        setup_ms = at - owner.accepted_at if owner is not None and owner.accepted_at is not None else None
        agent_id = owner.agent_id if owner is not None else None
        log.info("session_answered", session_id=s.id, agent_id=agent_id, waited_ms=at - s.created_at, setup_ms=setup_ms)

    def _ended(self, s: Session, at: int) -> None:
        talked_ms = at - s.talk_started_at if s.talk_started_at is not None else 0
        log.info(
            "session_ended",
            session_id=s.id,
            reason=s.end_reason,
            lasted_ms=at - s.created_at,
            talked_ms=talked_ms,
            offers=len(s.segments),
            placements=s.epoch,
        )
