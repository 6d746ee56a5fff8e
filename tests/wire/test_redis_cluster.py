"""A whole node whose index and bus are on a Redis Cluster: calls are routed while its nodes fail, in the same order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from server.caller import Caller
from server.routing.redis_store import _key
from tests.helpers.deployments import Deployment, deployed
from tests.helpers.postgres import PostgresServer
from tests.helpers.redis_cluster import redis_nodes
from tests.helpers.scripted_agent import ScriptedAgent
from tests.helpers.system import PASSWORD, System, system, until

FAILED_MS = 1_000
ROUTED_AGAIN_S = 40.0


async def waiting(patchbay: System, name: str) -> Caller:
    """One more in the queue, after all others."""
    caller = Caller(patchbay.url, patchbay.widget_key(), name=name)
    await caller.begin()

    async def queued() -> bool:
        return str(caller.view["state"]) == "queued"

    await until(queued, 10, f"{name} waits")
    return caller


@pytest.mark.timeout(240)
async def test_calls_are_routed_in_their_order_while_the_cluster_fails(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    (tmp_path / "redis").mkdir()
    with (
        redis_nodes(tmp_path / "redis", replicas=True, node_timeout_ms=FAILED_MS) as redis,
        deployed(Deployment("shared", postgres, redis)),
    ):
        async with (
            system(tmp_path, workers=1) as patchbay,
            ScriptedAgent(patchbay.url, "ana", PASSWORD, auto_accept=True) as ana,
        ):
            disposition = (await ana.rest("GET", "/dispositions"))["items"][0]["disposition_id"]
            callers = [await waiting(patchbay, f"Customer {number}") for number in range(4)]
            victim = redis.masters[redis.owner(_key("default", "meta"))]
            faults: tuple[Callable[[], object], ...] = (
                lambda: None,
                victim.stop,  # its replica takes over
                redis.flush_all,
                redis.restart,  # nothing is left
            )
            for caller, fault in zip(callers, faults, strict=True):
                fault()
                await ana.set_state("ready")
                contact = await ana.contact("talking", timeout_s=ROUTED_AGAIN_S)
                assert contact["session_id"] == caller.view["session_id"], "the first in line"
                await ana.set_state("offline")
                await ana.hang_up()
                await ana.contact("wrap_up", contact["session_id"])
                await ana.wrap_up(disposition)
                await ana.in_state("offline")
                await caller.close()
            outcomes = patchbay.rows("SELECT outcome FROM queue_visit")
            assert outcomes == [("answered",)] * len(callers)
