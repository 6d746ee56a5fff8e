"""Who gets a worker's reports, on a clock of the test's own."""

from __future__ import annotations

import random

import pytest

from server.domain.media import DigitPressed, LegDown, LegUp
from server.media.relay import reports
from server.media.relay.reports import STALL_S, Report, ReportDesk


class Desk:
    """A desk, what each connection was sent, and the time."""

    def __init__(self, *names: str) -> None:
        self.desk = ReportDesk()
        self.now = 100.0
        self.sent: dict[str, list[Report]] = {}
        self.taken: set[int] = set()
        self.posted: dict[str, list[int]] = {}  # by session
        self.count = 0
        for name in names:
            self.connect(name)

    def connect(self, name: str) -> None:
        got = self.sent.setdefault(name, [])

        def send(report: Report) -> None:
            older = [seq for seq in self.posted[report.session_id] if seq < report.seq and seq not in self.taken]
            assert set(older) <= set(self.seqs(name, report.session_id)), "a report overtook an older one"
            got.append(report)

        self.desk.connect(name, send, self.now)

    def post(self, session_id: str, generation: int = 1) -> None:
        self.count += 1
        self.posted.setdefault(session_id, []).append(self.count)
        self.desk.post(session_id, 1, LegUp("leg", generation), self.now)

    def pass_s(self, seconds: float) -> None:
        self.now += seconds
        self.desk.look(self.now)

    def take(self, name: str) -> None:
        """The node acknowledges all that it was sent."""
        for report in self.sent[name]:
            self.acknowledge(name, report.seq)

    def acknowledge(self, name: str, seq: int) -> None:
        self.taken.add(seq)
        self.desk.acknowledge(name, seq, self.now)

    def seqs(self, name: str, session_id: str) -> list[int]:
        return [report.seq for report in self.sent[name] if report.session_id == session_id]

    def holder(self, session_id: str) -> str:
        (name,) = [name for name, got in self.sent.items() if any(r.session_id == session_id for r in got)]
        return name


def test_sessions_are_spread_and_each_stays_with_one_connection() -> None:
    d = Desk("a", "b", "c")
    for number in range(60):
        d.post(f"s{number}", 1)
        d.post(f"s{number}", 2)
    assert all(len(got) > 20 for got in d.sent.values())
    for number in range(60):
        first, second = d.seqs(d.holder(f"s{number}"), f"s{number}")
        assert first < second


def test_what_waits_keeps_its_connection_when_another_comes() -> None:
    d = Desk("a")
    for number in range(20):
        d.post(f"s{number}")
    d.connect("b")
    for number in range(20):
        d.post(f"s{number}", 2)
    assert not d.sent["b"], "a session's reports never overtake each other"
    d.take("a")
    for number in range(20):
        d.post(f"s{number}", 3)
    assert d.sent["b"]


def test_each_report_is_acknowledged_by_itself() -> None:
    d = Desk("a")
    for _ in range(3):
        d.post("s")
    d.acknowledge("a", 3)
    d.acknowledge("a", 3)
    d.desk.disconnect("a", d.now)
    d.connect("b")
    assert d.seqs("b", "s") == [1, 2]
    d.take("b")
    assert d.desk.settled.is_set()


def test_a_connection_that_takes_nothing_loses_its_reports_in_order() -> None:
    d = Desk("a", "b")
    for generation in (1, 2):
        d.post("s", generation)
    slow = d.holder("s")
    other = "b" if slow == "a" else "a"
    d.pass_s(STALL_S)
    assert not d.sent[other]
    d.pass_s(0.5)
    assert d.seqs(other, "s") == [1, 2]
    d.post("s", 3)
    assert d.seqs(other, "s") == [1, 2, 3]
    assert d.seqs(slow, "s") == [1, 2]
    d.take(other)
    for number in range(20):
        d.post(f"later{number}")
    assert len(d.sent[slow]) == 2, "nothing new for a node that hangs"
    d.take(other)
    d.take(slow)  # it woke up
    for number in range(20):
        d.post(f"again{number}")
    assert len(d.sent[slow]) > 2


