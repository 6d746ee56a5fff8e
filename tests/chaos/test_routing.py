"""The run of `make chaos-router` at a size that `make test` has time for: the same parts, faults and invariants."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.__main__ import seed
from tests.chaos.routing import Size, measure
from tests.chaos.routing_check import UNTIMED
from tests.chaos.test_chaos import assert_hold

SIZE = Size(agents=30, waiting=40, seconds=40.0, kill_every_s=(5.0, 9.0), calm_s=25.0)


@pytest.mark.timeout(300)
async def test_routing_keeps_its_promises_while_nodes_and_redis_fail(tmp_path: Path) -> None:
    verdicts, _ = await measure(tmp_path, SIZE, seed(), UNTIMED)
    assert_hold(verdicts)
