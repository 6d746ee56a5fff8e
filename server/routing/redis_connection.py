"""The ways to Redis: a client for the router's index and one for the bus of a node.

On a Redis Cluster they differ. The index asks whoever has the tenant's slot (redis-py's RedisCluster, one script a
command, whose keys are all of one slot); the bus goes to any node that lives (redis_any_host.py).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import ConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ClusterDownError, ReadOnlyError, RedisClusterException, RedisError
from redis.exceptions import ConnectionError as Disconnected

from server.routing.redis_any_host import Address, AnyHostConnection, AnyHostTlsConnection, Hosts
from server.services.ports import RouterStoreUnavailable

T = TypeVar("T")
CALL_S = 1.0  # routing that waits for longer is told to people anyway; TICK_S of the router
RETRIES = 2  # a restart leaves dead connections in the pool: each is replaced without a word
CONNECTIONS = 64
CLIENT_NAME = "patchbay"
CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster")


def _keepalive() -> dict[int, int]:
    """Idle connections through firewalls: a probe after 30 s, three in 15 s. Linux; elsewhere the system's own."""
    names = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    return {getattr(socket, name): value for name, value in names.items() if hasattr(socket, name)}


ALWAYS: dict[str, Any] = {
    "socket_timeout": None,  # else redis-py writes in asyncio.wait_for: on Python 3.11 it swallows cancellations
    "socket_connect_timeout": CALL_S,
    "client_name": CLIENT_NAME,
    "protocol": 2,  # replies of the same shape from Redis 6.2 to 8 and Valkey
    "decode_responses": True,
    "encoding_errors": "replace",  # what others wrote must not break the reading
}
KEEPALIVE: dict[str, Any] = {"socket_keepalive": True, "socket_keepalive_options": _keepalive()}


def connect_redis(url: str) -> Redis | RedisCluster:
    """The index's client, which connects with its first command, and again whenever it must. `url`:
    redis://host:port/db, unix:///path, redis+sentinel://host:port,host:port/service/db,
    redis+cluster://host:port,host:port; rediss… with TLS. The caller bounds each command (`answer`) and closes the
    client (`aclose`). Raises ValueError for another form.

    Sentinels are asked for the master with each new connection, a cluster's nodes for the slots at first and after each
    fault."""
    scheme = url.partition("://")[0]
    if scheme in ("redis+sentinel", "rediss+sentinel"):
        return _behind_sentinels(url)
    if scheme in CLUSTER_SCHEMES:
        return _of_a_cluster(url)
    keepalive = {} if scheme == "unix" else KEEPALIVE
    return Redis.from_url(url, retry=_retry(), max_connections=CONNECTIONS, **ALWAYS, **keepalive)


def connect_bus(url: str) -> Redis:
    """The bus's client, as `connect_redis`."""
    if url.partition("://")[0] in CLUSTER_SCHEMES:
        addresses, options = _cluster_options(url)
        kind = AnyHostTlsConnection if options.pop("ssl", False) else AnyHostConnection
        return Redis.from_pool(ConnectionPool(kind, retry=_retry(), hosts=Hosts(addresses), **options))
    client = connect_redis(url)
    assert isinstance(client, Redis)
    return client


def _of_a_cluster(url: str) -> RedisCluster:
    addresses, options = _cluster_options(url)
    nodes = [ClusterNode(host, port) for host, port in addresses]
    # Static: a cluster that was set up anew at other addresses is found again at those of the settings. No steps: each
    # fifth redirection would close the connections of all commands that are under way; it corrects the slot anyway.
    return _Cluster(startup_nodes=nodes, dynamic_startup_nodes=False, reinitialize_steps=0, retry=_retry(), **options)


