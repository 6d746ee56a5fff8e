"""Orders that are carried out late: the database or a node was away. What they concern happened when it happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from server.domain.media import ApplyPlan
from server.services.ports import OutboxRow
from tests.helpers.deployments import Deployment
from tests.helpers.world import World, world


@pytest.fixture
async def w(tmp_path: Path, own_or_shared: Deployment) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


class HeldOrders:
    """The store's `lease_orders` behind a gate."""

    def __init__(self, w: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self._lease = w.store.lease_orders
        self.gate = asyncio.Event()
        self.asked = asyncio.Event()
        monkeypatch.setattr(w.store, "lease_orders", self.lease_orders)

    async def lease_orders(
        self, session_id: str, node_id: str, now: int, until: int, limit: int = 16
    ) -> Sequence[OutboxRow] | None:
        self.asked.set()
        await self.gate.wait()
        return await self._lease(session_id, node_id, now, until, limit)


def places(w: World) -> list[int | None]:
    """How far into the talk each order was that asked for a recording."""
    plans = [order.plan for _, _, order in w.engine.orders if isinstance(order, ApplyPlan)]
    return [plan.recording.at_ms for plan in plans if plan.recording is not None]


async def test_an_order_that_was_held_back_says_how_far_into_the_talk_it_is(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana", up=False)
    session = await w.session(call)
    assert session.owner is not None
    held = HeldOrders(w, monkeypatch)
    await w.engine.report_up(call.session_id, session.owner.leg.id)  # the talk begins, and its order with it
    await held.asked.wait()
    w.clock.advance(0.5)
    assert places(w) == []
    held.gate.set()
    await w.settle()
    assert places(w) == [500]

    await w.after(4)
    await w.engine.kill("media-1" if session.worker_id == "media-1" else "media-2")
    await w.settle()
    assert places(w) == [500, 4500], "each part tells its own place"

    held.gate.clear()
    await w.core.sessions.customer_hang_up(call)
    w.clock.advance(2)  # the worker records on
    held.gate.set()
    await w.settle()
    recording = (await w.session(call)).recordings[0]
    assert recording.state == "ready"
    assert w.archiver.talk_ms == {recording.id: 4500}, "the archive is as long as the talk, whatever was recorded"
