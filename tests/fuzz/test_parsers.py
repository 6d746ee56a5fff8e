"""A few of the inputs of `make fuzz`, and that it would notice."""

from __future__ import annotations

import random

from tests.fuzz.run import fuzz, fuzz_all

INPUTS = 5_000


async def test_no_parser_raises() -> None:
    found = await fuzz_all(INPUTS, seed=1)
    assert set(found) == {"RTP", "RTCP", "STUN", "SDP", "phone's socket"}
    for name, tally in found.items():
        assert not tally.failures, (name, tally.failures)
        assert tally.inputs == INPUTS
        assert 0 < tally.taken < INPUTS, f"{name}: the inputs are neither all good nor all bad"


async def test_a_fault_would_be_found() -> None:
    def faulty(dice: random.Random) -> bool:
        return 1 // dice.randrange(100) > 0

    tally = await fuzz("faulty", faulty, 1000, seed=1)
    assert 0 < tally.failed < 100
    assert "ZeroDivisionError" in tally.failures[0]
