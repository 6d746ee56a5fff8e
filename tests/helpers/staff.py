"""Agents by the hundred, written into the database: how long their passwords take to hash is not the question."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from server.ids import new_id

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Hired:
    """An agent with a login; `token` is that of the cookie, `levels` are skill ids with levels."""

    user_id: str
    token: str
    levels: Mapping[str, int]


async def hire(url: str, levels: Sequence[Mapping[str, int]]) -> list[Hired]:
    """One agent for each. `url` as in PATCHBAY_DATABASE_URL."""
    now = int(time.time() * 1000)
    hired = [Hired(new_id("usr"), secrets.token_urlsafe(32), skills) for skills in levels]
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        async with connection.transaction():
            await connection.executemany(
                'INSERT INTO "user" (id, tenant, login, name, role, active, password_hash, created_at, version) '
                "VALUES ($1, 'default', $1, $2, 'agent', true, '', $3, 1)",
                [(one.user_id, f"Agent {number}", now) for number, one in enumerate(hired)],
            )
            await connection.executemany(
                "INSERT INTO user_skill (user_id, skill_id, level) VALUES ($1, $2, $3)",
                [(one.user_id, skill_id, level) for one in hired for skill_id, level in one.levels.items()],
            )
            await connection.executemany(
                "INSERT INTO login_session (token_hash, tenant, user_id, created_at, expires_at) "
                "VALUES ($1, 'default', $2, $3, $4)",
                [(hashlib.sha256(o.token.encode()).hexdigest(), o.user_id, now, now + DAY_MS) for o in hired],
            )
            await connection.execute("UPDATE tenant SET set_up = set_up + 1")  # as the product does with a change
    finally:
        await connection.close()
    return hired
