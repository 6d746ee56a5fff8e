"""The router's index and the bus on a Redis Cluster: nodes that die, hang, come back empty, and slots that move."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from server.domain.router_state import Claim, RouterState
from server.routing import redis_connection
from server.routing.redis_connection import connect_bus, connect_redis
from server.routing.redis_store import KEYS, RedisRouterStore, _key
from server.services.ports import RouterStoreUnavailable
from tests.contract import test_bus as bus
from tests.contract.test_redis_sentinel import heard, works
from tests.contract.test_router_store import claim, fill, free, redis_store, sessions, waiting
from tests.helpers.redis_cluster import RedisNodes, port_pair, redis_nodes
from tests.helpers.redis_server import redis_server
from tests.helpers.system import until

TENANTS = ("default", "other", "third")
FAILED_MS = 1_000
TAKEN_OVER_S = 30.0


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[RedisNodes]:
    with redis_nodes(tmp_path, replicas=True, node_timeout_ms=FAILED_MS) as nodes:
        yield nodes


@asynccontextmanager
async def index(url: str) -> AsyncIterator[RedisRouterStore]:
    client = connect_redis(url)
    try:
        yield RedisRouterStore(client)
    finally:
        await client.aclose()


async def routes_again(store: RedisRouterStore, tenant: str, version: int = 10) -> None:
    """Wait until everything that a router asks is answered. `version`: newer than all that was said."""

    async def once() -> bool:
        nonlocal version
        version += 10
        return await works(store, tenant, version)

    await until(once, TAKEN_OVER_S, "a replica has taken over", every_s=0.2)


def test_a_tenants_keys_are_of_one_slot_and_tenants_lie_apart(redis_cluster: RedisNodes) -> None:
    master = redis_cluster.masters[0]
    slots = {t: {master.command("CLUSTER", "KEYSLOT", _key(t, name)) for name in KEYS} for t in TENANTS}
    assert all(len(found) == 1 for found in slots.values())
    assert len({redis_cluster.owner(_key(tenant, "meta")) for tenant in TENANTS}) == len(redis_cluster.masters)


async def test_each_tenant_is_routed_wherever_it_lies(redis_cluster: RedisNodes) -> None:
    redis_cluster.flush()
    async with index(redis_cluster.url) as store:
        answered = await asyncio.gather(*(works(store, tenant, 1) for tenant in TENANTS))
        assert answered == [True] * len(TENANTS)
        await store.ping()


async def test_many_first_commands_at_once_are_all_answered(
    redis_cluster: RedisNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py's client as it is failed some: it knows no slots yet, is redirected, and closes what others wait for."""
    monkeypatch.setattr(redis_connection, "CALL_S", 30.0)  # 60 connections at once on a busy machine take their time
    redis_cluster.flush()
    for _ in range(10):
        async with index(redis_cluster.url) as store:
            marks = await asyncio.gather(*(store.mark(f"tenant{number}") for number in range(60)))
            assert all(marks)


async def test_a_replica_takes_over_from_a_master_that_dies(replicated: RedisNodes) -> None:
    async with index(replicated.url) as store:
        for tenant in TENANTS:
            assert await works(store, tenant, 1)
        assert (await heard(replicated.url)).routing == ("default",)
        victim = replicated.owner(_key("default", "meta"))
        replicated.masters[victim].stop()
        await routes_again(store, "default")
        assert "role:master" in replicated.replicas[victim].command("INFO", "replication")
        for tenant in TENANTS:
            assert await works(store, tenant, 1_000)
        await store.ping()
        assert (await heard(replicated.url)).routing == ("default",)


async def test_a_replica_takes_over_from_a_master_that_hangs(replicated: RedisNodes) -> None:
    """Its connections stand, so nothing but the time that passes tells."""
    async with index(replicated.url) as store:
        assert await works(store, "default", 1)
        victim = replicated.owner(_key("default", "meta"))
        replicated.masters[victim].pause()
        with pytest.raises(RouterStoreUnavailable, match="no answer"):
            await store.mark("default")
        await routes_again(store, "default")
        assert "role:master" in replicated.replicas[victim].command("INFO", "replication")
        replicated.masters[victim].resume()
        await routes_again(store, "default", 1_000)