class _Cluster(RedisCluster):
    """What is asked before the slots are known, redis-py sends to any node: with many at once one of a thousand failed
    among redirections (tests/contract/test_redis_cluster.py). Here they wait for the slots."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        await self.initialize()
        return await super().execute_command(*args, **options)


def _cluster_options(url: str) -> tuple[list[Address], dict[str, Any]]:
    parts, addresses = _several(url)
    if parts.path.strip("/") not in ("", "0"):
        raise ValueError(f"scheme {parts.scheme}: a cluster has database 0 only, so nothing follows the last host")
    return addresses, ALWAYS | KEEPALIVE | _credentials(parts) | {"max_connections": CONNECTIONS}


def _credentials(parts: SplitResult) -> dict[str, Any]:
    """User, password, and whether TLS is spoken."""
    tls = {"ssl": True} if parts.scheme.startswith("rediss") else {}
    return {"username": unquote(parts.username or "") or None, "password": unquote(parts.password or "") or None} | tls


def _behind_sentinels(url: str) -> Redis:
    parts, addresses = _several(url)
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not (database or "0").isdecimal():
        raise ValueError(
            "scheme redis+sentinel: give the name of the service, as in redis+sentinel://host:26379/name/0"
        )
    limits = {"socket_timeout": CALL_S, "socket_connect_timeout": CALL_S}
    tls = {"ssl": True} if parts.scheme.startswith("rediss") else {}
    sentinels = Sentinel(addresses, sentinel_kwargs=limits | tls)  # type: ignore[no-untyped-call]  # redis-py's
    options = ALWAYS | KEEPALIVE | _credentials(parts) | {"db": int(database or 0), "max_connections": CONNECTIONS}
    master: Redis = sentinels.master_for(service, retry=_retry(), **options)
    return master


def _several(url: str) -> tuple[SplitResult, list[Address]]:
    """A URL that names several hosts, and these."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2].split(",")
    try:
        named = [urlsplit(f"//{host}") for host in hosts]
        addresses = [(host.hostname or "", host.port or 0) for host in named]
    except ValueError:
        addresses = [("", 0)]
    if not all(host and port for host, port in addresses):
        raise ValueError(f"scheme {parts.scheme}: give each host with its port, separated by commas")
    return parts, addresses


def _retry() -> Retry:
    return Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.2), RETRIES, supported_errors=(Disconnected,))


async def answer(redis: Redis | RedisCluster, command: Awaitable[T]) -> T:
    """The command's answer. Every fault of Redis (away, loading, read-only, out of memory, too slow, slots without a
    node) raises RouterStoreUnavailable."""
    try:
        async with asyncio.timeout(CALL_S):
            return await command
    except TimeoutError as error:
        if isinstance(redis, RedisCluster):
            await _ask_anew(redis)
        raise RouterStoreUnavailable(f"Redis gave no answer within {CALL_S} s") from error
    except ReadOnlyError as error:
        # It is a replica now. Behind a proxy only a new connection finds the new master. (A cluster's would redirect.)
        if isinstance(redis, Redis):
            await redis.connection_pool.disconnect(inuse_connections=False)
        raise RouterStoreUnavailable(f"Redis: {error}") from error
    except (RedisError, RedisClusterException, OSError) as error:
        raise RouterStoreUnavailable(f"Redis: {error or type(error).__name__}") from error


async def _ask_anew(redis: RedisCluster) -> None:
    """A node hangs, perhaps, and another one has taken its slots: ask who has which. redis-py does so by itself only
    when a connection breaks."""
    with suppress(RedisError, RedisClusterException, OSError, TimeoutError):
        async with asyncio.timeout(CALL_S / 2):  # one that hangs may be asked first: the next time-out asks another
            await redis.nodes_manager.initialize()


async def ping(redis: Redis | RedisCluster) -> None:
    """Raises RouterStoreUnavailable unless Redis answers; a cluster, unless each of its slots has a node."""
    if isinstance(redis, Redis):
        await answer(redis, redis.ping())
    else:
        await answer(redis, _cluster_stands(redis))


async def _cluster_stands(redis: RedisCluster) -> None:
    state = (await redis.cluster_info(target_nodes=RedisCluster.RANDOM))["cluster_state"]
    if state != "ok":
        raise ClusterDownError(f"cluster_state is {state}")
