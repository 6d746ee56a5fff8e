"""What every router store promises. The memory twin runs here; Redis joins by adding itself to `stores`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.domain.router_state import Claim, FreeAgent, WaitingSession
from server.routing.memory_store import MemoryRouterStore
from server.services.ports import RouterStore
from tests.helpers.fuzz import examples

T = "default"
stores = pytest.mark.parametrize("make", [MemoryRouterStore])
Make = Callable[[], RouterStore]


def waiting(number: int) -> WaitingSession:
    return WaitingSession(f"ses_{number}", "que_1", (5, number, f"ses_{number}"))


async def filled(make: Make) -> RouterStore:
    store = make()
    for number in (2, 1):
        await store.put_waiting(T, waiting(number))
    for name in ("a", "b"):
        await store.put_free(T, FreeAgent(f"usr_{name}", 0))
    return store


@stores
async def test_sessions_come_in_their_order(make: Make) -> None:
    store = await filled(make)
    assert [w.session_id for w in (await store.state(T, 0)).waiting] == ["ses_1", "ses_2"]


@stores
async def test_a_claim_takes_both_until_it_ends(make: Make) -> None:
    store = await filled(make)
    assert await store.claim(T, Claim("ses_1", "usr_a", "r1", 100), 0)
    assert not await store.claim(T, Claim("ses_1", "usr_b", "r2", 100), 0), "the session is claimed"
    assert not await store.claim(T, Claim("ses_2", "usr_a", "r3", 100), 0), "the agent is claimed"
    assert await store.claim(T, Claim("ses_1", "usr_a", "r1", 100), 0), "a repeated request gets its first answer"
    assert await store.claim(T, Claim("ses_1", "usr_b", "r2", 200), 100), "its time is over"
    await store.release(T, "r2")
    await store.release(T, "r2")
    assert (await store.state(T, 100)).claims == ()


@stores
async def test_what_is_gone_can_not_be_claimed(make: Make) -> None:
    store = await filled(make)
    await store.drop_waiting(T, "ses_1", 0)
    await store.drop_free(T, "usr_a", 0)
    assert not await store.claim(T, Claim("ses_1", "usr_b", "r1", 100), 0)
    assert not await store.claim(T, Claim("ses_2", "usr_a", "r2", 100), 0)


@stores
async def test_tenants_do_not_meet(make: Make) -> None:
    store = await filled(make)
    assert (await store.state("other", 0)).waiting == ()
    assert not await store.claim("other", Claim("ses_1", "usr_a", "r1", 100), 0)


@stores
async def test_a_rebuild_replaces_all_and_keeps_claims(make: Make) -> None:
    store = await filled(make)
    assert await store.claim(T, Claim("ses_1", "usr_a", "r1", 100), 0)
    await store.replace_all(T, await store.mark(T), [waiting(1), waiting(3)], [FreeAgent("usr_a", 0)])
    state = await store.state(T, 0)
    assert [w.session_id for w in state.waiting] == ["ses_1", "ses_3"]
    assert [c.request_id for c in state.claims] == ["r1"]


names = st.integers(0, 3)
commands = st.lists(
    st.one_of(
        st.tuples(st.just("put"), names, names),
        st.tuples(st.just("drop"), names, names),
        st.tuples(st.just("free"), names, names),
        st.tuples(st.just("gone"), names, names),
        st.tuples(st.just("claim"), names, names),
        st.tuples(st.just("release"), names, names),
        st.tuples(st.just("time"), names, names),
    ),
    max_size=40,
)


@stores
@settings(max_examples=examples(100), deadline=None)
@given(history=commands)
def test_any_history_gives_each_session_and_agent_at_most_one_claim(
    make: Make, history: list[tuple[str, int, int]]
) -> None:
    async def run() -> None:
        store, now = make(), 0
        for request, (what, x, y) in enumerate(history):
            match what:
                case "put":
                    await store.put_waiting(T, waiting(x))
                case "drop":
                    await store.drop_waiting(T, f"ses_{x}", 0)
                case "free":
                    await store.put_free(T, FreeAgent(f"usr_{y}", now))
                case "gone":
                    await store.drop_free(T, f"usr_{y}", 0)
                case "claim":
                    await store.claim(T, Claim(f"ses_{x}", f"usr_{y}", f"r{request}", now + 50), now)
                case "release":
                    await store.release(T, f"r{x}")
                case _:
                    now += 30
            claims = (await store.state(T, now)).claims
            assert len({c.session_id for c in claims}) == len(claims)
            assert len({c.agent_id for c in claims}) == len(claims)
            assert all(c.expires_at > now for c in claims)

    asyncio.run(run())
