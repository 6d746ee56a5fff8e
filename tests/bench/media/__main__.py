"""What a recorded call costs the relay, and rtpengine: `python -m tests.bench.media` → bench/out/media.json.

Servers on one core, the load on another. Only the server's threads are billed, by /proc/PID/task/*/schedstat; a call of
a second is 100 packets that arrived, so that what a full server drops makes it no cheaper. Calls a core: 1000 ms by the
CPU ms of a call's second. The two servers hold their calls at one time and are spoken through in turn: a machine that
is slow now is slow for both; medians. Without rtpengine its figures are left out (tools/bench-packages installs it).

The latency holds the load's own delay, so it means something on an otherwise idle machine only. Finalising is the
archive's job over recordings of this run, its start (a Python of its own) included."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.media.engines import Engine, Relay, relay, rtpengine
from tests.bench.media.load import Load, Ready, compile_load, prepare_aiortc
from tests.bench.report import Figure, at_least, at_most, percentile, report

RIVALS = 100  # calls, browser to phone, on each of the two servers
FEW, MANY = 50, 300
FINALISED = 40  # recordings; a busy node makes 200 of them in one process
WARM_S, WINDOW_S = 1.0, 3.0
WINDOWS = 5
AT_ONCE = 4  # set-ups in flight


@dataclass
class Run:
    """One server's calls; CPU in ms."""

    per_call_second: list[float] = field(default_factory=list)  # one a window
    latencies_ms: list[float] = field(default_factory=list)
    sent: int = 0
    received: int = 0
    set_up_per_leg: float = 0.0
    kb_per_call: float = 0.0

    @property
    def cost(self) -> float:
        return percentile(self.per_call_second, 0.5)


def cpu_ms(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e6


def resident_kb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


async def open_calls(engine: Engine, phones: bool, calls: int, run: Run) -> list[Ready]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(session: str) -> list[Ready]:
        async with gate:
            return await engine.connect(session, phones)

    spare = await one("first")  # imports and first uses are nobody's set-up
    if isinstance(engine, Relay):
        await engine.release("first")
    del spare
    cpu, memory = cpu_ms(engine.pid), resident_kb(engine.pid)
    legs = [leg for call in await asyncio.gather(*(one(f"s{n}") for n in range(calls))) for leg in call]
    run.set_up_per_leg = (cpu_ms(engine.pid) - cpu) / len(legs)
    run.kb_per_call = (resident_kb(engine.pid) - memory) / calls
    return legs


async def measure(library: ctypes.CDLL, engines: Sequence[Engine], phones: bool, calls: int) -> list[Run]:
    """The same calls on each server, which speak in turn."""
    runs = [Run() for _ in engines]
    groups = [await open_calls(engine, phones, calls, run) for engine, run in zip(engines, runs, strict=True)]
    load = Load(library, groups)
    for _ in range(WINDOWS):
        for group, (engine, run) in enumerate(zip(engines, runs, strict=True)):
            load.speak(group)
            await asyncio.sleep(WARM_S)
            heard, cpu, (sent, received) = load.heard(), cpu_ms(engine.pid), load.counts(group)
            await asyncio.sleep(WINDOW_S)
            used, (sent_now, received_now) = cpu_ms(engine.pid) - cpu, load.counts(group)
            run.latencies_ms += load.latencies_ms(heard)
            run.sent, run.received = run.sent + sent_now - sent, run.received + received_now - received
            run.per_call_second.append(100 * used / max(1, received_now - received))
            load.speak(-1)
            await asyncio.sleep(WARM_S / 5)  # what is on its way
    load.stop()
    return runs


async def rivals(library: ctypes.CDLL, calls: int) -> tuple[Run, Run | None, list[float]]:
    """Ours, rtpengine's, and what finalising costs."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = await stack.enter_async_context(relay(folder))
        theirs = await stack.enter_async_context(rtpengine(folder))
        engines: list[Engine] = [ours] if theirs is None else [ours, theirs]
        runs = await measure(library, engines, True, calls)
        finalised = await ours.finalise([f"s{number}" for number in range(FINALISED)])
        return runs[0], runs[1] if theirs is not None else None, finalised


async def alone(library: ctypes.CDLL, phones: bool, calls: int) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        async with relay(Path(folder)) as engine:
            return (await measure(library, [engine], phones, calls))[0]


async def benchmark(rival_calls: int, sizes: tuple[int, int]) -> None:
    prepare_aiortc()
    few, many = sizes
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        library = compile_load(Path(folder))
        ours, theirs, finalised = await rivals(library, rival_calls)
        browsers = await alone(library, False, few)
        at_few, at_many = await alone(library, True, few), await alone(library, True, many)
    named = {"relay_rtp": ours, "relay_webrtc": browsers, f"relay_rtp_{few}": at_few, f"relay_rtp_{many}": at_many}
    delivered = 100 * sum(run.received for run in (ours, browsers)) / sum(run.sent for run in (ours, browsers))
    figures = [Figure("relay_calls_per_core_webrtc_rtp", round(1000 / ours.cost, 1), "", None, None)]
    if theirs is None:
        print("rtpengine is not installed: not measured (tools/bench-packages)")
    else:
        named["rtpengine_rtp"] = theirs
        figures += [
            Figure("rtpengine_calls_per_core_webrtc_rtp", round(1000 / theirs.cost, 1), "", None, None),
            at_least("relay_to_rtpengine_ratio", theirs.cost / ours.cost, "", 0.7),
        ]
    figures += [
        Figure("relay_calls_per_core_webrtc_webrtc", round(1000 / browsers.cost, 1), "", None, None),
        at_most("added_latency_p99_ms", percentile(ours.latencies_ms, 0.99), "ms", 5),
        at_least("delivery_percent", delivered, "%", 99.99),
        at_most(f"cost_ratio_{many}_to_{few}_calls", at_many.cost / at_few.cost, "", 1.2),
        Figure("set_up_cpu_ms_per_leg", round(browsers.set_up_per_leg, 2), "ms", None, None),
        at_most("finalise_cpu_ms_per_call_second", percentile(finalised, 0.5), "ms", 0.5),
        Figure("kb_per_call", round(browsers.kb_per_call, 1), "KB", None, None),
    ]
    for name, run in named.items():
        if run.received < 0.99 * run.sent:
            print(f"{name}: only {100 * run.received / run.sent:.1f} % arrived, its server had too little of a core")
    samples = {f"{name}_ms": run.per_call_second for name, run in named.items()}
    samples |= {f"{name}_delivery": [100 * run.received / run.sent] for name, run in named.items()}
    samples |= {f"{name}_latency_p99_ms": [percentile(run.latencies_ms, 0.99)] for name, run in named.items()}
    report("media", figures, samples | {"finalise_ms": finalised, "took_s": [time.monotonic() - began]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rivals", type=int, default=RIVALS, help="calls on each of the two servers")
    parser.add_argument(
        "--sizes", type=int, nargs=2, default=(FEW, MANY), help="few and many calls, for the cost's growth"
    )
    arguments = parser.parse_args()
    asyncio.run(benchmark(arguments.rivals, tuple(arguments.sizes)))


if __name__ == "__main__":
    main()
