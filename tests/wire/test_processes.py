"""The processes of a whole system with a live call in it: how they end, and what a control node that dies leaves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from server.caller import CallFailed
from server.domain.media import OpenLeg
from server.ids import new_id
from server.media import worker_orders
from server.media.peer import Peer
from server.services.ports import OrderStamp
from tests.helpers.customer import Customer
from tests.helpers.scripted_agent import ScriptedAgent
from tests.helpers.system import PASSWORD, STOP_S, System, system, until
from tests.helpers.worker_socket import ask, legs

NO_LEG_S = 60.0  # what the product promises: by then no leg is without a row
PARTS_GONE_S = 5.0


@asynccontextmanager
async def talking(patchbay: System) -> AsyncIterator[tuple[Customer, ScriptedAgent]]:
    async with ScriptedAgent(patchbay.url, "ana", PASSWORD, auto_accept=True) as agent:
        await agent.set_state("ready")
        customer = Customer(patchbay)
        await customer.begin()
        await agent.contact("talking")
        assert customer.peer is not None
        assert agent.peer is not None
        await asyncio.gather(customer.peer.wait_tone(880), agent.peer.wait_tone(440))
        yield customer, agent
        await customer.close()


def family(pid: int) -> set[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = set[int](), [pid]
    while todo:
        found.add(one := todo.pop())
        todo += children.get(one, [])
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that still run; a zombie has ended."""
    running = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state != "Z":
            running.add(pid)
    return running


async def test_ctrl_c_in_a_call_stops_everything(tmp_path: Path) -> None:
    async with system(tmp_path) as patchbay, talking(patchbay):
        processes = family(patchbay.process.pid)
        assert len(processes) >= 4  # supervisor, control node, two media workers
        took_s = await patchbay.stop()
        print(f"stopped within {took_s:.2f} s")
        assert took_s <= STOP_S
        assert not alive(processes)
        assert patchbay.process.returncode == 0
        assert "Traceback" not in patchbay.log.read_text()


async def test_a_killed_supervisor_takes_every_part_with_it(tmp_path: Path) -> None:
    async with system(tmp_path) as patchbay, talking(patchbay):
        processes = family(patchbay.process.pid)
        patchbay.process.kill()
        at = time.monotonic()

        async def gone() -> bool:
            return not alive(processes)

        await until(gone, PARTS_GONE_S, "the parts' end")
        await patchbay.process.wait()
        print(f"all parts gone after {time.monotonic() - at:.2f} s")


async def test_no_leg_stays_without_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control node dies when a worker has opened a leg and its answer is not saved, and the customer's machine dies
    with it. And a worker holds a leg of a session that no row knows at all."""
    monkeypatch.setenv("DIE_LOG", str(tmp_path / "opened"))
    monkeypatch.setenv("DIE_AT", "1")
    async with system(tmp_path, module="tests.helpers.dying_control") as patchbay:
        unknown = await _leg_of_nobody(patchbay, "media-2")
        control = patchbay.pids()["control"]
        customer = Customer(patchbay)
        with contextlib.suppress(CallFailed):  # the node may die before it has answered the request
            await customer.begin()
        await until(lambda: _gone(control), PARTS_GONE_S, "the control node's death")
        at = time.monotonic()
        assert customer.peer is not None
        customer.peer.crash()
        await customer.close()
        await patchbay.ready()
        (row,) = patchbay.rows("SELECT id, state FROM session")
        assert {leg.session_id for leg in await legs(patchbay)} == {unknown, row[0]}

        async def none() -> bool:
            return not await legs(patchbay)

        await until(none, NO_LEG_S - (time.monotonic() - at), "no leg", every_s=0.5)
        print(f"no leg after {time.monotonic() - at:.1f} s")
        assert patchbay.rows("SELECT id, state FROM session") == [(row[0], "ended")]
        assert patchbay.rows("SELECT outcome FROM queue_visit") == [("failed",)]
        assert patchbay.rows("SELECT COUNT(*) FROM outbox") == [(0,)]
        assert "orphan_leg_closed" in patchbay.log.read_text()


async def _gone(pid: int) -> bool:
    return not alive({pid})


async def _leg_of_nobody(patchbay: System, worker_id: str) -> str:
    """A leg that a worker opens for a session without a row; the session's id."""
    session_id = new_id("ses")
    peer = Peer()
    order = OpenLeg(f"leg_{session_id}", 1, await peer.offer())
    await peer.close()
    stamp = OrderStamp("default", session_id, 1, 1, 0)
    answer = await ask(
        patchbay, worker_id, "order", stamp=worker_orders.stamp_to_json(stamp), order=worker_orders.order_to_json(order)
    )
    assert answer["ok"], answer
    return session_id
