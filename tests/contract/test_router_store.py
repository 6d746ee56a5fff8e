"""What every router store promises: the memory twin, a real Redis and a real Redis Cluster, on the same tests and the
same histories."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis.asyncio import RedisCluster

from server.domain.router_state import Changes, Claim, Entry, Gone, PresentAgent, RouterState, WaitingSession, Word
from server.routing.memory_store import MemoryRouterStore, key_of
from server.routing.redis_connection import connect_redis
from server.routing.redis_store import RedisRouterStore
from server.services.ports import RouterStore
from tests.helpers.fuzz import examples
from tests.helpers.redis_cluster import RedisNodes
from tests.helpers.redis_server import RedisServer

T = "default"
LOGGED = 5  # changes that the log keeps: few, so that a node falls behind
KEPT = 2  # dropped entries that are remembered: few, so that forgetting is a part of the histories


@dataclass(frozen=True)
class Contract:
    store: RouterStore
    flush: Callable[[], None]


@asynccontextmanager
async def redis_store(url: str, dropped_kept: int = KEPT) -> AsyncIterator[RedisRouterStore]:
    redis = connect_redis(url)
    try:
        if isinstance(redis, RedisCluster):
            await redis.initialize()  # 0.1 s as a rule: on a machine that is busy no call's one second
        yield RedisRouterStore(redis, dropped_kept, LOGGED)
    finally:
        await redis.aclose()


@pytest.fixture(params=["memory", "redis", "cluster"])
async def contract(request: pytest.FixtureRequest) -> AsyncIterator[Contract]:
    if request.param == "memory":
        twin = MemoryRouterStore(KEPT, LOGGED)
        yield Contract(twin, twin.flush)
    else:
        server = request.getfixturevalue("redis_server" if request.param == "redis" else "redis_cluster")
        server.flush()
        async with redis_store(server.url) as store:
            yield Contract(store, server.flush)


@pytest.fixture
def store(contract: Contract) -> RouterStore:
    return contract.store


def waiting(number: int, version: int = 0, *, held: bool = False) -> WaitingSession:
    return WaitingSession(
        f"ses_{number}",
        "que_1",
        number,
        number + 1,
        held=held,
        rejected_by=((f"usr_{version}", number),),
        ringing=("usr_r",) * (version % 2),
        away=version % 3 == 1,
        version=version,
    )


def free(name: str, version: int = 0) -> PresentAgent:
    idle_since = 1_700_000_000_000 + version
    return PresentAgent(f"usr_{name}", "ready", ("voice",), idle_since, 5, 6, 7, ((8, 9),), version)


async def claim(store: RouterStore, tenant: str, wanted: Claim, now: int) -> bool:
    (granted,) = await store.claim(tenant, [wanted], now)
    return granted


async def fill(store: RouterStore) -> None:
    for number in (2, 1):
        await store.write(T, [waiting(number)])
    for name in ("b", "a"):
        await store.write(T, [free(name)])


def sessions(state: RouterState) -> list[tuple[str, int]]:
    return [(w.session_id, w.version) for w in state.waiting]


async def test_entries_come_back_as_they_went_in_and_in_their_order(store: RouterStore) -> None:
    await fill(store)
    await store.write(T, [waiting(3, held=True)])
    state = await store.state(T, 0)
    assert state.waiting == (waiting(1), waiting(2), waiting(3, held=True))
    assert state.agents == (free("a"), free("b"))
    assert state.claims == ()


async def test_a_claim_takes_both_until_it_ends(store: RouterStore) -> None:
    await fill(store)
    first = Claim("ses_1", "usr_a", "r1", 100)
    assert await claim(store, T, first, 0)
    assert not await claim(store, T, Claim("ses_1", "usr_b", "r2", 100), 0), "the session is claimed"
    assert not await claim(store, T, Claim("ses_2", "usr_a", "r3", 100), 0), "the agent is claimed"
    assert (await store.state(T, 99)).claims == (first,)
    assert (await store.state(T, 100)).claims == (), "its time is over"
    assert await claim(store, T, Claim("ses_1", "usr_b", "r4", 200), 100)
    await store.release(T, ["r4"])
    await store.release(T, ["r4"])
    assert (await store.state(T, 100)).claims == ()


async def test_a_repeated_request_gets_its_first_answer(store: RouterStore) -> None:
    await fill(store)
    yes, no = Claim("ses_1", "usr_a", "r1", 100), Claim("ses_1", "usr_b", "r2", 100)
    assert await claim(store, T, yes, 0)
    assert await claim(store, T, yes, 10)
    assert not await claim(store, T, no, 10)
    await store.release(T, ["r1"])
    assert not await claim(store, T, no, 20), "it was refused, although it could be granted now"
    assert await claim(store, T, yes, 20), "it was granted"
    assert (await store.state(T, 20)).claims == (), "and a late repetition claims nothing"
    assert not await claim(store, T, replace(yes, agent_id="usr_b"), 20), "the same id for another pair"
    again = Claim("ses_1", "usr_a", "r1", 300)
    assert await claim(store, T, again, 100)
    assert (await store.state(T, 100)).claims == (again,), "answers end with the claim: this is a new one"


async def test_a_claim_that_is_over_is_not_made(store: RouterStore) -> None:
    await fill(store)
    assert not await claim(store, T, Claim("ses_1", "usr_a", "r1", 100), 100)


async def test_what_is_gone_or_held_can_not_be_claimed(store: RouterStore) -> None:
    await fill(store)
    await store.write(T, [Gone(WaitingSession, "ses_1", 0)])
    await store.write(T, [Gone(PresentAgent, "usr_a", 0)])
    await store.write(T, [waiting(3, held=True)])
    assert not await claim(store, T, Claim("ses_1", "usr_b", "r1", 100), 0)
    assert not await claim(store, T, Claim("ses_2", "usr_a", "r2", 100), 0)
    assert not await claim(store, T, Claim("ses_3", "usr_b", "r3", 100), 0)
    assert await claim(store, T, Claim("ses_2", "usr_b", "r4", 100), 0)


async def test_tenants_do_not_meet(store: RouterStore) -> None:
    await fill(store)
    await store.replace_all(T, await store.mark(T), [waiting(1), free("a")])
    assert await store.state("other", 0) == RouterState((), (), (), built=False)
    assert not await claim(store, "other", Claim("ses_1", "usr_a", "r1", 100), 0)


async def test_an_older_word_changes_nothing(store: RouterStore) -> None:
    await store.write(T, [waiting(1, 3)])
    await store.write(T, [waiting(1, 2)])
    await store.write(T, [Gone(WaitingSession, "ses_1", 2)])
    assert sessions(await store.state(T, 0)) == [("ses_1", 3)]
    await store.write(T, [Gone(WaitingSession, "ses_1", 4)])
    await store.write(T, [waiting(1, 3)])
    assert sessions(await store.state(T, 0)) == [], "also after a drop"
    await store.write(T, [waiting(1, 5)])
    assert sessions(await store.state(T, 0)) == [("ses_1", 5)], "a newer one brings it back"
    await store.write(T, [Gone(PresentAgent, "usr_a", 7)])
    await store.write(T, [free("a", 6)])
    assert (await store.state(T, 0)).agents == (), "a drop of what was never there counts, too"


async def test_only_so_many_dropped_entries_are_remembered(store: RouterStore) -> None:
    for number in range(KEPT + 1):
        await store.write(T, [Gone(WaitingSession, f"ses_{number}", 5)])
    for number in range(KEPT + 1):
        await store.write(T, [waiting(number, 4)])
    assert sessions(await store.state(T, 0)) == [("ses_0", 4)], "the oldest is forgotten"


async def test_what_is_there_again_is_not_forgotten(store: RouterStore) -> None:
    await store.write(T, [Gone(WaitingSession, "ses_0", 5)])
    await store.write(T, [waiting(0, 6)])
    for number in range(1, KEPT + 2):
        await store.write(T, [Gone(WaitingSession, f"ses_{number}", 5)])
    await store.write(T, [waiting(0, 4)])
    assert sessions(await store.state(T, 0)) == [("ses_0", 6)]


async def test_what_rebuilds_removed_is_forgotten_too(store: RouterStore) -> None:
    everybody = [waiting(number, 5) for number in range(KEPT + 1)]
    await store.replace_all(T, await store.mark(T), everybody)
    await store.replace_all(T, await store.mark(T), [])
    for number in range(KEPT + 1):
        await store.write(T, [waiting(number, 4)])
    assert sessions(await store.state(T, 0)) == [("ses_0", 4)]


async def test_a_rebuild_replaces_all_and_keeps_claims(store: RouterStore) -> None:
    await fill(store)
    assert not (await store.state(T, 0)).built
    assert await claim(store, T, Claim("ses_1", "usr_a", "r1", 100), 0)
    await store.replace_all(T, await store.mark(T), [waiting(3, 2), waiting(1, 1), free("c", 4)])
    assert await store.state(T, 0) == RouterState(
        (waiting(1, 1), waiting(3, 2)), (free("c", 4),), (Claim("ses_1", "usr_a", "r1", 100),), built=True
    )
    assert not await claim(store, T, Claim("ses_1", "usr_c", "r2", 100), 0), "the claim still holds"


async def test_a_rebuild_leaves_alone_what_changed_since_its_mark(store: RouterStore) -> None:
    for number in (1, 2, 3):
        await store.write(T, [waiting(number, 1)])
    mark = await store.mark(T)
    await store.write(T, [waiting(1, 3)])
    await store.write(T, [Gone(WaitingSession, "ses_2", 3)])
    await store.write(T, [waiting(4, 1)])
    await store.replace_all(T, mark, [waiting(1, 2), waiting(2, 2), waiting(5, 2)])
    assert sessions(await store.state(T, 0)) == [("ses_1", 3), ("ses_4", 1), ("ses_5", 2)], "3 is gone, 4 came"


async def test_an_older_rebuild_does_not_undo_a_newer_one(store: RouterStore) -> None:
    await store.write(T, [waiting(1, 1)])
    await store.write(T, [waiting(2, 1)])
    older = await store.mark(T)
    await store.write(T, [waiting(3, 1)])
    newer = await store.mark(T)
    await store.replace_all(T, newer, [waiting(1, 4), waiting(3, 1)])
    await store.replace_all(T, older, [waiting(1, 2), waiting(2, 1)])
    assert sessions(await store.state(T, 0)) == [("ses_1", 4), ("ses_3", 1)]


async def test_a_flush_is_seen_and_mended(contract: Contract) -> None:
    store = contract.store
    await fill(store)
    await store.replace_all(T, await store.mark(T), [waiting(1), free("a")])
    await claim(store, T, Claim("ses_1", "usr_a", "r1", 100), 0)
    contract.flush()
    assert await store.state(T, 0) == RouterState((), (), (), built=False)
    await store.write(T, [waiting(2)])
    assert not (await store.state(T, 0)).built, "words alone do not make an index whole"
    await store.replace_all(T, await store.mark(T), [waiting(1), waiting(2), free("a")])
    assert await store.state(T, 0) == RouterState((waiting(1), waiting(2)), (free("a"),), (), built=True)
    assert await claim(store, T, Claim("ses_1", "usr_a", "r2", 100), 0)


@pytest.mark.parametrize("words", [1, 10], ids=["a sequence that has grown past it", "one that is behind it"])
async def test_a_mark_from_before_a_flush_counts_as_the_beginning(contract: Contract, words: int) -> None:
    store = contract.store
    for number in range(words):
        await store.write(T, [waiting(number, 1)])
    mark = await store.mark(T)
    contract.flush()
    await store.write(T, [waiting(1, 3)])
    await store.write(T, [Gone(WaitingSession, "ses_2", 3)])
    await store.write(T, [waiting(3, 1)])
    await store.replace_all(T, mark, [waiting(1, 2), waiting(2, 2), waiting(4, 2)])
    assert sessions(await store.state(T, 0)) == [("ses_1", 3), ("ses_3", 1), ("ses_4", 2)]


async def test_a_mark_of_lost_words_counts_as_the_beginning(store: RouterStore) -> None:
    await store.write(T, [waiting(1, 3)])
    await store.replace_all(T, await store.mark(T) + 10, [waiting(1, 2), waiting(2, 2)])
    assert sessions(await store.state(T, 0)) == [("ses_1", 3), ("ses_2", 2)]


async def test_the_log_tells_what_took_effect_and_when_it_can_not(contract: Contract) -> None:
    store = contract.store
    assert (await store.changes(T, 0, "")).lost, "nothing is built"
    await store.replace_all(T, await store.mark(T), [waiting(1, 1), free("a", 1)])
    start = await store.state(T, 0)
    assert await store.changes(T, start.position, start.proof) == Changes(start.position, (), proof=start.proof)
    await store.write(T, [waiting(2, 1), waiting(1, 0), Gone(PresentAgent, "usr_a", 2), Gone(PresentAgent, "usr_b", 2)])
    told = await store.changes(T, start.position, start.proof)
    assert told.words == (waiting(2, 1), Gone(PresentAgent, "usr_a", 2)), "an old word and an empty drop are no changes"
    await store.replace_all(T, await store.mark(T), [waiting(2, 1), waiting(3, 1)])
    again = await store.changes(T, told.position, told.proof)
    assert again.words == (Gone(WaitingSession, "ses_1", 1), waiting(3, 1))
    assert (await store.changes(T, told.position, start.proof)).lost, "something else stands there: the store went back"
    assert (await store.changes(T, told.position + 100, told.proof)).lost, "a position that a failover lost"
    await store.write(T, [waiting(3, 2)])
    second = await store.changes(T, again.position, again.proof)
    for version in range(3, LOGGED + 2):
        await store.write(T, [waiting(3, version)])
    assert (await store.changes(T, again.position, again.proof)).lost, "the log keeps so much and no more"
    newest = await store.state(T, 0)
    kept = await store.changes(T, second.position, second.proof)
    assert newest.position == second.position + LOGGED - 1
    assert [w.version for w in kept.words] == list(range(3, LOGGED + 2))
    contract.flush()
    assert (await store.changes(T, newest.position, newest.proof)).lost
    await store.replace_all(T, await store.mark(T), [])
    assert (await store.changes(T, newest.position, newest.proof)).lost, "positions of before a flush are void"


# --- the same random histories -------------------------------------------------------------------------

Command = tuple[str, int, int, int]
OFTEN = ("put", "put", "free", "free", "claim", "claim", "claim", "drop", "gone", "release", "time", "mark", "replace")
WHAT = (*OFTEN, *OFTEN, *OFTEN, "flush")
commands = st.tuples(st.sampled_from(WHAT), st.integers(0, 2), st.integers(0, 2), st.integers(0, 3))
histories = st.lists(commands, min_size=30, max_size=80)  # short ones find nothing
# A rebuild that drops one entry and puts back another, with as many dropped ones as are kept.
FORGOT_TOO_SOON: list[Command] = [
    *[("put", 0, 0, 0)] * 24,
    *[
        ("put", 1, 0, 0),
        ("gone", 1, 0, 2),
        ("drop", 0, 0, 0),
        ("mark", 0, 0, 0),
        ("replace", 0, 1, 1),
        ("free", 1, 0, 0),
    ],
]


@settings(max_examples=examples(100), deadline=None)
@given(history=histories)
@example(history=FORGOT_TOO_SOON)
def test_both_stores_answer_alike_on_any_history(redis_server: RedisServer, history: list[Command]) -> None:
    asyncio.run(answer_alike(redis_server, history))


@settings(max_examples=examples(25), deadline=None)
@given(history=histories)
def test_so_does_a_cluster(redis_cluster: RedisNodes, history: list[Command]) -> None:
    asyncio.run(answer_alike(redis_cluster, history))


async def answer_alike(server: RedisServer | RedisNodes, history: list[Command]) -> None:
    server.flush()
    twin = MemoryRouterStore(KEPT, LOGGED)
    async with redis_store(server.url) as real:
        pair = (Played(twin, twin.flush), Played(real, server.flush))
        for step, command in enumerate(history):
            answers = [await played.do(command) for played in pair]
            assert answers[0] == answers[1], (step, command)
            states = [await played.store.state(T, played.now) for played in pair]
            assert states[0] == states[1], (step, command)
            followed = [await played.follow() for played in pair]
            assert followed[0] == followed[1], (step, command)
            known = {key_of(e): e for e in entries_of(states[0])}
            assert pair[0].replica == pair[1].replica == known, (step, command)
            claims = states[0].claims
            assert len({c.session_id for c in claims}) == len({c.agent_id for c in claims}) == len(claims)


def entries_of(state: RouterState) -> tuple[Entry, ...]:
    return (*state.waiting, *state.agents)


class Played:
    """One store that lives through a history. Marks are kept by their order: their values are each store's own."""

    def __init__(self, store: RouterStore, flush: Callable[[], None]) -> None:
        self.store, self.flush = store, flush
        self.now = 1_700_000_000_000
        self.marks = [0, 2**60]
        self.done = 0
        self.position, self.proof = 0, ""
        self.replica: dict[str, Entry] = {}  # what a node knows that follows the log

    async def follow(self) -> tuple[bool, tuple[Word, ...]]:
        """Take in what changed; positions themselves are each store's own."""
        changes = await self.store.changes(T, self.position, self.proof)
        for word in changes.words:
            if isinstance(word, Gone):
                del self.replica[key_of(word)]
            else:
                self.replica[key_of(word)] = word
        self.position, self.proof = changes.position, changes.proof
        if changes.lost:
            state = await self.store.state(T, self.now)
            self.replica = {key_of(e): e for e in entries_of(state)}
            self.position, self.proof = state.position, state.proof
        return changes.lost, changes.words

    async def do(self, command: Command) -> bool | None:
        what, x, y, z = command
        store = self.store
        self.done += 1
        version = self.done // 6 + z  # rows grow newer, and words come in any order
        match what:
            case "put":
                await store.write(T, [waiting(x, version, held=(y, z) == (0, 0))])
            case "drop":
                await store.write(T, [Gone(WaitingSession, f"ses_{x}", version)])
            case "free":
                await store.write(T, [free(str(x), version)])
            case "gone":
                await store.write(T, [Gone(PresentAgent, f"usr_{x}", version)])
            case "claim":
                request = f"r{self.done // 10}{z}"
                return await claim(store, T, Claim(f"ses_{x}", f"usr_{y}", request, self.now + 20 * z), self.now)
            case "release":
                await store.release(T, [f"r{self.done // 10}{z}"])
            case "time":
                self.now += 10 * (z - 1)  # another node's clock may be a little behind
            case "mark":
                self.marks.append(await store.mark(T))
            case "replace":
                mark = self.marks[-1 - (x % len(self.marks))]
                some = [waiting(n, version) for n in range(3) if n != y]
                await store.replace_all(T, mark, [*some[:z], *(free(str(n), version) for n in range(x))])
            case "flush":
                self.flush()
        return None
