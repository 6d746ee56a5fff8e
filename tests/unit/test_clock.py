"""The clock of a process under jumps, sleep and drift."""

from __future__ import annotations

from server.clock import SLEW, DatabaseClock, MonotonicClock

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


class Node:
    """A process beside a database; both have clocks of their own."""

    def __init__(self, apart_ns: int = 0) -> None:
        self.steady = 5 * S
        self.database = 1_800_000_000 * S
        self.clock = DatabaseClock(lambda: self.steady, lambda: self.database + apart_ns)

    def passes(self, ns: int, *, database: int | None = None) -> None:
        self.steady += ns
        self.database += ns if database is None else database

    def ask(self, *, outright: bool = False, way_ns: int = 0) -> None:
        asked = self.clock.stamp_ns()
        self.passes(way_ns // 2)
        told = self.database // 1_000_000
        self.passes(way_ns // 2)
        self.clock.tell(told, asked, outright=outright)

    @property
    def apart_ms(self) -> int:
        return self.clock.now_ms() - self.database // 1_000_000


def test_a_node_goes_by_the_databases_clock_from_its_start() -> None:
    node = Node(apart_ns=HOUR)
    node.ask(outright=True, way_ns=S // 50)
    assert abs(node.apart_ms) <= 1, "half of the way there and back is taken into account"


def test_a_slow_drift_of_the_database_is_followed() -> None:
    node = Node()
    for _ in range(360):
        node.passes(10 * S, database=10 * S + S // 1000)
        node.ask()
        node.clock.now_ms()
    assert abs(node.apart_ms) <= 2


def test_a_database_clock_that_jumps_is_not_followed() -> None:
    for jump in (HOUR, -HOUR):
        node = Node()
        node.ask(outright=True)
        before = node.clock.now_ms()
        node.database += jump
        for _ in range(6):
            node.passes(10 * S)
            node.ask()
        assert abs(node.clock.now_ms() - before - 60_000) <= 1
        node.database -= jump
        node.passes(10 * S)
        node.ask()
        assert abs(node.apart_ms) <= 1, "set right again, it is followed as before"
