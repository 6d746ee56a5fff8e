"""What a queue did lately, as both databases tell it: the newest visits that are over, and no other queue's."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from server.domain.waits import KEPT_MS, KEPT_VISITS, PastVisit
from server.storage.engine import create_engine, writing
from server.storage.migrate import upgrade
from server.storage.runtime_tables import queue_visit
from server.storage.waits import LONGEST_MS, StoredWaits, _newest

NOW = 1_790_000_000_000
T, QUEUE = "default", "que_1"


@pytest.fixture(params=["sqlite", "postgres"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    url = f"sqlite+aiosqlite:///{tmp_path}/test.db"
    if request.param == "sqlite":
        await upgrade(url)
    else:
        url = await request.getfixturevalue("postgres").database()
    opened = create_engine(url)
    yield opened
    await opened.dispose()


async def add(
    engine: AsyncEngine, *visits: tuple[int, int | None, str | None], queue_id: str = QUEUE, tenant: str = T
) -> None:
    """(entered, ended, outcome) of visits."""
    rows: list[dict[str, object]] = [
        {
            "id": f"vis_{tenant}{queue_id}{entered}{number}",
            "tenant": tenant,
            "session_id": "ses_1",
            "queue_id": queue_id,
        }
        | {"entered_at": entered, "ended_at": ended, "outcome": outcome}
        for number, (entered, ended, outcome) in enumerate(visits)
    ]
    async with writing(engine).begin() as connection:
        await connection.execute(sa.insert(queue_visit), rows)


async def test_the_newest_that_are_over(engine: AsyncEngine) -> None:
    answered, abandoned = (NOW - 90_000, NOW - 60_000, "answered"), (NOW - 80_000, NOW - 50_000, "abandoned")
    edge = (NOW - KEPT_MS - 1_000, NOW - KEPT_MS, "flowed_out")
    await add(engine, answered, abandoned, edge, (NOW - 70_000, None, None))
    await add(engine, (NOW - KEPT_MS - 1_001, NOW - KEPT_MS - 1, "answered"), (NOW - 10, NOW + 1, "answered"))
    await add(engine, (NOW - LONGEST_MS - 1, NOW - 5, "answered"))
    await add(engine, answered, queue_id="que_2")
    await add(engine, answered, tenant="other")
    found = await StoredWaits(engine).lately(T, QUEUE, NOW)
    assert sorted(found, key=lambda visit: visit.entered_at) == [
        PastVisit(edge[0], edge[1], False),
        PastVisit(answered[0], answered[1], True),
        PastVisit(abandoned[0], abandoned[1], False),
    ]
    assert await StoredWaits(engine).lately(T, "que_3", NOW) == []


async def test_only_so_many_and_those_who_wait_hide_none(engine: AsyncEngine) -> None:
    """A thousand who wait have entered after all who left."""
    pick = random.Random(3)
    over = [(NOW - 1_000_000 + number * 1_000, NOW - pick.randrange(1_000), "answered") for number in range(500)]
    await add(engine, *over, *[(NOW - 1_000 + number % 900, None, None) for number in range(1_000)])
    found = await StoredWaits(engine).lately(T, QUEUE, NOW)
    assert {(visit.entered_at, visit.ended_at) for visit in found} == {(v[0], v[1]) for v in over[-KEPT_VISITS:]}


async def test_it_goes_by_the_index(engine: AsyncEngine) -> None:
    """Also among many: a node asks this every ten seconds for each queue in which somebody waits."""
    for number in range(20):
        visits = [(NOW - 3_000_000 + at * 1_000, NOW - 1_000, "answered") for at in range(500)]
        await add(engine, *visits, queue_id=f"que_{number}")
    query = str(_newest(T, QUEUE, NOW).compile(engine.sync_engine, compile_kwargs={"literal_binds": True}))
    explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
    async with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            await connection.execute(sa.text("ANALYZE queue_visit"))
        plan = "\n".join(str(tuple(row)) for row in await connection.execute(sa.text(f"{explain} {query}")))
    assert "queue_visit_by_queue" in plan, plan
    assert "TEMP B-TREE" not in plan, "sorted by the index"
