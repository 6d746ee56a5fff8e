"""Marks on a recording, from its session's log: PURE. Where in the sound somebody held, paused, or marked a place.

Positions are in the recording, which leaves pauses out: a pause is a point in it, and its length is told beside. The
log's times are those of the commits, some 10 ms after the worker acted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from server.domain.history import EventRow
from server.domain.recording import Recording

MAX_MARKS = 500  # of one recording: a screen shows no more


@dataclass(frozen=True, slots=True)
class Mark:
    """`kind`: talk (it began), hold, pause, mark (the agent's own). `at_ms` is in the recording; `length_ms` is how
    long the hold or the pause was, 0 for a point."""

    kind: str
    at_ms: int
    length_ms: int = 0


def marks_of(recording: Recording, events: Sequence[EventRow]) -> tuple[Mark, ...]:
    """In the order of the sound. Pauses are those that the worker confirmed."""
    end = recording.ended_at if recording.ended_at is not None else recording.started_at
    pauses = [(p.since, p.until if p.until is not None else end) for p in recording.pauses if p.since is not None]

    def position(at: int) -> int:
        paused = sum(max(0, min(at, until) - since) for since, until in pauses)
        return max(0, min(at, end) - recording.started_at - paused)

    found = [Mark("talk", 0)]
    found += [Mark("pause", position(since), until - since) for since, until in pauses if until > since]
    held_since: int | None = None
    for event in events:
        if event.body.get("segment_id") != recording.segment_id or event.at < recording.started_at or event.at > end:
            continue
        match event.type:
            case "HoldChanged" if event.body.get("on"):
                held_since = event.at
            case "HoldChanged" if held_since is not None:
                found.append(Mark("hold", position(held_since), event.at - held_since))
                held_since = None
            case "RecordingMarked":
                found.append(Mark("mark", position(event.at)))
    if held_since is not None:
        found.append(Mark("hold", position(held_since), end - held_since))
    return tuple(sorted(found, key=lambda mark: mark.at_ms)[:MAX_MARKS])


def marks_to_json(marks: Sequence[Mark]) -> list[dict[str, Any]]:
    return [asdict(mark) for mark in marks]


def marks_from_json(value: Sequence[Mapping[str, Any]]) -> list[Mark]:
    return [Mark(str(one["kind"]), int(one["at_ms"]), int(one.get("length_ms", 0))) for one in value]
