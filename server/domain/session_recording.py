"""The session's rules about the recording that runs: pauses, the agent's marks, and what follows when it fails.

A pause is asked for by the agent, told to the worker by the plan, and holds as soon as the worker has said so: until
then the agent reads that it is still recording. A pause that is forgotten would leave the rest of the talk unrecorded,
so it ends by itself after the queue's `pause_limit_s`.
"""

from __future__ import annotations

from dataclasses import replace

from server.domain import events as ev
from server.domain import recording as recordings
from server.domain.endings import EndReason
from server.domain.machine import IllegalTransition, Refused, Stale
from server.domain.queue_life import WhenUnrecorded
from server.domain.recording import Recording, RecordingState
from server.domain.segment import Segment
from server.domain.session import Session
from server.domain.session_end import end_session

MAX_PAUSES = 50  # of one recording; the session's row holds them all
MAX_MARKS = 200  # the log holds each


def ask_pause(s: Session, e: ev.RecordingPauseAsked, now: int) -> Session:
    recording = _running(s, e.segment_id, e.agent_id)
    if recordings.wants_pause(recording) == e.paused:
        raise Stale("no_change")
    if e.paused and len(recording.pauses) >= MAX_PAUSES:
        raise Refused("no_pause_left")
    return s.with_recording(recordings.ask_pause(recording, e.paused, now))


def pause_said(s: Session, e: ev.RecordingPauseSaid, now: int) -> Session:
    recording = next((r for r in s.recordings if r.id == e.recording_id), None)
    if recording is None:
        raise IllegalTransition(f"no recording {e.recording_id} in {s.id}")
    changed = recordings.say_pause(recording, e.change, now)
    if changed == recording:
        raise Stale("no_change")
    return s.with_recording(changed)


def pause_limit_at(s: Session, recording: Recording) -> int | None:
    """When a pause ends by itself; None while none runs, or where there is no limit."""
    if not s.queue.pause_limit_s or recording.state is not RecordingState.RECORDING:
        return None
    if not recordings.wants_pause(recording):
        return None
    return recording.pauses[-1].asked_at + s.queue.pause_limit_s * 1000


def end_pause(s: Session, recording_id: str, now: int) -> Session:
    """The pause was forgotten."""
    for recording in s.recordings:
        if recording.id == recording_id and recordings.wants_pause(recording):
            return s.with_recording(recordings.ask_pause(recording, False, now))
    raise Stale("stale_deadline")


def mark(s: Session, e: ev.RecordingMarked, now: int) -> Session:
    recording = _running(s, e.segment_id, e.agent_id)
    if recording.marks >= MAX_MARKS:
        raise Refused("no_mark_left")
    return s.with_recording(replace(recording, marks=recording.marks + 1))


def broke(s: Session, e: ev.RecordingBroke, now: int) -> Session:
    """The worker can't write on. What came before is kept; the queue says whether the call goes on."""
    recording = next((r for r in s.recordings if r.id == e.recording_id), None)
    if recording is None:
        raise IllegalTransition(f"no recording {e.recording_id} in {s.id}")
    if recording.broken is not None or e.part != recording.parts[-1].number:
        raise Stale("no_change")
    s = s.with_recording(replace(recording, broken=e.code))
    ends = s.queue.when_unrecorded is WhenUnrecorded.END and recording.state is RecordingState.RECORDING
    return end_session(s, EndReason.NOT_RECORDED, now) if ends and not s.ended else s


def _running(s: Session, segment_id: str, agent_id: str) -> Recording:
    """The recording of the agent's talk that runs now."""
    segment: Segment | None = s.segment(segment_id)
    if segment is None or segment.agent_id != agent_id:
        raise Refused("not_your_contact")
    if not segment.in_talk:
        raise Refused("not_in_call")
    for recording in s.recordings:
        if recording.segment_id == segment.id and recording.state is RecordingState.RECORDING and not recording.broken:
            return recording
    raise Refused("not_recording")
