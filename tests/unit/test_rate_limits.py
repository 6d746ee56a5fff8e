"""Token buckets: bursts, refill, bounded memory, and what counts as one client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.clock import ManualClock
from server.services.rate_limits import Rate, RateLimit, address_key


def test_a_burst_then_the_rate() -> None:
    clock = ManualClock()
    limit = RateLimit(Rate(burst=3, period_s=30), clock)
    assert [limit.take("a") for _ in range(4)] == [0, 0, 0, 10]
    assert limit.take("b") == 0
    clock.advance(10)
    assert [limit.take("a"), limit.take("a")] == [0, 10]


def test_giving_back() -> None:
    limit = RateLimit(Rate(burst=1, period_s=30), ManualClock())
    limit.take("a")
    limit.give_back("a")
    limit.give_back("never seen")
    assert [limit.take("a"), limit.take("a")] == [0, 30]


def test_memory_is_bounded() -> None:
    limit = RateLimit(Rate(burst=1, period_s=30), ManualClock(), max_keys=10)
    for number in range(1000):
        limit.take(str(number))
    assert len(limit) == 10


@given(waits=st.lists(st.floats(0, 20), max_size=60))
def test_never_more_than_burst_and_rate_allow(waits: list[float]) -> None:
    clock = ManualClock()
    limit = RateLimit(Rate(burst=5, period_s=10), clock)
    passed, taken = 0.0, 0
    for wait in waits:
        clock.advance(wait)
        passed += wait
        taken += limit.take("a") == 0
    assert taken <= 5 + passed * 0.5 + 1


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("local", "local"),
    ],
)
def test_one_client(address: str, key: str) -> None:
    assert address_key(address) == key
