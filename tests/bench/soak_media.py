"""Whether a media worker keeps anything of calls that are over: `make soak-media` → bench/out/soak_media.json.

A real worker, light peers, and the real engine's client. Calls come in waves, since a worker that holds none between
them shows what is left: each is opened, recorded, heard on both sides, and released. Memory, file descriptors, sockets
and threads are those of the worker with its mixer's process."""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvloop

from server.domain.media import LegUp, PartClosed, RecordingOrder, ReleaseSession, Source
from tests.bench.report import Figure, at_most, report
from tests.helpers.light_peer import LightPeers, light_peers
from tests.helpers.rtc_peer import Caller, Rig, running
from tests.helpers.system import until

CALLS = 720
WAVE = 12
WARM_WAVES = 15  # allocators and caches reach their size
SET_UP_S = 30.0
MIXED_EVERY = 6  # in a wave: one of so many calls goes through the mixer


@dataclass(frozen=True, slots=True)
class Held:
    """What the worker holds while it carries no call. Memory is the anonymous part of the proportional set size: how
    much of the libraries' pages is ours changes with whoever else maps them."""

    calls: int
    memory_kb: int
    descriptors: int
    threads: int


async def soak(folder: Path, calls: int = CALLS) -> list[Held]:
    """What is held before the first call, and after each wave. Raises TimeoutError for a call that does not come up or
    does not end."""
    async with running(folder) as rig, light_peers() as peers:
        assert rig.worker.process is not None
        held = [look(rig.worker.process.pid, 0)]
        for first in range(0, calls, WAVE):
            wave = range(first, min(first + WAVE, calls))
            async with asyncio.TaskGroup() as group:
                for number in wave:
                    group.create_task(_call(rig, peers, number))
            await until(lambda: _empty(rig), SET_UP_S, "the worker holds nothing")
            rig.listener.reports.clear()
            rig.listener.telemetry.clear()
            held.append(look(rig.worker.process.pid, wave.stop))
    return held


async def _empty(rig: Rig) -> bool:
    """No leg, and no socket of one that says goodbye: the load comes with the next telemetry."""
    legs = await rig.engine.list_legs(rig.worker.worker_id)
    return not legs and all(info.load == 0 for info in rig.engine.connected())


async def _call(rig: Rig, peers: LightPeers, number: int) -> None:
    session_id = f"s{number}"
    caller = Caller(rig.engine, rig.worker.worker_id, session_id)
    customer, agent = peers.make(2 * number, "customer"), peers.make(2 * number + 1, "agent")
    await caller.open("customer", customer)
    await caller.open("agent", agent)
    recording = RecordingOrder(f"rec{number}", 1, "customer", "agent")
    routes = [("customer", "agent"), ("agent", "customer")]
    if number % MIXED_EVERY == 0:  # the customer hears two sources, so they are mixed
        routes.append(("customer", Source.HOLD_MUSIC))
    await caller.plan(*routes, recording=recording)
    for leg_id in ("customer", "agent"):
        await rig.listener.until_report(LegUp(leg_id, 1), SET_UP_S, session_id)
    for peer in (customer, agent):
        await peer.wait_for(lambda heard: True, SET_UP_S)
    await caller.order(ReleaseSession())
    await rig.listener.until_report(PartClosed(f"rec{number}", 1), SET_UP_S, session_id)
    await asyncio.gather(customer.close(), agent.close())


def look(pid: int, calls: int) -> Held:
    """What a process and its children hold now."""
    memory, descriptors, threads = 0, 0, 0
    for each in _family(pid):
        process = Path(f"/proc/{each}")
        rollup = (process / "smaps_rollup").read_text().splitlines()
        memory += next(int(line.split()[1]) for line in rollup if line.startswith("Pss_Anon:"))
        descriptors += len(list((process / "fd").iterdir()))
        threads += len(list((process / "task").iterdir()))
    return Held(calls, memory, descriptors, threads)


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))


def figures_of(held: list[Held]) -> list[Figure]:
    """Growth from the end of the warm-up to the end: medians of the waves of its first and its last third, so that one
    wave's chance decides nothing."""
    steady = held[WARM_WAVES:]
    third = max(1, len(steady) // 3)
    first, last = steady[:third], steady[-third:]
    memory = statistics.median(h.memory_kb for h in last) - statistics.median(h.memory_kb for h in first)
    calls = statistics.median(h.calls for h in last) - statistics.median(h.calls for h in first)
    return [
        Figure("calls_opened_and_closed", held[-1].calls, "", None, None),
        at_most("memory_growth_kb_per_call", memory / calls, "KiB", 1.0),
        at_most("descriptors_left", max(h.descriptors for h in last) - first[0].descriptors, "", 0),
        at_most("threads_left", max(h.threads for h in last) - first[0].threads, "", 0),
        Figure("memory_at_the_end", held[-1].memory_kb, "KiB", None, None),
    ]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        held = uvloop.run(soak(Path(folder)))
    print("calls  memory, KiB  descriptors  threads")
    for h in held[:: max(1, len(held) // 12)]:
        print(f"{h.calls:5}  {h.memory_kb:11}  {h.descriptors:11}  {h.threads:7}")
    figures = figures_of(held)
    samples = {name: [float(getattr(h, name)) for h in held] for name in ("memory_kb", "descriptors", "threads")}
    report("soak_media", figures, samples)
    return 1 if any(figure.holds is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
