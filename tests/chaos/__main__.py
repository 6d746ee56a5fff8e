"""`make chaos`: the storm and the rolling restart at full size, a table of what held, bench/out/chaos.json. The exit
status is 1 when an invariant is broken. CHAOS_SEED chooses the storm, CHAOS_SECONDS its length, CHAOS_FOLDER where the
logs of all processes stay."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import structlog

from tests.bench.report import Figure, at_most, percentile, report
from tests.chaos import rolling, storm
from tests.chaos.check import PROMISED, Limits, gaps, look
from tests.chaos.storm import Size
from tests.helpers.invariants import Talk, Verdict


def seed() -> int:
    """Of this run: CHAOS_SEED, or a new one."""
    return int(os.environ.get("CHAOS_SEED") or secrets.randbelow(1_000_000))


async def measure_storm(
    folder: Path, size: Size, chosen: int, limits: Limits = PROMISED
) -> tuple[list[Verdict], list[Figure], list[Talk]]:
    print(f"storm: CHAOS_SEED={chosen}, {size}")
    async with storm.after_storm(folder, size, chosen) as (scene, cpu):
        log, verdicts, talks = await look(scene, limits)
        verdicts.append(gaps("sound over kills of nodes, Redis, PostgreSQL", talks, limits.control_gap_s))
        figures = [
            Figure("storm: sessions", len(log.sessions), "", None, None),
            Figure("storm: talks", len(talks) // 2, "", None, None),
            Figure("storm: control nodes killed", len(scene.kills), "", None, None),
            Figure("storm: PostgreSQL away", sum(b - a for a, b in scene.outages) / 1000, "s", None, None),
            Figure("storm: offers missed", sum(desk.missed for desk in scene.desks), "", None, None),
            Figure("storm: CPU of a peer", round(1000 * cpu["peers_cpu"] / cpu["peers"], 2), "ms/s", None, None),
            *_of_talks("storm", talks),
        ]
    return verdicts, figures, talks


async def measure_rolling(
    folder: Path, calls: int, chosen: int, limits: Limits = PROMISED
) -> tuple[list[Verdict], list[Figure], list[Talk]]:
    async with rolling.rolled_over(folder, chosen, calls) as (scene, rolled):
        _, verdicts, talks = await look(scene, limits, parts=True)
        verdicts += rolling.verdicts(rolled, talks, limits)
        drains = [restart.exit_s for restart in rolled.restarts if restart.exit_s]
        figures = [
            Figure("rolling: live calls", rolled.calls, "", None, None),
            at_most("rolling: slowest drain", max(drains), "s", rolling.EXIT_S),
            *_of_talks("rolling", talks),
        ]
    return verdicts, figures, talks


def _of_talks(scene: str, talks: Sequence[Talk]) -> list[Figure]:
    longest, set_up = [talk.longest_s for talk in talks], [talk.set_up_s for talk in talks]
    shares = ((0.5, "p50"), (0.99, "p99"), (1.0, "max"))
    return [
        *(Figure(f"{scene}: longest gap, {name}", round(percentile(longest, share), 3), "s", None, None)
          for share, name in shares),
        Figure(f"{scene}: set-up of sound, p99", round(percentile(set_up, 0.99), 3), "s", None, None),
    ]  # fmt: skip


def faults(scene: str, verdicts: Sequence[Verdict]) -> list[Figure]:
    """A figure of each verdict: its faults, and how much was looked at."""
    return [Figure(f"{scene}: faults: {v.name}", len(v.faults), f"of {v.looked_at}", "<= 0", v.holds) for v in verdicts]


async def main() -> int:
    chosen = seed()
    size = Size(seconds=float(os.environ.get("CHAOS_SECONDS", Size.seconds)))
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(os.environ.get("CHAOS_FOLDER", passing))
        (folder / "storm").mkdir(parents=True)
        (folder / "rolling").mkdir()
        stormed = await measure_storm(folder / "storm", size, chosen)
        rolled = await measure_rolling(folder / "rolling", rolling.CALLS, chosen)
    figures: list[Figure] = [Figure("seed", chosen, "", None, None)]
    samples: dict[str, list[float]] = {}
    for scene, (verdicts, measured, talks) in (("storm", stormed), ("rolling", rolled)):
        for verdict in verdicts:
            print(verdict)
        figures += [*measured, *faults(scene, verdicts)]
        samples[f"{scene}_longest_gap_s"] = sorted(talk.longest_s for talk in talks)
    report("chaos", figures, samples)
    return 0 if all(verdict.holds for verdict in (*stormed[0], *rolled[0])) else 1


def quiet() -> None:
    """Hundreds of lines that break are what this is about: each says so."""
    logging.getLogger("engineio.client").setLevel(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


if __name__ == "__main__":
    quiet()
    sys.exit(asyncio.run(main()))
