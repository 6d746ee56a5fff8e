"""When a mixer that says nothing is one that hangs, and when the machine is just busy."""

from __future__ import annotations

import pytest

from server.media.relay.pulse import HUNG_S, LOOK_S, STARVED_S, Pulse, VitalSigns

SPINS = LOOK_S  # CPU s that an endless loop uses between two looks


def silent_until_hung(pulse: Pulse, state: str, cpu_s_a_look: float) -> float:
    """Seconds of looks until the process counts as one that hangs."""
    for look in range(1, 1000):
        if pulse.look(VitalSigns(state, 100 + look * cpu_s_a_look)):
            return look * LOOK_S
    raise AssertionError("it never does")


def spoken() -> Pulse:
    pulse = Pulse()
    pulse.heard()
    return pulse


@pytest.mark.parametrize(("state", "cpu_s_a_look"), [("T", 0), ("S", 0), ("R", SPINS), ("R", SPINS / 2)])
def test_a_process_that_could_speak_and_does_not_hangs(state: str, cpu_s_a_look: float) -> None:
    """Stopped; waits for something; computes for ever, on half a core as well."""
    assert silent_until_hung(spoken(), state, cpu_s_a_look) == HUNG_S + LOOK_S


@pytest.mark.parametrize("state", ["R", "D"])
def test_one_that_gets_no_core_or_no_memory_has_longer_but_not_for_ever(state: str) -> None:
    assert silent_until_hung(spoken(), state, 0.01) == STARVED_S + LOOK_S


def test_a_busy_one_speaks_now_and_then_and_is_never_killed() -> None:
    pulse = spoken()
    for look in range(1, 600):
        assert not pulse.look(VitalSigns("R", look * SPINS))
        if pulse.silent_s == HUNG_S:
            pulse.heard()


def test_a_start_may_take_long_whatever_it_does() -> None:
    assert silent_until_hung(Pulse(), "R", SPINS) == STARVED_S + LOOK_S
    assert silent_until_hung(Pulse(), "S", 0) == STARVED_S + LOOK_S


def test_nothing_known_counts_as_starved() -> None:
    pulse = spoken()
    looks = next(look for look in range(1, 1000) if pulse.look(None))
    assert looks * LOOK_S == STARVED_S + LOOK_S
