"""POST /whatif: what goes to the player, what comes back, and how a no is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from server.clock import ManualClock
from server.domain.directory import DEFAULT_TENANT, Role
from server.services.admin_ports import NotPlayed, WhatIfJob
from server.services.whatif import WhatIfService
from tests.helpers.rest_world import Api, World, code, open_world

URL = "/api/v1/whatif"
DAY_MS = 86_400_000
NUMBERS: dict[str, Any] = {
    **dict.fromkeys(("offered", "answered", "abandoned", "flowed_out", "failed", "waiting"), 3),
    "service_level": 0.5,
    "service_level_half": None,
    "asa_ms": 2000,
    "asa_ms_half": 12.5,
    "abandon_rate": None,
    "abandon_rate_half": None,
}
COLUMN = {"title": "as it was", "total": NUMBERS, "occupancy": 0.7, "turned_away": 0, "queues": {"que_1": NUMBERS}}
ANSWER = {"known": 1, "drawn": 2, "columns": [COLUMN], "queue_names": {"que_1": "Sales"}}


@dataclass
class Player:
    refusal: NotPlayed | None = None
    jobs: list[WhatIfJob] = field(default_factory=list)

    async def play(self, job: WhatIfJob) -> Mapping[str, object]:
        self.jobs.append(job)
        if self.refusal is not None:
            raise self.refusal
        return ANSWER


@pytest.fixture
def player() -> Player:
    return Player()


@pytest.fixture
async def world(tmp_path: Path, player: Player) -> AsyncIterator[World]:
    clock = ManualClock()
    async with open_world(tmp_path, whatif=WhatIfService(player, clock)) as opened:
        yield opened


@pytest.fixture
async def sam(world: World) -> Api:
    return await world.logged_in(Role.SUPERVISOR)


async def test_a_change_goes_to_the_player_and_its_figures_come_back(world: World, player: Player, sam: Api) -> None:
    change = {"queue": {"Sales": {"strategy": "best_skill"}}, "remove": ["Bo"]}
    now = world.clock.now_ms()
    view = await sam.post(URL, {"zone": "Europe/Berlin", "date": "2026-05-20", "change": change, "seed": 9}, 200)
    (job,) = player.jobs
    assert (job.tenant, job.change, job.seed, job.now) == (DEFAULT_TENANT, change, 9, now)
    assert job.until - job.since == DAY_MS
    assert (view["since"], view["until"], view["first_day"]) == (job.since, job.until, "2026-05-20")
    assert view["columns"] == [COLUMN]
    assert view["queue_names"] == {"que_1": "Sales"}


async def test_today_ends_now(world: World, player: Player, sam: Api) -> None:
    await sam.post(URL, {}, 200)
    (job,) = player.jobs
    assert job.until == world.clock.now_ms()


async def test_days_that_cannot_be_played(player: Player, sam: Api) -> None:
    for body, at in (
        ({"date": "2026-13-01"}, "date"),
        ({"zone": "Mars"}, "zone"),
        ({"from": "2026-01-01", "to": "2026-03-01"}, "to"),
        ({"date": "2099-01-01"}, "from"),
        ({"seed": -1}, "seed"),
        ({"seed": "1"}, "seed"),
        ({"change": []}, "change"),
        ({"change": {name: {} for name in "abcde"}}, "change"),
        ({"surprise": 1}, "surprise"),
    ):
        answer = await sam.post(URL, body, 422)
        assert answer["error"]["fields"][0]["loc"] == at, body
    assert not player.jobs


async def test_faults_of_a_change_are_told_with_their_places(player: Player, sam: Api) -> None:
    player.refusal = NotPlayed(
        "bad_change", "no", ("queue.Sales.strategy: one of …: none", "remove[1]: there is no 'Bo'")
    )
    answer = await sam.post(URL, {"change": {"remove": ["Bo"]}}, 422)
    assert answer["error"]["fields"] == [
        {"loc": "change.queue.Sales.strategy", "code": "invalid", "message": "one of …: none"},
        {"loc": "change.remove[1]", "code": "invalid", "message": "there is no 'Bo'"},
    ]


@pytest.mark.parametrize(
    ("said", "status"),
    [("nothing_to_play", 409), ("whatif_busy", 429), ("whatif_too_long", 409), ("whatif_failed", 500)],
)
async def test_a_no_of_the_player_has_its_own_code(player: Player, sam: Api, said: str, status: int) -> None:
    player.refusal = NotPlayed(said, "no")
    answer = await sam.send("POST", URL, {})
    assert (answer.status, await code(answer)) == (status, said)
    assert ("Retry-After" in answer.headers) == (said == "whatif_busy")


async def test_agents_may_not_ask(world: World, player: Player) -> None:
    ana = await world.logged_in(Role.AGENT)
    assert await code(await ana.send("POST", URL, {})) == "forbidden"
    assert not player.jobs
