"""The clock of a process under jumps, sleep and drift."""

from __future__ import annotations

from server.clock import SLEW, MonotonicClock

S = 1_000_000_000
HOUR = 3600 * S


class Machine:
    def __init__(self) -> None:
        self.steady, self.wall = 5 * S, 1_800_000_000 * S
        self.clock = MonotonicClock(lambda: self.steady, lambda: self.wall)

    def passes(self, ns: int, *, wall: int | None = None) -> None:
        self.steady += ns
        self.wall += ns if wall is None else wall


def test_a_jump_of_the_wall_clock_moves_no_timer() -> None:
    for jump in (HOUR, -HOUR):
        machine = Machine()
        before = machine.clock.now_ms()
        machine.wall += jump
        machine.passes(20 * S)
        assert abs(machine.clock.now_ms() - before - 20_000) <= 20_000 * SLEW + 1


def test_it_never_runs_backwards() -> None:
    machine = Machine()
    machine.wall -= HOUR
    seen = [machine.clock.now_ms()]
    for _ in range(1000):
        machine.passes(S // 100)
        seen.append(machine.clock.now_ms())
    assert seen == sorted(seen)


def test_a_slow_drift_is_followed() -> None:
    machine = Machine()
    for _ in range(3600):
        machine.passes(S, wall=S + S // 10_000)  # a quartz that is 100 ppm off
    assert abs(machine.clock.now_ms() - machine.wall // 1_000_000) <= 1


def test_a_machine_that_slept_has_slept_for_its_deadlines_too() -> None:
    machine = Machine()
    before = machine.clock.now_ms()
    machine.passes(HOUR)  # CLOCK_BOOTTIME counts it
    assert machine.clock.now_ms() - before == 3_600_000
