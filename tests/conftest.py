"""Shared settings of the tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.helpers.fuzz import FUZZING, examples
from tests.helpers.redis_server import shared_redis_server  # noqa: F401  # the fixture redis_server

if FUZZING:
    settings.register_profile(
        "fuzz", max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck)
    )
    settings.load_profile("fuzz")
