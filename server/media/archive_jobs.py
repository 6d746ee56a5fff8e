"""Archive jobs for a control node: one at a time, in a niced process of their own, with a time limit.

    async with ArchiveJobs(idle_s=30) as jobs:
        parts = [part_files(spool, tenant, session, recording, 1)]
        result = await jobs.archive(parts, customer_out, agent_out)

The process is kept for the next job, since its start costs as much as a minute of a call: for `idle_s`, and KEPT_JOBS
at most, so that whatever a job leaves behind is bounded. One that fails, hangs or is given up goes with its process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import structlog

from server.media.archive import ArchivedFile, ArchiveError, ArchiveResult
from server.media.archive_files import JobKeys, keys_to_json
from server.media.capture import PartFiles
from server.media.vault import Seal

log = structlog.get_logger(__name__)

NICENESS = 10  # live calls come first
TIMEOUT_S = 600.0  # an hour of call takes about 10 s
KEPT_JOBS = 200
ANSWER_BYTES = 1 << 20
LAST_WORDS = 500  # characters of what a process wrote before it ended
NO_KEYS = JobKeys()


@dataclass(frozen=True, slots=True)
class StereoResult:
    """A rendered stereo file."""

    path: str
    sha256: str
    size_bytes: int
    duration_ms: int


class ArchiveJobs:
    """Runs `python -m server.media.archive`. Cancelling a call kills its process. `idle_s` above 0: `close` is to be
    called at the end, or `async with` used."""

    def __init__(self, timeout_s: float = TIMEOUT_S, idle_s: float = 0.0) -> None:
        self._timeout_s = timeout_s
        self._idle_s = idle_s
        self._one_at_a_time = asyncio.Semaphore(1)
        self._kept: _Worker | None = None
        self._idle: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the process that is kept. Nothing may run any more."""
        if self._idle is not None:
            self._idle.cancel()
            await asyncio.wait([self._idle])
        await self._let_go()

    async def archive(
        self,
        parts: Sequence[PartFiles],
        customer_out: Path,
        agent_out: Path,
        talk_ms: int | None = None,
        seal: Seal | None = None,
    ) -> ArchiveResult:
        """Join parts into one file a side, as long as the talk where that is told, sealed where a seal is given. Raises
        ArchiveError (also with code `timeout`)."""
        arguments = ["archive", "--customer-out", str(customer_out), "--agent-out", str(agent_out)]
        arguments += [] if talk_ms is None else ["--talk-ms", str(talk_ms)]
        for part in parts:
            arguments += ["--part", str(part.customer), str(part.agent)]
        answer = await self._run(arguments, JobKeys(seal))
        sides = [ArchivedFile(**answer.pop(side)) for side in ("customer", "agent")]
        return ArchiveResult(**answer, customer=sides[0], agent=sides[1])

    async def stereo(self, customer: Path, agent: Path, out: Path, keys: JobKeys = NO_KEYS) -> StereoResult:
        """Render left customer, right agent, in Ogg Opus. Raises ArchiveError."""
        arguments = ["stereo", "--customer", str(customer), "--agent", str(agent), "--out", str(out)]
        return StereoResult(**await self._run(arguments, keys))

    async def _run(self, arguments: Sequence[str], keys: JobKeys) -> dict[str, Any]:
        async with self._one_at_a_time:
            answer = await self._ask_kept(arguments, keys) or await self._ask_new(arguments, keys)
        if not answer.pop("ok"):
            raise ArchiveError(answer["code"], answer["message"])
        return answer

    async def _ask_kept(self, arguments: Sequence[str], keys: JobKeys) -> dict[str, Any] | None:
        """None without one, or when it has died: it may have long before."""
        worker, self._kept = self._kept, None
        if worker is None:
            return None
        try:
            return await self._ask(worker, arguments, keys)
        except _NoAnswer as reason:
            log.warning("archive_process_died", reason=str(reason))
            return None

    async def _ask_new(self, arguments: Sequence[str], keys: JobKeys) -> dict[str, Any]:
        try:
            return await self._ask(await _Worker.start(), arguments, keys)
        except _NoAnswer as reason:
            raise ArchiveError("internal", f"the job ended with no answer: {reason}") from None

    async def _ask(self, worker: _Worker, arguments: Sequence[str], keys: JobKeys) -> dict[str, Any]:
        """The process is kept or ended afterwards. Raises _NoAnswer, ArchiveError (timeout)."""
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await worker.answer(arguments, keys)
        except TimeoutError:
            raise ArchiveError("timeout", f"no result within {self._timeout_s} s") from None
        else:
            if self._idle_s and worker.jobs < KEPT_JOBS:
                self._keep(worker)
            return answer
        finally:
            if worker is not self._kept:
                await worker.end()

    def _keep(self, worker: _Worker) -> None:
        self._kept = worker
        if self._idle is None or self._idle.done():
            self._idle = asyncio.create_task(self._watch_idle(), name="idle archive job")

    async def _watch_idle(self) -> None:
        """Let the process go once it has done nothing for `idle_s`."""
        jobs = -1
        while self._kept is None or self._kept.jobs != jobs:
            jobs = -1 if self._kept is None else self._kept.jobs
            await asyncio.sleep(self._idle_s)
        await self._let_go()

    async def _let_go(self) -> None:
        worker, self._kept = self._kept, None
        if worker is not None:
            await worker.end()


class _NoAnswer(Exception):
    """The process has ended; the text is what it wrote last."""


class _Worker:
    """The process. `jobs`: how many it has answered."""

    def __init__(self, process: asyncio.subprocess.Process, errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors
        self.jobs = 0

    @classmethod
    async def start(cls) -> _Worker:
        errors = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed by `end`
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "server.media.archive", limit=ANSWER_BYTES,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        except BaseException:
            errors.close()
            raise
        try:
            os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
        except (OSError, AttributeError):
            log.warning("archive_not_niced")
        return cls(process, errors)

    async def answer(self, arguments: Sequence[str], keys: JobKeys) -> dict[str, Any]:
        """Of one job: {ok, …}. Raises _NoAnswer when the process ends without one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"arguments": list(arguments), "keys": keys_to_json(keys)}
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            await self._process.stdin.drain()
            answer = json.loads(await self._process.stdout.readline())
            assert isinstance(answer["ok"], bool)
        except (OSError, ValueError, TypeError, KeyError, AssertionError):
            raise _NoAnswer(self._last_words()) from None
        self.jobs += 1
        self._errors.truncate(0)
        return dict(answer)

    async def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await asyncio.shield(self._process.wait())
        self._errors.close()

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-LAST_WORDS:]
