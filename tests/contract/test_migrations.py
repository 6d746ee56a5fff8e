"""Migrations: they agree with the models, apply once, and refuse a schema they do not know."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlmodel import SQLModel

import server.storage.admin_tables
import server.storage.runtime_tables  # noqa: F401  # both fill the metadata
from server.storage.engine import create_engine, writing
from server.storage.migrate import MigrationError, current, newest, upgrade


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/a b%c.db"


async def test_models_and_migrations_agree(url: str) -> None:
    await upgrade(url)
    engine = create_engine(url)
    async with engine.connect() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(
                MigrationContext.configure(sync, opts={"compare_type": True}), SQLModel.metadata
            )
        )
    await engine.dispose()
    assert differences == []


async def test_upgrade_is_idempotent(url: str) -> None:
    assert await current(url) is None
    assert await upgrade(url) == newest()
    assert await upgrade(url) == newest()
    assert await current(url) == newest()


async def test_a_newer_schema_is_refused(url: str) -> None:
    await upgrade(url)
    engine = create_engine(url)
    async with writing(engine).begin() as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(MigrationError, match="9999, newer than this version"):
        await upgrade(url)


async def test_the_audit_log_is_append_only(url: str) -> None:
    await upgrade(url)
    engine = create_engine(url)
    async with writing(engine).begin() as connection:
        await connection.execute(sa.text("INSERT INTO tenant VALUES ('t', 't', 0)"))
        await connection.execute(
            sa.text("INSERT INTO audit_log VALUES ('a', 't', 0, 'system', 'created', 'user', 'u', '{}')")
        )
    for statement in ("UPDATE audit_log SET at = 1", "DELETE FROM audit_log"):
        with pytest.raises(sa.exc.IntegrityError, match="append-only"):
            async with writing(engine).begin() as connection:
                await connection.execute(sa.text(statement))
    await engine.dispose()
