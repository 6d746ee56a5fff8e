"""Which media worker takes a session: by legs and by CPU, never one that is full or drains."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from server.services.placement import FULL_CPU, LATE_S, by_room, fullness
from server.services.ports import WorkerInfo

IDLE = WorkerInfo("a", "1", 0, 100)


def names(*workers: WorkerInfo) -> list[str]:
    return [worker.worker_id for worker in by_room(workers)]


def test_the_one_with_the_most_room_by_legs_or_by_cpu() -> None:
    half, busy = replace(IDLE, worker_id="half", load=50), replace(IDLE, worker_id="busy", load=10, cpu_share=0.6)
    assert names(busy, half, IDLE) == ["a", "half", "busy"]


def test_one_that_is_late_comes_last_and_is_better_than_none() -> None:
    late = replace(IDLE, worker_id="late", loop_lag_s=2 * LATE_S)
    assert names(late, replace(IDLE, load=90)) == ["a", "late"]
    assert names(late) == ["late"]


def test_who_takes_nothing() -> None:
    full = replace(IDLE, load=100)
    hot = replace(IDLE, cpu_share=FULL_CPU)
    assert names(full, hot, replace(IDLE, draining=True), replace(IDLE, capacity=0, load=1)) == []


workers = st.builds(
    WorkerInfo, st.sampled_from("abcd"), st.just("1"), st.integers(0, 200), st.integers(0, 200), st.booleans(),
    st.none() | st.floats(0, 5), st.none() | st.floats(0, 1),
)  # fmt: skip


@given(st.lists(workers, max_size=6))
def test_who_is_left_has_room_and_nobody_in_time_comes_after_one_who_is_late(given_: list[WorkerInfo]) -> None:
    found = by_room(given_)
    assert all(not worker.draining and worker.load < max(1, worker.capacity) for worker in found)
    in_time = [fullness(worker) for worker in found if (worker.loop_lag_s or 0) <= LATE_S]
    assert in_time == sorted(in_time)
    assert [(w.loop_lag_s or 0) > LATE_S for w in found] == sorted((w.loop_lag_s or 0) > LATE_S for w in found)
