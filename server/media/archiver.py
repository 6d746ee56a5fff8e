"""Recording files: captured parts in this machine's spool, archives in a folder of all nodes, both found by their ids.

<spool>/<tenant>/<session>/<recording>/<part>.<side>.cap     while the call lasts
<archive>/<tenant>/<session>/<recording>.<side>.opus         afterwards, sealed; `stereo` when somebody asked for it
                                        <side>.wav          in its place, where the side spoke nothing but G.711

Siblings write their parts into this spool. What workers of other machines wrote is fetched into it for the archive.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import structlog

from server.domain.recording import Part
from server.media.archive import ArchivedFile, ArchiveError
from server.media.archive_files import MEDIA_TYPES, JobKeys, sweep_halves
from server.media.archive_jobs import ArchiveJobs
from server.media.capture import part_files, part_folders
from server.media.keyring import Keyring
from server.media.remote_parts import RemoteParts, WorkerAway
from server.media.sounds import open_sound, seal_of
from server.media.vault import VaultError
from server.services.ports import Archived, ArchiveFault, Collected, LeftParts, RecordingRef, Sound

log = structlog.get_logger(__name__)

PASSING = frozenset({"disk_full", "timeout", "internal", "io_error"})


class LocalArchiver:
    """`Archiver` over two folders; `remote`: the workers of other machines."""

    def __init__(
        self, spool: Path, archive: Path, jobs: ArchiveJobs, keyring: Keyring, remote: RemoteParts | None = None
    ) -> None:
        self._spool = spool
        self._archive = archive
        self._jobs = jobs
        self._keyring = keyring
        self._remote = remote or RemoteParts({})

    async def collect(self, recording: RecordingRef, parts: Sequence[Part]) -> Collected:
        missing, away = [], []
        for part in parts if self._remote.workers else ():
            try:
                if not await self._fetch(recording, part):
                    missing.append(part.number)
            except WorkerAway as reason:
                log.info("part_away", recording_id=recording.recording_id, part=part.number, reason=str(reason))
                away.append(part.number)
            except OSError as error:
                code = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "io_error"
                raise ArchiveFault(code, passing=True) from error
        return Collected(tuple(missing), tuple(away))

    async def _fetch(self, recording: RecordingRef, part: Part) -> bool:
        """Whether a side of the part is here now. Raises WorkerAway, OSError."""
        ids = recording.tenant, recording.session_id, recording.recording_id
        files = part_files(self._spool, *ids, part.number)
        found = False
        for side, path in (("customer", files.customer), ("agent", files.agent)):
            there = await asyncio.to_thread(path.is_file)
            found |= there or await self._remote.fetch(part.worker_id, recording, part.number, side, path)
        return found

    async def archive(self, recording: RecordingRef, parts: Sequence[int], talk_ms: int | None = None) -> Archived:
        files = [
            part_files(self._spool, recording.tenant, recording.session_id, recording.recording_id, part)
            for part in parts
        ]
        self._path(recording, "customer").parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            sides = self._path(recording, "customer"), self._path(recording, "agent")
            done = await self._jobs.archive(files, *sides, talk_ms, self._keyring.new_seal())
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
                "missing_ms": done.missing_ms,
                "sealed": True,  # so that nobody puts a plain file in its place
            },
        )

    async def stereo(self, recording: RecordingRef) -> Path:
        out = self._path(recording, "stereo")
        if not await asyncio.to_thread(out.exists):
            try:
                sides = await asyncio.to_thread(self._sides, recording)
                await self._jobs.stereo(*sides, out, await asyncio.to_thread(self._keys_of, sides, recording.sealed))
            except (ArchiveError, VaultError) as error:
                raise ArchiveFault(error.code, passing=error.code in PASSING) from error
            except OSError as error:
                raise ArchiveFault("io_error", passing=True) from error
        return out

    def _keys_of(self, sides: Sequence[Path], sealed: bool) -> JobKeys:
        """A stereo file is sealed like the sides that it is made of, and in any case. Raises VaultError, OSError."""
        seals = {path: seal_of(path, self._keyring, sealed) for path in sides}
        found = {path: seal for path, seal in seals.items() if seal is not None}
        seal = next(iter(found.values()), None) or self._keyring.new_seal()
        return JobKeys(seal, {path: seal.data_key for path, seal in found.items()})

    def open(self, recording: RecordingRef, side: str) -> Sound | None:
        path = self._made(recording, side)
        try:
            return None if path is None else open_sound(path, self._keyring, recording.sealed)
        except FileNotFoundError:
            return None

    async def left_parts(self) -> Sequence[LeftParts]:
        here = await asyncio.to_thread(lambda: list(part_folders(self._spool)))
        found = [LeftParts(RecordingRef(*ids), None) for ids in here]
        for worker_id in self._remote.workers:
            try:
                found += [LeftParts(recording, worker_id) for recording in await self._remote.left(worker_id)]
            except WorkerAway as reason:
                log.info("parts_not_listed", worker_id=worker_id, reason=str(reason))
        return found

    async def discard_parts(self, recording: RecordingRef, worker_ids: Collection[str]) -> None:
        ids = recording.tenant, recording.session_id, recording.recording_id
        await asyncio.to_thread(shutil.rmtree, part_files(self._spool, *ids, 1).customer.parent, True)
        for worker_id in self._remote.workers.keys() & set(worker_ids):
            try:
                await self._remote.discard(worker_id, recording)
            except WorkerAway as reason:  # the next sweep finds them
                log.info("parts_not_discarded", worker_id=worker_id, reason=str(reason))

    async def sweep(self) -> int:
        return await asyncio.to_thread(sweep_halves, self._archive, time.time())

    def _sides(self, recording: RecordingRef) -> tuple[Path, Path]:
        """Raises FileNotFoundError."""
        customer, agent = self._made(recording, "customer"), self._made(recording, "agent")
        if customer is None or agent is None:
            raise FileNotFoundError(errno.ENOENT, "a side is gone", str(self._path(recording, "customer").parent))
        return customer, agent

    def _made(self, recording: RecordingRef, side: str) -> Path | None:
        """The file of a side, in whichever of the formats it is."""
        path = self._path(recording, side)
        return next((found for suffix in MEDIA_TYPES if (found := path.with_suffix(suffix)).is_file()), None)

    def _path(self, recording: RecordingRef, side: str) -> Path:
        return self._archive / recording.tenant / recording.session_id / f"{recording.recording_id}.{side}.opus"


def _side(file: ArchivedFile) -> dict[str, object]:
    return {"file": Path(file.path).name, "codec": file.codec, "sha256": file.sha256, "size_bytes": file.size_bytes}
