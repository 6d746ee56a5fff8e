"""How many steps a second a database takes, through the service that makes them: load, step, draw, save, tell.

Customers call, wait, are offered to an agent, talk, are held, and are wrapped up, many at once, each with an agent of
its own. `python -m tests.bench.steps` prints the figures of SQLite and PostgreSQL.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import uvloop

from server.clock import MonotonicClock
from server.domain import agent as ag
from server.domain import events as ev
from server.ids import new_id
from server.services.ports import Commit, OutboxKey, StepStore
from server.services.stepper import Stepper
from server.signaling.views import WirePresenter
from server.storage.migrate import upgrade
from server.storage.postgres_steps import PostgresSteps
from server.storage.sqlite_steps import SqliteSteps
from tests.helpers.postgres import postgres_server

SESSIONS = 32  # at once
WARM_UP_S = 1.0
SECONDS = 5.0
SDP = "v=0\r\n" + "a=candidate:1 1 udp 2130706431 10.0.0.1 40000 typ host\r\n" * 20  # about 1 kB, as browsers send it
RULES = ev.QueueRules("que_1", "Sales", 20, 60, True, True)
CUSTOMER = ev.Customer("Li Wei", "zh-CN", "https://shop.example/cart", {"order": "1042"}, "1")


class _Orders:
    """`CommitListener`: the orders that were saved and not consumed yet, as the dispatcher would know them."""

    def __init__(self) -> None:
        self._keys: dict[str, list[OutboxKey]] = defaultdict(list)

    def on_commit(self, commit: Commit) -> None:
        for save in commit.sessions:
            self._keys[save.after.id] += [row.key for row in save.orders]

    def take(self, session_id: str) -> list[OutboxKey]:
        return self._keys.pop(session_id, [])


async def saves_per_second(
    store: StepStore, stepper: Stepper, *, sessions: int = SESSIONS, seconds: float = SECONDS
) -> float:
    """Steps of sessions that were saved in a second, `sessions` of them stepping at once. `stepper` saves in `store`;
    what its listeners do counts too. Orders are consumed by the step that follows. Raises AssertionError when a step
    is missing afterwards."""
    orders = _Orders()
    stepper.listen(orders)
    steps, ids = 0, []
    counting = stop = False

    async def live() -> None:
        nonlocal steps
        agent_id = new_id("usr")
        await stepper.apply_agent("default", agent_id, ag.WentLive(), ag.StateChosen(ag.Chosen.READY), create=True)
        while not stop:
            session_id = new_id("ses")
            ids.append(session_id)
            for event in _life(session_id, agent_id):
                session = await stepper.apply(session_id, event, consumed=orders.take(session_id))
                steps += counting
            assert session.done

    async with asyncio.TaskGroup() as group:
        for _ in range(sessions):
            group.create_task(live())
        await asyncio.sleep(WARM_UP_S)
        began, counting = time.perf_counter(), True
        await asyncio.sleep(seconds)
        counted, took = steps, time.perf_counter() - began
        stop = True
    sample = ids[:: max(1, len(ids) // 20)]
    for session_id in sample:
        session = await store.session(session_id)
        assert session is not None
        assert session.version == len(_life(session_id, ""))
    return counted / took


def _life(session_id: str, agent_id: str) -> list[ev.Event]:
    """A call from its arrival to the end of its wrap-up; ids of parts are derived from the session's."""
    number = session_id.removeprefix("ses_")
    caller, desk, segment, recording = f"leg_{number}_0", f"leg_{number}_1", f"seg_{number}_1", f"rec_{number}_1"
    return [
        ev.CallArrived(session_id, "default", "ept_1", RULES, CUSTOMER, "media-1"),
        ev.LegOffered(caller, 1, SDP),
        ev.LegAnswered(caller, 1, 1, SDP),
        ev.LegWentUp(caller, 1, 1),
        ev.AgentOffered(agent_id, "Ana", {"candidates": 1}),
        ev.AgentAccepted(segment, agent_id),
        ev.LegOffered(desk, 1, SDP),
        ev.LegAnswered(desk, 1, 1, SDP),
        ev.LegWentUp(desk, 1, 1),
        ev.HoldChanged(segment, agent_id, True),
        ev.HoldChanged(segment, agent_id, False),
        ev.NotesSaved(segment, agent_id, "wants two of the blue ones", None),
        ev.CustomerHungUp(),
        ev.RecordingPartClosed(recording, 1),
        ev.RecordingArchived(recording, 5_000, {"size_bytes": 10_000, "peaks": list(range(200))}),
        ev.WrapUpDone(segment, agent_id, "sold two of the blue ones", "dsp_sold"),
    ]


async def measure_sqlite(folder: Path) -> float:
    path = folder / "patchbay.db"
    await upgrade(f"sqlite+aiosqlite:///{path}")
    store = await SqliteSteps.open(path)
    try:
        return await saves_per_second(store, Stepper(store, WirePresenter(), MonotonicClock()))
    finally:
        await store.close()


async def measure_postgres(url: str) -> float:
    store = await PostgresSteps.open(url)
    try:
        return await saves_per_second(store, Stepper(store, WirePresenter(), MonotonicClock()))
    finally:
        await store.close()


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        postgres_server() as server,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        print(f"SQLite      {runner.run(measure_sqlite(Path(folder))):7.0f} steps/s")
        print(f"PostgreSQL  {runner.run(measure_postgres(runner.run(server.database()))):7.0f} steps/s")


if __name__ == "__main__":
    main()
