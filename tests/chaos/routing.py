"""`make chaos-router`: five minutes in which control nodes are killed and restarted at random under load, and Redis
restarts twice, the second time empty. Afterwards everybody goes home, and the database is asked what happened: a table
of what held, bench/out/chaos_router.json. The exit status is 1 when an invariant is broken. CHAOS_SEED chooses the
storm, CHAOS_SECONDS its length, CHAOS_AGENTS how many there are, CHAOS_FOLDER where the logs of all processes stay.

What is said of time (order, deadlines, waits) is said of a machine that has cores left: the figure `cores idle`."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop

from tests.bench.report import Figure, report
from tests.chaos.__main__ import faults, seed
from tests.chaos.routing_check import PROMISED, Limits, look
from tests.chaos.routing_stage import Center, center
from tests.helpers.invariants import Verdict
from tests.helpers.system import until

ARRIVALS_EVERY_S = 0.04  # at the fastest: the beginning is no storm
SET_UP_S, HOME_S = 60.0, 60.0


@dataclass(frozen=True)
class Size:
    """`waiting` customers are there at any time, beside those who talk with one of the `agents`. `kill_every_s`: from,
    to."""

    agents: int = 120
    waiting: int = 150
    seconds: float = 300.0
    kill_every_s: tuple[float, float] = (12.0, 25.0)  # a node is back after some 3 s, and what it left after 10
    calm_s: float = 0.0  # at the end, under the same load: without faults, what they excuse is excused no more


async def storm(scene: Center, size: Size) -> None:
    """Play it. Afterwards no session is open."""
    arrivals = scene.group.create_task(_come(scene, size.waiting))

    async def backlog() -> bool:
        return len(scene.waiting) >= size.waiting

    await until(backlog, SET_UP_S, "a backlog")
    async with asyncio.TaskGroup() as group:
        group.create_task(_kill(scene, size))
        group.create_task(_redis(scene, size.seconds / 3, empty=False))
        group.create_task(_redis(scene, size.seconds * 2 / 3, empty=True))
    await asyncio.sleep(size.calm_s)
    arrivals.cancel()
    await scene.patchbay.ready()
    for guest in scene.waiting[::2]:  # the others are served
        guest.loses_patience()
        await asyncio.sleep(ARRIVALS_EVERY_S)
    await until(lambda: _nobody_waits(scene), HOME_S, "nobody waits")
    for seat in scene.seats:
        seat.going_home = True
    await until(lambda: _done(scene), HOME_S, "every session done", every_s=0.5)
    await until(lambda: _all_offline(scene), HOME_S, "every agent offline, so that nothing changes any more")


async def _come(scene: Center, waiting: int) -> None:
    """Whoever leaves the queue is followed by another."""
    while True:
        if len(scene.waiting) < waiting:
            scene.comes()
        await asyncio.sleep(ARRIVALS_EVERY_S)


async def _kill(scene: Center, size: Size) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + size.seconds
    while (wait_s := scene.dice.uniform(*size.kill_every_s)) < end - loop.time():
        await asyncio.sleep(wait_s)
        ready = await scene.nodes_ready()
        if len(ready) > 1:
            scene.kill(victim := scene.dice.choice(ready))
            print(f"killed {victim}", flush=True)
    await asyncio.sleep(end - loop.time())


async def _redis(scene: Center, after_s: float, *, empty: bool) -> None:
    await asyncio.sleep(after_s)
    await asyncio.to_thread(scene.restart_redis, empty=empty)
    print("Redis restarted, empty" if empty else "Redis restarted", flush=True)


async def _nobody_waits(scene: Center) -> bool:
    return not scene.waiting


async def _done(scene: Center) -> bool:
    return bool(await scene.one("SELECT COUNT(*) FROM session WHERE NOT done") == 0)


async def _all_offline(scene: Center) -> bool:
    return all(seat.agent["state"] == "offline" for seat in scene.seats)


@asynccontextmanager
async def after_storm(folder: Path, size: Size, chosen: int) -> AsyncIterator[Center]:
    print(f"routing storm: CHAOS_SEED={chosen}, {size}", flush=True)
    async with center(folder, chosen, size.agents) as scene:
        await storm(scene, size)
        yield scene


async def measure(
    folder: Path, size: Size, chosen: int, limits: Limits = PROMISED
) -> tuple[list[Verdict], list[Figure]]:
    idle_s, began = _idle_s(), time.monotonic()
    async with after_storm(folder, size, chosen) as scene:
        idle = (_idle_s() - idle_s) / (time.monotonic() - began)
        verdicts, figures = await asyncio.to_thread(look, scene, limits)
        cores = Figure("router: cores idle", round(idle, 2), f"of {os.cpu_count()}", None, None)
        return verdicts, [*figures, cores, *faults("router", verdicts)]


def _idle_s() -> float:
    """Of all cores since the machine started; Linux."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


async def main() -> int:
    chosen = seed()
    agents = int(os.environ.get("CHAOS_AGENTS", Size.agents))
    size = Size(agents, agents * 5 // 4, float(os.environ.get("CHAOS_SECONDS", Size.seconds)))
    with tempfile.TemporaryDirectory() as passing:
        verdicts, figures = await measure(Path(os.environ.get("CHAOS_FOLDER", passing)), size, chosen)
    for verdict in verdicts:
        print(verdict)
    report("chaos_router", [Figure("seed", chosen, "", None, None), *figures], {})
    return 0 if all(verdict.holds for verdict in verdicts) else 1


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    sys.exit(uvloop.run(main()))
