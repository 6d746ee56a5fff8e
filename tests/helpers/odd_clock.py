"""Patchbay on a machine whose clock is an hour ahead, beside a database whose clock jumps.
`python -m tests.helpers.odd_clock serve …` in place of `python -m server …`.

ODD_AHEAD_S: how far this machine's wall clock is ahead. ODD_JUMP: a file; once it is there the database shows an hour
more."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from server.__main__ import main
from server.storage.postgres_steps import PostgresSteps

HOUR_MS = 3_600_000
_time_ns, _time_ms = time.time_ns, PostgresSteps.time_ms


def time_ns() -> int:
    return _time_ns() + int(os.environ.get("ODD_AHEAD_S", "0")) * 1_000_000_000


async def time_ms(self: PostgresSteps) -> int:
    jumped = Path(os.environ["ODD_JUMP"]).exists()
    return await _time_ms(self) + (HOUR_MS if jumped else 0)


if __name__ == "__main__":
    time.time_ns = time_ns
    PostgresSteps.time_ms = time_ms  # type: ignore[method-assign]  # what this file is for
    main(sys.argv[1:])
