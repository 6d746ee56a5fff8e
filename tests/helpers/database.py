"""What a database holds, read by the tests and not by the product. Queries are written with `?` for SQLite and
PostgreSQL alike."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import asyncpg

QUERY_S = 10.0


class Database(Protocol):
    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]: ...


class SqliteFile:
    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self._path, timeout=5)) as connection, connection:
            return connection.execute(query, values).fetchall()


class PostgresDatabase:
    """`url` as in PATCHBAY_DATABASE_URL. Each query has a connection of its own, so it survives restarts; it runs on a
    thread, so that a test may ask from within its own loop."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("+asyncpg", "")

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(self._rows(query, values))).result()

    async def _rows(self, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self._url, timeout=QUERY_S)
        try:
            return [tuple(row) for row in await connection.fetch(portable(query), *values, timeout=QUERY_S)]
        finally:
            await connection.close()


def portable(query: str) -> str:
    """SQLite's placeholders and JSON paths as PostgreSQL writes them."""
    numbers = itertools.count(1)
    query = re.sub(r"\?", lambda _: f"${next(numbers)}", query)
    query = re.sub(r"json_extract\(([\w.]+), '\$\.(\w+)'\)", r"(\1->'\2')::text", query)
    return re.sub(r"\bbody LIKE", "body::text LIKE", query)
