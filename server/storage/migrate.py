"""Bring a database to this version's schema, and say where it stands.

The scripts are in `migrations/` of the source tree; a wheel carries them as server/storage/migrations (setup.py).
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from server.storage.engine import create_engine

_INSTALLED = Path(__file__).parent / "migrations"
_SOURCE_TREE = Path(__file__).parents[2] / "migrations"
UPGRADE_TIMEOUT_S = 600  # a large table may be copied; a hang should still end


class MigrationError(Exception):
    """The database can't be brought to this version's schema. The text says what to do."""


def scripts_dir() -> Path:
    """The folder of the migration scripts. Raises MigrationError."""
    for folder in (_INSTALLED, _SOURCE_TREE):
        if (folder / "env.py").is_file():
            return folder
    raise MigrationError("The migration scripts are missing from this installation. Install Patchbay again.")


async def upgrade(url: str) -> str:
    """Apply every missing migration; a database that is up to date stays as it is.

    Returns the revision it has now. Raises MigrationError when the schema is newer than this version."""
    engine = create_engine(url)
    try:
        async with asyncio.timeout(UPGRADE_TIMEOUT_S), engine.connect() as connection:
            return await connection.run_sync(_upgrade)
    except sa.exc.DBAPIError as error:
        raise _unusable(error) from None
    finally:
        await engine.dispose()


async def current(url: str) -> str | None:
    """The revision of a database, None when it has no schema yet. Raises MigrationError."""
    engine = create_engine(url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_revision)
    except sa.exc.DBAPIError as error:
        raise _unusable(error) from None
    finally:
        await engine.dispose()


def newest() -> str:
    """The revision that this version of Patchbay needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def _unusable(error: sa.exc.DBAPIError) -> MigrationError:
    return MigrationError(f"The database can't be used: {error.orig}. Check PATCHBAY_DATABASE_URL and its disk.")


def _upgrade(connection: sa.Connection) -> str:
    config = _config()
    found = _revision(connection)
    connection.rollback()  # reading the revision began a transaction; each migration begins its own
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise MigrationError(
            f"The database has schema {found}, newer than this version of Patchbay, which knows up to "
            f"{newest()}. Install the newer version again, or restore the backup from before the upgrade."
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return newest()


def _revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(scripts_dir()).replace("%", "%%"))
    return config
