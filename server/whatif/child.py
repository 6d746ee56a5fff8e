"""Plays what-if jobs in a child process: neither the node's loop nor its memory has to do with it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict

import structlog

from server.services.admin_ports import NotPlayed, WhatIfJob

log = structlog.get_logger()
TIME_LIMIT_S = 45.0  # below the minute after which balancers give up on an answer


class ChildPlayer:
    """`WhatIfPlayer`. One job at a time on a node: the machine is there for calls."""

    def __init__(self, database_url: str, time_limit_s: float = TIME_LIMIT_S) -> None:
        self._database_url = database_url
        self._time_limit_s = time_limit_s
        self._playing = False

    async def play(self, job: WhatIfJob) -> Mapping[str, object]:
        if self._playing:
            raise NotPlayed("whatif_busy", "another what-if is being played on this node; try again in a minute")
        self._playing = True
        try:
            return await self._play(job)
        finally:
            self._playing = False

    async def _play(self, job: WhatIfJob) -> Mapping[str, object]:
        asked = json.dumps(asdict(job) | {"database_url": self._database_url}).encode()
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "server.whatif.player",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(self._time_limit_s):
                printed, _ = await child.communicate(asked)
        except TimeoutError:
            message = f"it takes longer than {self._time_limit_s:g} s; choose fewer days"
            raise NotPlayed("whatif_too_long", message) from None
        finally:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
        if child.returncode != 0:
            log.error("whatif_failed", exit_status=child.returncode)
            raise NotPlayed("whatif_failed", "playing it failed; the node's log says why")
        said: dict[str, object] = json.loads(printed)
        if "refused" in said:
            faults = said["faults"]
            assert isinstance(faults, list)
            raise NotPlayed(str(said["refused"]), str(said["message"]), tuple(map(str, faults)))
        found = said["answer"]
        assert isinstance(found, dict)
        return found
