"""Recordings after the talk: each is archived once its parts are closed, and rendered in stereo when asked for.

Which recordings wait for their archive is in the sessions' rows, so a start or a tick finds what an earlier
process left. A job that fails for a passing cause is tried again at the next tick.

Parts may lie on other machines. As long as one of those can't be asked the recording waits, for a day after its end;
then what there is is archived, and the row says `parts_lost`.

Of several nodes the one whose step made a recording ready for its archive makes it; what is left over is the turn of
one of them after a while, and of any later on. Two that make the same archive do no harm: both files are the same, and
a node that finds parts gone looks whether another has archived them.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import suppress

import structlog

from server.domain.events import ArchiveFailed, RecordingArchived
from server.domain.machine import Refused, Stale
from server.domain.recording import Recording, RecordingState
from server.domain.recording_marks import Mark, marks_of, marks_to_json
from server.domain.session import Session
from server.probes import Work
from server.services.admin_ports import FileReady, History, NotReady, Rendering, Side, Unreadable
from server.services.nodes import Nodes
from server.services.ports import (
    FILE_ENDINGS,
    ArchiveFault,
    Archiver,
    Clock,
    Collected,
    Commit,
    RecordingRef,
    Sound,
    SoundDamaged,
    StepStore,
)
from server.services.stepper import Stepper

log = structlog.get_logger()
TICK_S = 30.0
AGAIN_S = 3.0  # a worker that was killed is back in about as much
SWEEP_TICKS = 2880  # a day
CRASHES = frozenset({"internal", "timeout"})
MAX_CRASHES = 5
RECORDING_LOST_MS = 24 * 3_600_000  # a machine that stays away so long is not coming back
TURN_MS = 60_000  # since the talk's end: by then the node that saw it has made the archive, or is gone
ANYBODYS_MS = 300_000
HALVES = "half-made archives"  # one node looks through the folder that all share
NO_CAPTURE, PARTS_LOST = "no_capture", "parts_lost"
RENDER_WAIT_S = 0.5  # most renderings of short calls are done by then: no second request is needed
SIDES: tuple[Side, ...] = ("customer", "agent")


class RecordingService:
    """`CommitListener` and `RecordingFiles`; `group` is the parent of its jobs."""

    def __init__(
        self,
        store: StepStore,
        stepper: Stepper,
        archiver: Archiver,
        history: History,
        clock: Clock,
        nodes: Nodes,
        group: asyncio.TaskGroup,
    ) -> None:
        self._clock = clock
        self._nodes = nodes
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
            waited = {r.id for r in save.before.recordings if _waits(r)} if save.before is not None else set()
            for recording in save.after.recordings:
                if _waits(recording) and recording.id not in waited:
                    self._start(save.after, recording)

    async def run(self) -> None:
        """Find what waits for its archive, for ever; sweep the spool at the start and once in a while."""
        for tick in itertools.count():
            await self.look()
            if tick % SWEEP_TICKS == 0:
                try:
                    await self.sweep_spool()
                except Exception:  # what lies in the spool can wait a day; archives can't
                    log.exception("spool_sweep_failed")
            await asyncio.sleep(TICK_S)

    async def look(self) -> None:
        """Begin the archives that wait and that it is this node's turn to make."""
        waiting = [(s, r) for s in await self._store.open_sessions() for r in s.recordings if _waits(r)]
        ids = {recording.id for _, recording in waiting}
        self._crashes = {recording_id: n for recording_id, n in self._crashes.items() if recording_id in ids}
        for session, recording in waiting:
            if self._is_due(recording):
                self._start(session, recording)

    def _is_due(self, recording: Recording) -> bool:
        if len(self._nodes.living) == 1:
            return True
        waited_ms = self._waited_ms(recording)
        return waited_ms > ANYBODYS_MS or (waited_ms > TURN_MS and self._nodes.mine(recording.id))

    def _waited_ms(self, recording: Recording) -> int:
        return self._clock.now_ms() - (recording.ended_at or recording.started_at)

    def _start(self, session: Session, recording: Recording) -> None:
        if recording.id not in self._archiving:
            self._archiving.add(recording.id)
            self._group.create_task(self._archive(session, recording), name=f"archive {recording.id}")

    def _again(self, session: Session, recording: Recording) -> None:
        with suppress(RuntimeError):  # the node has ended meanwhile
            self._start(session, recording)

    async def _archive(self, session: Session, recording: Recording) -> None:
        try:
            with Work("archive", session_id=session.id, recording_id=recording.id) as work:
                work.result = await self._archive_one(session, recording)
                if work.result == "waits" and self._waited_ms(recording) < TURN_MS:  # until then it is this node's
                    asyncio.get_running_loop().call_later(AGAIN_S, self._again, session, recording)
        except Exception:
            log.exception("archive_job_failed", session_id=session.id, recording_id=recording.id)
        finally:
            self._archiving.discard(recording.id)

    async def _archive_one(self, session: Session, recording: Recording) -> str:
        """A word for how it went: ok, failed, waits (or another node has made it), stale."""
        ref = RecordingRef(session.tenant, session.id, recording.id)
        event = await self._make(ref, recording)
        if event is None:
            return "waits"
        try:
            await self._stepper.apply(session.id, event)
        except (Stale, Refused):
            return "stale"
        if not isinstance(event, RecordingArchived):
            return "failed"
        await self._archiver.discard_parts(ref, {part.worker_id for part in recording.parts})
        return "ok"

    async def _make(self, ref: RecordingRef, recording: Recording) -> RecordingArchived | ArchiveFailed | None:
        """What became of the archive; None when it must wait, or another node has made it."""
        collected = Collected()
        try:
            collected = await self._archiver.collect(ref, recording.parts)
            if collected.away and self._waited_ms(recording) < RECORDING_LOST_MS:
                log.warning("archive_waits", recording_id=recording.id, parts=collected.away)
                return None
            # The node that has archived it lets the workers forget the parts: here they would then be missing.
            if (collected.away or collected.missing) and not await self._still_waits(ref):
                return None
            done = await self._archiver.archive(ref, [part.number for part in recording.parts], _talk_ms(recording))
        except ArchiveFault as fault:
            log.error("archive_failed", session_id=ref.session_id, recording_id=recording.id, code=fault.code)
            if fault.passing and not self._hopeless(recording.id, fault.code):
                return None
            lost = fault.code == NO_CAPTURE and (collected.away or collected.missing)
            return ArchiveFailed(recording.id, recording.broken or (PARTS_LOST if lost else fault.code))
        reason = PARTS_LOST if collected.away or collected.missing else None
        archive = {**done.archive, "marks": marks_to_json(await self._marks(ref, recording))}
        return RecordingArchived(recording.id, done.duration_ms, archive, reason)

    async def _marks(self, ref: RecordingRef, recording: Recording) -> Sequence[Mark]:
        detail = await self._history.session(ref.tenant, ref.session_id)
        return () if detail is None else marks_of(recording, detail.events)

    async def _still_waits(self, ref: RecordingRef) -> bool:
        session = await self._store.session(ref.session_id)
        return session is not None and any(r.id == ref.recording_id and _waits(r) for r in session.recordings)

    def _hopeless(self, recording_id: str, code: str) -> bool:
        """A full disk may be emptied some day; a job that crashes each time is a fault that no wait will mend."""
        if code not in CRASHES:
            return False
        self._crashes[recording_id] = self._crashes.get(recording_id, 0) + 1
        return self._crashes[recording_id] >= MAX_CRASHES

    async def sweep_spool(self) -> int:
        """Forget captured parts whose archive is safe, and files that were never finished: a process may die before
        either is done. Returns how many recordings' parts."""
        swept = 0
        for left in await self._archiver.left_parts():
            ref = left.recording
            if left.worker_id is not None and not self._nodes.mine(ref.recording_id):
                continue
            row = await self._history.recording(ref.tenant, ref.recording_id)
            if row is not None and row.state == RecordingState.READY:
                await self._archiver.discard_parts(ref, [left.worker_id] if left.worker_id is not None else [])
                swept += 1
        if self._nodes.mine(HALVES) and (halves := await self._archiver.sweep()):
            log.info("half_archives_swept", files=halves)
        return swept

    # --- RecordingFiles ---

    async def file(self, tenant: str, recording_id: str, side: Side) -> FileReady | Rendering:
        """Raises NotReady, Unreadable."""
        row = await self._history.recording(tenant, recording_id)
        if row is None or row.state != RecordingState.READY:
            raise NotReady
        sealed = bool((row.archive or {}).get("sealed"))  # rows of older versions do not say
        ref = RecordingRef(tenant, row.session_id, recording_id, sealed)
        sound = await self._open(ref, side)
        if sound is None and side == "stereo":
            for one in SIDES:  # what can't be opened can't be rendered either, and it is told why
                opened = await self._open(ref, one)
                if opened is not None:
                    await asyncio.to_thread(opened.close)
            await self._render(ref)
            sound = await self._open(ref, side)
            if sound is None and recording_id in self._rendering:
                return Rendering(retry_after_s=1)
        if sound is None:
            raise NotReady
        etag = dict(row.archive or {}).get(side, {}).get("sha256") or sound.tag
        ending = FILE_ENDINGS[sound.media_type]
        return FileReady(sound, etag, sound.media_type, f"{recording_id}-{side}.{ending}")

    async def _open(self, ref: RecordingRef, side: Side) -> Sound | None:
        """Raises Unreadable."""
        try:
            return await asyncio.to_thread(self._archiver.open, ref, side)
        except (SoundDamaged, OSError) as error:
            log.error("recording_not_opened", session_id=ref.session_id, recording_id=ref.recording_id, why=str(error))
            raise Unreadable(str(error)) from error

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
            log.error("stereo_failed", session_id=ref.session_id, recording_id=ref.recording_id, code=fault.code)
        except Exception:
            log.exception("stereo_job_failed", session_id=ref.session_id, recording_id=ref.recording_id)
        finally:
            self._rendering.pop(ref.recording_id, None)


def _talk_ms(recording: Recording) -> int | None:
    """How long the recording should be; None for one that its worker could not write to the end, and says so."""
    if recording.ended_at is None or recording.broken is not None:
        return None
    return max(0, recording.ended_at - recording.started_at)


def _waits(recording: Recording) -> bool:
    """For its archive."""
    return recording.state is RecordingState.ARCHIVING
