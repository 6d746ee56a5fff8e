"""A few connections to PostgreSQL, each used for one statement at a time.

asyncpg's own pool gives and takes back connections at the cost of a task each, as much as a short statement; here a
connection is never lent, so there is nothing to take back. One that broke is dropped and made anew when it is wanted,
so everything mends itself when PostgreSQL comes back. Nothing is tried twice: who called knows what may be repeated.

Plans are for few rows reached by key (PLANNING): one that was made while the tables were empty is kept, and must not
read whole tables once they are full.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.engine import make_url

POOL_SIZE = 8  # a step holds a connection for about a millisecond
CONNECT_S = 3.0
STATEMENT_S = 5.0  # the longest that one may run or wait for a row, here and on the server
WAIT_S = 5.0  # for a connection
CLOSE_S = 2.0
IDLE_S = 240.0  # some firewalls forget a silent connection after five minutes, and tell nobody
PLANNING = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}


class Connections:
    """At most `size` connections to `url` (as in PATCHBAY_DATABASE_URL), made when they are wanted."""

    def __init__(self, url: str, size: int) -> None:
        # SQLAlchemy reads the URL here as for the other tables, so that both take the same options.
        _, self._arguments = dialect().create_connect_args(make_url(url))  # type: ignore[no-untyped-call]  # of a dialect
        self._turns = asyncio.Semaphore(size)
        self._idle: list[tuple[Any, float]] = []  # and since when; the one used last is taken first
        self._closed = False

    async def fetch(self, statement: str, *values: object) -> list[Any]:
        """Raises asyncpg's errors, OSError, TimeoutError."""
        if self._turns.locked():
            async with asyncio.timeout(WAIT_S):
                await self._turns.acquire()
        else:
            await self._turns.acquire()
        try:
            return await self._fetch(statement, values)
        finally:
            self._turns.release()

    async def close(self) -> None:
        """What still runs ends with its connection."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=CLOSE_S)

    async def _fetch(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        connection = self._idle_one() or await self._connect()
        try:
            rows: list[Any] = await connection.fetch(statement, *values)
        except asyncpg.PostgresError:  # the server's answer: the connection is as good as before, or closed by it
            self._put_back(connection)
            raise
        except BaseException:  # no answer, or nobody waits for it any more
            connection.terminate()
            raise
        self._put_back(connection)
        return rows

    def _idle_one(self) -> Any:
        while self._idle:
            connection, since = self._idle.pop()
            if connection.is_closed():
                continue
            if time.monotonic() - since < IDLE_S:
                return connection
            connection.terminate()
        return None

    def _put_back(self, connection: Any) -> None:
        if self._closed:
            connection.terminate()
        elif not connection.is_closed():
            self._idle.append((connection, time.monotonic()))

    async def _connect(self) -> Any:
        if self._closed:
            raise asyncpg.InterfaceError("the connections are closed")
        limit_ms = str(round(STATEMENT_S * 1000))
        settings = {"application_name": "patchbay", "statement_timeout": limit_ms, "lock_timeout": limit_ms}
        return await asyncpg.connect(
            **self._arguments,
            timeout=CONNECT_S,
            command_timeout=STATEMENT_S,
            statement_cache_size=200,  # more than there are statements
            max_cached_statement_lifetime=0,  # they live as long as the connection
            server_settings=PLANNING | settings,
        )
