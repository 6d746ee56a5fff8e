"""The ways in which Patchbay runs, for stories that must hold on each of them.

sqlite    one machine, nothing but SQLite
shared    one machine on PostgreSQL and Redis
cluster   two control nodes and two media workers behind HAProxy; customers on one node, agents on the other

A test that asks for the `deployment` fixture runs on each; `tests.helpers.system.system` starts what is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.helpers.postgres import PostgresServer
    from tests.helpers.redis_cluster import RedisNodes
    from tests.helpers.redis_server import RedisServer

NAMES = ("sqlite", "shared", "cluster")


@dataclass(frozen=True)
class Deployment:
    """`postgres` and `redis` are the servers to use; None on SQLite."""

    name: str = "sqlite"
    postgres: PostgresServer | None = None
    redis: RedisServer | RedisNodes | None = None


class _Choice:
    """What the running test has chosen: one at a time in a process."""

    def __init__(self) -> None:
        self.now = Deployment()


CHOICE = _Choice()


@contextmanager
def deployed(deployment: Deployment) -> Iterator[Deployment]:
    """Within it, `system` starts this."""
    CHOICE.now = deployment
    try:
        yield deployment
    finally:
        CHOICE.now = Deployment()
