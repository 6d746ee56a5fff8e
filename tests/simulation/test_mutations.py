"""The simulation notices planted bugs, each within SEEDS universes."""

from __future__ import annotations

import pytest

from tests.simulation.mutations import MUTATIONS
from tests.simulation.universe import run

SEEDS = 40


def caught_by(name: str, seeds: int = SEEDS) -> tuple[int, str] | None:
    """The first seed that notices a planted bug, and what it says."""
    with MUTATIONS[name]():
        for seed in range(seeds):
            outcome = run(seed)
            if outcome.fault is not None:
                return seed, outcome.fault
    return None


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_planted_bug_is_caught(name: str) -> None:
    assert caught_by(name) is not None


def test_there_are_enough_of_them() -> None:
    assert len(MUTATIONS) >= 15
