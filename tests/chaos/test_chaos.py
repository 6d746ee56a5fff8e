"""The runs of `make chaos` at a size that `make test` has time for: the same parts, faults and invariants."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.chaos.__main__ import measure_rolling, measure_storm, seed
from tests.chaos.check import UNTIMED
from tests.chaos.storm import Size
from tests.helpers.invariants import Verdict

SIZE = Size(calls=20, waiting=40, busy=6, seconds=60.0)
CALLS = 8


def assert_hold(verdicts: Sequence[Verdict]) -> None:
    for verdict in verdicts:
        print(verdict)
    assert all(verdict.holds for verdict in verdicts), [str(v) for v in verdicts if not v.holds]


@pytest.mark.timeout(420)
async def test_no_session_is_lost_in_a_storm(tmp_path: Path) -> None:
    verdicts, _, _ = await measure_storm(tmp_path, SIZE, seed(), UNTIMED)
    assert_hold(verdicts)


@pytest.mark.timeout(300)
async def test_nobody_is_hung_up_on_in_a_rolling_restart(tmp_path: Path) -> None:
    verdicts, _, _ = await measure_rolling(tmp_path, CALLS, seed(), UNTIMED)
    assert_hold(verdicts)
