"""The rolling restart: each process of the deployment in turn, under live calls. Nobody is hung up on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.check import Limits, gaps
from tests.chaos.stage import Stage, in_turns, seen, stage
from tests.chaos.storm import ARCHIVES_S, SET_UP_S
from tests.helpers.invariants import Talk, Verdict
from tests.helpers.system import until

CALLS = 20
EXIT_S = 60.0  # what the product promises of a drain
SETTLE_S = 1.0  # of sound after each restart, so that a gap it left would be seen before the next


@dataclass
class Restart:
    """Of one process: `began` and `ended` (it is back) by the monotonic clock, s; `exit_s` until it was gone."""

    name: str
    began: float
    ended: float = 0.0
    exit_s: float = 0.0
    status: int | None = None


@dataclass
class Rolled:
    """`kept`: calls that were still connected at the end of all."""

    calls: int
    kept: int = 0
    restarts: list[Restart] = field(default_factory=list)


async def roll(scene: Stage, calls: int) -> Rolled:
    """Play it. Afterwards no session is open."""
    rolled = Rolled(calls)
    await scene.staff(calls)
    await scene.callers(calls)
    await seen(lambda: scene.talks == calls, SET_UP_S, "every agent in a call")
    for name in (*scene.patchbay.control_parts, *scene.patchbay.media_parts):
        await _restart(scene, name, rolled)
    await _timed(rolled, "postgres", scene.restart_postgres(immediate=False))
    await _timed(rolled, "redis", asyncio.to_thread(scene.redis.stop, 15))
    scene.redis.start()
    await scene.patchbay.ready()
    await asyncio.sleep(SETTLE_S)
    rolled.kept = await scene.one("SELECT COUNT(*) FROM session WHERE state = 'connected'")
    for desk in scene.desks:
        await desk.go_offline()

    async def part(desk_number: int) -> None:
        desk = scene.desks[desk_number]
        contact = desk.talking()
        if contact is not None:
            await desk.finish(contact["segment_id"], scene.disposition_id)

    await in_turns((part(number) for number in range(calls)), 4)
    await scene.all_done(ARCHIVES_S)
    return rolled


async def _timed(rolled: Rolled, name: str, work: Awaitable[object]) -> None:
    restart = Restart(name, time.monotonic(), status=0)
    rolled.restarts.append(restart)
    await work
    restart.ended = time.monotonic()
    await asyncio.sleep(SETTLE_S)


async def _restart(scene: Stage, name: str, rolled: Rolled) -> None:
    """SIGTERM, wait until it has drained and gone, start it again, wait until it is back among the others."""
    part = scene.patchbay.parts[name]
    restart = Restart(name, time.monotonic())
    rolled.restarts.append(restart)
    restart.exit_s = await part.stop(timeout_s=EXIT_S)
    assert part.process is not None
    restart.status = part.process.returncode
    began = await scene.one("SELECT MAX(seen_at) FROM node")
    await part.start()
    await scene.patchbay.ready()
    every = ",".join(sorted(scene.patchbay.media_parts))

    async def back() -> bool:
        """Every node beats, and reaches every worker."""
        query = "SELECT COUNT(DISTINCT name) FROM node WHERE seen_at > ? AND NOT draining AND workers = ?"
        return bool(await scene.one(query, began, every) == len(scene.patchbay.control_parts))

    await until(back, EXIT_S, f"{name} is back", every_s=0.2)
    restart.ended = time.monotonic()
    print(f"{name}: gone after {restart.exit_s:.1f} s with status {restart.status}, back after "
          f"{restart.ended - restart.began:.1f} s")  # fmt: skip
    await asyncio.sleep(SETTLE_S)


def verdicts(rolled: Rolled, talks: list[Talk], limits: Limits) -> list[Verdict]:
    """Nobody was hung up on, all went in good order, and what each restart did to the sound."""
    kept = Verdict("nobody is hung up on")
    kept.check(rolled.kept == rolled.calls, f"{rolled.kept} of {rolled.calls} calls were still connected at the end")
    gone = Verdict("each process goes by itself", unit="s")
    for restart in rolled.restarts:
        gone.worst = round(max(gone.worst, restart.exit_s), 1)
        gone.check(restart.status == 0, f"{restart.name} ended with {restart.status} after {restart.exit_s:.1f} s")
    moves = [(r.began, r.ended) for r in rolled.restarts if r.name.startswith("media")]
    return [
        kept,
        gone,
        gaps(
            "sound over restarts of control nodes, PostgreSQL, Redis",
            _during(talks, moves, inside=False),
            limits.control_gap_s,
        ),
        gaps("sound over restarts of media workers", _during(talks, moves, inside=True), limits.worker_gap_s),
    ]


def _during(talks: list[Talk], spans: list[tuple[float, float]], *, inside: bool) -> list[Talk]:
    """The talks with only those gaps that touch one of the spans, or with the others."""

    def touches(length: float, at: float) -> bool:
        return any(at <= ended and at + length >= began for began, ended in spans)

    return [
        Talk(t.segment_id, t.side, t.began, t.ended, t.set_up_s, [g for g in t.gaps if touches(*g) == inside])
        for t in talks
    ]


@asynccontextmanager
async def rolled_over(folder: Path, seed: int, calls: int = CALLS) -> AsyncIterator[tuple[Stage, Rolled]]:
    async with stage(folder, seed) as scene:
        yield scene, await roll(scene, calls)