def test_one_that_takes_some_is_slow_and_not_stalled() -> None:
    d = Desk("a")
    for _ in range(8):
        d.post("s")
    d.connect("b")
    for seq in range(1, 8):
        d.pass_s(STALL_S * 0.9)
        d.acknowledge("a", seq)
    assert not d.sent["b"]


def test_waiting_begins_when_something_waits() -> None:
    d = Desk("a")
    d.pass_s(100)
    d.post("s")
    d.connect("b")
    d.pass_s(1)
    assert not d.sent["b"]


def test_when_all_stall_each_keeps_what_it_has_and_a_new_one_gets_everything() -> None:
    d = Desk("a", "b")
    for number in range(10):
        d.post(f"s{number}")
    before = sum(len(got) for got in d.sent.values())
    for _ in range(20):
        d.pass_s(1)
    assert before == 10
    assert all(len(got) <= 10 for got in d.sent.values()), "not again and again"
    d.connect("c")
    assert {r.session_id for r in d.sent["c"]} == {f"s{number}" for number in range(10)}


def test_without_connections_the_oldest_are_dropped_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "REPORTS_KEPT", 5)
    d = Desk()
    for generation in range(8):
        d.post("s", generation)
    d.taken = {1, 2, 3}  # gone for good
    d.connect("a")
    assert d.seqs("a", "s") == [4, 5, 6, 7, 8]
    assert d.desk.dropped == 3


def test_a_flood_of_one_session_costs_itself_alone_and_its_own_kind_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "REPORTS_KEPT", 20)
    desk, got = ReportDesk(), list[Report]()
    for number in range(5):
        desk.post(f"s{number}", 1, LegUp("leg", 1), 0.0)
    desk.post("flood", 1, LegUp("leg", 1), 0.0)
    for count in range(1, 101):
        desk.post("flood", 1, DigitPressed("leg", 1, "7", count), 0.0)
    desk.post("flood", 1, LegDown("leg", 1, "lost"), 0.0)
    desk.post("s5", 1, LegUp("leg", 1), 0.0)
    desk.connect("a", got.append, 0.0)
    assert sorted(one.session_id for one in got if one.session_id != "flood") == [f"s{n}" for n in range(6)]
    kept = [one.report for one in got if one.session_id == "flood"]
    assert (kept[0], kept[-1]) == (LegUp("leg", 1), LegDown("leg", 1, "lost"))
    assert [one.number for one in kept if isinstance(one, DigitPressed)] == list(range(89, 101)), "the newest ones"


@pytest.mark.parametrize("seed", range(40))
def test_in_any_history_every_report_is_taken_and_none_overtakes_another(seed: int) -> None:
    dice = random.Random(seed)
    d = Desk("n0")
    connected, hung = {"n0"}, set[str]()
    names = iter(f"n{number}" for number in range(1, 1000))
    for _ in range(300):
        match dice.choice(("post", "post", "post", "take", "take", "hang", "wake", "join", "leave", "time")):
            case "post":
                d.post(f"s{dice.randrange(6)}")
            case "take" if connected - hung:
                name = dice.choice(sorted(connected - hung))
                for report in d.sent[name][: dice.randrange(1, 9)]:
                    d.acknowledge(name, report.seq)
            case "hang" if connected:
                hung.add(dice.choice(sorted(connected)))
            case "wake":
                hung.clear()
            case "join":
                d.connect(name := next(names))
                connected.add(name)
            case "leave" if connected:
                connected.discard(name := dice.choice(sorted(connected)))
                d.desk.disconnect(name, d.now)
            case "time":
                d.pass_s(dice.uniform(0, 2 * STALL_S))
    if not connected - hung:
        d.connect("last")
        connected.add("last")
    for _ in range(4):
        for name in connected - hung:
            d.take(name)
        d.pass_s(STALL_S + 0.1)
    for name in connected - hung:
        d.take(name)
    assert d.desk.settled.is_set(), "nothing stays with a node that hangs"
