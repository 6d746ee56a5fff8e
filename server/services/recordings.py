"""Recordings after the talk: each is archived once its parts are closed, and rendered in stereo when asked for.

Which recordings wait for their archive is in the sessions' rows, so a start or a tick finds what an earlier
process left. A job that fails for a passing cause is tried again at the next tick.
"""

from __future__ import annotations

import asyncio
import itertools

import structlog

from server.domain.events import ArchiveFailed, RecordingArchived
from server.domain.machine import Refused, Stale
from server.domain.recording import Recording, RecordingState
from server.domain.session import Session
from server.services.admin_ports import FileReady, History, NotReady, Rendering, Side
from server.services.ports import ArchiveFault, Archiver, Commit, RecordingRef, StepStore
from server.services.stepper import Stepper

log = structlog.get_logger()
TICK_S = 30.0
SWEEP_TICKS = 2880  # a day
CRASHES = frozenset({"internal", "timeout"})
MAX_CRASHES = 5
RENDER_WAIT_S = 0.5  # most renderings of short calls are done by then: no second request is needed
CONTENT_TYPE = "audio/ogg"


class RecordingService:
    """`CommitListener` and `RecordingFiles`; `group` is the parent of its jobs."""

    def __init__(
        self, store: StepStore, stepper: Stepper, archiver: Archiver, history: History, group: asyncio.TaskGroup
    ) -> None:
        self._store = store
        self._stepper = stepper
        self._archiver = archiver
        self._history = history
        self._group = group
        self._archiving: set[str] = set()
        self._rendering: dict[str, asyncio.Task[None]] = {}
        self._crashes: dict[str, int] = {}  # recording id -> archive jobs of it that crashed or never ended

    @property
    def busy(self) -> bool:
        """Archives are being made."""
        return bool(self._archiving)

    def on_commit(self, commit: Commit) -> None:
        for save in commit.sessions:
            self._start_jobs(save.after)

    async def run(self) -> None:
        """Find what waits for its archive, for ever; sweep the spool at the start and once in a while."""
        for tick in itertools.count():
            for session in await self._store.open_sessions():
                self._start_jobs(session)
            if tick % SWEEP_TICKS == 0:
                try:
                    await self.sweep_spool()
                except Exception:  # what lies in the spool can wait a day; archives can't
                    log.exception("spool_sweep_failed")
            await asyncio.sleep(TICK_S)

    def _start_jobs(self, session: Session) -> None:
        for recording in session.recordings:
            if recording.state is RecordingState.ARCHIVING and recording.id not in self._archiving:
                self._archiving.add(recording.id)
                self._group.create_task(self._archive(session, recording), name=f"archive {recording.id}")

    async def _archive(self, session: Session, recording: Recording) -> None:
        ref = RecordingRef(session.tenant, session.id, recording.id)
        event: RecordingArchived | ArchiveFailed
        try:
            try:
                done = await self._archiver.archive(ref, [part.number for part in recording.parts])
                event = RecordingArchived(recording.id, done.duration_ms, done.archive)
            except ArchiveFault as fault:
                log.error("archive_failed", session_id=session.id, recording_id=recording.id, code=fault.code)
                if fault.passing and not self._hopeless(recording.id, fault.code):
                    return
                event = ArchiveFailed(recording.id, recording.broken or fault.code)
            try:
                await self._stepper.apply(session.id, event)
            except (Stale, Refused):
                return
            if isinstance(event, RecordingArchived):
                await self._archiver.discard_parts(ref)
        except Exception:
            log.exception("archive_job_failed", session_id=session.id, recording_id=recording.id)
        finally:
            self._archiving.discard(recording.id)

    def _hopeless(self, recording_id: str, code: str) -> bool:
        """A full disk may be emptied some day; a job that crashes each time is a fault that no wait will mend."""
        if code not in CRASHES:
            return False
        self._crashes[recording_id] = self._crashes.get(recording_id, 0) + 1
        return self._crashes[recording_id] >= MAX_CRASHES

    async def sweep_spool(self) -> int:
        """Forget captured parts whose archive is safe: a process may die between the two. Returns how many."""
        swept = 0
        for ref in await self._archiver.left_parts():
            row = await self._history.recording(ref.tenant, ref.recording_id)
            if row is not None and row.state == RecordingState.READY:
                await self._archiver.discard_parts(ref)
                swept += 1
        return swept

    # --- RecordingFiles ---

    async def file(self, tenant: str, recording_id: str, side: Side) -> FileReady | Rendering:
        """Raises NotReady."""
        row = await self._history.recording(tenant, recording_id)
        if row is None or row.state != RecordingState.READY:
            raise NotReady
        ref = RecordingRef(tenant, row.session_id, recording_id)
        path = self._archiver.file(ref, side)
        if path is None and side == "stereo":
            await self._render(ref)
            path = self._archiver.file(ref, side)
            if path is None:
                if recording_id not in self._rendering:
                    raise NotReady
                return Rendering(retry_after_s=1)
        if path is None:
            raise NotReady
        return FileReady(path, CONTENT_TYPE, f"{recording_id}-{side}.ogg")

    async def _render(self, ref: RecordingRef) -> None:
        """Start the rendering where none is under way, and give it a moment."""
        task = self._rendering.get(ref.recording_id)
        if task is None:
            task = self._group.create_task(self._stereo(ref), name=f"stereo {ref.recording_id}")
            self._rendering[ref.recording_id] = task
        await asyncio.wait({task}, timeout=RENDER_WAIT_S)

    async def _stereo(self, ref: RecordingRef) -> None:
        try:
            await self._archiver.stereo(ref)
        except ArchiveFault as fault:
            log.error("stereo_failed", recording_id=ref.recording_id, code=fault.code)
        except Exception:
            log.exception("stereo_job_failed", recording_id=ref.recording_id)
        finally:
            self._rendering.pop(ref.recording_id, None)
