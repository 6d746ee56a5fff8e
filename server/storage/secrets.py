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
    return bytes.fromhex(await agreed(engine, name, secrets.token_hex(size_bytes)))


async def agreed(engine: AsyncEngine, name: str, value: str) -> str:
    """What all nodes go by under this name: the value of the one that came first."""
    insert = postgresql_insert if engine.dialect.name == "postgresql" else sqlite_insert
    async with writing(engine).begin() as connection:
        # Of two nodes that say it at once the second does nothing, and reads what the first one said.
        said = insert(secret).values(name=name, value=value).on_conflict_do_nothing()
        await connection.execute(said)
        found = await connection.execute(sa.select(secret.c.value).where(secret.c.name == name))
        return str(found.scalar_one())


async def known_secrets(engine: AsyncEngine, prefix: str) -> dict[str, str]:
    """Those whose names begin so, by the rest of their names."""
    async with engine.connect() as connection:
        rows = await connection.execute(
            sa.select(secret.c.name, secret.c.value).where(secret.c.name.startswith(prefix, autoescape=True))
        )
        return {name.removeprefix(prefix): value for name, value in rows}
