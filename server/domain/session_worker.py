"""The session's rules about the media workers that hold it: placements, and the parts of recordings."""

from __future__ import annotations

from dataclasses import replace

from server.domain import events as ev
from server.domain import leg as legs
from server.domain import recording as recordings
from server.domain.leg import LegState
from server.domain.machine import IllegalTransition, Stale
from server.domain.media import Placement
from server.domain.recording import Recording
from server.domain.session import Session, SessionState
from server.domain.session_legs import placed


def lose_worker(s: Session, e: ev.WorkerLost, now: int) -> Session:
    """Everything that the worker held is gone. Parts of recordings are as complete as they will ever be."""
    epoch = s.epoch if e.epoch is None else e.epoch
    here = not s.ended and s.worker_id == e.worker_id and s.epoch <= epoch
    if not here and not s.has_left(e.worker_id, epoch):
        raise Stale("no_change")
    left = s.former is not None and s.former.worker_id == e.worker_id and s.former.epoch <= epoch
    for recording in s.recordings:
        s = s.with_recording(recordings.lose_worker(recording, e.worker_id, epoch))
    for leg in s.live_legs:
        if left if leg.former else here and leg.state is not LegState.WANTED:
            s = s.with_leg(legs.lost(leg, now))
    if not here:
        return s
    if e.replacement is None:
        return replace(s, worker_id=None, incarnation=None, unplaced_since=now)
    return placed(s, e.replacement, e.incarnation, now)


def place(s: Session, e: ev.Placed, now: int) -> Session:
    if s.worker_id is not None or s.state is SessionState.PLACE_KEPT:
        raise Stale("no_change")
    for leg in s.live_legs:  # what was offered meanwhile went nowhere: its sender must offer again
        if leg.state is LegState.OPENING:
            s = s.with_leg(legs.lost(leg, now))
    return placed(s, e.worker_id, e.incarnation, now)


def move(s: Session, e: ev.SessionMoved, now: int) -> Session:
    """The call leaves a worker that is to stop. Legs that are up stay there until they are up in the new place."""
    if s.worker_id is None or s.worker_id == e.worker_id or s.epoch != e.epoch:
        raise Stale("no_change")
    if s.former is None:
        s = replace(s, former=Placement(s.worker_id, s.epoch, s.incarnation))
        for leg in s.live_legs:
            s = s.with_leg(legs.moved(leg, now))
    else:  # it had not arrived here yet: what did begins anew, the rest stays where it was
        for leg in s.live_legs:
            if not leg.former and leg.state is not LegState.WANTED:
                s = s.with_leg(legs.lost(leg, now))
    return placed(s, e.worker_id, e.incarnation, now)


def part_closed(s: Session, e: ev.RecordingPartClosed, now: int) -> Session:
    recording = _recording(s, e.recording_id)
    changed = recordings.close_part(recording, e.part)
    if changed == recording:
        raise Stale("no_change")
    return s.with_recording(changed)


def archived(s: Session, e: ev.RecordingArchived, now: int) -> Session:
    recording = _recording(s, e.recording_id)
    if recording.state in recordings.FINAL:
        raise Stale("no_change")
    return s.with_recording(recordings.archived(recording, e.duration_ms, e.reason))


def archive_failed(s: Session, e: ev.ArchiveFailed, now: int) -> Session:
    recording = _recording(s, e.recording_id)
    if recording.state in recordings.FINAL:
        raise Stale("no_change")
    return s.with_recording(recordings.failed(recording, e.reason))


def _recording(s: Session, recording_id: str) -> Recording:
    recording = next((r for r in s.recordings if r.id == recording_id), None)
    if recording is None:
        raise IllegalTransition(f"no recording {recording_id} in {s.id}")
    return recording
