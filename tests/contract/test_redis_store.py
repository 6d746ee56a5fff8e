"""What only a real Redis can do to its router store: many clients, lost answers, restarts, foreign hands."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from server.domain.router_state import Claim, Gone, PresentAgent, RouterState, WaitingSession
from server.routing import redis_store as redis_store_module
from server.routing.memory_store import key_of
from server.routing.redis_connection import CALL_S, connect_redis
from server.routing.redis_store import KEYS, RedisRouterStore, _claim, _entry, _key
from server.services.ports import RouterStore, RouterStoreUnavailable
from tests.contract.test_router_store import T, claim, entries_of, fill, free, redis_store, sessions, waiting
from tests.helpers.redis_server import RedisServer, redis_server
from tests.helpers.system import until

SLACK_S = 0.5  # what a busy machine may add to a time-out


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[RedisRouterStore]:
    redis_server.flush()
    async with redis_store(redis_server.url) as made:
        yield made


async def answers(store: RouterStore) -> bool:
    with contextlib.suppress(RouterStoreUnavailable):
        await store.state(T, 0)
        return True
    return False


async def test_of_many_clients_one_gets_each_session_and_agent(redis_server: RedisServer) -> None:
    redis_server.flush()
    nodes, pairs = 8, 5
    async with contextlib.AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(redis_store(redis_server.url)) for _ in range(nodes)]
        waits, frees = [waiting(n) for n in range(pairs)], [free(str(n)) for n in range(pairs)]
        await stores[0].replace_all(T, 0, [*waits, *frees])

        async def claim_all(node: int) -> list[Claim]:
            """Each node wants every session for every agent, and begins elsewhere."""
            won = []
            for number in range(pairs):
                session = f"ses_{(number + node) % pairs}"
                wanted = [Claim(session, f"usr_{a}", f"r{node}-{number}-{a}", 100) for a in range(pairs)]
                granted = await stores[node].claim(T, wanted, 0)
                won += [one for one, yes in zip(wanted, granted, strict=True) if yes]
            return won

        won = [one for node in await asyncio.gather(*map(claim_all, range(nodes))) for one in node]
        assert Counter(c.session_id for c in won) == {f"ses_{n}": 1 for n in range(pairs)}
        assert Counter(c.agent_id for c in won) == {f"usr_{n}": 1 for n in range(pairs)}
        assert (await stores[1].state(T, 0)).claims == tuple(sorted(won, key=lambda c: c.request_id))


async def test_a_claim_whose_answer_was_lost_is_made_once(redis_server: RedisServer) -> None:
    redis_server.flush()
    async with losing(redis_server.port, "r1") as (url, lost), redis_store(url) as store:
        await fill(store)
        assert await claim(store, T, Claim("ses_1", "usr_a", "r1", 100), 0)
        assert lost == ["r1"], "the connection broke after the command had been carried out"
        assert [c.request_id for c in (await store.state(T, 0)).claims] == ["r1"]


async def test_nothing_is_left_of_claims_that_are_over(redis_server: RedisServer, store: RedisRouterStore) -> None:
    await fill(store)
    for number in range(50):
        await claim(store, T, Claim("ses_1", "usr_a", f"r{number}", 100), 0)
        if number % 2:
            await store.release(T, [f"r{number}"])
    await claim(store, T, Claim("ses_1", "usr_a", "r", 200), 100)
    counts = [("HLEN", "claims"), ("HLEN", "answers"), ("ZCARD", "ends")]
    assert [redis_server.command(count, _key(T, key)) for count, key in counts] == [":1", ":1", ":1"]


async def test_a_restart_loses_the_index_and_nothing_else(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with redis_store(server.url) as store:
            await fill(store)
            server.restart()
            assert await store.state(T, 0) == RouterState((), (), (), built=False), "and the client says nothing"
            await store.replace_all(T, await store.mark(T), [waiting(1), free("a")])
            assert await claim(store, T, Claim("ses_1", "usr_a", "r1", 100), 0)


async def test_an_index_on_disk_survives_a_restart(tmp_path: Path) -> None:
    with redis_server(tmp_path, appendonly=True) as server:
        async with redis_store(server.url) as store:
            await store.replace_all(T, await store.mark(T), [waiting(1, 3), free("a")])
            assert await claim(store, T, Claim("ses_1", "usr_a", "r1", 100), 0)
            before = await store.state(T, 0)
            server.restart()
            assert await store.state(T, 0) == before
            await store.write(T, [waiting(1, 2)])
            assert await store.state(T, 0) == before, "versions are remembered, too"


async def test_while_redis_is_away_each_call_says_so_and_afterwards_works(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with redis_store(server.url) as store:
            await fill(store)
            server.stop()
            calls = [
                lambda: store.write(T, [waiting(1)]),
                lambda: store.write(T, [Gone(WaitingSession, "ses_1", 1)]),
                lambda: store.write(T, [free("a")]),
                lambda: store.write(T, [Gone(PresentAgent, "usr_a", 1)]),
                lambda: claim(store, T, Claim("ses_1", "usr_a", "r1", 100), 0),
                lambda: store.release(T, ["r1"]),
                lambda: store.state(T, 0),
                lambda: store.mark(T),
                lambda: store.replace_all(T, 0, []),
                store.ping,
            ]
            for call in calls:
                with pytest.raises(RouterStoreUnavailable):
                    await call()
            server.start()
            for call in calls:
                await call()


async def test_a_redis_that_hangs_is_given_up_within_a_second(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with redis_store(server.url) as store:
            await store.replace_all(T, 0, [waiting(1), free("a")])
            server.pause()
            began = asyncio.get_running_loop().time()
            with pytest.raises(RouterStoreUnavailable, match="no answer"):
                await claim(store, T, Claim("ses_1", "usr_a", "r1", 100), 0)
            assert asyncio.get_running_loop().time() - began < CALL_S + SLACK_S
            server.resume()
            await until(lambda: answers(store), 5, "Redis answers again")
            state = await store.state(T, 0)
            assert sessions(state) == [("ses_1", 0)], "an answer belongs to its question, not to the one given up"
            assert await store.mark(T) > 0


async def test_a_cancellation_is_never_swallowed(store: RedisRouterStore) -> None:
    """It is how the node stops. asyncio.wait_for of Python 3.11 loses one that comes with the answer."""
    for ticks in range(60):
        task = asyncio.ensure_future(store.state(T, 0))
        for _ in range(ticks % 20):
            await asyncio.sleep(0)
        asked = task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == asked, ticks
    await fill(store)
    assert sessions(await store.state(T, 0)) == [("ses_1", 0), ("ses_2", 0)], "and no answer is left over"


@pytest.mark.parametrize(
    "reply", ["-LOADING Redis is loading the dataset in memory", "-OOM command not allowed", "-ERR", "garbage"]
)
async def test_any_error_of_the_server_is_unavailability(reply: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(f"{reply}\r\n".encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, redis_store(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}") as store:
        with pytest.raises(RouterStoreUnavailable):
            await store.write(T, [waiting(1)])


async def test_a_replica_is_left_for_a_master(redis_server: RedisServer, store: RedisRouterStore) -> None:
    await store.mark(T)
    redis_server.command("REPLICAOF", "127.0.0.1", "1")
    try:
        before = redis_server.command("CLIENT", "LIST").count("name=patchbay")
        with pytest.raises(RouterStoreUnavailable, match="replica"):
            await store.write(T, [waiting(1)])
        assert before == 1
        assert redis_server.command("CLIENT", "LIST").count("name=patchbay") == 0, "a proxy would know the new master"
    finally:
        redis_server.command("REPLICAOF", "NO", "ONE")
    await store.write(T, [waiting(1)])


GARBLED = ["", "{", "null", "[]", "[1]", "7", '["1","que_1",[5,1,"ses_9"],[],0]', '[1,"que_1",[5,1],[],0]',
           '[1,"que_1",[5,1,"ses_9"],[["usr_a"]],0]', '[1,"que_1",[5,1,"ses_9"],[[7,"usr_a"]],0]',
           '[1,"que_1",[5,1,"ses_9"],[],2]', '[1,null,[5,1,"ses_9"],[],0]', "[" * 5000,
           '"\n\\', "\udcff\0"]  # fmt: skip


@pytest.mark.parametrize("body", GARBLED, ids=range(len(GARBLED)))
async def test_a_garbled_entry_is_left_out(redis_server: RedisServer, store: RedisRouterStore, body: str) -> None:
    _entry.cache_clear()
    _claim.cache_clear()
    await store.replace_all(T, await store.mark(T), [waiting(1), free("a")])
    whole = await store.state(T, 0)
    for key, field in (("entries", "w:ses_9"), ("entries", "a:usr_9"), ("entries", "?"), ("claims", "r9")):
        redis_server.command("HSET", _key(T, key), field, body)
    redis_server.command("HSET", _key(T, "heard"), "w:ses_9", body)
    with capture_logs() as logs:
        assert await store.state(T, 0) == whole
        assert await store.state(T, 0) == whole
    assert len(logs) == 4, "each is logged once"
    await claim(store, T, Claim("ses_9", "usr_9", "r1", 100), 0)  # whatever it says: nobody would choose it
    assert await claim(store, T, Claim("ses_1", "usr_a", "r2", 100), 0), "and breaks nothing"
    await store.replace_all(T, await store.mark(T), [waiting(1), waiting(9), free("a")])
    assert sessions(await store.state(T, 0)) == [("ses_1", 0), ("ses_9", 0)], "a rebuild mends it"


async def test_flushes_at_any_moment_break_nothing(redis_server: RedisServer, store: RedisRouterStore) -> None:
    async def work(node: int) -> None:
        for number in range(40):
            await store.write(T, [waiting(number % 5, number)])
            await store.write(T, [free(str(node), number)])
            wanted = Claim(f"ses_{number % 5}", f"usr_{node}", f"r{node}-{number}", 100)
            await claim(store, T, wanted, 0)
            with contextlib.suppress(RouterStoreUnavailable):  # flushed again and again while it was made
                await store.replace_all(T, await store.mark(T), [waiting(1, number), free(str(node), number)])
            await store.release(T, [wanted.request_id])

    async def flush() -> None:
        for _ in range(30):
            redis_server.flush()
            await store.ping()

    await asyncio.gather(*map(work, range(3)), flush())
    await store.replace_all(T, await store.mark(T), [waiting(1)])
    state = await store.state(T, 0)
    assert (state.built, state.claims) == (True, ())


class Interrupted(RedisRouterStore):
    """Between any two commands of its own, somebody else has `meanwhile` done."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def _run(self, script: str, tenant: str, *arguments: str | int) -> Any:
        answer = await super()._run(script, tenant, *arguments)
        if self.meanwhile is not None:
            await self.meanwhile()
        return answer


