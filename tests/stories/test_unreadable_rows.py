"""A session that this version can't read (a newer one wrote it, or a fault did): everybody else's work goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.services.media_link import ORPHAN_S
from server.services.ports import Unreadable
from tests.helpers.deployments import Deployment
from tests.helpers.world import World, world


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
