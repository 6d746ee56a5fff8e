"""A change file: what it changes, and that each of its faults names its place."""

from __future__ import annotations

import json
from datetime import date

import pytest

from server.domain.directory import AgentProfile, QueueConfig, Role
from server.domain.hours import Holiday, Hours, Span
from server.domain.queue_life import QueueLife
from server.domain.queue_routing import RelaxStep, Strategy
from server.domain.requirements import AllOf, AnyOf, SkillLevels
from server.whatif.change import Names, changed
from server.whatif.faults import BadFile, read
from server.whatif.made_day import made_day
from server.whatif.workload import HOUR_MS, Center, Shift, Workload

MIDNIGHT = 1_767_571_200_000  # 2026-01-05T00:00Z, a Monday
NAMES = Names({"skl_en": "english", "skl_bill": "billing"})


def queue(queue_id: str, name: str) -> QueueConfig:
    return QueueConfig(queue_id, "default", name, (("skl_en", 5),), 20, 60, True, True, 20, True)


def person(user_id: str, name: str, **levels: int) -> AgentProfile:
    return AgentProfile(user_id, "default", name, True, Role.AGENT, tuple((f"skl_{s}", n) for s, n in levels.items()))


CENTER = Center(
    (queue("que_1", "Sales"), queue("que_2", "Support")),
    (person("usr_1", "Ana", en=5, bill=2), person("usr_2", "Bo", en=3), person("usr_3", "bo", en=4)),
)
WORK = Workload(
    MIDNIGHT,
    MIDNIGHT + 24 * HOUR_MS,
    (),
    (Shift("usr_1", MIDNIGHT + 8 * HOUR_MS, MIDNIGHT + 12 * HOUR_MS), Shift("usr_2", MIDNIGHT, MIDNIGHT + HOUR_MS)),
)


def with_change(text: str) -> tuple[Center, Workload]:
    return changed(read(text, is_json=False), CENTER, WORK, NAMES)


def faults(text: str) -> list[str]:
    with pytest.raises(BadFile) as caught:
        with_change(text)
    return list(caught.value.faults)


def test_a_change_adds_no_more_than_a_machine_can_play() -> None:
    ten_thousand = "[[add]]\ncount = 10000\nlike = 'Ana'\n"
    with_change(5 * ten_thousand)
    assert faults(6 * ten_thousand) == [
        "add[6]: at most 50000 shifts may be added in all; fewer agents or days are wanted"
    ]


def test_a_queue_changes_where_the_file_says_so_and_nowhere_else() -> None:
    center, workload = with_change(
        """
        [queue.sales]
        strategy = "best_skill"
        requirement = "english >= 3 and billing"
        skills = {}
        steps = [{ after_s = 30, requirement = "english or billing" }]
        weight = 20
        wrap_up_s = 10
        ring_timeout_s = 5
        service_level_s = 30
        max_wait_s = 120
        overflow = "Support"
        [queue.sales.hours]
        time_zone = "Europe/Berlin"
        mon = ["09:00-12:00", "13:00-24:00"]
        holidays = { 2026-12-25 = [] }
        """
    )
    sales, support = center.queues
    assert support == CENTER.queues[1]
    assert (workload, center.profiles) == (WORK, CENTER.profiles)
    assert (sales.skills, sales.wrap_up_s, sales.ring_timeout_s, sales.service_level_s) == ((), 10, 5, 30)
    assert (sales.routing.strategy, sales.routing.weight) == (Strategy.BEST_SKILL, 20)
    assert sales.routing.requirement == AllOf((SkillLevels("skl_en", 3), SkillLevels("skl_bill")))
    assert sales.routing.steps == (RelaxStep(30, AnyOf((SkillLevels("skl_en"), SkillLevels("skl_bill")))),)
    week = ((Span(540, 720), Span(780, 1440)), (), (), (), (), (), ())
    hours = Hours("Europe/Berlin", week, (Holiday(date(2026, 12, 25)),))
    assert sales.life == QueueLife(max_wait_s=120, overflow_queue_id="que_2", hours=hours)


