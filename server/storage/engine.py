"""The database engine: SQLite through aiosqlite now, PostgreSQL through asyncpg with the same callers later.

SQLite is set up per connection:
- WAL: readers never wait for the writer, nor it for them.
- synchronous=NORMAL: a killed process loses nothing; a power cut may lose the last commits but never corrupts the
  file (sqlite.org/pragma.html#pragma_synchronous). FULL would cost an fsync per step, about 5 ms on a laptop's disk.
- busy_timeout: another process (the command line) may write too; wait for it instead of failing at once.
- foreign_keys: off by default in SQLite.

A transaction that reads and then writes must take the write lock first: a WAL reader that turns writer after
somebody else's commit gets SQLITE_BUSY at once, whatever the time-out. Hence `writing(engine)`: BEGIN IMMEDIATE.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

BUSY_TIMEOUT_MS = 5000  # the longest that another writer may hold the lock before we give up
POOL_SIZE = 4  # each SQLite connection is a thread; admin work is light
POOL_TIMEOUT_S = 10
_IMMEDIATE = "patchbay_begin_immediate"


def create_engine(url: str) -> AsyncEngine:
    """An engine for `url`; `await engine.dispose()` at the end."""
    engine = create_async_engine(url, pool_size=POOL_SIZE, max_overflow=0, pool_timeout=POOL_TIMEOUT_S)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        sa.event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def writing(engine: AsyncEngine) -> AsyncEngine:
    """The same engine and pool; its transactions take SQLite's write lock when they begin."""
    return engine.execution_options(**{_IMMEDIATE: True})


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver opens no transactions by itself; `_begin_sqlite` does
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get(_IMMEDIATE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