@pytest.fixture
async def interrupted(redis_server: RedisServer) -> AsyncIterator[Interrupted]:
    client = connect_redis(redis_server.url)
    yield Interrupted(client)
    await client.aclose()


async def test_what_changes_while_the_index_is_read_is_in_it(
    store: RedisRouterStore, interrupted: Interrupted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store_module, "PORTION", 50)  # a small hash comes whole, so it has to be a large one
    writer = RedisRouterStore(interrupted._redis)  # it keeps a log as long as a node's, unlike `store`
    people = 1_500
    await writer.replace_all(T, 0, [*(waiting(n) for n in range(people)), *(free(str(n)) for n in range(people))])
    turns = count(1)

    async def meanwhile() -> None:
        turn = next(turns)
        gone = Gone(WaitingSession, f"ses_{turn}", turn)
        await writer.write(T, [gone, waiting(people - turn, 7 + turn), waiting(people + turn), free(str(turn), turn)])

    interrupted.meanwhile = meanwhile
    read = await interrupted.state(T, 0)
    interrupted.meanwhile = None
    portions = next(turns)
    assert portions > 10, "it was read in many portions"
    later = await store.changes(T, read.position, read.proof)
    assert len(later.words) == 4, "what the last interruption wrote, which came after the end"
    whole = {key_of(entry): entry for entry in entries_of(read)}
    for word in later.words:
        if isinstance(word, Gone):
            del whole[key_of(word)]
        else:
            whole[key_of(word)] = word
    now = await store.state(T, 0)
    assert whole == {key_of(entry): entry for entry in entries_of(now)}


