"""Shared settings of the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers.deployments import NAMES, Deployment, deployed
from tests.helpers.fuzz import FUZZING, examples
from tests.helpers.postgres import shared_postgres  # noqa: F401  # the fixture postgres
from tests.helpers.redis_cluster import shared_redis_cluster  # noqa: F401  # the fixture redis_cluster
from tests.helpers.redis_server import shared_redis_server  # noqa: F401  # the fixture redis_server

if FUZZING:
    settings.register_profile(
        "fuzz", max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck)
    )
    settings.load_profile("fuzz")

# Real browsers and processes on a machine that others load, too: docs/decisions/0008.
REAL_TIME = ("tests/browser/", "tests/chaos/", "tests/wire/")
SECOND_TRIES = 3  # of the whole run; more than that is a fault, and no weather


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where the machine is shared (PATCHBAY_TEST_SHARED=1), a test in real time that failed gets one more try."""
    if os.environ.get("PATCHBAY_TEST_SHARED") == "1":
        for item in items:
            if item.nodeid.startswith(REAL_TIME):
                item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Second tries are told, and too many of them fail the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    again = [report.nodeid for report in reporter.stats.get("rerun", [])] if reporter is not None else []
    if again:
        print(f"\n{len(again)} needed a second try (at most {SECOND_TRIES} may): {', '.join(again)}")
    if len(again) > SECOND_TRIES:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


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
