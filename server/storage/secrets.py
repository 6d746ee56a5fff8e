"""Secrets that all control nodes of one database share, such as the key that signs customers' tokens."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncEngine

from server.storage.engine import writing
from server.storage.runtime_tables import secret


async def shared_secret(engine: AsyncEngine, name: str, size_bytes: int) -> bytes:
    """The secret of this name; the first node that asks makes it, of random bytes."""
    insert = postgresql_insert if engine.dialect.name == "postgresql" else sqlite_insert
    async with writing(engine).begin() as connection:
        # Of two nodes that make it at once the second does nothing, and reads what the first one made.
        made = insert(secret).values(name=name, value=secrets.token_hex(size_bytes)).on_conflict_do_nothing()
        await connection.execute(made)
        found = await connection.execute(sa.select(secret.c.value).where(secret.c.name == name))
        return bytes.fromhex(found.scalar_one())
