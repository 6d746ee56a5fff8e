"""`patchbay simulate` as a person uses it: what it prints, and what it says of wrong use."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path

import pytest

from server import simulate
from server.__main__ import _parser
from server.cli import CommandFailed
from server.clock import ManualClock
from server.config import Config, load
from server.domain.administration import Queue, Skill, SkillLevel, User
from server.domain.directory import Role
from server.storage.admin_repository import StoredAdmin
from server.storage.engine import create_engine
from server.storage.migrate import upgrade
from tests.helpers.world import TENANT, demo_directory, world

DAY = """
from = "2026-01-05T08:00Z"
hours = 4
[[queue]]
name = "Sales"
skills = { english = 5 }
calls_per_hour = [60, 120]
talk_s = 200
patience_s = 120
[[agents]]
name = "Ana"
count = 5
skills = { english = 7 }
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load({"PATCHBAY_DATA_DIR": str(tmp_path)}, None)


def given(*arguments: str) -> Namespace:
    return _parser().parse_args(["simulate", *arguments])


async def refused(config: Config, *arguments: str) -> str:
    with pytest.raises(CommandFailed) as caught:
        await simulate.run(config, given(*arguments))
    return str(caught.value)


def figures(text: str, name: str) -> list[list[float]]:
    """The numbers of each line of a name."""
    lines = [line for line in text.splitlines() if line.startswith(f"  {name} ")]
    return [[float(number) for number in re.findall(r"\d+\.?\d*", re.sub(r"± \S+", "", line))] for line in lines]


async def test_a_made_up_day_beside_one_with_a_change(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day, change = tmp_path / "day.toml", tmp_path / "change.toml"
    day.write_text(DAY)
    change.write_text('[[add]]\ncount = 2\nlike = "Ana 1"\n')
    assert await simulate.run(config, given("--synthetic", str(day), "--change", str(change), "--seed", "4")) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split("  ")[-1].strip() == "with the change"
    (before, after), _ = figures(printed, "service level")
    assert 0 < before < after
    (slow, fast), _ = figures(printed, "ASA")
    assert slow > fast > 0
    ((busy, less_busy),) = figures(printed, "occupancy")
    assert busy > less_busy > 0
    await simulate.run(config, given("--synthetic", str(day), "--change", str(change), "--seed", "4"))
    again = capsys.readouterr().out
    assert again.splitlines()[:-1] == printed.splitlines()[:-1], "all but the time that it took"


async def test_a_recorded_day_beside_what_happened(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await upgrade(config.database_url)
    await set_up(config)
    change = tmp_path / "change.json"
    change.write_text('{"remove": ["Ana"]}')
    async with world(tmp_path) as w:
        await w.ready("ana")
        call = await w.call()
        await w.after(4)
        await w.accept(call, "ana")
        await w.after(30)
        await w.core.sessions.customer_hang_up(call)
        await w.after(60)
        capsys.readouterr()
        clock = ManualClock(w.clock.now_ms() + 3_600_000)
    asked = given("--from", "2027-01-15", "--change", str(change))
    assert await simulate.run(config, asked, clock) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "patience: 0 left and tell it; of 1 it is drawn from those (product-limit)"
    assert figures(printed, "answered") == [[1, 1, 0], [1, 1, 0]]
    assert figures(printed, "waiting") == [[0, 0, 1], [0, 0, 1]]
    assert figures(printed, "ASA") == [[4.0, 4.0], [4.0, 4.0]]
    assert "simulated as it was − what happened: service level +0.0 %, ASA +0.0 s" in printed


async def set_up(config: Config) -> None:
    """The queues and agents of the world, as an admin would have saved them."""
    directory, engine = demo_directory(), create_engine(config.database_url)
    async with StoredAdmin(engine).writing() as transaction:
        await transaction.add_tenant(TENANT, TENANT, 0)
        for skill in ("sales", "support"):
            await transaction.add(Skill(f"skl_{skill}", TENANT, skill, 1))
        for q in directory.queue_list:
            levels = tuple(SkillLevel(*pair) for pair in q.skills)
            row = Queue(q.queue_id, TENANT, q.name, levels, q.ring_timeout_s, q.wrap_up_s, True, False, 20, True, 1)
            await transaction.add(row)
        for p in directory.profiles:
            levels = tuple(SkillLevel(*pair) for pair in p.skills)
            await transaction.add(User(p.user_id, TENANT, p.name, p.name, Role.AGENT, True, None, "x", levels, 0, 1))
    await engine.dispose()


async def test_wrong_use_is_told_before_anything_is_played(config: Config, tmp_path: Path) -> None:
    assert "either --from" in await refused(config)
    assert "either --from" in await refused(config, "--from", "2026-01-05", "--synthetic", "day.toml")
    assert await refused(config, "--from", "yesterday") == (
        "--from: a day like 2026-01-05, or a moment with a zone like 2026-01-05T08:00+01:00, is wanted, not 'yesterday'"
    )
    assert "--to: a day" in await refused(config, "--from", "2026-01-05", "--to", "2026-01-05T08:00")
    assert "--to lies before --from" in await refused(config, "--from", "2026-01-05", "--to", "2026-01-04")
    assert "at most 31 days" in await refused(config, "--from", "2025-01-05", "--to", "2025-03-05")
    assert "--zone: this time zone" in await refused(config, "--from", "2026-01-05", "--zone", "Mars")
    assert "patchbay migrate" in await refused(config, "--from", "2026-01-05")
    broken = tmp_path / "broken.toml"
    assert "can't be read" in await refused(config, "--synthetic", str(broken))
    broken.write_text("[queue")
    assert "broken.toml can't be used" in await refused(config, "--synthetic", str(broken))


async def test_a_change_with_faults_is_refused_with_all_of_them(config: Config, tmp_path: Path) -> None:
    day, change = tmp_path / "day.toml", tmp_path / "change.toml"
    day.write_text(DAY)
    change.write_text("remove = ['Bo']\n[queue.Sales]\nskills = { french = 1 }")
    said = await refused(config, "--synthetic", str(day), "--change", str(change))
    assert "queue.Sales.skills.french: there is no skill 'french'" in said
    assert "remove[1]: there is no 'Bo'" in said


async def test_a_day_without_calls_says_so(config: Config) -> None:
    await upgrade(config.database_url)
    assert await refused(config, "--from", "2025-01-05") == "no session came in this span"
