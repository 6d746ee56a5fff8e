"""The router's index and the bus behind Sentinels."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from server.domain.router_state import Claim
from server.routing.redis_bus import RedisBus
from server.routing.redis_connection import connect_bus, connect_redis
from server.routing.redis_store import RedisRouterStore
from server.services.ports import Notice, RouterStoreUnavailable
from tests.contract.test_router_store import claim, free, waiting
from tests.helpers.redis_sentinel import watched
from tests.helpers.system import until


async def works(store: RedisRouterStore, tenant: str, version: int) -> bool:
    """Everything that a router asks of the store, once; False while Redis is away."""
    with contextlib.suppress(RouterStoreUnavailable):
        await store.replace_all(tenant, await store.mark(tenant), [waiting(1, version), free("a", version)])
        state = await store.state(tenant, 0)
        assert [w.session_id for w in state.waiting] == ["ses_1"]
        await store.write(tenant, [waiting(2, version + 1)])
        told = await store.changes(tenant, state.position, state.proof)
        assert told.words == (waiting(2, version + 1),)
        wanted = Claim("ses_1", "usr_a", f"r{version}", 100)
        assert await claim(store, tenant, wanted, 0)
        await store.release(tenant, [wanted.request_id])
        return True
    return False


async def heard(url: str) -> Notice:
    """A notice that went from one node's bus to another's."""
    speaker, listener = connect_bus(url), connect_bus(url)
    buses = RedisBus(speaker), RedisBus(listener)
    got: asyncio.Queue[Notice] = asyncio.Queue()
    try:
        await buses[1].start(got.put_nowait)
        await buses[0].start(lambda notice: None)
        async with asyncio.timeout(10):
            while got.empty():  # until the subscription stands a notice is lost
                buses[0].publish(Notice(routing=("default",)))
                with contextlib.suppress(TimeoutError):
                    return await asyncio.wait_for(got.get(), 0.2)
        raise AssertionError("nothing was heard")
    finally:
        for bus in buses:
            await bus.stop()
        await speaker.aclose()
        await listener.aclose()


async def test_a_replica_takes_over_behind_sentinels(tmp_path: Path) -> None:
    with watched(tmp_path) as redis:
        client = connect_redis(redis.url)
        try:
            store = RedisRouterStore(client)
            assert await works(store, "default", 1)
            assert (await heard(redis.url)).routing == ("default",)
            redis.master.stop()
            version = 10

            async def works_again() -> bool:
                nonlocal version
                version += 10
                return await works(store, "default", version)

            await until(works_again, 20, "the replica has taken over", every_s=0.2)
            assert "role:master" in redis.replica.command("INFO", "replication")
            assert (await heard(redis.url)).routing == ("default",)
        finally:
            await client.aclose()


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://127.0.0.1:1",
        "redis+sentinel://127.0.0.1/center",
        "redis+x://a",
    ],
)
def test_an_address_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="scheme"):
        connect_redis(url)
