"""Which node goes first: the same on all, and only what was a dead node's moves."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from server.domain.rendezvous import owner

NODES = ["nod_a", "nod_b", "nod_c"]
KEYS = [f"ses_{number}" for number in range(3000)]


def test_the_order_in_which_nodes_are_named_does_not_matter() -> None:
    assert all(owner(key, NODES) == owner(key, NODES[::-1]) for key in KEYS)
    assert owner("x", []) is None


def test_every_node_gets_its_share() -> None:
    shares = Counter(owner(key, NODES) for key in KEYS)
    assert all(800 < shares[node] < 1200 for node in NODES), shares


@given(st.text(max_size=20), st.sampled_from(NODES))
def test_only_a_dead_nodes_things_move(key: str, dead: str) -> None:
    before, after = owner(key, NODES), owner(key, [node for node in NODES if node != dead])
    assert after == before or before == dead
