"""A recording of one segment's talk: parts (one a placement), then one archive.

recording ──talk over──► closing ──all parts closed──► archiving ──► ready | failed

A ready recording is as long as the talk (less what was paused), also where an order to record came late or a worker
died: what nobody wrote is silence. Its archive says how much that is (`missing_ms`), and is not `complete` when it is
more than 200 ms; that is no `reason`, since every sound that was written is there and in its place. A talk of which
nothing was written at all has failed, unless it was itself shorter than those 200 ms.
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
    """The capture of one placement, that of `epoch` (0 in rows of before there were many nodes: the newest). `cut`: its
    worker died, so that the tail may be missing."""

    number: int
    worker_id: str
    closed: bool = False
    cut: bool = False
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Pause:
    """A time of which nothing is kept (a payment, say). It is asked for at `asked_at` and holds `since` the worker said
    so; its end is asked for at `resume_at` and holds from `until` on. None: not yet."""

    asked_at: int
    since: int | None = None
    resume_at: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """`broken` holds the code of a worker that could not write on (disk_full, io_error): what came before is kept.
    `marks`: how many the agent has made."""

    id: str
    segment_id: str
    started_at: int
    parts: tuple[Part, ...]
    state: RecordingState = RecordingState.RECORDING
    broken: str | None = None
    ended_at: int | None = None
    duration_ms: int | None = None
    reason: str | None = None
    pauses: tuple[Pause, ...] = ()
    marks: int = 0


def wants_pause(recording: Recording) -> bool:
    """What was asked for last: the worker's plan says the same."""
    return bool(recording.pauses) and recording.pauses[-1].resume_at is None


def is_paused(recording: Recording) -> bool:
    """What the worker said last."""
    return any(pause.since is not None and pause.until is None for pause in recording.pauses)


def pause_change(recording: Recording) -> int:
    """How often it was paused and resumed, so far as asked: tells the worker's words apart."""
    return 2 * len(recording.pauses) - (1 if wants_pause(recording) else 0)


def ask_pause(recording: Recording, paused: bool, now: int) -> Recording:
    """Only a change counts."""
    if paused == wants_pause(recording):
        return recording
    if paused:
        return replace(recording, pauses=(*recording.pauses, Pause(now)))
    return replace(recording, pauses=(*recording.pauses[:-1], replace(recording.pauses[-1], resume_at=now)))


def say_pause(recording: Recording, change: int, now: int) -> Recording:
    """The worker has carried out the `change`-th change, and with it every earlier one. What it said already stays."""
    if recording.state is not R.RECORDING or not 0 < change <= pause_change(recording):
        return recording
    pauses = list(recording.pauses)
    for index, pause in enumerate(pauses):
        if pause.since is None and 2 * index + 1 <= change:
            pause = replace(pause, since=now)
        if pause.until is None and 2 * index + 2 <= change:
            pause = replace(pause, until=now)
        pauses[index] = pause
    return replace(recording, pauses=tuple(pauses))


def move(recording: Recording, worker_id: str, epoch: int) -> Recording:
    """A new placement carries the call: a new part begins there."""
    if recording.state is not R.RECORDING or recording.parts[-1].epoch == epoch:
        return recording
    part = Part(len(recording.parts) + 1, worker_id, epoch=epoch)
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


def open_parts(recording: Recording, worker_id: str, epoch: int) -> list[Part]:
    """Those that a worker has not closed, of placements up to `epoch`."""
    return [p for p in recording.parts if p.worker_id == worker_id and not p.closed and p.epoch <= epoch]


def lose_worker(recording: Recording, worker_id: str, epoch: int) -> Recording:
    for part in open_parts(recording, worker_id, epoch):
        recording = close_part(recording, part.number, cut=True)
    return recording


def archived(recording: Recording, duration_ms: int, reason: str | None = None) -> Recording:
    if recording.state is not R.ARCHIVING:
        raise IllegalTransition(f"recording {recording.state} -> ready")
    return replace(recording, state=R.READY, duration_ms=duration_ms, reason=recording.broken or reason)


def failed(recording: Recording, reason: str) -> Recording:
    if recording.state is not R.ARCHIVING:
        raise IllegalTransition(f"recording {recording.state} -> failed")
    return replace(recording, state=R.FAILED, reason=reason)


def _settle(recording: Recording) -> Recording:
    if recording.state is R.CLOSING and all(part.closed for part in recording.parts):
        return replace(recording, state=R.ARCHIVING)
    return recording