async def test_a_restart_of_all_loses_the_index_and_nothing_else(tmp_path: Path) -> None:
    with redis_nodes(tmp_path) as nodes:
        async with index(nodes.url) as store:
            await fill(store)
            nodes.restart()

            async def empty() -> bool:
                with contextlib.suppress(RouterStoreUnavailable):
                    return await store.state("default", 0) == RouterState((), (), (), built=False)
                return False

            await until(empty, TAKEN_OVER_S, "the index answers that it is empty")
            await store.replace_all("default", await store.mark("default"), [waiting(2), waiting(1), free("a")])
            assert sessions(await store.state("default", 0)) == [("ses_1", 0), ("ses_2", 0)]
            assert await claim(store, "default", Claim("ses_1", "usr_a", "r1", 100), 0)


async def test_without_a_master_for_its_slot_a_tenant_waits_and_the_nodes_say_so(tmp_path: Path) -> None:
    with redis_nodes(tmp_path, node_timeout_ms=FAILED_MS) as nodes:
        async with index(nodes.url) as store:
            assert await works(store, "default", 1)
            victim = nodes.masters[nodes.owner(_key("default", "meta"))]
            victim.stop()

            async def told() -> bool:
                with contextlib.suppress(RouterStoreUnavailable):
                    await store.ping()
                    return False
                return True

            await until(told, TAKEN_OVER_S, "the cluster is said to be down")
            with pytest.raises(RouterStoreUnavailable):
                await store.mark("default")
            victim.start()
            await routes_again(store, "default")
            await until(lambda: pings(store), TAKEN_OVER_S, "the cluster stands")


async def pings(store: RedisRouterStore) -> bool:
    with contextlib.suppress(RouterStoreUnavailable):
        await store.ping()
        return True
    return False


async def test_a_slot_that_moves_takes_its_index_along(tmp_path: Path) -> None:
    with redis_nodes(tmp_path) as nodes:
        async with redis_store(nodes.url, 100) as store:
            await store.replace_all("default", await store.mark("default"), [waiting(1, 3), free("a")])
            before = await store.state("default", 0)
            source = nodes.masters[number := nodes.owner(_key("default", "meta"))]
            target = nodes.masters[(number + 1) % len(nodes.masters)]
            ids = {server: server.command("CLUSTER", "MYID").splitlines()[1] for server in (source, target)}
            slot = source.command("CLUSTER", "KEYSLOT", _key("default", "meta"))[1:]
            assert target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source]) == "+OK"
            assert source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target]) == "+OK"
            with contextlib.suppress(RouterStoreUnavailable):  # TRYAGAIN: keys may be on either side
                assert await store.state("default", 0) == before
            keys = re.findall(r"patchbay:\S+", source.command("CLUSTER", "GETKEYSINSLOT", slot, "100"))
            moved = source.command("MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS", *keys)
            assert moved == "+OK"
            for server in nodes.masters:
                assert server.command("CLUSTER", "SETSLOT", slot, "NODE", ids[target]) == "+OK"
            assert await store.state("default", 0) == before
            await store.write("default", [waiting(2, 1)])
            assert sessions(await store.state("default", 0)) == [("ses_1", 3), ("ses_2", 1)]


async def test_the_bus_goes_on_at_another_node_when_its_own_dies(replicated: RedisNodes) -> None:
    async with bus.redis_nodes(replicated.url) as make:
        a, b = await make(2)
        for victim in (replicated.masters[0], replicated.replicas[1]):
            victim.stop()
            await bus.gets_through(a, b, f"without {victim.port}")
            await bus.gets_through(b, a, f"back without {victim.port}")


async def test_a_node_outside_the_cluster_is_not_taken_for_the_bus(tmp_path: Path, redis_cluster: RedisNodes) -> None:
    """It would take each word and tell nobody."""
    with redis_server(tmp_path, arguments=("--cluster-enabled", "yes"), port=port_pair()) as stranger:
        url = f"redis+cluster://127.0.0.1:{stranger.port},127.0.0.1:{redis_cluster.masters[0].port}"
        with capture_logs():  # one that begins at the stranger says so
            async with bus.redis_nodes(url) as make:
                nodes = await make(6)
                nodes[0].bus.publish(bus.word("all hear"))
                for node in nodes[1:]:
                    await node.hears("all hear")
        assert bus.subscribers(stranger) == []


@pytest.mark.parametrize("url", ["redis+cluster://127.0.0.1", "redis+cluster://a:1,b", "redis+cluster://a:1/2"])
def test_an_address_that_makes_no_sense_is_refused(url: str) -> None:
    for connect in (connect_redis, connect_bus):
        with pytest.raises(ValueError, match="scheme"):
            connect(url)
