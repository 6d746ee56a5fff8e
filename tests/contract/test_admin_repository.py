"""The promises of AdminRepository, Directory and the seed, over SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from server.clock import ManualClock
from server.domain.administration import BreakReason, Disposition, EntryPointRecord, Queue, Skill, SkillLevel, User
from server.domain.directory import DEFAULT_TENANT, AuthedUser, Role
from server.domain.queue_life import LIFE, QueueLife
from server.domain.queue_routing import ROUTING, QueueRouting, Strategy, routing_to_json
from server.domain.requirements import AnyOf
from server.services import admin, overflow
from server.services.admin import AdminService, ChangeLog
from server.services.admin_ports import AdminTransaction, Duplicate
from server.services.refusals import Refused
from server.storage import readable
from server.storage.admin_repository import StoredAdmin
from server.storage.directory import CACHE_MS, StoredDirectory
from server.storage.engine import create_engine
from server.storage.migrate import upgrade
from server.storage.secrets import shared_secret
from tests.helpers.postgres import PostgresServer

T = DEFAULT_TENANT
ROUTED = routing_to_json(QueueRouting(priority=2))


@pytest.fixture(params=["sqlite", "postgres"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    url = f"sqlite+aiosqlite:///{tmp_path}/t.db"
    if request.param == "sqlite":
        await upgrade(url)
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = await server.database()
    engine = create_engine(url)
    async with StoredAdmin(engine).writing() as transaction:
        await transaction.add_tenant(T, "Default", 0)
        await transaction.add_tenant("other", "Other", 0)
    yield engine
    await engine.dispose()


def _user(login: str, **changes: object) -> User:
    base = User(f"usr_{login}", T, login, login, Role.AGENT, True, None, "hash", (), 0, 1)
    return replace(base, **changes)  # type: ignore[arg-type]  # fields by name


def _queue(name: str, **changes: object) -> Queue:
    return replace(Queue(f"que_{name}", T, name, (), 20, 60, True, True, 20, True, 1), **changes)  # type: ignore[arg-type]  # as above


async def test_records_come_back_as_they_were_added(engine: AsyncEngine) -> None:
    repository = StoredAdmin(engine)
    skill = Skill("skl_1", T, "Sales", 1)
    levels = (SkillLevel("skl_1", 7),)
    records = (
        skill,
        _user("ana", skills=levels, locale="zh-CN"),
        _queue("q", skills=levels),
        EntryPointRecord("ept_1", T, "e", "widget", "wk_1", "que_q", ("https://a.example",), True, 1),
        Disposition("dsp_1", T, "Done", 1, True, 1),
        BreakReason("brk_1", T, "Lunch", 1, True, 1),
    )
    async with repository.writing() as writing:
        for record in records:
            await writing.add(record)
    async with repository.reading() as opened:
        transaction: Any = opened  # the kinds are mixed here
        for record in records:
            assert await transaction.get(type(record), T, record.id) == record
            assert await transaction.get(type(record), "other", record.id) is None
            assert await transaction.page(type(record), T, 10) == (record,)


async def test_a_transaction_is_whole_or_nothing(engine: AsyncEngine) -> None:
    repository = StoredAdmin(engine)

    async def fail_half_way() -> None:
        async with repository.writing() as transaction:
            await transaction.add(Skill("skl_1", T, "Sales", 1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail_half_way()
    async with repository.reading() as transaction:
        assert await transaction.page(Skill, T, 10) == ()


async def test_only_the_next_version_is_saved(engine: AsyncEngine) -> None:
    repository = StoredAdmin(engine)
    async with repository.writing() as transaction:
        await transaction.add(_user("ana"))
        assert not await transaction.save(_user("ana", name="A", version=1))
        assert not await transaction.save(_user("ana", name="A", version=3))
        assert await transaction.save(_user("ana", name="A", version=2))
        assert not await transaction.save(_user("ana", name="B", version=2))


async def test_of_many_writers_one_wins_and_none_fails(engine: AsyncEngine) -> None:
    repository = StoredAdmin(engine)
    async with repository.writing() as transaction:
        await transaction.add(_user("ana"))

    async def edit(number: int) -> bool:
        async with repository.writing() as transaction:
            found = await transaction.get(User, T, "usr_ana")
            assert found is not None
            return await transaction.save(replace(found, name=str(number), version=2))

    assert sorted(await asyncio.gather(*(edit(number) for number in range(12)))) == [False] * 11 + [True]


@pytest.mark.parametrize(
    ("first", "second", "field"),
    [
        (_user("ana"), _user("ana", id="usr_2"), "login"),
        (_user("ana"), _user("ana", id="usr_2", tenant="other"), "login"),
        (Skill("skl_1", T, "Sales", 1), Skill("skl_2", T, "Sales", 1), "name"),
        (_queue("q"), _queue("q", id="que_2"), "name"),
    ],
)
async def test_what_is_taken(
    engine: AsyncEngine, first: User | Skill | Queue, second: User | Skill | Queue, field: str
) -> None:
    async with StoredAdmin(engine).writing() as transaction:
        await transaction.add(first)
        with pytest.raises(Duplicate) as caught:
            await transaction.add(second)
        assert caught.value.field == field
        await transaction.add(Skill("skl_9", T, "the transaction goes on", 1))


async def test_a_key_is_taken_but_an_id_is_a_fault(engine: AsyncEngine) -> None:
    entry = EntryPointRecord("ept_1", T, "e", "widget", "wk_1", "que_q", (), True, 1)
    async with StoredAdmin(engine).writing() as transaction:
        await transaction.add(_queue("q"))
        await transaction.add(entry)
        with pytest.raises(Duplicate) as caught:
            await transaction.add(replace(entry, id="ept_2", name="f"))
        assert caught.value.field == "key"
        with pytest.raises(sa.exc.IntegrityError):
            await transaction.add(replace(entry, name="login name key", key="wk_2"))


async def test_writers_follow_one_another(engine: AsyncEngine) -> None:
    """What each reads, it reads after the one before has committed: so the rules of the set-up are written."""
    repository = StoredAdmin(engine)

    async def add_next() -> None:
        async with repository.writing() as transaction:
            number = len(await transaction.page(Skill, T, 100))
            await transaction.add(Skill(f"skl_{number}", T, str(number), 1))

    await asyncio.gather(*(add_next() for _ in range(12)))
    async with repository.reading() as transaction:
        assert len(await transaction.page(Skill, T, 100)) == 12


async def test_a_shared_secret_is_made_once(engine: AsyncEngine) -> None:
    made = await asyncio.gather(*(shared_secret(engine, "one", 32) for _ in range(4)))
    assert len(set(made)) == 1
    assert len(made[0]) == 32
    assert await shared_secret(engine, "another", 32) != made[0]


async def test_a_deactivated_queue_frees_its_name(engine: AsyncEngine) -> None:
    async with StoredAdmin(engine).writing() as transaction:
        await transaction.add(_queue("q"))
        await transaction.save(_queue("q", active=False, version=2))
        await transaction.add(_queue("q", id="que_2"))


async def test_the_directory_notices_changes(engine: AsyncEngine) -> None:
    repository, clock = StoredAdmin(engine), ManualClock()
    directory = StoredDirectory(engine, clock)
    assert await directory.queues(T) == ()
    async with repository.writing() as transaction:
        await transaction.add(_queue("q"))
    assert await directory.queues(T) == ()  # a copy, until it is told or too old
    directory.forget(T)
    assert [queue.name for queue in await directory.queues(T)] == ["q"]
    async with repository.writing() as transaction:  # another process
        await transaction.add(_queue("r"))
    clock.advance(CACHE_MS / 1000)
    assert len(await directory.queues(T)) == 2
    assert await directory.queue("other", "que_q") is None


async def test_a_change_during_a_read_is_not_lost(engine: AsyncEngine) -> None:
    directory = StoredDirectory(engine, ManualClock())
    reading = asyncio.create_task(directory.queues(T))
    await asyncio.sleep(0)
    async with StoredAdmin(engine).writing() as transaction:
        await transaction.add(_queue("q"))
    directory.forget(T)
    await reading
    assert len(await directory.queues(T)) == 1


async def test_of_two_halves_of_an_overflow_circle_one_is_refused(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each looks before the other has saved, if it is let."""
    repository, both = StoredAdmin(engine), asyncio.Barrier(2)
    actor = AuthedUser(T, "usr_admin", "admin", "Admin", Role.ADMIN, None)
    changes = AdminService(ChangeLog(repository, ManualClock(), ()))
    async with repository.writing() as transaction:
        for name in ("a", "b"):
            await transaction.add(_queue(name))

    async def check_and_wait(transaction: AdminTransaction, queue: Queue) -> None:
        await overflow.check_overflow(transaction, queue)
        with contextlib.suppress(TimeoutError, asyncio.BrokenBarrierError):
            async with asyncio.timeout(0.3):
                await both.wait()

    monkeypatch.setattr(admin, "check_overflow", check_and_wait)

    async def save(queue_id: str, into: str) -> str:
        try:
            await changes.change_queue(actor, queue_id, 1, {"life": QueueLife(overflow_queue_id=into)})
        except Refused as refused:
            return refused.code
        return "saved"

    said = await asyncio.gather(save("que_a", "que_b"), save("que_b", "que_a"))
    assert sorted(said) == ["overflow_cycle", "saved"]


