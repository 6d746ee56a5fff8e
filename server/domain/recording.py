"""A recording of one segment's talk: parts (one a placement), then one archive.

recording ──talk over──► closing ──all parts closed──► archiving ──► ready | failed
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from server.domain.machine import IllegalTransition


class RecordingState(StrEnum):
    RECORDING = "recording"
    CLOSING = "closing"  # the workers' word that the capture files are complete
    ARCHIVING = "archiving"  # the archive job
    READY = "ready"
    FAILED = "failed"  # nothing playable; `reason` says why


R = RecordingState
FINAL = frozenset({R.READY, R.FAILED})


@dataclass(frozen=True, slots=True)
class Part:
    """The capture of one placement. `cut`: its worker died, so that the tail may be missing."""

    number: int
    worker_id: str
    closed: bool = False
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Recording:
    """`broken` holds the code of a worker that could not write on (disk_full, io_error): what came before is kept."""

    id: str
    segment_id: str
    started_at: int
    parts: tuple[Part, ...]
    state: RecordingState = RecordingState.RECORDING
    broken: str | None = None
    ended_at: int | None = None
    duration_ms: int | None = None
    reason: str | None = None


def move(recording: Recording, worker_id: str) -> Recording:
    """The call got a new placement: a new part begins there."""
    if recording.state is not R.RECORDING:
        return recording
    part = Part(len(recording.parts) + 1, worker_id)
    return replace(recording, parts=(*recording.parts, part), broken=None)


def stop(recording: Recording, now: int) -> Recording:
    if recording.state is not R.RECORDING:
        return recording
    return _settle(replace(recording, state=R.CLOSING, ended_at=now))


def close_part(recording: Recording, number: int, *, cut: bool = False) -> Recording:
    """A part's files are complete (`cut`: as complete as they will ever be). A repeated word changes nothing."""
    parts = tuple(
        replace(part, closed=True, cut=cut) if part.number == number and not part.closed else part
        for part in recording.parts
    )
    return _settle(replace(recording, parts=parts))


def lose_worker(recording: Recording, worker_id: str) -> Recording:
    for part in recording.parts:
        if part.worker_id == worker_id and not part.closed:
            recording = close_part(recording, part.number, cut=True)
    return recording


def archived(recording: Recording, duration_ms: int) -> Recording:
    if recording.state is not R.ARCHIVING:
        raise IllegalTransition(f"recording {recording.state} -> ready")
    return replace(recording, state=R.READY, duration_ms=duration_ms, reason=recording.broken)


def failed(recording: Recording, reason: str) -> Recording:
    if recording.state is not R.ARCHIVING:
        raise IllegalTransition(f"recording {recording.state} -> failed")
    return replace(recording, state=R.FAILED, reason=reason)


def _settle(recording: Recording) -> Recording:
    if recording.state is R.CLOSING and all(part.closed for part in recording.parts):
        return replace(recording, state=R.ARCHIVING)
    return recording
