"""/recordings: by id only, for those who may see their session."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from server.domain.directory import Role
from server.domain.history import RecordingRow
from server.domain.recording_marks import marks_from_json
from server.services.admin_ports import NotReady, Rendering, Side, Unreadable
from server.services.refusals import Refused, not_found
from server.signaling.access import STAFF
from server.signaling.rest.endpoint import Call, Endpoint, Endpoints, Nothing
from server.signaling.rest.models import RestModel
from server.signaling.rest.sound_answer import answer_sound

FILE_TIMEOUT_S = 10  # finding the file; a rendering goes on by itself and is asked for again
Peaks = list[Annotated[int, Field(ge=0, le=255)]]


class Sums(RestModel):
    customer: str
    agent: str


class PeakLists(RestModel):
    customer: Peaks
    agent: Peaks


class MarkView(RestModel):
    """`kind`: talk (it began), hold, pause, mark (the agent's own); clients pass over others. `at_ms` is a place in the
    recording, which leaves pauses out; `length_ms`: how long the hold or the pause was."""

    kind: str
    at_ms: int
    length_ms: int


class RecordingView(RestModel):
    recording_id: str
    session_id: str
    state: str
    reason: str | None
    duration_ms: int | None
    started_at: int
    parts: int
    sha256: Sums | None
    size_bytes: int | None
    peaks: PeakLists | None
    marks: list[MarkView] = Field(default_factory=list)


class RenderingView(RestModel):
    state: str = "rendering"


class AudioQuery(RestModel):
    side: Side = "stereo"


async def _visible(call: Call[Nothing, Nothing] | Call[Nothing, AudioQuery]) -> RecordingRow:
    row = await call.deps.history.recording(call.user.tenant, call.part("recording_id"))
    if row is None or (call.user.role is Role.AGENT and call.user.user_id not in row.agent_ids):
        raise not_found("recording")
    return row


def _sides(archive: dict[str, Any], part: str) -> dict[str, Any] | None:
    found = {side: archive.get(side, {}).get(part) for side in ("customer", "agent")}
    return found if all(value is not None for value in found.values()) else None


async def read_recording(call: Call[Nothing, Nothing]) -> RecordingView:
    row = await _visible(call)
    archive = dict(row.archive or {})
    sums, peaks = _sides(archive, "sha256"), archive.get("peaks")
    return RecordingView(
        recording_id=row.recording_id,
        session_id=row.session_id,
        state=row.state,
        reason=row.reason,
        duration_ms=row.duration_ms,
        started_at=row.started_at,
        parts=row.parts,
        sha256=Sums(**sums) if sums else None,
        size_bytes=row.size_bytes,
        peaks=PeakLists(customer=peaks["customer"], agent=peaks["agent"]) if peaks else None,
        marks=[
            MarkView(kind=mark.kind, at_ms=mark.at_ms, length_ms=mark.length_ms)
            for mark in marks_from_json(archive.get("marks", ()))
        ],
    )


async def read_audio(call: Call[Nothing, AudioQuery]) -> web.StreamResponse:
    row = await _visible(call)
    try:
        async with asyncio.timeout(FILE_TIMEOUT_S):
            found = await call.deps.recordings.file(call.user.tenant, row.recording_id, call.query.side)
    except Unreadable:
        message = "its file is damaged, or its key is not here; the log tells which"
        raise Refused("recording_unreadable", message) from None
    except (NotReady, TimeoutError):
        raise Refused("recording_not_ready", f"this recording is {row.state}", retry_after_s=2) from None
    if isinstance(found, Rendering):
        return web.Response(
            body=RenderingView().model_dump_json().encode(),
            status=202,
            content_type="application/json",
            headers={"Retry-After": str(found.retry_after_s)},
        )
    return await answer_sound(call.request, found)


async def measure_audio(call: Call[Nothing, AudioQuery]) -> web.StreamResponse:
    return await read_audio(call)  # what a HEAD is answered with has no body


ENDPOINTS: Endpoints = (
    Endpoint(
        "GET",
        "/recordings/{recording_id}",
        "Read a recording's facts",
        STAFF,
        read_recording,
        answer=RecordingView,
        codes=("not_found",),
    ),
    Endpoint(
        "GET",
        "/recordings/{recording_id}/audio",
        "Its sound, with ranges; 202 while the stereo file is being made",
        STAFF,
        read_audio,
        query=AudioQuery,
        codes=("not_found", "recording_not_ready", "recording_unreadable"),
    ),
    Endpoint(
        "HEAD",
        "/recordings/{recording_id}/audio",
        "How long its sound is, in bytes",
        STAFF,
        measure_audio,
        query=AudioQuery,
        codes=("not_found", "recording_not_ready", "recording_unreadable"),
    ),
)
