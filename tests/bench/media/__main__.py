"""What a recorded call costs the relay: `python -m tests.bench.media` → bench/out/media.json.

A worker pinned to one core, the load on another. Only the worker's threads are billed, by /proc/PID/task/*/schedstat.
Calls a core: 1000 ms by the CPU ms that one call takes a second, at the largest size. The latency holds the load's
own delay, so it means something on an otherwise idle machine only. Figures of rtpengine and of finalising: not yet."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from server.domain.media import LegUp, OpenLeg, RecordingOrder, ReleaseSession
from tests.bench.media.load import Browser, Load, Phone, Ready, compile_load, prepare_aiortc
from tests.bench.report import Figure, at_least, at_most, percentile, report
from tests.helpers.rtc_peer import Rig, running

SIZES = (50,)
WARM_S, WINDOW_S, WINDOWS = 2.0, 4.0, 3  # less than 30 s together: the load answers no STUN
SPEAK_EVERY_S = 0.1
AT_ONCE = 4  # set-ups in flight


@dataclass
class Run:
    """One kind of calls at one size; CPU in ms."""

    per_call_second: list[float] = field(default_factory=list)  # one a window
    latencies_ms: list[float] = field(default_factory=list)
    sent: int = 0
    received: int = 0
    set_up_per_leg: float = 0.0
    kb_per_call: float = 0.0


def cpu_ms(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e6


def resident_kb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


async def connect(rig: Rig, session: str, agent: Browser | Phone) -> list[Ready]:
    """One bridged, recorded call."""
    caller, legs = rig.caller(session), []
    await caller.bridge(RecordingOrder(f"r-{session}", 1, "customer", "agent"))
    for leg_id, peer in (("customer", Browser()), ("agent", agent)):
        result = await caller.order(OpenLeg(leg_id, 1, await peer.offer(), plain=isinstance(peer, Phone)))
        legs.append(await peer.answer(result.sdp or ""))
        up = asyncio.create_task(rig.listener.until_report(LegUp(leg_id, 1), session=session))
        while not up.done():
            await peer.speak()
            await asyncio.wait({up}, timeout=SPEAK_EVERY_S)
        await up
    return legs


async def measure(library: ctypes.CDLL, phones: bool, calls: int) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), "--bind", "127.0.0.1", "--capacity", "2000", "--log-level", "error") as rig:
            assert rig.worker.process is not None
            pid = rig.worker.process.pid
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), {0})
            return await _measure(library, rig, pid, phones, calls)


async def _measure(library: ctypes.CDLL, rig: Rig, pid: int, phones: bool, calls: int) -> Run:
    gate, run = asyncio.Semaphore(AT_ONCE), Run()

    async def one(session: str) -> list[Ready]:
        async with gate:
            return await connect(rig, session, Phone() if phones else Browser())

    await one("first")  # imports and first uses are nobody's set-up
    await rig.caller("first", epoch=2).order(ReleaseSession())
    cpu, memory = cpu_ms(pid), resident_kb(pid)
    legs = [leg for call in await asyncio.gather(*(one(f"s{n}") for n in range(calls))) for leg in call]
    run.set_up_per_leg = (cpu_ms(pid) - cpu) / len(legs)
    load = Load(library, legs)
    await asyncio.sleep(WARM_S)
    skipped, (sent, received) = len(load.latencies_ms()), load.counts()
    for _ in range(WINDOWS):
        began, cpu = time.monotonic(), cpu_ms(pid)
        await asyncio.sleep(WINDOW_S)
        run.per_call_second.append((cpu_ms(pid) - cpu) / (time.monotonic() - began) / calls)
    run.kb_per_call = (resident_kb(pid) - memory) / calls
    run.latencies_ms = load.latencies_ms(skipped)
    sent_now, received_now = load.counts()
    run.sent, run.received = sent_now - sent, received_now - received
    load.stop()
    return run


async def benchmark(sizes: list[int]) -> None:
    prepare_aiortc()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        library = compile_load(Path(folder))
        runs = {(kind, n): await measure(library, kind == "rtp", n) for n in sizes for kind in ("webrtc", "rtp")}
    cost = {key: percentile(run.per_call_second, 0.5) for key, run in runs.items()}
    most, all_runs = max(sizes), list(runs.values())
    latencies = [ms for run in all_runs for ms in run.latencies_ms]
    delivered = 100 * sum(run.received for run in all_runs) / sum(run.sent for run in all_runs)
    calm = runs["webrtc", most]
    figures = [
        Figure(f"relay_calls_per_core_webrtc_{kind}", round(1000 / cost[kind, most], 1), "", None, None)
        for kind in ("rtp", "webrtc")
    ]
    figures += [
        at_most("added_latency_p99_ms", percentile(latencies, 0.99), "ms", 5),
        at_least("delivery_percent", delivered, "%", 99.99),
        Figure("set_up_cpu_ms_per_leg", round(calm.set_up_per_leg, 2), "ms", None, None),
        Figure("kb_per_call", round(calm.kb_per_call, 1), "KB", None, None),
    ]
    if {50, 300} <= set(sizes):
        figures.append(at_most("cost_ratio_300_to_50_calls", cost["webrtc", 300] / cost["webrtc", 50], "", 1.2))
    report("media", figures, {f"{kind}_{n}_ms": run.per_call_second for (kind, n), run in runs.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, nargs="+", default=list(SIZES), help="sizes to measure at")
    asyncio.run(benchmark(parser.parse_args().calls))


if __name__ == "__main__":
    main()
