"""The way to Redis: one pool of connections for the router's index and the bus of a node."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from redis.asyncio import Redis, Sentinel
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ReadOnlyError, RedisError

from server.services.ports import RouterStoreUnavailable

T = TypeVar("T")
CALL_S = 1.0  # routing that waits for longer is told to people anyway; TICK_S of the router
RETRIES = 2  # a restart leaves dead connections in the pool: each is replaced without a word
CONNECTIONS = 64
CLIENT_NAME = "patchbay"


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


def connect_redis(url: str) -> Redis:
    """A client that connects with its first command, and again whenever it must. `url`: redis://host:port/db,
    unix:///path, redis+sentinel://host:port,host:port/service/db; rediss… with TLS. The caller bounds each command
    (`answer`) and closes the client (`aclose`). Raises ValueError for another form.

    Sentinels are asked for the master with each new connection."""
    scheme = url.partition("://")[0]
    if scheme in ("redis+sentinel", "rediss+sentinel"):
        return _behind_sentinels(url)
    keepalive = {} if scheme == "unix" else KEEPALIVE
    return Redis.from_url(url, retry=_retry(), max_connections=CONNECTIONS, **ALWAYS, **keepalive)


def _behind_sentinels(url: str) -> Redis:
    parts, addresses = _several(url)
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not (database or "0").isdecimal():
        raise ValueError(
            "scheme redis+sentinel: give the name of the service, as in redis+sentinel://host:26379/name/0"
        )
    secret = {"username": parts.username or None, "password": parts.password or None}
    tls = {"ssl": True} if parts.scheme.startswith("rediss") else {}
    limits = {"socket_timeout": CALL_S, "socket_connect_timeout": CALL_S}
    sentinels = Sentinel(addresses, sentinel_kwargs=limits | tls)  # type: ignore[no-untyped-call]  # redis-py's
    options = ALWAYS | KEEPALIVE | secret | tls | {"db": int(database or 0), "max_connections": CONNECTIONS}
    master: Redis = sentinels.master_for(service, retry=_retry(), **options)
    return master


def _several(url: str) -> tuple[SplitResult, list[tuple[str, int]]]:
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


async def answer(redis: Redis, command: Awaitable[T]) -> T:
    """The command's answer. Every fault of Redis (away, loading, read-only, out of memory, too slow) raises
    RouterStoreUnavailable."""
    try:
        async with asyncio.timeout(CALL_S):
            return await command
    except TimeoutError as error:
        raise RouterStoreUnavailable(f"Redis gave no answer within {CALL_S} s") from error
    except ReadOnlyError as error:
        # It is a replica now. Behind a proxy only a new connection finds the new master.
        await redis.connection_pool.disconnect(inuse_connections=False)
        raise RouterStoreUnavailable(f"Redis: {error}") from error
    except (RedisError, OSError) as error:
        raise RouterStoreUnavailable(f"Redis: {error or type(error).__name__}") from error


async def ping(redis: Redis) -> None:
    """Raises RouterStoreUnavailable unless Redis answers."""
    await answer(redis, redis.ping())
