"""The database engine of the set-up, the reports and the migrations: SQLite through aiosqlite, PostgreSQL through
asyncpg. Steps have connections of their own (sqlite_steps.py, postgres_steps.py).

SQLite is set up per connection:
- WAL: readers never wait for the writer, nor it for them.
- synchronous=NORMAL: a killed process loses nothing; a power cut may lose the last commits but never corrupts the
  file (sqlite.org/pragma.html#pragma_synchronous). FULL would cost an fsync per step, about 5 ms on a laptop's disk.
- busy_timeout: another process (the command line) may write too; wait for it instead of failing at once.
- foreign_keys: off by default in SQLite.

A transaction that reads and then writes must be alone with that from its first statement. In SQLite a WAL reader that
turns writer after somebody else's commit gets SQLITE_BUSY at once, whatever the time-out; in PostgreSQL two admins
would each read before the other one writes, and the last two admins would switch each other off. Hence
`writing(engine)`: BEGIN IMMEDIATE there, one advisory lock for all writers here. Set-up is written rarely.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

BUSY_TIMEOUT_MS = 5000  # the longest that another writer may hold the lock before we give up
POOL_SIZE = 4  # each SQLite connection is a thread; admin work is light
POOL_TIMEOUT_S = 5
CONNECT_S = 3.0
STATEMENT_S = 10.0  # a report may read many rows; here and on the server
IDLE_IN_TRANSACTION_MS = 15_000  # a node that is cut off in a transaction must not keep the writers' lock
WRITERS_LOCK = 0x7061746368_01  # any number that nobody else takes in this database
_IMMEDIATE = "patchbay_begin_immediate"


def create_engine(url: str, *, statement_s: float | None = STATEMENT_S) -> AsyncEngine:
    """An engine for `url`; `await engine.dispose()` at the end. `statement_s` (PostgreSQL): the longest that a
    statement may take; None for migrations."""
    if not url.startswith("postgresql"):
        engine = create_async_engine(url, pool_size=POOL_SIZE, max_overflow=0, pool_timeout=POOL_TIMEOUT_S)
        sa.event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        sa.event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    limit_ms = "0" if statement_s is None else str(round(statement_s * 1000))
    settings = {
        "application_name": "patchbay",
        "statement_timeout": limit_ms,
        "lock_timeout": limit_ms,
        "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
    }
    engine = create_async_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        pool_pre_ping=True,  # a connection that a restart broke is replaced before somebody gets it
        connect_args={"timeout": CONNECT_S, "command_timeout": statement_s, "server_settings": settings},
    )
    sa.event.listen(engine.sync_engine, "begin", _begin_postgres)
    return engine


def writing(engine: AsyncEngine) -> AsyncEngine:
    """The same engine and pool; its transactions follow one another, those of other processes included."""
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


def _begin_postgres(connection: sa.Connection) -> None:
    if connection.get_execution_options().get(_IMMEDIATE, False):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})")
