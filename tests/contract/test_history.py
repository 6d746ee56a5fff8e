"""Lists and details of sessions, over SQLite and PostgreSQL: what steps saved is found by every filter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.clock import ManualClock
from server.domain import agent as ag
from server.domain import events as ev
from server.domain.administration import Disposition, Queue, User
from server.domain.directory import Role
from server.domain.history import SessionFilter
from server.services.stepper import Stepper
from server.signaling.views import WirePresenter
from server.storage.admin_repository import StoredAdmin
from server.storage.engine import create_engine
from server.storage.history import StoredHistory
from server.storage.migrate import upgrade
from server.storage.postgres_steps import PostgresSteps
from server.storage.sqlite_steps import SqliteSteps
from tests.helpers.postgres import PostgresServer

T = "default"
RULES = ev.QueueRules("que_1", "Sales", 20, 60, True, True)
ALL = SessionFilter()


@pytest.fixture(params=["sqlite", "postgres"])
async def history(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoredHistory]:
    """Two calls, a second apart: ses_1 was answered, wrapped up and recorded, ses_2 hung up while it waited."""
    store: SqliteSteps | PostgresSteps
    if request.param == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path}/t.db"
        await upgrade(url)
        store = await SqliteSteps.open(tmp_path / "t.db")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = await server.database()
        store = await PostgresSteps.open(url)
    engine = create_engine(url)
    async with StoredAdmin(engine).writing() as transaction:
        await transaction.add_tenant(T, "Default", 0)
        await transaction.add(User("usr_ana", T, "ana", "Ana", Role.AGENT, True, None, "hash", (), 0, 1))
        await transaction.add(Queue("que_1", T, "Sales", (), 20, 60, True, True, 20, True, 1))
        await transaction.add(Disposition("dsp_1", T, "Sold", 1, True, 1))
    clock = ManualClock()
    stepper = Stepper(store, WirePresenter(), clock)
    await stepper.apply_agent(T, "usr_ana", ag.WentLive(), ag.StateChosen(ag.Chosen.READY), create=True)
    arrived = ev.CallArrived("ses_1", T, "ept_1", RULES, ev.Customer("李伟 50%_Ä"), "media-1")
    caller, desk, part = "leg_1_0", "leg_1_1", ("seg_1_1", "usr_ana")
    talk: tuple[ev.Event, ...] = (
        arrived,
        ev.LegOffered(caller, 1, "v=0 secret"),
        ev.LegAnswered(caller, 1, 1, "v=0 secret"),
        ev.LegWentUp(caller, 1, 1),
        ev.AgentOffered("usr_ana", "Ana", {"score": 1.5}),
        ev.AgentAccepted(*part),
        ev.LegOffered(desk, 1, "v=0"),
        ev.LegAnswered(desk, 1, 1, "v=0"),
        ev.LegWentUp(desk, 1, 1),
    )
    end: tuple[ev.Event, ...] = (
        ev.CustomerHungUp(),
        ev.RecordingPartClosed("rec_1_1", 1),
        ev.RecordingArchived("rec_1_1", 1000, {"size_bytes": 7, "peaks": {"agent": [0, 9]}}),
        ev.WrapUpDone(*part, "two blue ones", "dsp_1"),
    )
    for event in talk:
        await stepper.apply("ses_1", event)
    clock.advance(1)
    for event in end:
        await stepper.apply("ses_1", event)
    await stepper.apply("ses_2", replace(arrived, session_id="ses_2", customer=ev.Customer("Bo")))
    await stepper.apply("ses_2", ev.LegOffered("leg_2_0", 1, "v=0"))
    await stepper.apply("ses_2", ev.CustomerHungUp())
    yield StoredHistory(engine)
    await engine.dispose()
    await store.close()


async def ids(history: StoredHistory, wanted: SessionFilter, before: tuple[int, str] | None = None) -> list[str]:
    return [row.session_id for row in await history.sessions(T, wanted, 10, before)]


async def test_a_list_has_what_people_ask_for(history: StoredHistory) -> None:
    second, first = await history.sessions(T, ALL, 10, None)
    assert (first.session_id, first.queue_name, first.agents) == ("ses_1", "Sales", (("usr_ana", "Ana"),))
    assert (first.talk_ms, first.disposition_name, first.end_reason) == (1000, "Sold", "customer_hung_up")
    assert [(r.recording_id, r.duration_ms, r.state) for r in first.recordings] == [("rec_1_1", 1000, "ready")]
    assert (second.session_id, second.agents, second.talk_ms) == ("ses_2", (), None)
    assert await history.sessions("other", ALL, 10, None) == ()
    (newest,) = await history.sessions(T, ALL, 1, None)
    assert newest == second
    assert await ids(history, ALL, (second.created_at, "ses_2")) == ["ses_1"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (SessionFilter(state="ended"), ["ses_2", "ses_1"]),
        (SessionFilter(state="queued"), []),
        (SessionFilter(queue_id="que_1", agent_id="usr_ana"), ["ses_1"]),
        (SessionFilter(agent_id="usr_bo"), []),
        (SessionFilter(text="李"), ["ses_1"]),
        (SessionFilter(text="50%_"), ["ses_1"]),
        (SessionFilter(text="%"), ["ses_1"]),
        (SessionFilter(text="bO"), ["ses_2"]),
        (SessionFilter(text="ses_2"), ["ses_2"]),
        (SessionFilter(text="ses_"), []),
    ],
)
async def test_every_filter_finds_its_own(history: StoredHistory, wanted: SessionFilter, found: list[str]) -> None:
    assert await ids(history, wanted) == found


async def test_times_are_from_and_before(history: StoredHistory) -> None:
    second, first = await history.sessions(T, ALL, 10, None)
    assert await ids(history, SessionFilter(since=second.created_at)) == ["ses_2"]
    assert await ids(history, SessionFilter(until=second.created_at)) == ["ses_1"]
    assert await ids(history, SessionFilter(since=first.created_at)) == ["ses_2", "ses_1"]


async def test_a_detail_has_the_whole_log(history: StoredHistory) -> None:
    detail = await history.session(T, "ses_1")
    assert detail is not None
    assert [event.version for event in detail.events] == list(range(1, 14))
    offered = next(event for event in detail.events if event.type == "AgentOffered")
    assert offered.body["why"] == {"score": 1.5}
    assert "secret" not in str(detail.events)
    assert [(s.segment_id, s.notes, s.disposition_name) for s in detail.segments] == [
        ("seg_1_1", "two blue ones", "Sold")
    ]
    assert [visit.outcome for visit in detail.visits] == ["answered"]
    assert await history.session("other", "ses_1") is None
    assert await history.session(T, "ses_9") is None


async def test_a_recording_has_its_archive(history: StoredHistory) -> None:
    found = await history.recording(T, "rec_1_1")
    assert found is not None
    assert (found.state, found.size_bytes, found.agent_ids) == ("ready", 7, ("usr_ana",))
    assert found.archive is not None
    assert found.archive["peaks"] == {"agent": [0, 9]}
    assert await history.recording("other", "rec_1_1") is None