def test_agents_learn_come_and_go() -> None:
    center, workload = with_change(
        """
        remove = ["usr_2"]
        [agent.Ana]
        skills = { english = 9, billing = 0 }
        [[add]]
        count = 2
        like = "Ana"
        [[add]]
        count = 1
        skills = { billing = 4 }
        from = "22:00"
        to = "06:00"
        zone = "Europe/Berlin"
        """
    )
    levels = {profile.user_id: profile.skills for profile in center.profiles}
    assert levels == {
        "usr_1": (("skl_en", 9),),
        "usr_3": (("skl_en", 4),),
        "add[1] 1": (("skl_en", 9),),
        "add[1] 2": (("skl_en", 9),),
        "add[2] 1": (("skl_bill", 4),),
    }
    hours = [((s.since - MIDNIGHT) / HOUR_MS, (s.until - MIDNIGHT) / HOUR_MS) for s in workload.shifts]
    assert [s.agent_id for s in workload.shifts] == ["usr_1", "add[1] 1", "add[1] 2", "add[2] 1", "add[2] 1"]
    assert hours == [(8, 12), (8, 12), (8, 12), (0, 5), (21, 24)], "the night is cut to the span"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("queues = 1", "queues: unknown; known here: add, agent, queue, remove"),
        ("[queue.Sale]\nweight = 1", "queue.Sale: there is no 'Sale'"),
        ("[agent.BO]", "agent.BO: 'BO' is the name of several; use an id: usr_2, usr_3"),
        ("[queue.Sales]\nwait = 1", "queue.Sales.wait: unknown; known here: active, grow_s, hours,"),
        ("[queue.Sales]\nstrategy = 'x'", "queue.Sales.strategy: one of longest_idle,"),
        ("[queue.Sales]\nwrap_up_s = -1", "queue.Sales.wrap_up_s: a whole number from 0 to 604800 is wanted, not -1"),
        ("[queue.Sales]\nweight = true", "queue.Sales.weight: a whole number from 1 to 1000 is wanted, not True"),
        ("[queue.Sales]\nactive = 1", "queue.Sales.active: true or false is wanted, not 1"),
        ("[queue.Sales]\nrequirement = 'english >= '", "queue.Sales.requirement: column 12:"),
        ("[queue.Sales]\nskills = { french = 5 }", "queue.Sales.skills.french: there is no skill 'french'"),
        ("[queue.Sales]\nskills = { english = 0 }", "queue.Sales.skills.english: a whole number from 1 to 10"),
        ("[queue.Sales]\nsteps = [{ after_s = 0, requirement = '' }]", "queue.Sales.steps[1].after_s: a whole number"),
        ("[queue.Sales]\nsteps = 3", "queue.Sales.steps: a list of tables is wanted"),
        ("[queue.Sales]\noverflow = 'Sales'", "queue.Sales.overflow: a circle: Sales > Sales"),
        ("[queue.Sales]\nhours = { mon = ['9-17'] }", "queue.Sales.hours.mon: a span like 09:00-17:00 is wanted"),
        ("[queue.Sales]\nhours = { time_zone = 'Mars' }", "queue.Sales.hours.time_zone: this time zone is not known"),
        ("[agent.Ana]\nskills = { english = 11 }", "agent.Ana.skills.english: a whole number from 0 to 10 is wanted"),
        ("remove = ['Cy']", "remove[1]: there is no 'Cy'"),
        ("[[add]]\ncount = 1", "add[1]: either like or skills is wanted"),
        ("[[add]]\ncount = 1\nskills = {}", "add[1].from: a time like 09:00 is wanted, not None"),
        ("[[add]]\ncount = 1\nlike = 'usr_3'", "add[1].like: 'bo' did not work in this span; give from and to"),
        ("[queue.Sales\n", "Expected ']'"),
    ],
)
def test_a_fault_names_its_place(text: str, fault: str) -> None:
    found = faults(text)
    assert any(line.startswith(fault) for line in found), found


def test_all_faults_are_told_at_once() -> None:
    assert len(faults("remove = ['Cy']\n[queue.Sales]\nweight = 0\nactive = 3")) == 3


def test_the_same_file_in_json() -> None:
    file = {"queue": {"Sales": {"weight": 3}}, "remove": ["Ana"]}
    center, _ = changed(read(json.dumps(file), is_json=True), CENTER, WORK, NAMES)
    assert (center.queues[0].routing.weight, len(center.profiles)) == (3, 2)


def test_the_file_of_a_made_up_day_names_its_faults_too() -> None:
    with pytest.raises(BadFile) as caught:
        made_day(read("from = '2026-01-05'\n[[queue]]\nname = 'A'\ncalls_per_hour = [1, 'x']", is_json=False), 1)
    assert [fault.split(":")[0] for fault in caught.value.faults] == [
        "from",
        "queue[1].calls_per_hour",
        "queue[1].talk_s",
    ]
