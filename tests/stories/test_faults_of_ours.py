"""Faults of our own: one agent's or one session's stays its own, and what was to be done is done once it has passed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from server.domain.media import MediaOrder
from server.services import dispatch
from server.services.dispatch import after_fault_s
from server.services.ports import OrderResult, OrderStamp, OutboxRow, StorageUnavailable
from tests.helpers.deployments import Deployment
from tests.helpers.system import until
from tests.helpers.world import World, world, worlds


@pytest.fixture
async def w(tmp_path: Path, own_or_shared: Deployment) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def live(w: World, name: str) -> bool:
    found = await w.store.agent(f"usr_{name}")
    assert found is not None
    return found.live


@pytest.mark.parametrize("broken", ["ana", "bo", "cy"])
async def test_an_agent_whose_presence_can_t_be_told_hides_no_other(
    w: World, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    names = ("ana", "bo", "cy")
    await w.ready(*names)
    there = w.live.__contains__

    def is_live(user_id: str) -> bool:
        if user_id == f"usr_{broken}":
            raise KeyError("the fault")
        return there(user_id)

    monkeypatch.setattr(w.core.presence, "_is_live", is_live)
    w.live.clear()  # all tabs stop answering at once
    with capture_logs() as logs:
        await w.core.presence.look()
    assert [name for name in names if await live(w, name)] == [broken]
    assert [(e["event"], e["user_id"]) for e in logs if e["log_level"] == "error"] == [
        ("presence_failed", f"usr_{broken}")
    ]
    monkeypatch.setattr(w.core.presence, "_is_live", there)
    await w.core.presence.look()
    assert not await live(w, broken), "the next look mends it"


async def test_an_order_that_fails_by_our_fault_is_tried_again_ever_later_and_is_not_lost(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "AFTER_FAULT_S", (0.002, 0.01))
    order, failures = w.engine.order, 5

    async def fails(worker_id: str, stamp: OrderStamp, what: MediaOrder) -> OrderResult:
        nonlocal failures
        if failures:
            failures -= 1
            raise KeyError("the fault")
        return await order(worker_id, stamp, what)

    monkeypatch.setattr(w.engine, "order", fails)
    with capture_logs() as logs:
        call = await w.call()
    failed = [e for e in logs if e["event"] == "dispatch_failed"]
    assert [(e["session_id"], e["times"]) for e in failed] == [(call.session_id, times) for times in range(1, 6)]
    assert "leg.answer" in [p["type"] for p in await w.pushes(call.session_id)]
    assert await w.rows("SELECT (SELECT COUNT(*) FROM outbox), (SELECT COUNT(*) FROM order_lease)") == [(0, 0)]


async def test_a_database_that_is_away_is_no_fault_of_the_order(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "STORAGE_AWAY_S", 0.002)
    lease, away = w.store.lease_orders, 8

    async def unreachable(*arguments: int, **named: int) -> object:
        nonlocal away
        if away:
            away -= 1
            raise StorageUnavailable("away")
        return await lease(*arguments, **named)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(w.store, "lease_orders", unreachable)
    with capture_logs() as logs:
        call = await w.call()
    assert [e["event"] for e in logs if e["event"].startswith("dispatch")] == ["dispatch_postponed"] * 8
    assert "leg.answer" in [p["type"] for p in await w.pushes(call.session_id)]


async def test_another_node_may_do_what_one_can_t(
    tmp_path: Path, own_or_shared: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "AFTER_FAULT_S", (0.2, 0.2))
    async with worlds(tmp_path, ("north", "south")) as (north, south):
        for node in (north, south, north):
            await node.core.nodes._beat()
        failed = 0

        async def carry_out(row: OutboxRow) -> bool:
            nonlocal failed
            failed += 1
            raise KeyError("north's own fault")

        monkeypatch.setattr(north.core.dispatcher, "_carry_out", carry_out)
        call = await south.call(up=False)
        leg_id = (await south.session(call)).customer_leg.id
        await north.core.sessions.customer_leg(call, leg_id, 2, "v=0 offer")

        async def north_tried() -> bool:
            return failed > 0

        await until(north_tried, 5, "north's try", every_s=0.005)

        async def carried_out() -> bool:
            for session_id in await south.store.outbox_sessions():
                south.core.dispatcher.kick(session_id)  # as its sweep does
            return not south.core.dispatcher.busy

        await until(carried_out, 5, "the orders", every_s=0.02)
        assert failed == 1, "north waits, and does not hold the lease meanwhile"
        answers = [p for p in await south.pushes(call.session_id) if p["type"] == "leg.answer"]
        assert answers[-1]["generation"] == 2


def test_the_pause_after_a_fault_grows_to_a_minute_and_is_spread() -> None:
    assert [after_fault_s(faults, 1.0) for faults in (1, 2, 3, 6, 7, 8, 10_000)] == [1, 2, 4, 32, 60, 60, 60]
    assert [after_fault_s(faults, 0.0) for faults in (1, 2, 8)] == [0.5, 1, 30]
