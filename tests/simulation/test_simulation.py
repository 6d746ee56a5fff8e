"""Universes from seeds, and each seed that once failed."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.simulation.universe import SESSIONS, Outcome, run

SEEDS = 200
PROCESSES = 2
FAILED_ONCE = [
    int(line.split()[0])
    for line in Path(__file__).with_name("failed_seeds.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.timeout(3000)  # the lane that waits for idle time: tools/test-lanes
def test_invariants_hold_in_every_universe() -> None:
    seeds = sorted({*range(SEEDS), *FAILED_ONCE})
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        outcomes = list(pool.map(run, seeds, chunksize=5))
    assert [outcome for outcome in outcomes if outcome.fault] == []
    assert sum(outcome.sessions for outcome in outcomes) == SESSIONS * len(seeds)
    assert sum(outcome.offers for outcome in outcomes) > SESSIONS * len(seeds) // 2, "most get as far as an agent"


def test_a_seed_is_the_same_universe_everywhere() -> None:
    """In this process twice, and in one that hashes otherwise."""
    code = "from tests.simulation.universe import run; o = run(7); print(o.digest, o.steps)"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    here: list[Outcome] = [run(7), run(7)]
    assert {f"{outcome.digest} {outcome.steps}" for outcome in here} == {elsewhere.stdout.strip()}
    assert run(8).digest != here[0].digest
