"""The numbers that the database adds up are the fold over the sessions' events, and each opens exactly its sessions.

On both databases, over random histories that the real step stores saved."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from server.domain import events as ev
from server.domain import reports, told_report
from server.domain.history import SessionFilter
from server.domain.queue_life import Exit
from server.domain.reports import Counted, QueueNumbers, VisitFacts, VisitFilter
from server.domain.session import Session
from server.domain.session_step import step
from server.services.ports import Save, SessionSave, StepStore
from server.storage import codec
from server.storage.admin_repository import QUEUE, TENANT
from server.storage.engine import create_engine, writing
from server.storage.history import StoredHistory
from server.storage.migrate import upgrade
from server.storage.postgres_steps import PostgresSteps
from server.storage.reports import StoredReports
from server.storage.sqlite_steps import SqliteSteps
from tests.helpers.fuzz import examples
from tests.helpers.histories import History, history

T0 = 1_790_000_000_000
PAGE = 3


class Books:
    """A database with its adapters, on a loop that hypothesis, which is synchronous, can drive."""

    def __init__(self, loop: asyncio.AbstractEventLoop, url: str) -> None:
        self.run = loop.run_until_complete
        self.engine: AsyncEngine = create_engine(url)
        self.store: StepStore
        path = self.engine.url.database
        if self.engine.dialect.name == "sqlite":
            assert path is not None
            self.store = self.run(SqliteSteps.open(Path(path)))
        else:
            self.store = self.run(PostgresSteps.open(url))
        self.reports, self.history = StoredReports(self.engine), StoredHistory(self.engine)
        self.tenants = (f"tenant{number}" for number in itertools.count())  # one an example: nothing to clear away

    async def open_queues(self, tenant: str, targets: Mapping[str, int]) -> None:
        async with writing(self.engine).begin() as connection:
            await connection.execute(sa.insert(TENANT).values(id=tenant, name=tenant, created_at=0))
            for queue_id, service_level_s in targets.items():
                rules = {"ring_timeout_s": 20, "wrap_up_s": 60, "disposition_required": False, "record": False}
                row = {"id": queue_id, "tenant": tenant, "name": queue_id, "active": True, "version": 1, **rules}
                await connection.execute(sa.insert(QUEUE).values(**row, service_level_s=service_level_s))

    async def save(self, one: History) -> None:
        events = tuple((number, event) for number, (_, event) in enumerate(one.log, 1))
        saved = SessionSave(None, one.session, events, ())
        await self.store.save(Save(one.session.tenant, one.log[-1][0], (saved,)))

    async def listed(self, tenant: str, wanted: VisitFilter) -> list[tuple[str, int]]:
        """(session id, visits) of the sessions behind a number, all pages of the list."""
        found: list[tuple[str, int]] = []
        before: tuple[int, str] | None = None
        while True:
            page = await self.history.sessions(tenant, SessionFilter(visits=wanted), PAGE, before)
            found += [(row.session_id, row.matching_visits or 0) for row in page]
            if len(page) < PAGE:
                return found
            before = (page[-1].created_at, page[-1].session_id)

    async def close(self) -> None:
        await self.engine.dispose()
        await self.store.close()  # type: ignore[attr-defined]  # both stores have it; the port has not


@pytest.fixture(params=["sqlite", "postgres"])
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    loop = asyncio.new_event_loop()
    url = f"sqlite+aiosqlite:///{tmp_path}/test.db"
    if request.param == "sqlite":
        loop.run_until_complete(upgrade(url))
    else:
        url = loop.run_until_complete(request.getfixturevalue("postgres").database())
    opened = Books(loop, url)
    yield opened
    loop.run_until_complete(opened.close())
    loop.close()


def arrived(session_id: str, tenant: str, queue_id: str, wrap_up_s: int, overflow: str) -> ev.CallArrived:
    """Waits that are too long flow into `overflow`, and end there; customers may go away, and be called back."""
    last = ev.QueueRules(overflow, overflow, 20, 0, False, False, max_wait_s=20)
    rules = ev.QueueRules(queue_id, queue_id, 20, wrap_up_s, False, False, max_wait_s=5, overflow=last)
    rules = replace(rules, keep_place_s=60, exit=Exit.CALLBACK)
    return ev.CallArrived(session_id, tenant, "ept_1", rules, ev.Customer("Li"), "media-1")


def folded(one: History) -> Session:
    """From the log as it is written, not from the row."""
    session: Session | None = None
    for at, event in one.log:
        session = step(session, codec.EVENTS.load(*codec.EVENTS.dump(event)), at)
    assert session is not None
    return session


def by_queue(visits: Sequence[VisitFacts]) -> dict[str, QueueNumbers]:
    queues = {visit.queue_id for visit in visits}
    return {queue: reports.numbers(visit for visit in visits if visit.queue_id == queue) for queue in queues}


@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_the_database_adds_up_what_the_events_fold_to(books: Books, data: st.DataObject) -> None:
    tenant = next(books.tenants)
    queues = (f"que_{tenant}_0", f"que_{tenant}_1")
    histories = []
    for number in range(data.draw(st.integers(1, 5))):
        queue_id, other = data.draw(st.permutations(queues))
        call = arrived(f"ses_{tenant}{number}", tenant, queue_id, number % 2 * 30, other)
        histories.append(history(data.draw, call, T0 + data.draw(st.sampled_from((-100_000, 0, 50_000)))))
        books.run(books.save(histories[-1]))
    now = max(one.log[-1][0] for one in histories) + data.draw(st.sampled_from((0, 1, 30_000)))
    sessions = [folded(one) for one in histories]
    targets = _targets(sessions, queues, now, data)
    books.run(books.open_queues(tenant, targets))
    visits = reports.visits(sessions, targets, now)

    edge = st.sampled_from([T0, *(visit.entered_at for visit in visits)])
    since, until = data.draw(edge), data.draw(edge) + data.draw(st.sampled_from((0, 1, 10_000_000)))
    for span in (VisitFilter(now), VisitFilter(now, entered_from=since, entered_to=until)):
        entered = reports.picked(visits, span)
        stored = books.run(books.reports.numbers(tenant, span))
        assert stored == by_queue(entered)
        for queue_id, row in stored.items():
            _hold_the_books(row)
            for counted in Counted:
                wanted = replace(span, counted_as=counted, queue_id=queue_id)
                _opens(books, tenant, wanted, reports.picked(visits, wanted), row.counts[counted])
    off_ms = books.run(books.reports.off_ms(tenant, VisitFilter(now)))
    by_hand = {
        queue_id: told_report.off_ms(v for v in visits if v.queue_id in (queue_id or v.queue_id))
        for queue_id in (*queues, None)
    }
    assert off_ms == {queue_id: found for queue_id, found in by_hand.items() if found is not None}
    waiting = VisitFilter(now, Counted.WAITING)
    assert books.run(books.reports.numbers(tenant, waiting)) == by_queue(reports.picked(visits, waiting))


def call(books: Books, tenant: str, number: int, wait_ms: int, *ending: ev.Event) -> None:
    """A session that enters the queue at T0 and whose last event, `wait_ms` later, ends the wait."""
    leg, at = f"leg_{tenant}{number}_0", T0 - 1
    events = [arrived(f"ses_{tenant}{number}", tenant, "que_1", 0, "que_2"), ev.LegOffered(leg, 1, "v=0"), *ending]
    times = [at, T0, *[T0] * (len(ending) - 1), T0 + wait_ms]
    session: Session | None = None
    for moment, event in zip(times, events, strict=True):
        session = step(session, event, moment)
    assert session is not None
    books.run(books.save(History(session, tuple(zip(times, events, strict=True)))))


def test_limits_count_to_the_millisecond(books: Books) -> None:
    tenant = next(books.tenants)
    books.run(books.open_queues(tenant, {"que_1": 5}))
    for number, wait_ms in enumerate((4_999, 5_000, 5_001)):
        call(books, tenant, number, wait_ms, ev.CustomerHungUp())
        ids = f"{tenant}{number + 10}"
        answered = (
            ev.LegWentUp(f"leg_{ids}_0", 1, 1),
            ev.AgentOffered("usr_a", "Ana"),
            ev.AgentAccepted(f"seg_{ids}_1", "usr_a"),
            ev.LegOffered(f"leg_{ids}_1", 1, "v=0"),
            ev.LegWentUp(f"leg_{ids}_1", 1, 1),
        )
        call(books, tenant, number + 10, wait_ms, *answered)
    row = books.run(books.reports.numbers(tenant, VisitFilter(T0 + 5_001)))["que_1"]
    assert (row.counts[Counted.SHORT_ABANDONS], row.counts[Counted.LONG_ABANDONS]) == (1, 2)
    assert (row.counts[Counted.ANSWERED_IN_TIME], row.counts[Counted.LEFT_IN_TIME]) == (2, 4)
    assert (row.counts[Counted.SERVICE_LEVEL_BASE], row.service_level) == (5, 2 / 5)
    assert (row.asa_ms, row.aht_ms, row.longest and row.longest.wait_ms) == (5_000, None, 5_001)
    for entered_from, entered_to, expected in ((T0, T0 + 1, 6), (T0 + 1, None, 0), (None, T0, 0)):
        span = VisitFilter(T0, Counted.OFFERED, "que_1", entered_from, entered_to)
        listed = books.run(books.listed(tenant, span))
        assert len(listed) == expected


def _targets(sessions: Sequence[Session], queues: Sequence[str], now: int, data: st.DataObject) -> dict[str, int]:
    """Service levels, in seconds, that some waits meet to the millisecond."""
    waits = [visit.wait_ms // 1000 for visit in reports.visits(sessions, dict.fromkeys(queues, 0), now)]
    return {queue_id: max(1, data.draw(st.sampled_from([20, *waits]))) for queue_id in queues}


def _opens(books: Books, tenant: str, wanted: VisitFilter, visits: Sequence[VisitFacts], number: int) -> None:
    listed: list[tuple[str, int]] = books.run(books.listed(tenant, wanted))
    assert sum(count for _, count in listed) == number == len(visits)
    expected: dict[str, int] = {}
    for visit in visits:
        expected[visit.session_id] = expected.get(visit.session_id, 0) + 1
    assert dict(listed) == expected
    assert len(listed) == len(expected), "no session twice"


def _hold_the_books(row: QueueNumbers) -> None:
    n: Mapping[Any, int] = row.counts
    assert n["offered"] == n["answered"] + n["abandoned"] + n["flowed_out"] + n["callback"] + n["failed"] + n["waiting"]
    assert n["abandoned"] == n["short_abandons"] + n["long_abandons"]
    assert n["answered_in_time"] <= n["left_in_time"] <= n["offered"]
    assert n["answered_in_time"] <= n["service_level_base"] <= n["abandon_rate_base"]
    assert n["handled"] <= n["answered"]
    assert n["told_below"] <= n["told_within"] <= n["told_answered"] <= n["told"]
    assert n["told_answered"] + n["told_abandoned"] <= n["told"]


def test_random_histories_reach_every_number() -> None:
    """What the test above compares is not nothing."""
    seen: dict[Counted, int] = dict.fromkeys(Counted, 0)

    @settings(max_examples=600, deadline=None, derandomize=True, database=None)
    @given(data=st.data())
    def walk(data: st.DataObject) -> None:
        one = history(data.draw, arrived("ses_1", "default", "que_1", 30, "que_2"), T0)
        visits = reports.visits([one.session], {"que_1": 20}, one.log[-1][0])
        for counted, number in reports.numbers(visits).counts.items():
            seen[counted] += number
        seen[Counted.OFFERED] += len(visits) > 1

    walk()
    assert all(seen.values()), seen
