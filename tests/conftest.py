"""Shared settings of the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers.deployments import NAMES, Deployment, deployed
from tests.helpers.fuzz import FUZZING, examples
from tests.helpers.postgres import shared_postgres  # noqa: F401  # the fixture postgres
from tests.helpers.redis_server import shared_redis_server  # noqa: F401  # the fixture redis_server

if FUZZING:
    settings.register_profile(
        "fuzz", max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck)
    )
    settings.load_profile("fuzz")


@pytest.fixture(params=NAMES)
def deployment(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """Runs the test once on each deployment (tests/helpers/deployments.py)."""
    with deployed(_deployment(request)) as chosen:
        yield chosen


@pytest.fixture(params=["sqlite", "shared"])
def own_or_shared(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """Runs the test on SQLite and on PostgreSQL with Redis: for worlds within one process."""
    with deployed(_deployment(request)) as chosen:
        yield chosen


def _deployment(request: pytest.FixtureRequest) -> Deployment:
    if request.param == "sqlite":
        return Deployment()
    postgres, redis = request.getfixturevalue("postgres"), request.getfixturevalue("redis_server")
    return Deployment(request.param, postgres, redis)