BROKEN: list[tuple[str, Any, str, Any]] = [
    ("routing", ROUTED | {"strategy": "by_horoscope"}, "strategy", Strategy.LONGEST_IDLE),
    ("routing", ROUTED | {"time_zone": "Mars/Olympus"}, "time_zone", "UTC"),
    ("routing", ROUTED | {"requirement": ["moon", 7]}, "requirement", AnyOf(())),
    ("routing", ROUTED | {"steps": [[10, ["moon"]]]}, "steps", ()),
    ("routing", ROUTED | {"weight": "high"}, "weight", ROUTING.weight),
    ("routing", ROUTED | {"sticky_s": None}, "sticky_s", ROUTING.sticky_s),
    ("routing", [1], "requirement", AnyOf(())),
    ("life", {"max_wait_s": "30"}, "max_wait_s", 0),
    ("life", {"keep_place_s": True}, "keep_place_s", 0),
    ("life", {"hours": {"time_zone": "Mars/Olympus", "week": [[]] * 7, "holidays": []}}, "zone", "UTC"),
    ("life", {"hours": {"week": 7}}, "hours", None),
]


@pytest.mark.parametrize(("column", "body", "part", "harmless"), BROKEN, ids=range(len(BROKEN)))
async def test_a_queue_that_this_version_does_not_understand_takes_no_other_with_it(
    engine: AsyncEngine, column: str, body: object, part: str, harmless: object
) -> None:
    readable._told.clear()
    repository, directory = StoredAdmin(engine), StoredDirectory(engine, ManualClock())
    async with repository.writing() as transaction:
        await transaction.add(_queue("fine"))
        await transaction.add(_queue("newer"))
    async with engine.begin() as connection:
        table = sa.table("queue", sa.column("id"), sa.column(column, sa.JSON))
        await connection.execute(sa.update(table).where(table.c.id == "que_newer").values({column: body}))
    with capture_logs() as logs:
        newer, fine = await directory.queue(T, "que_newer"), await directory.queue(T, "que_fine")
    assert newer is not None
    assert fine is not None
    assert (fine.routing, fine.life) == (ROUTING, LIFE)
    if part == "zone":
        assert newer.life.hours is not None
        assert newer.life.hours.time_zone == harmless
    else:
        assert getattr(newer.routing if column == "routing" else newer.life, part) == harmless
    if body == ROUTED | {"strategy": "by_horoscope"}:
        assert newer.routing.priority == 2, "what is understood is kept"
    assert [entry["queue_id"] for entry in logs if entry["event"] == "row_unreadable"] == ["que_newer"]
