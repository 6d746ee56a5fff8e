"""The way to Redis: one pool of connections for the router's index and the bus of a node."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable
from typing import Any, TypeVar

from redis.asyncio import Redis
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


def connect_redis(url: str) -> Redis:
    """A client that connects with its first command, and again whenever it must. `url`: redis://host:port/db,
    rediss://… (TLS) or unix:///path. The caller bounds each command (`answer`) and closes the client (`aclose`).
    Raises ValueError for another form."""
    keepalive: dict[str, Any] = {}
    if not url.startswith("unix:"):
        keepalive = {"socket_keepalive": True, "socket_keepalive_options": _keepalive()}
    return Redis.from_url(
        url,
        socket_timeout=None,  # else redis-py writes in asyncio.wait_for: on Python 3.11 it swallows cancellations
        socket_connect_timeout=CALL_S,
        retry=Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.2), RETRIES, supported_errors=(Disconnected,)),
        max_connections=CONNECTIONS,
        client_name=CLIENT_NAME,
        protocol=2,  # replies of the same shape from Redis 6.2 to 8 and Valkey
        decode_responses=True,
        encoding_errors="replace",  # what others wrote must not break the reading
        **keepalive,
    )


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


def _keepalive() -> dict[int, int]:
    """Idle connections through firewalls: a probe after 30 s, three in 15 s. Linux; elsewhere the system's own."""
    names = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    return {getattr(socket, name): value for name, value in names.items() if hasattr(socket, name)}
