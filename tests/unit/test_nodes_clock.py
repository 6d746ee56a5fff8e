"""Whose time a node takes when it starts: the database's, unless nodes that live go by another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from server.clock import DatabaseClock
from server.services import nodes
from server.services.nodes import Nodes
from server.services.ports import NodeRow, StepStore

NOW_MS = 1_800_000_000_000


class Machine:
    """A steady clock that looking at the database moves on, and what two looks show of another node: its seen_at."""

    def __init__(self, *seen_ms: int) -> None:
        self.steady_ms = 5_000
        self._seen = list(seen_ms)

    def steady_ns(self) -> int:
        return self.steady_ms * 1_000_000

    async def time_ms(self) -> int:
        return NOW_MS + self.steady_ms - 5_000

    async def nodes(self) -> Sequence[NodeRow]:
        row = NodeRow("nod_other", "other", 0, self._seen.pop(0), False, ())
        self.steady_ms += 1_600
        return [row]

    async def beat(self, row: NodeRow) -> Sequence[NodeRow]:
        return []


@pytest.mark.parametrize(
    ("first_ms", "then_ms", "taken_ms"),
    [
        (NOW_MS - 100, NOW_MS + 1_000, 0),
        (NOW_MS - 60_000, NOW_MS - 60_000, 0),  # dead
        (NOW_MS - 3_000, NOW_MS + 200, 0),  # late with its beat: it goes by the same time
        (NOW_MS - 4_000, NOW_MS - 300, 0),  # as above: its beat was on its way
        (NOW_MS - 3_600_000, NOW_MS - 3_598_400, -3_600_000),  # it lives an hour ago
        (NOW_MS + 3_600_000, NOW_MS + 3_601_600, 3_600_000),
    ],
)
async def test_the_time_that_a_starting_node_takes(
    monkeypatch: pytest.MonkeyPatch, first_ms: int, then_ms: int, taken_ms: int
) -> None:
    monkeypatch.setattr(nodes, "LOOK_AGAIN_S", 0)
    machine = Machine(first_ms, then_ms)
    clock = DatabaseClock(machine.steady_ns, lambda: NOW_MS * 1_000_000)
    node = Nodes(cast(StepStore, cast(Any, machine)), clock, "own", clock)
    await node.start()
    right_ms = NOW_MS + machine.steady_ms - 5_000 + taken_ms
    assert abs(clock.now_ms() - right_ms) <= nodes.CLOCKS_APART_MS
    assert taken_ms or clock.now_ms() == right_ms
