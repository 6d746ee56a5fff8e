"""`python -m server.whatif.player`: plays one job in a process of its own, which its parent may end at any time.

A job comes on standard input and its answer goes to standard output, both JSON:

    {"database_url", "tenant", "since", "until", "now", "seed", "change"}
    {"answer": see answer.py} or {"refused": code, "message", "faults": [line]}; codes: nothing_to_play, bad_change
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from typing import Any

from server.storage.engine import create_engine
from server.whatif.answer import answer
from server.whatif.faults import BadFile
from server.whatif.past import NothingToPlay
from server.whatif.replay import play, recorded

NICENESS = 15  # calls go first
MEMORY_BYTES = 2 * 1024**3  # a busy center's month takes less; beyond it the job fails, and nothing else on the machine
CPU_S = 90  # should the parent die, which ends it sooner


async def done(job: dict[str, Any]) -> dict[str, object]:
    engine = create_engine(job["database_url"])
    try:
        replay = await recorded(engine, job["tenant"], job["since"], job["until"], job["now"], job["seed"])
    except NothingToPlay as reason:
        return {"refused": "nothing_to_play", "message": str(reason), "faults": []}
    finally:
        await engine.dispose()
    past = replay.recorded
    known, drawn = (past.left, past.drawn) if past is not None else (0, 0)
    try:
        return {"answer": answer(play(replay, job["change"] or None), replay.queue_names, known, drawn)}
    except BadFile as bad:
        return {"refused": "bad_change", "message": "the change can't be used", "faults": list(bad.faults)}


def main() -> None:
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    json.dump(asyncio.run(done(json.load(sys.stdin))), sys.stdout)


if __name__ == "__main__":
    main()
