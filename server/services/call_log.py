"""One log line for each thing that happens to a session, with its id and without names or numbers."""

from __future__ import annotations

import structlog

from server.domain.segment import SegmentState
from server.domain.session import Session
from server.services.ports import Commit

log = structlog.get_logger()


class CallLog:
    """`CommitListener`: session_arrived, session_offered, offer_ended, session_answered and session_ended. Times are
    in ms."""

    def on_commit(self, commit: Commit) -> None:
        for save in commit.sessions:
            before, after = save.before, save.after
            if before is None:
                log.info(
                    "session_arrived", session_id=after.id, queue_id=after.queue.queue_id, worker_id=after.worker_id
                )
            self._offers(before, after)
            if after.talk_started_at is not None and (before is None or before.talk_started_at is None):
                self._answered(after, after.talk_started_at)
            if after.ended_at is not None and (before is None or not before.ended):
                self._ended(after, after.ended_at)

    def _offers(self, before: Session | None, after: Session) -> None:
        for segment in after.segments:
            old = before.segment(segment.id) if before is not None else None
            if old is None:
                log.info("session_offered", session_id=after.id, agent_id=segment.agent_id, offers=segment.number)
            elif old.state is SegmentState.OFFERED and segment.state is not SegmentState.OFFERED:
                outcome = "accepted" if segment.accepted_at is not None else segment.end_reason
                log.info("offer_ended", session_id=after.id, agent_id=segment.agent_id, outcome=outcome)

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
            offers=s.offers,
            placements=s.epoch,
        )
