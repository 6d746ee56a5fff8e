"""Whole little days in virtual time, with what must come of them worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from server.domain.agent import Agent, Chosen, Contact, ContactState, Fault
from server.domain.directory import AgentProfile, QueueConfig, Role
from server.domain.hours import Hours, Span
from server.domain.queue_life import QueueLife
from server.domain.queue_routing import QueueRouting, RelaxStep, Strategy
from server.domain.reports import numbers
from server.domain.requirements import SkillLevels
from server.routing import router
from server.whatif import engine
from server.whatif.engine import MISSED_BACK_MS, simulate
from server.whatif.outcome import BATCHES, Outcome, half_width
from server.whatif.patience import Wait, product_limit
from server.whatif.workload import HOUR_MS, Arrival, Center, Shift, Stream, Workload, log_normal, synthetic

START = 1_767_571_200_000  # 2026-01-05T00:00Z, a Monday
S = 1000


def queue(name: str = "a", routing: QueueRouting | None = None, **changed: Any) -> QueueConfig:
    made = QueueConfig(f"que_{name}", "default", name, (("skl_a", 5),), 20, 30, False, False, 20, True)
    return replace(made, routing=routing or QueueRouting(), **changed)


def person(name: str, level: int = 5, **changed: Any) -> AgentProfile:
    return replace(AgentProfile(f"usr_{name}", "default", name, True, Role.AGENT, (("skl_a", level),)), **changed)


def call(number: int, at_s: float, talk_s: float = 60, **changed: Any) -> Arrival:
    return replace(Arrival(f"ses_{number}", START + round(at_s * S), "que_a", round(talk_s * S)), **changed)


def day(queues: list[QueueConfig], people: list[AgentProfile], *calls: Arrival, until_s: int = 3600) -> Outcome:
    """Everybody works for the whole of it."""
    shifts = tuple(Shift(one.user_id, START, START + until_s * S) for one in people)
    return simulate(Center(tuple(queues), tuple(people)), Workload(START, START + until_s * S, calls, shifts))


def told(outcome: Outcome) -> list[tuple[str, str, str | None, float]]:
    """(visit, queue, outcome, seconds of waiting)."""
    return [(v.visit_id[4:], v.queue_id[4:], v.outcome and v.outcome.value, v.wait_ms / S) for v in outcome.visits]


def test_a_second_call_waits_for_ring_talk_and_wrap_up_of_the_first() -> None:
    outcome = day(
        [queue()],
        [person("ana")],
        call(1, 10, 60, answers_ms=(3 * S,), connect_ms=S, wrap_up_ms=20 * S),
        call(2, 20, 30, patience_ms=200 * S),
        call(3, 21, patience_ms=40 * S),
    )
    assert told(outcome) == [("1.1", "a", "answered", 4), ("2.1", "a", "answered", 74), ("3.1", "a", "abandoned", 40)]
    assert [visit.handle_ms for visit in outcome.visits] == [80 * S, 30 * S, None]
    assert outcome.times["usr_ana"].on_contact_ms == 90 * S
    assert outcome.times["usr_ana"].wrap_up_ms == 20 * S
    assert outcome.times["usr_ana"].ready_ms == (3600 - 90 - 20 - 4) * S, "ringing is neither"
    assert outcome.occupancy == pytest.approx(110 / (3600 - 4))


def test_a_wrap_up_is_cut_where_the_queue_ends_it() -> None:
    short = queue(wrap_up_s=10, routing=QueueRouting(wrap_up_extend_s=5))
    outcome = day([short], [person("ana")], call(1, 0, 60, wrap_up_ms=100 * S))
    assert outcome.times["usr_ana"].wrap_up_ms == 15 * S
    none = day([queue(wrap_up_s=0)], [person("ana")], call(1, 0, 60, wrap_up_ms=100 * S))
    assert none.times["usr_ana"].wrap_up_ms == 0


def test_who_leaves_while_it_rings_frees_the_agent() -> None:
    outcome = day([queue()], [person("ana")], call(1, 0, patience_ms=2 * S, answers_ms=(5 * S,)), call(2, 1))
    assert told(outcome) == [("1.1", "a", "abandoned", 2), ("2.1", "a", "answered", 1)]


def test_a_missed_offer_goes_to_the_next_agent_and_the_first_is_away_for_a_while() -> None:
    slow = call(1, 0, 600, answers_ms=(99 * S, 2 * S))
    outcome = day([queue()], [person("ana"), person("bo")], slow, call(2, 30), until_s=3600)
    back_s = 20 + MISSED_BACK_MS / S
    assert told(outcome) == [("1.1", "a", "answered", 22), ("2.1", "a", "answered", back_s - 30)]


def test_steps_relax_after_their_time() -> None:
    steps = (RelaxStep(30, SkillLevels("skl_a", 2)),)
    outcome = day([queue(routing=QueueRouting(steps=steps))], [person("ana", 3)], call(1, 5))
    assert told(outcome) == [("1.1", "a", "answered", 30)]


def test_a_sticky_agent_is_waited_for_so_long() -> None:
    people = [person("ana"), person("bo")]
    sticky = queue(routing=QueueRouting(sticky_s=15))
    calls = call(1, 0, 600, sticky_agent="usr_bo"), call(2, 1, sticky_agent="usr_bo")
    assert told(day([sticky], people, *calls)) == [("1.1", "a", "answered", 0), ("2.1", "a", "answered", 15)]


def test_limits_lead_into_the_other_queue_or_to_the_end() -> None:
    full = queue(life=QueueLife(max_wait_s=30, max_length=2, overflow_queue_id="que_b"))
    other = queue("b", skills=(), life=QueueLife(max_length=1))
    outcome = day([full, other], [], call(1, 0, patience_ms=50 * S), call(2, 1), call(3, 2), call(4, 3))
    assert told(outcome) == [
        ("1.1", "a", "flowed_out", 30),
        ("2.1", "a", "flowed_out", 30),
        ("3.1", "a", "flowed_out", 0),
        ("3.2", "b", None, 3598),
        ("4.1", "a", "flowed_out", 0),
        ("4.2", "b", "failed", 0),
        ("1.2", "b", "abandoned", 20),
        ("2.2", "b", None, 3600 - 31),
    ], "patience goes on through queues; the length counts for who arrives only"


def test_an_offer_that_rings_is_seen_through_then_the_maximum_wait_counts() -> None:
    rings = queue(life=QueueLife(max_wait_s=10))
    outcome = day([rings], [person("ana")], call(1, 0, answers_ms=(99 * S,)), call(2, 100, answers_ms=(15 * S,)))
    assert told(outcome) == [("1.1", "a", "failed", 20), ("2.1", "a", "answered", 15)]


def test_outside_its_hours_a_queue_takes_nobody() -> None:
    hours = Hours("UTC", ((Span(30, 60),), (), (), (), (), (), ()))
    outcome = day([queue(life=QueueLife(hours=hours))], [person("ana")], call(1, 1799), call(2, 1800))
    assert (told(outcome), outcome.turned_away) == ([("2.1", "a", "answered", 0)], {"que_a": 1})


def test_breaks_come_after_the_call_and_end() -> None:
    center = Center((queue(),), (person("ana"),))
    at = [START + seconds * S for seconds in (0, 10, 100, 200)]
    shifts = (Shift("usr_ana", at[0], at[1], Chosen.BREAK), Shift("usr_ana", at[2], at[3]))
    calls = (call(1, 5, 60), call(2, 6, 10))
    outcome = simulate(center, Workload(START, START + 3600 * S, calls, shifts))
    assert told(outcome) == [("1.1", "a", "answered", 0), ("2.1", "a", "answered", 94)]
    assert outcome.times["usr_ana"].ready_ms == (5 + 90) * S


def test_an_inactive_agent_gets_nothing_and_an_unknown_one_is_passed_by() -> None:
    center = Center((queue(),), (person("ana", active=False),))
    shifts = (Shift("usr_ana", START, START + HOUR_MS), Shift("usr_gone", START, START + HOUR_MS))
    outcome = simulate(center, Workload(START, START + HOUR_MS, (call(1, 0, patience_ms=S),), shifts))
    assert (told(outcome), outcome.times) == ([("1.1", "a", "abandoned", 1)], {})


def busy_day(agents: int, seed: int = 7, strategy: Strategy = Strategy.LONGEST_IDLE) -> Outcome:
    routing = QueueRouting(strategy=strategy)
    streams = [
        Stream("que_a", (100, 160), 150 * S, 120 * S, 20 * S, 3 * S, log_normal(0.8), log_normal(1.2)),
        Stream("que_b", (40,), 200 * S, talk=log_normal(0.5)),
    ]
    people = tuple(person(f"{number:02}") for number in range(agents))
    until = START + 8 * HOUR_MS
    workload = synthetic(START, until, streams, [Shift(p.user_id, START, until) for p in people], seed)
    return simulate(Center((queue(routing=routing), queue("b", routing=routing)), people), workload)


@pytest.mark.parametrize("strategy", list(Strategy))
def test_the_same_seed_gives_the_same_day_and_another_seed_another(strategy: Strategy) -> None:
    assert busy_day(10, 7, strategy) == busy_day(10, 7, strategy)
    assert busy_day(10, 7, strategy).visits != busy_day(10, 8, strategy).visits


def test_a_queue_that_rings_all_is_played_as_the_first_of_its_free_agents() -> None:
    assert busy_day(10, 7, Strategy.RING_ALL).visits == busy_day(10, 7).visits


def test_more_agents_answer_sooner_and_are_less_busy() -> None:
    outcomes = [busy_day(agents) for agents in (9, 10, 12)]
    speeds = [numbers(outcome.visits).asa_ms or 0 for outcome in outcomes]
    levels = [numbers(outcome.visits).service_level or 0 for outcome in outcomes]
    busy = [outcome.occupancy or 0 for outcome in outcomes]
    assert speeds[0] > speeds[1] > speeds[2] > 0
    assert levels[0] < levels[1] < levels[2]
    assert busy[0] > busy[1] > busy[2]


def test_drawn_times_have_the_mean_and_spread_that_were_asked_for() -> None:
    stream = Stream("que_a", (9000, 3000), 100 * S, 50 * S, talk=log_normal(0.5), patience=log_normal(2))
    arrivals = synthetic(START, START + 4 * HOUR_MS, [stream], [], 3).arrivals
    talks = [arrival.talk_ms / S for arrival in arrivals]
    mean = sum(talks) / len(talks)
    assert len(arrivals) == pytest.approx(24_000, rel=0.03)
    assert sum(a.at < START + HOUR_MS for a in arrivals) == pytest.approx(9000, rel=0.05)
    assert mean == pytest.approx(100, rel=0.02)
    assert (sum((talk - mean) ** 2 for talk in talks) / len(talks)) ** 0.5 == pytest.approx(50, rel=0.05)
    assert sum(a.patience_ms or 0 for a in arrivals) / len(arrivals) == pytest.approx(50 * S, rel=0.06)


def test_the_product_limit_counts_those_who_still_waited() -> None:
    known = product_limit([Wait(2, True), Wait(3, False), Wait(3, True), Wait(5, False), Wait(8, True), Wait(9, False)])
    assert known.at_ms == (2, 3, 8)
    assert known.stays == pytest.approx((5 / 6, 5 / 6 * 4 / 5, 5 / 6 * 4 / 5 / 2))
    assert [known.longer_than(ms) for ms in (1, 2, 7)] == pytest.approx([1, 5 / 6, 2 / 3])


def test_confidence_intervals_are_of_batch_means() -> None:
    outcome = busy_day(10)
    half = half_width(outcome.visits, lambda n: n.asa_ms)
    size = len(outcome.visits) / BATCHES
    batches = [outcome.visits[int(n * size) : int((n + 1) * size)] for n in range(BATCHES)]
    means = [numbers(batch).asa_ms or 0 for batch in batches]
    middle = sum(means) / BATCHES
    spread = (sum((mean - middle) ** 2 for mean in means) / (BATCHES - 1)) ** 0.5
    assert half == pytest.approx(2.093 * spread / BATCHES**0.5, rel=0.02)
    assert half_width(outcome.visits[:150], lambda n: n.asa_ms) is None


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"live": False},
        {"chosen": Chosen.OFFLINE, "live": False},
        {"chosen": Chosen.BREAK, "reason_id": "brk"},
        {"fault": Fault.NO_MEDIA},
        {"missed": True},
        {"contacts": (Contact("ses_1", "seg_1", ContactState.WRAP_UP),)},
    ],
)
def test_the_router_hears_of_agents_what_the_product_tells_it(changed: dict[str, Any]) -> None:
    agent = Agent("usr_1", "default", 5, 1, 2, Chosen.READY, live=True, offered_at=3, busy_ms=4, handled=((1, 2),))
    agent = replace(agent, **changed)
    assert engine.agent_word(agent) == router.agent_word(agent)
