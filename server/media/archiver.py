"""Recording files on this machine: captured parts in the spool, archives beside it, both found by their ids.

<spool>/<tenant>/<session>/<recording>/<part>.<side>.cap     while the call lasts
<archive>/<tenant>/<session>/<recording>.<side>.opus         afterwards; `stereo` when somebody asked for it
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from server.media.archive import ArchivedFile, ArchiveError
from server.media.archive_jobs import ArchiveJobs
from server.media.capture import part_files
from server.services.ports import Archived, ArchiveFault, RecordingRef

PASSING = frozenset({"disk_full", "timeout", "internal", "io_error"})


class LocalArchiver:
    """`Archiver` over two folders of this machine."""

    def __init__(self, spool: Path, archive: Path, jobs: ArchiveJobs) -> None:
        self._spool = spool
        self._archive = archive
        self._jobs = jobs

    async def archive(self, recording: RecordingRef, parts: Sequence[int]) -> Archived:
        files = [
            part_files(self._spool, recording.tenant, recording.session_id, recording.recording_id, part)
            for part in parts
        ]
        self._path(recording, "customer").parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            done = await self._jobs.archive(files, self._path(recording, "customer"), self._path(recording, "agent"))
        except ArchiveError as error:
            raise ArchiveFault(error.code, passing=error.code in PASSING) from error
        return Archived(
            done.duration_ms,
            {
                "customer": _side(done.customer),
                "agent": _side(done.agent),
                "peaks": {"customer": done.customer.peaks, "agent": done.agent.peaks},
                "size_bytes": done.customer.size_bytes + done.agent.size_bytes,
                "complete": done.complete,
            },
        )

    async def stereo(self, recording: RecordingRef) -> Path:
        out = self._path(recording, "stereo")
        if not out.exists():
            try:
                await self._jobs.stereo(self._path(recording, "customer"), self._path(recording, "agent"), out)
            except ArchiveError as error:
                raise ArchiveFault(error.code, passing=error.code in PASSING) from error
        return out

    def file(self, recording: RecordingRef, side: str) -> Path | None:
        path = self._path(recording, side)
        return path if path.is_file() else None

    async def left_parts(self) -> Sequence[RecordingRef]:
        def look() -> list[RecordingRef]:
            folders = [folder for folder in self._spool.glob("*/*/*") if folder.is_dir()]
            return [RecordingRef(folder.parts[-3], folder.parts[-2], folder.parts[-1]) for folder in folders]

        return await asyncio.to_thread(look)

    async def discard_parts(self, recording: RecordingRef) -> None:
        folder = part_files(
            self._spool, recording.tenant, recording.session_id, recording.recording_id, 1
        ).customer.parent
        await asyncio.to_thread(shutil.rmtree, folder, True)

    def _path(self, recording: RecordingRef, side: str) -> Path:
        return self._archive / recording.tenant / recording.session_id / f"{recording.recording_id}.{side}.opus"


def _side(file: ArchivedFile) -> dict[str, object]:
    return {"file": Path(file.path).name, "sha256": file.sha256, "size_bytes": file.size_bytes}
