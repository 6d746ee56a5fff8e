"""Bring a database to this version's schema, and say where it stands.

The scripts are in `migrations/` of the source tree; a wheel carries them as server/storage/migrations (setup.py).

Upgrade without downtime: each script has a `phase`. A "pre" script only adds, so that the version before goes on
working on what it makes; it runs before the first node of the new version starts. A "post" script removes what no
version in use needs any more; it runs when the last node of the old version is gone.

    patchbay migrate --phase pre     then replace the nodes one by one, then     patchbay migrate --phase post

A program works with every schema from the newest "pre" script that it has up to the newest script that it has
(`usable`): the "post" scripts may be there or not. It does not start on a schema that it does not know, so nodes of
the old version are not restarted between "pre" and their replacement; those that run are not disturbed.

On PostgreSQL each script is a transaction, and an advisory lock lets one process migrate at a time; the others wait and
find nothing left to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import asyncpg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from server.storage import admin_tables  # noqa: F401  # fills the metadata
from server.storage.engine import create_engine
from server.storage.faults import AWAY, cause_of
from server.storage.runtime_tables import metadata

_INSTALLED = Path(__file__).parent / "migrations"
_SOURCE_TREE = Path(__file__).parents[2] / "migrations"
UPGRADE_TIMEOUT_S = 600  # a large table may be copied, another process may migrate; a hang should still end
LOCK_S = 10  # a script waits so long for a table; behind it everybody else who wants the table waits as well
MIGRATION_LOCK = 0x7061746368_02  # any number that nobody else takes in this database

Phase = Literal["pre", "post", "all"]


class MigrationError(Exception):
    """The database can't be brought to this version's schema, or used with it. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Revision:
    id: str
    phase: Phase


def scripts_dir() -> Path:
    """The folder of the migration scripts. Raises MigrationError."""
    for folder in (_INSTALLED, _SOURCE_TREE):
        if (folder / "env.py").is_file():
            return folder
    raise MigrationError("The migration scripts are missing from this installation. Install Patchbay again.")


async def upgrade(url: str, phase: Phase = "all") -> str:
    """Apply the missing migrations, or those of one phase that come next (`goal`).

    Returns the revision it has now. Raises MigrationError when the schema is newer than this version, or made by
    halves, or the database can't be reached or changed."""
    async with _connected(url, None) as connection:
        return await connection.run_sync(_upgrade, phase)


async def current(url: str) -> str | None:
    """The revision of a database, None when it has no schema yet. Raises MigrationError."""
    async with _connected(url) as connection:
        return await connection.run_sync(_revision)


async def usable(url: str) -> None:
    """Raises MigrationError when this version can't work with the database's schema; the text says what to do."""
    async with _connected(url) as connection:
        found = await connection.run_sync(_known_revision)
    revisions = known()
    if found is None:
        raise MigrationError("The database has no schema yet; run `patchbay migrate`.")
    oldest = max(at for at, revision in enumerate(revisions) if revision.phase == "pre")
    if found not in [revision.id for revision in revisions[oldest:]]:
        raise MigrationError(
            f"The database has schema {found}, this version needs {revisions[oldest].id}; run `patchbay migrate`."
        )


def newest() -> str:
    """The newest revision that this version of Patchbay knows."""
    return known()[-1].id


def known() -> Sequence[Revision]:
    """The revisions that this version knows, oldest first."""
    scripts = ScriptDirectory.from_config(_config()).walk_revisions()
    return [Revision(script.revision, script.module.phase) for script in reversed(list(scripts))]


def goal(revisions: Sequence[Revision], found: str | None, phase: Phase) -> str:
    """How far an upgrade goes from `found`: with a phase, over the scripts of that phase that come next. An empty
    database has no nodes that a script could disturb and goes all the way."""
    if phase == "all" or found is None:
        return revisions[-1].id
    missing = revisions[[revision.id for revision in revisions].index(found) + 1 :]
    for revision in missing:
        if revision.phase != phase:
            break
        found = revision.id
    return found


@asynccontextmanager
async def _connected(url: str, statement_s: float | None = 10) -> AsyncIterator[AsyncConnection]:
    engine = create_engine(url, statement_s=statement_s)
    try:
        async with asyncio.timeout(UPGRADE_TIMEOUT_S), engine.connect() as connection:
            yield connection
    except (sa.exc.DBAPIError, asyncpg.PostgresError, *AWAY) as error:
        raise MigrationError(_told(cause_of(error), url)) from None  # unchained: a driver's error may hold the URL
    finally:
        await engine.dispose()


def _told(cause: BaseException, url: str) -> str:
    """What is wrong and what to do, without the password."""
    place = make_url(url)
    server = f"{place.host or 'the host in its address'}:{place.port or 5432}"
    correct = "correct PATCHBAY_DATABASE_URL"
    match cause:
        case asyncpg.InvalidAuthorizationSpecificationError():
            return f"The database refuses user {place.username}: {cause}. Check user and password, or {correct}."
        case asyncpg.InvalidCatalogNameError():
            return f"There is no database {place.database} on {server}. Make it (createdb), or {correct}."
        case asyncpg.CannotConnectNowError():
            return f"The database server is not ready: {cause}. Try again in a moment."
        case asyncpg.InsufficientPrivilegeError():
            return f"User {place.username} may not change the schema: {cause}. Make that user the database's owner."
        case asyncpg.LockNotAvailableError() | asyncpg.DeadlockDetectedError():
            return f"A table was in use for more than {LOCK_S} s. Nothing is half-done; run it again."
        case TimeoutError():
            return f"The database on {server} does not answer. Check the way there, or {correct}."
        case OSError():
            return f"The database on {server} can't be reached ({cause.strerror or cause}). Start it, or {correct}."
        case _:
            return f"The database can't be used: {cause}. Check its disk, or {correct}."


def _upgrade(connection: sa.Connection, phase: Phase) -> str:
    postgres = connection.dialect.name == "postgresql"
    if postgres:
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({MIGRATION_LOCK})")  # until the connection ends
        connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_S}s'")
        connection.commit()
    found = _known_revision(connection)
    connection.rollback()  # reading the revision began a transaction; each migration begins its own
    reached = goal(known(), found, phase)
    if reached != found:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, reached)
    return reached


def _known_revision(connection: sa.Connection) -> str | None:
    """Raises MigrationError for a schema that this version does not know, or that is no whole one."""
    found = _revision(connection)
    if found is None:
        tables = sorted(set(sa.inspect(connection).get_table_names()) & set(metadata.tables))
        if tables:
            raise MigrationError(
                f"The database has tables ({', '.join(tables[:3])} …) without a schema version: another program's, or "
                "left half-made. Give an empty database, or restore a backup."
            )
    elif found not in [revision.id for revision in known()]:
        raise MigrationError(
            f"The database has schema {found}, newer than this version of Patchbay, which knows up to "
            f"{newest()}. Install the newer version again, or restore the backup from before the upgrade."
        )
    return found


def _revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(scripts_dir()).replace("%", "%%"))
    return config
