"""A session that this version can't read (a newer one wrote it, or a fault did): everybody else's work goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from server.domain.floor import FloorFilter
from server.services.media_link import ORPHAN_S
from server.services.ports import Unreadable
from server.storage.admin_repository import TENANT as TENANTS
from server.storage.admin_repository import USER
from server.storage.engine import create_engine, writing
from server.storage.floor import StoredFloor
from tests.helpers.deployments import Deployment
from tests.helpers.world import TENANT, World, world


@pytest.fixture
async def w(tmp_path: Path, own_or_shared: Deployment) -> AsyncIterator[World]:
    async with world(tmp_path, ("media-1",)) as made:
        yield made


async def test_others_are_placed_and_its_legs_are_left_to_whoever_can_read_it(w: World) -> None:
    await w.ready("ana")
    broken, fine = await w.call(), await w.call()
    orphan = await w.call()
    await w.rows(f"UPDATE session SET body = '{{}}' WHERE id = '{broken.session_id}'")
    await w.rows(f"DELETE FROM session WHERE id = '{orphan.session_id}'")
    with pytest.raises(Unreadable):
        await w.session(broken)
    w.engine.age_s = ORPHAN_S + 1
    await w.core.link.look()
    legs = {leg.session_id for leg in await w.engine.list_legs("media-1")}
    assert legs == {broken.session_id, fine.session_id}, "closed is what nobody placed, not what a newer node placed"

    await w.engine.kill("media-1")
    await w.engine.revive("media-1")
    await w.settle()
    session = await w.session(fine)
    assert (session.worker_id, session.epoch) == ("media-1", 2), "a worker's loss is noticed for all the others"


async def test_supervisors_see_all_the_other_agents_and_of_this_one_what_its_columns_tell(
    w: World, tmp_path: Path
) -> None:
    shared = tmp_path / "database-url"
    engine = create_engine(shared.read_text() if shared.exists() else f"sqlite+aiosqlite:///{tmp_path}/patchbay.db")
    try:
        async with writing(engine).begin() as connection:
            await connection.execute(sa.insert(TENANTS).values(id=TENANT, name=TENANT, created_at=0, set_up=0))
            for name in ("ana", "bo", "chen"):
                row: dict[str, object] = {
                    "id": f"usr_{name}",
                    "tenant": TENANT,
                    "login": name,
                    "name": name,
                    "role": "agent",
                }
                row |= {"active": True, "password_hash": "", "created_at": 0, "version": 1, "capacity": {}}
                await connection.execute(sa.insert(USER).values(row))
        await w.ready("ana", "bo")
        call = await w.call()
        assert await w.offered_to(call) == "ana"
        await w.rows("UPDATE agent SET body = '{}' WHERE user_id = 'usr_bo'")
        shown = await StoredFloor(engine).agents(TENANT, FloorFilter(), 10, 0)
        assert [(one.name, one.state, one.live, len(one.contacts)) for one in shown] == [
            ("ana", "ringing", True, 1),
            ("bo", "ready", True, 0),
            ("chen", "offline", False, 0),
        ]
    finally:
        await engine.dispose()