async def test_a_store_that_went_back_is_noticed_though_it_ends_in_the_same_word(
    redis_server: RedisServer, store: RedisRouterStore
) -> None:
    await store.replace_all(T, 0, [waiting(1), waiting(2)])
    keys = [_key(T, name) for name in KEYS]
    for key in keys:
        redis_server.command("COPY", key, f"{key}:before")
    await store.write(T, [waiting(1, 1), waiting(2, 7)])
    read = await store.state(T, 0)
    for key in keys:
        redis_server.command("DEL", key)
        redis_server.command("COPY", f"{key}:before", key)
    await store.write(T, [Gone(WaitingSession, "ses_1", 2), waiting(2, 7)])
    other = await store.state(T, 0)
    assert other.position == read.position
    assert (await store.changes(T, read.position, read.proof)).lost
    assert not (await store.changes(T, other.position, other.proof)).lost


async def test_an_index_that_is_lost_while_it_is_read_is_read_anew(
    redis_server: RedisServer, store: RedisRouterStore, interrupted: Interrupted
) -> None:
    await fill(store)
    turns = count()

    async def meanwhile() -> None:
        if next(turns) == 0:
            redis_server.flush()
            await store.replace_all(T, 0, [waiting(7)])

    interrupted.meanwhile = meanwhile
    assert sessions(await interrupted.state(T, 0)) == [("ses_7", 0)]

    async def ever() -> None:
        redis_server.flush()
        await store.replace_all(T, 0, [waiting(7)])

    interrupted.meanwhile = ever
    with pytest.raises(RouterStoreUnavailable, match="while it was read"):
        await interrupted.state(T, 0)


