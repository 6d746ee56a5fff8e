"""Several control nodes on one database: any of them may act, and what they do at once is done once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from server.domain.events import Customer
from server.domain.media import MediaOrder, OpenLeg
from server.ids import new_id
from server.services.deadline_sweep import PAGE
from server.services.dispatch import LEFT_MS
from server.services.ports import (
    NODE_DEAD_MS,
    Connection,
    NodeRow,
    OrderResult,
    OrderStamp,
    RouterStoreUnavailable,
    Save,
    StorageUnavailable,
    StreamMessage,
)
from server.services.tokens import CustomerToken
from server.signaling.hub import Tab
from tests.helpers.deployments import Deployment
from tests.helpers.world import TENANT, World, worlds

Nodes = tuple[World, World]


@pytest.fixture
async def nodes(tmp_path: Path, own_or_shared: Deployment) -> AsyncIterator[Nodes]:
    async with worlds(tmp_path, ("north", "south")) as (north, south):
        await all_beat(north, south)
        yield north, south


async def all_beat(*nodes: World) -> None:
    for _ in range(2):  # the first to beat hears of the others at its second
        for node in nodes:
            await node.core.nodes._beat()


class Screen:
    """A tab that notes what it is sent and answers pings."""

    def __init__(self, node: World, person_id: str, sid: str) -> None:
        self.sent: list[dict[str, Any]] = []
        self.pings: list[int] = []
        self.gone = asyncio.Event()
        self.tab = Tab(sid, person_id, TENANT, self._emit, self._disconnect, self._nothing, self._allowed)
        self._node = node

    async def open(self) -> Screen:
        await self._node.core.hub.attach(self.tab)
        return self

    @property
    def types(self) -> list[str]:
        return [message["body"]["type"] for message in self.sent]

    async def until(self, kind: str) -> None:
        async with asyncio.timeout(5):
            while kind not in self.types:  # noqa: ASYNC110  # the hub's own task sends
                await asyncio.sleep(0.01)

    async def until_pinged(self) -> None:
        async with asyncio.timeout(5):
            while not self.pings:  # noqa: ASYNC110  # the hub's own task pings
                await asyncio.sleep(0.01)

    async def _emit(self, event: str, data: Any, sid: str, callback: Any) -> None:
        if event == "m":
            self.sent.append(data)
        else:
            self.pings.append(data["head"])
            callback({"seq": 0})

    async def _disconnect(self, sid: str) -> None:
        self.gone.set()
        await self._node.core.hub.detach(self.tab.person_id, sid)  # as the socket's end does

    async def _nothing(self) -> None:
        pass

    async def _allowed(self) -> bool:
        return True


async def test_a_call_on_one_node_rings_a_desk_on_the_other(nodes: Nodes) -> None:
    north, south = nodes
    desk = await Screen(south, "usr_ana", "tab-1").open()
    await south.ready("ana")
    call = await north.call()
    await south.settle()
    assert await north.offered_to(call) == "ana"
    await desk.until("offer.made")
    await south.accept(call, "ana")
    assert (await north.session(call)).state == "connected"
    await north.core.sessions.customer_hang_up(call)
    await north.settle()
    await desk.until("contact.changed")
    assert await south.agent_state("ana") == "wrap_up"


async def test_what_the_bus_loses_shows_within_a_look(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    north, south = nodes
    desk = await Screen(south, "usr_ana", "tab-1").open()
    await south.ready("ana")
    monkeypatch.setattr(north.core.hub._bus, "publish", lambda notice: None)
    before = len(desk.pings)
    await north.call()
    assert "offer.made" not in desk.types
    await south.core.hub.look()
    head = (await south.store.stream("usr_ana", 0)).head
    assert desk.pings[before:] == [head], "a ping tells at once that something is missing"


async def test_a_persons_newest_tab_takes_over_on_whichever_node(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    north, south = nodes
    first = await Screen(north, "usr_ana", "tab-1").open()
    second = await Screen(south, "usr_ana", "tab-2").open()
    await first.until("superseded")
    assert first.gone.is_set()
    assert not await north.core.hub.detach("usr_ana", "tab-1"), "the other tab's connection stays"
    monkeypatch.setattr(north.core.hub._bus, "publish", lambda notice: None)
    third = await Screen(north, "usr_ana", "tab-3").open()
    await south.core.hub.look()
    await second.until("superseded")
    assert not third.gone.is_set()


async def test_what_a_dead_node_left_behind_takes_no_desk_away(nodes: Nodes) -> None:
    """It was on its way to the database when the node died, and came after the person had found another one."""
    _, south = nodes
    desk = await Screen(south, "usr_ana", "tab-2").open()
    told = asyncio.Event()

    async def changed() -> None:
        told.set()

    desk.tab.liveness_changed = changed
    await south.store.connect(TENANT, "usr_ana", Connection("nod_dead", "tab-1"))
    await south.core.hub.look()
    async with asyncio.timeout(5):
        await told.wait()
    (row,) = await south.store.persons(["usr_ana"])
    assert row.connection == Connection(south.core.nodes.node_id, "tab-2")
    assert "superseded" not in desk.types
    assert not desk.gone.is_set()


async def test_a_deadline_that_all_nodes_sweep_takes_effect_once(nodes: Nodes) -> None:
    north, south = nodes
    await south.ready("ana")
    call = await north.call()
    assert await north.offered_to(call) == "ana"
    north.clock.advance(21)
    await asyncio.gather(*(node.core.sweep.sweep() for node in nodes for _ in range(3)))
    assert await south.agent_state("ana") == "missed"
    passed = "SELECT COUNT(*) FROM session_event WHERE session_id = ? AND type = 'DeadlinePassed'"
    assert await north.rows(passed, call.session_id) == [(1,)]


async def test_deadlines_that_are_nobodys_hide_no_other(nodes: Nodes) -> None:
    """An older version of the program leaves rows of a kind that it does not know."""
    north, south = nodes
    await south.ready("ana")
    call = await north.call()
    assert await north.offered_to(call) == "ana"
    for number in range(PAGE + 5):
        await north.rows(
            "INSERT INTO deadline (owner_id, kind, key, tenant, at) VALUES (?, 'max_wait', ?, ?, 1)",
            call.session_id,
            f"vis_{number}",
            TENANT,
        )
    north.clock.advance(21)
    for _ in range(2):  # the first finds nothing but those
        await north.core.sweep.sweep()
    assert await south.agent_state("ana") == "missed"


async def test_nodes_that_route_at_once_offer_each_session_once_and_in_order(nodes: Nodes) -> None:
    north, south = nodes
    calls = [await north.call() for _ in range(6)]
    for name in ("ana", "bo"):
        await south.tab(name, live=True)
        await south.core.agents.choose(south.user(name), "ready", None)
    await asyncio.gather(*(node.core.router.look() for node in nodes for _ in range(4)))
    assert {await north.offered_to(call) for call in calls[:2]} == {"ana", "bo"}
    assert [await north.offered_to(call) for call in calls[2:]] == [None] * 4
    assert await north.rows("SELECT COUNT(*) FROM segment") == [(2,)]


async def test_a_node_that_is_not_first_leaves_the_choice_until_its_tick(nodes: Nodes) -> None:
    north, south = nodes
    first = north if north.core.nodes.mine(TENANT) else south
    other = south if first is north else north
    await other.ready("ana")
    await other.call(up=False)
    call = await other.call()
    await other.core.router.look(tick=False)
    assert await other.offered_to(call) in (None, "ana")
    await other.core.router.look()
    assert await other.agent_state("ana") == "ringing"
    assert first.core.nodes.mine(TENANT) != other.core.nodes.mine(TENANT)


async def test_the_desks_of_a_node_that_dies_are_empty_and_it_rings_elsewhere(nodes: Nodes) -> None:
    north, south = nodes
    await south.ready("ana")
    await north.ready("bo")
    call = await north.call()
    assert await north.offered_to(call) == "ana"
    for _ in range(NODE_DEAD_MS // 1000 + 1):  # south beats no more
        north.clock.advance(1)
        await north.core.nodes._beat()
    await north.settle()
    assert not (await agent(north, "ana")).live
    await north.after(3.1)
    assert await north.offered_to(call) == "bo"
    assert not (await agent(north, "ana")).missed, "nobody is blamed for a node that died"


async def test_a_desk_that_comes_back_to_another_node_stays_live(nodes: Nodes) -> None:
    north, south = nodes
    await south.ready("ana")
    await north.tab("ana", live=True)
    south.live.discard("usr_ana")
    await south.core.presence.settle(TENANT, "usr_ana")  # the old node sees its socket close, late
    await south.core.presence.look()
    await north.core.presence.look()
    assert (await agent(south, "ana")).live


async def test_orders_of_two_nodes_are_carried_out_in_their_order_by_one(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    north, south = nodes
    given: list[tuple[int, int]] = []
    at_work = 0
    order = north.engine.order

    async def slow(worker_id: str, stamp: OrderStamp, what: MediaOrder) -> OrderResult:
        nonlocal at_work
        at_work += 1
        assert at_work == 1, "two nodes carry out orders of one session at once"
        given.append((stamp.version, stamp.index))
        if isinstance(what, OpenLeg):
            await asyncio.sleep(0.05)  # what a set-up takes
        at_work -= 1
        return await order(worker_id, stamp, what)

    monkeypatch.setattr(north.engine, "order", slow)
    call = await north.call(up=False)
    for generation in range(2, 8):
        node = (north, south)[generation % 2]
        leg_id = (await node.session(call)).customer_leg.id
        await node.core.sessions.customer_leg(call, leg_id, generation, "v=0 offer")
    await asyncio.gather(north.settle(), south.settle())
    assert given == sorted(set(given))
    assert await north.rows("SELECT COUNT(*) FROM outbox") == [(0,)]
    assert await north.rows("SELECT COUNT(*) FROM order_lease") == [(0,)]
    answers = [p for p in await north.pushes(call.session_id) if p["type"] == "leg.answer"]
    assert answers[-1]["generation"] == 7


async def test_orders_that_a_dead_node_left_are_carried_out_by_another(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    north, south = nodes
    monkeypatch.setattr(south.core.dispatcher, "kick", lambda session_id: None)  # it dies right after its commit
    call = await south.call(up=False)
    row = await south.store.lease_orders(call.session_id, south.core.nodes.node_id, 0, 10**15)
    assert row, "and with the lease in its hand"
    now = north.clock.now_ms()
    assert await north.store.lease_orders(call.session_id, north.core.nodes.node_id, now, now + 1) is None
    north.clock.advance(max(NODE_DEAD_MS, LEFT_MS) / 1000 + 0.1)
    await north.core.nodes._beat()
    for session_id in await north.store.outbox_sessions(north.clock.now_ms() - LEFT_MS):
        north.core.dispatcher.kick(session_id)
    await north.settle()
    assert "leg.answer" in [p["type"] for p in await north.pushes(call.session_id)]


async def agent(node: World, name: str) -> Any:
    found = await node.store.agent(f"usr_{name}")
    assert found is not None
    return found


async def test_a_worker_that_another_node_reaches_is_not_lost(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    north, south = nodes
    assert await north.core.nodes.others_reach("media-1")
    monkeypatch.setattr(south.core.nodes, "_reached", tuple)
    await all_beat(south, north)
    assert not await north.core.nodes.others_reach("media-1")


async def test_a_socket_that_fails_on_its_way_out_ends_no_node(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    north, south = nodes
    monkeypatch.setattr(north.core.hub._bus, "publish", lambda notice: None)
    first = await Screen(north, "usr_ana", "tab-1").open()
    tried = asyncio.Event()

    async def fail(sid: str) -> None:
        tried.set()
        raise KeyError(sid)

    first.tab.disconnect = fail
    await south.store.connect(TENANT, "usr_ana", Connection(south.core.nodes.node_id, "tab-2"))
    await north.core.hub.look()
    async with asyncio.timeout(5):
        await tried.wait()
    other = await Screen(north, "usr_bo", "tab-3").open()
    await other.until_pinged()
    assert north.core.hub.persons(TENANT) == ["usr_bo"]


async def test_a_drain_begins_even_while_the_database_is_away(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    north, south = nodes

    async def away(row: NodeRow) -> Sequence[NodeRow]:
        raise StorageUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(north.store, "beat", away)
        await north.core.nodes.drain()
    assert north.core.nodes.draining
    await all_beat(north, south)
    assert all(south.core.nodes.mine(key) for key in "abcdefgh"), "they hear of it with a later beat"


async def test_what_is_saved_while_the_index_is_away_does_not_pile_up(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    north, _ = nodes
    router, asked = north.core.router, asyncio.Event()

    class Away:
        async def mark(self, tenant: str) -> int:
            asked.set()
            raise RouterStoreUnavailable("away")

    await north.ready("ana")
    with monkeypatch.context() as patched:
        patched.setattr(router, "_store", Away())
        router._rebuild_at = 0.0
        routing = asyncio.create_task(router.run())
        for state in ("offline", "ready") * 10:
            await north.core.agents.choose(north.user("ana"), state, None)
        token = CustomerToken(TENANT, new_id("ses"), "ept_sales", north.clock.now_ms() + 10**9)
        await north.core.sessions.call(token, Customer("Li"), "v=0 offer")
        asked.clear()
        async with asyncio.timeout(5):
            await asked.wait()
        assert not router._heard
        routing.cancel()
        await asyncio.wait({routing})
    await north.settle()
    assert await north.offered_to(token) == "ana", "the rows said what had changed"


async def test_two_nodes_of_one_name_leave_each_other_alone(tmp_path: Path, own_or_shared: Deployment) -> None:
    async with worlds(tmp_path, ("twin", "twin")) as (older, younger):
        younger.core.nodes._started_at += 1  # the tests' clock stands still
        await all_beat(younger, older)
        await all_beat(younger, older)
        assert older.core.nodes.name != younger.core.nodes.name
        assert set(older.core.nodes.living) == set(younger.core.nodes.living)
        assert len(older.core.nodes.living) == 2


async def test_after_an_outage_the_first_node_back_buries_nobody(nodes: Nodes) -> None:
    north, south = nodes
    await south.ready("ana")
    north.clock.advance((NODE_DEAD_MS + 4_000) / 1000)  # no beat got through meanwhile
    await north.core.nodes._beat()
    await north.core.presence.look()
    assert (await agent(north, "ana")).live
    await south.core.nodes._beat()
    north.clock.advance(3)
    await all_beat(south, north)
    await north.core.presence.look()
    assert (await agent(north, "ana")).live


async def test_a_save_whose_answer_is_lost_is_routed_at_the_next_look(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    north, _ = nodes
    await north.tab("ana", live=True)
    call = await north.call()
    save = north.store.save

    async def saved_and_lost(what: Save) -> tuple[StreamMessage, ...]:
        await save(what)
        raise StorageUnavailable("the connection broke")

    with monkeypatch.context() as patched:
        patched.setattr(north.store, "save", saved_and_lost)
        with pytest.raises(StorageUnavailable):
            await north.core.agents.choose(north.user("ana"), "ready", None)
    await north.core.router.look()
    assert await north.offered_to(call) == "ana"
