"""Archive jobs for a control node: one subprocess at a time, niced, with a time limit.

jobs = ArchiveJobs()
result = await jobs.archive([part_files(spool, tenant, session, recording, 1)], customer_out, agent_out)
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from server.media.archive import ArchivedFile, ArchiveError, ArchiveResult
from server.media.archive_files import JobKeys, write_keys
from server.media.capture import PartFiles
from server.media.vault import Seal

log = structlog.get_logger(__name__)

NICENESS = 10  # live calls come first
TIMEOUT_S = 600.0  # an hour of call takes about 10 s
NO_KEYS = JobKeys()


@dataclass(frozen=True, slots=True)
class StereoResult:
    """A rendered stereo file."""

    path: str
    sha256: str
    size_bytes: int
    duration_ms: int


class ArchiveJobs:
    """Runs `python -m server.media.archive`. Cancelling a call kills its process."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._one_at_a_time = asyncio.Semaphore(1)

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
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "server.media.archive", *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
            except (OSError, AttributeError):
                log.warning("archive_not_niced")
            try:
                async with asyncio.timeout(self._timeout_s):
                    output, errors = await process.communicate(write_keys(keys))
            except TimeoutError:
                raise ArchiveError("timeout", f"no result within {self._timeout_s} s") from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await asyncio.shield(process.wait())
        try:
            answer = json.loads(output)
            ok = answer.pop("ok")
        except (ValueError, AttributeError, KeyError):
            tail = errors.decode(errors="replace")[-500:]
            raise ArchiveError("internal", f"the job ended with {process.returncode}: {tail}") from None
        if not ok:
            raise ArchiveError(answer["code"], answer["message"])
        return dict(answer)
