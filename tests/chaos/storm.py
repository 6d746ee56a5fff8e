"""The storm: live calls and a long queue, while control nodes are killed, Redis restarts and is flushed, and
PostgreSQL crashes. Afterwards everybody goes home in good order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.people import Desk
from tests.chaos.stage import Stage, in_turns, now_ms, seen, stage
from tests.helpers.whereabouts import whereabouts

KILL_EVERY_S = (5.0, 10.0)
TALK_S = (12.0, 35.0)  # of the agents who take one call after the other
ABANDON_EVERY_S = (2.0, 5.0)
SET_UP_S = 90.0
CALM_S = 60.0  # for everything to be as it was before the storm; it takes a tenth of that
ARCHIVES_S = 180.0


@dataclass(frozen=True)
class Size:
    """`calls` agents, each in a call; `busy` of them change calls. `waiting`: customers in the queue besides."""

    calls: int = 50
    waiting: int = 200
    busy: int = 10
    seconds: float = 180.0


async def storm(scene: Stage, size: Size) -> dict[str, float]:
    """Play it; figures of the run. Afterwards no session is open."""
    await scene.staff(size.calls)
    await scene.callers(size.calls + size.waiting)
    await seen(lambda: scene.talks == size.calls, SET_UP_S, "every agent in a call")
    await seen(lambda: len(scene.waiting) + len(scene.gone) == size.waiting, SET_UP_S, "all others in the queue")
    await scene.callers(len(scene.gone))  # who gave up while a busy machine set up the others
    cpu_s, began = await scene.peers.cpu_s(), asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        over = asyncio.Event()
        people = [
            group.create_task(_abandon(scene, over), name="who loses patience"),
            *(
                group.create_task(_change_calls(scene, desk, over), name=desk.login)
                for desk in scene.desks[: size.busy]
            ),
        ]
        faults = [
            group.create_task(_kill(scene, size.seconds)),
            group.create_task(_once("Redis restarted", scene.redis.restart, size.seconds / 3)),
            group.create_task(_once("Redis flushed", scene.redis.flush, size.seconds / 2)),
            group.create_task(_crash_postgres(scene, size.seconds * 2 / 3)),
        ]
        await asyncio.sleep(size.seconds)  # the storm's length is what is asked for
        await asyncio.wait(faults)
        over.set()
        late = (await asyncio.wait(people, timeout=CALM_S))[1]
        assert not late, f"{[task.get_name() for task in late]} at it {CALM_S} s after the storm:\n{whereabouts()}"
    lasted_s = asyncio.get_running_loop().time() - began
    cpu = (await scene.peers.cpu_s() - cpu_s) / lasted_s
    await scene.patchbay.ready()
    await seen(lambda: scene.talks == size.calls, CALM_S, "every agent in a call again")
    await _go_home(scene)
    return {"peers_cpu": cpu, "peers": len(scene.waiting) + 2 * size.calls}


async def _kill(scene: Stage, seconds: float) -> None:
    """Kill a control node each few seconds, if another is there."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (wait_s := scene.dice.uniform(*KILL_EVERY_S)) < end - loop.time():
        await asyncio.sleep(wait_s)
        ready = await scene.nodes_ready()
        if len(ready) > 1:
            scene.kills.append(now_ms())
            scene.patchbay.parts[victim := scene.dice.choice(ready)].process.kill()  # type: ignore[union-attr]  # it runs
            print(f"killed {victim}")


async def _once(name: str, fault: Callable[[], None], after_s: float) -> None:
    await asyncio.sleep(after_s)
    fault()
    print(name)


async def _crash_postgres(scene: Stage, after_s: float) -> None:
    await asyncio.sleep(after_s)
    await scene.restart_postgres(immediate=True)
    began, ended = scene.outages[-1]
    print(f"PostgreSQL was away for {ended - began} ms")


async def _change_calls(scene: Stage, desk: Desk, over: asyncio.Event) -> None:
    """Talk, hang up, wrap up, and take the next."""
    while not over.is_set():
        contact = desk.talking()
        if contact is not None:
            await asyncio.sleep(scene.dice.uniform(*TALK_S))
            if not over.is_set():
                await desk.finish(contact["segment_id"], scene.disposition_id)
        await asyncio.sleep(0.2)


async def _abandon(scene: Stage, over: asyncio.Event) -> None:
    """Now and then somebody loses patience, and somebody else calls."""
    while not over.is_set():
        await asyncio.sleep(scene.dice.uniform(*ABANDON_EVERY_S))
        await scene.dice.choice(scene.waiting).leave()
        await scene.callers(1)


async def _go_home(scene: Stage) -> None:
    """Who waits hangs up, so that nobody is offered any more; then calls end, half of them from each side."""
    for desk in scene.desks:  # who is freed takes no other call
        await desk.go_offline()
    await in_turns((customer.leave() for customer in scene.waiting), 20)

    async def part(number: int, desk: Desk) -> None:
        contact = desk.talking()
        if contact is None:
            return
        if number % 2:
            await scene.customers[contact["session_id"]].leave()
        await desk.finish(contact["segment_id"], scene.disposition_id)

    # A few at a time: a recording ends when the order reaches the worker, so a burst makes all of them longer.
    await in_turns((part(number, desk) for number, desk in enumerate(scene.desks)), 4)
    await scene.all_done(ARCHIVES_S)


@asynccontextmanager
async def after_storm(folder: Path, size: Size, seed: int) -> AsyncIterator[tuple[Stage, dict[str, float]]]:
    async with stage(folder, seed) as scene:
        yield scene, await storm(scene, size)
