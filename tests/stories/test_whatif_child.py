"""What-if jobs played by a child process, from the tables of a center that worked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from server.services.admin_ports import NotPlayed, WhatIfJob
from server.whatif.child import ChildPlayer
from tests.helpers.deployments import Deployment
from tests.helpers.world import TENANT, World, world
from tests.stories.test_whatif_past import answered, save_set_up

HOUR_MS = 3_600_000


@pytest.fixture
async def w(tmp_path: Path, own_or_shared: Deployment) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


@pytest.fixture
async def url(tmp_path: Path, w: World) -> str:
    return await save_set_up(tmp_path, w)


def job(since: int, change: dict[str, Any] | None = None) -> WhatIfJob:
    return WhatIfJob(TENANT, since, since + HOUR_MS, since + HOUR_MS, 1, change or {})


async def refusal(player: ChildPlayer, asked: WhatIfJob) -> NotPlayed:
    with pytest.raises(NotPlayed) as caught:
        await player.play(asked)
    return caught.value


async def test_a_child_plays_what_was_and_what_would_have_been(w: World, url: str) -> None:
    since = w.clock.now_ms()
    await w.ready("ana")
    await answered(w, "ana", ring_s=2, talk_s=60, wrap_up_s=8)
    player = ChildPlayer(url)
    found: Any = await player.play(job(since, {"remove": ["Ana"]}))
    happened, as_it_was, changed = found["columns"]
    assert [column["title"] for column in found["columns"]] == ["happened", "as it was", "with the change"]
    for column in (happened, as_it_was):
        assert column["total"]["answered"] == column["queues"]["que_sales"]["answered"] == 1
        assert column["total"]["asa_ms"] == 2000
    assert (changed["total"]["answered"], changed["total"]["waiting"]) == (0, 1)
    assert 0 < as_it_was["occupancy"] < 1
    assert changed["occupancy"] is None, "nobody worked"
    assert (found["known"], found["drawn"]) == (0, 1)
    assert found["queue_names"]["que_sales"] == w.directory.queue_list[0].name
    only: Any = await player.play(job(since))
    assert [column["title"] for column in only["columns"]] == ["happened", "as it was"]


async def test_what_cannot_be_played_says_why(w: World, url: str) -> None:
    since = w.clock.now_ms()
    player = ChildPlayer(url)
    assert (await refusal(player, job(since))).code == "nothing_to_play"
    await w.ready("ana")
    await answered(w, "ana", ring_s=1, talk_s=5, wrap_up_s=1)
    bad = await refusal(player, job(since, {"remove": ["Nobody"], "queue": {"Sales": {"strategy": "luck"}}}))
    assert bad.code == "bad_change"
    assert "remove[1]: there is no 'Nobody'" in bad.faults
    assert any(fault.startswith("queue.Sales.strategy: one of ") for fault in bad.faults)


async def test_one_at_a_time_and_never_for_long(w: World, url: str) -> None:
    since = w.clock.now_ms()
    await w.ready("ana")
    await answered(w, "ana", ring_s=1, talk_s=5, wrap_up_s=1)
    player = ChildPlayer(url)
    first, second = await asyncio.gather(player.play(job(since)), player.play(job(since)), return_exceptions=True)
    assert isinstance(first, dict)
    assert isinstance(second, NotPlayed)
    assert second.code == "whatif_busy"
    late = await refusal(ChildPlayer(url, time_limit_s=0.01), job(since))
    assert late.code == "whatif_too_long"
    assert (await player.play(job(since)))["columns"], "the next one is played again"


async def test_a_fault_of_ours_is_told_as_such(tmp_path: Path) -> None:
    assert (await refusal(ChildPlayer(f"sqlite+aiosqlite:///{tmp_path}/none.db"), job(0))).code == "whatif_failed"
