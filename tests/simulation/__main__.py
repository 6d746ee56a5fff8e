"""`make simulate-soak SEEDS=10000`: many universes, and the planted bugs -> bench/out/simulate.json."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.simulation.mutations import MUTATIONS
from tests.simulation.test_mutations import caught_by
from tests.simulation.universe import Outcome, run

OUT = Path("bench/out/simulate.json")
TELL_EVERY = 100
BATCH = 5


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    options.add_argument("--seeds", type=int, default=10_000, help="how many universes, of 100 sessions each")
    options.add_argument("--first", type=int, default=0, help="the first seed")
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--no-mutations", action="store_true", help="leave the planted bugs out")
    chosen = options.parse_args()
    began = time.monotonic()
    done: list[Outcome] = []
    for outcome in universes(range(chosen.first, chosen.first + chosen.seeds), chosen.processes):
        done.append(outcome)
        if outcome.fault is not None:
            print(f"seed {outcome.seed}, {outcome.virtual_s:.1f} s: {outcome.fault}", flush=True)
        if len(done) % TELL_EVERY == 0:
            print(f"{len(done)} universes, {len(done) / (time.monotonic() - began):.2f} a second", flush=True)
    result = figures(done, time.monotonic() - began, chosen.processes)
    if not chosen.no_mutations:
        result["planted_bugs_caught_by_seed"] = {name: (caught_by(name) or (None,))[0] for name in MUTATIONS}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 1 if result["failed_seeds"] else 0


def universes(seeds: range, processes: int) -> Iterator[Outcome]:
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from pool.map(run, seeds, chunksize=BATCH)


def figures(done: list[Outcome], seconds: float, processes: int) -> dict[str, object]:
    return {
        "universes": len(done),
        "sessions": sum(outcome.sessions for outcome in done),
        "offers": sum(outcome.offers for outcome in done),
        "commits": sum(outcome.commits for outcome in done),
        "steps": sum(outcome.steps for outcome in done),
        "virtual_hours": round(sum(outcome.virtual_s for outcome in done) / 3600, 1),
        "seconds": round(seconds, 1),
        "processes": processes,
        "cores": os.cpu_count(),
        "cpu_seconds": round(sum(outcome.cpu_s for outcome in done), 1),
        "universes_per_cpu_second": round(len(done) / sum(outcome.cpu_s for outcome in done), 2),
        "universes_per_second": round(len(done) / seconds, 2),
        "steps_per_second": round(sum(outcome.steps for outcome in done) / seconds),
        "failed_seeds": {str(outcome.seed): outcome.fault for outcome in done if outcome.fault is not None},
    }


if __name__ == "__main__":
    sys.exit(main())
