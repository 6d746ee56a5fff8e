"""What happened in a center, read back from its tables and played again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from server.domain.administration import User
from server.domain.agent import Chosen
from server.domain.directory import QueueConfig, Role
from server.domain.queue_life import QueueLife
from server.domain.reports import numbers
from server.storage.admin_repository import QUEUE, StoredAdmin
from server.storage.admin_tables import TenantRow
from server.storage.engine import create_engine, writing
from server.whatif import past
from server.whatif.comparison import happened, lines, simulated, trust
from server.whatif.engine import simulate
from server.whatif.workload import Center, Shift
from tests.helpers.deployments import Deployment
from tests.helpers.world import TENANT, World, world

S = 1000
HOUR_MS = 3_600_000
END_MS = 600 * S


@pytest.fixture
async def w(tmp_path: Path, own_or_shared: Deployment) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


@pytest.fixture
async def database(tmp_path: Path, w: World) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(await save_set_up(tmp_path, w))
    yield engine
    await engine.dispose()


async def save_set_up(folder: Path, w: World) -> str:
    """The world's queues and agents in its own tables, as an admin would have saved them; the database's URL."""
    note = folder / "database-url"
    url = note.read_text() if note.exists() else f"sqlite+aiosqlite:///{folder}/patchbay.db"
    engine = create_engine(url)
    async with writing(engine).begin() as connection:
        await connection.execute(sa.insert(TenantRow).values(id=TENANT, name=TENANT, created_at=0))
        for queue in w.directory.queue_list:
            await connection.execute(sa.insert(QUEUE).values(**row_of(queue)))
    async with StoredAdmin(engine).writing() as transaction:
        for p in w.directory.profiles:
            await transaction.add(User(p.user_id, TENANT, p.name, p.name, Role.AGENT, True, None, "x", (), 0, 1))
    await engine.dispose()
    return url


def row_of(queue: QueueConfig) -> dict[str, object]:
    return {
        "id": queue.queue_id, "tenant": TENANT, "name": queue.name, "active": True, "version": 1,
        "ring_timeout_s": queue.ring_timeout_s, "wrap_up_s": queue.wrap_up_s, "disposition_required": False,
        "record": False, "service_level_s": queue.service_level_s,
    }  # fmt: skip


async def answered(w: World, name: str, *, ring_s: float, talk_s: float, wrap_up_s: float) -> None:
    call = await w.call()
    await w.after(ring_s)
    await w.accept(call, name)
    await w.after(talk_s)
    owner = (await w.session(call)).owner
    assert owner is not None
    await w.core.sessions.agent_hang_up(w.user(name), call.session_id, owner.id)
    await w.after(wrap_up_s)
    await w.core.sessions.wrap_up(w.user(name), call.session_id, owner.id, "", "dsp_sold")
    await w.settle()


async def test_a_morning_is_played_again_as_it_was(w: World, database: AsyncEngine) -> None:
    since = w.clock.now_ms()
    await w.after(10)
    await w.ready("ana")  # takes a millisecond
    await w.after(20)
    await answered(w, "ana", ring_s=2, talk_s=60, wrap_up_s=8)  # 30 to 100 s
    await w.after(30)
    await w.core.agents.choose(w.user("ana"), "break", "brk_lunch")  # at 130 s
    call = await w.call()
    await w.after(12)
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    late = await w.call()
    await w.after(5)
    await w.core.agents.choose(w.user("ana"), "ready", None)  # at 147 s
    await w.settle()
    await w.accept(late, "ana")
    await w.after(20)
    await w.core.sessions.customer_hang_up(late)
    await w.settle()
    await w.after(60)  # the wrap-up ends by itself
    now = since + END_MS
    w.clock.advance((now - w.clock.now_ms()) / S)

    found = await past.read(database, TENANT, since, now, now, seed=1)
    shifts = [Shift("usr_ana", since + 10 * S, since + 130 * S + 1, Chosen.BREAK)]
    shifts += [Shift("usr_ana", since + 147 * S + 1, now)]
    assert list(found.workload.shifts) == shifts
    first, second, third = found.workload.arrivals
    assert (first.at - since, first.talk_ms, first.wrap_up_ms, first.answers_ms[0]) == (
        30 * S + 1,
        60 * S,
        8 * S,
        2 * S,
    )
    assert (second.at - since, second.patience_ms) == (130 * S + 1, 12 * S), "who left tells it exactly"
    assert (third.at - since, third.talk_ms, third.answers_ms[0]) == (142 * S + 1, 20 * S, 0)
    assert (found.left, found.drawn) == (1, 2)
    assert third.patience_ms in (None, 12 * S), "at least the 5 s that were waited, as the one who left"

    center = Center(tuple(w.directory.queue_list), tuple(w.directory.profiles))
    outcome = simulate(center, found.workload)
    played = numbers(outcome.visits)
    assert played == numbers(outcome.of("que_sales"))
    assert played.counts == found.numbers["que_sales"].counts
    assert played.asa_ms == found.numbers["que_sales"].asa_ms == 3500
    assert outcome.times == dict(found.times)
    table = "\n".join(lines([happened(found.numbers, found.times), simulated("as it was", outcome)], {}))
    assert "3.5 s" in table
    told = trust(happened(found.numbers, found.times), simulated("as it was", outcome))
    assert told.endswith("service level +0.0 %, ASA +0.0 s, abandoned +0.0 %, occupancy +0.0 %")


async def test_a_wait_that_flowed_out_is_one_arrival(w: World, database: AsyncEngine) -> None:
    since = w.clock.now_ms()
    life = QueueLife(max_wait_s=30, overflow_queue_id="que_support")
    sales, support = w.directory.queue_list
    w.directory.queue_list = [QueueConfig(**{f: getattr(sales, f) for f in sales.__slots__} | {"life": life}), support]
    call = await w.call()
    await w.after(30)
    await w.after(9)
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    await w.ready("ana")
    await answered(w, "ana", ring_s=1, talk_s=10, wrap_up_s=1)
    found = await past.read(database, TENANT, since, since + HOUR_MS, since + HOUR_MS, seed=1)
    first, second = found.workload.arrivals
    assert (first.queue_id, first.patience_ms) == ("que_sales", 39 * S)
    assert (second.queue_id, second.talk_ms) == ("que_sales", 10 * S)
    assert first.talk_ms == 10 * S, "drawn from those who were answered"


async def test_a_span_without_calls_or_answers_is_refused(w: World, database: AsyncEngine) -> None:
    since = w.clock.now_ms()
    with pytest.raises(past.NothingToPlay, match="no session came"):
        await past.read(database, TENANT, since, since + HOUR_MS, since + HOUR_MS, seed=1)
    call = await w.call()
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    with pytest.raises(past.NothingToPlay, match="nobody was answered"):
        await past.read(database, TENANT, since, since + HOUR_MS, since + HOUR_MS, seed=1)