async def test_a_unix_socket_is_an_address(redis_server: RedisServer) -> None:
    redis_server.flush()
    async with redis_store(redis_server.socket_url) as store:
        await fill(store)
        assert sessions(await store.state(T, 0)) == [("ses_1", 0), ("ses_2", 0)]


async def test_tls_is_spoken_and_the_certificate_is_checked(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    with redis_server(tmp_path, tls=(certificate, key)) as server:
        async with redis_store(f"{server.tls_url}?ssl_ca_certs={certificate}") as store:
            await store.ping()
            assert await store.mark(T) > 0
        async with redis_store(server.tls_url) as store:
            with pytest.raises(RouterStoreUnavailable, match="certificate verify failed"):
                await store.ping()


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "127.0.0.1:6379", ""])
def test_another_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="scheme"):
        connect_redis(url)


def self_signed(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-keyout", key, "-out", certificate, "-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@asynccontextmanager
async def losing(port: int, word: str) -> AsyncIterator[tuple[str, list[str]]]:
    """A way to the server that breaks the connection in place of the first answer to a command with this word.
    Yields its address and the list of the answers lost."""
    lost: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        while data := await reader.read(65536):
            up_writer.write(data)
            reply = await up_reader.read(65536)
            if word.encode() in data and not lost and not reply.startswith(b"-NOSCRIPT"):
                lost.append(word)
                break
            writer.write(reply)
        writer.close()
        up_writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", lost
