"""Alembic's environment. server/storage/migrate.py hands over an open connection; `alembic` on the command line
(to write a new revision) opens its own from PATCHBAY_DATABASE_URL."""

from __future__ import annotations

import asyncio
import os

from alembic import context
from sqlalchemy import Connection
from sqlmodel import SQLModel

import server.storage.admin_tables
import server.storage.runtime_tables  # noqa: F401  # both fill the metadata
from server.storage.engine import create_engine


def run(connection: Connection) -> None:
    # render_as_batch: SQLite can't ALTER most things, so Alembic copies the table instead.
    # transactional_ddl: SQLite's DDL is transactional too, and a migration applies wholly or not at all.
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_by_itself() -> None:
    engine = create_engine(os.environ["PATCHBAY_DATABASE_URL"])
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


handed_over = context.config.attributes.get("connection")
if handed_over is None:
    asyncio.run(run_by_itself())
else:
    run(handed_over)
