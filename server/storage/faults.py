"""Which errors of the drivers mean that the database can't be used now, rather than that a statement is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import sqlalchemy as sa

from server.services.ports import StorageUnavailable

AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shut down, crashed, starting, or the statement ran for too long
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, after a fail-over
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionRollbackError,  # a deadlock, say: it works when it is tried again
    asyncpg.InternalClientError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
)


def unavailable(error: BaseException) -> bool:
    # asyncpg's InterfaceError for a value that no column takes is a ValueError too: our fault, not the database's.
    return isinstance(error, AWAY) and not isinstance(error, ValueError)


def storage_unavailable(error: BaseException) -> StorageUnavailable:
    first_line = next(iter(str(error).splitlines()), "")
    return StorageUnavailable(f"the database can't be used now: {first_line or type(error).__name__}")


def cause_of(error: BaseException) -> BaseException:
    """The driver's own error, where SQLAlchemy wraps it."""
    if isinstance(error, sa.exc.DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


@contextmanager
def translated() -> Iterator[None]:
    """Faults of an engine's connections as StorageUnavailable; errors of statements as they are."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.TimeoutError) as error:  # SQLite's; the pool's
        raise storage_unavailable(cause_of(error)) from error
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated or unavailable(cause_of(error)):
            raise storage_unavailable(cause_of(error)) from error
        raise
    except AWAY as error:  # SQLAlchemy does not wrap what happens while a connection is made
        if unavailable(error):
            raise storage_unavailable(error) from error
        raise
