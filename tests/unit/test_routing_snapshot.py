"""The snapshot chooses as the rules say: compared, on random histories, with the rules written down naively."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.domain.directory import AgentProfile, QueueConfig, Role
from server.domain.queue_routing import QueueRouting, RelaxStep, Strategy
from server.domain.requirements import ANYONE, AllOf, AnyOf, Not, Requirement, SkillLevels, meets, skills_of
from server.domain.router_state import Gone, PresentAgent, WaitingSession, Word
from server.domain.session import REJECT_PAUSE_MS
from server.routing.policy import Match
from server.routing.scoring import handled_since, midnight_in, occupancy
from server.routing.snapshot import Snapshot
from tests.helpers.fuzz import examples

T = "default"
START = 1_760_000_000_000
HOUR_MS = 3_600_000


def queue(name: str, asks: Requirement = ANYONE, steps: tuple[RelaxStep, ...] = (), **routing: object) -> QueueConfig:
    options = QueueRouting(requirement=asks, steps=steps, **routing)  # type: ignore[arg-type]  # fields by name
    return QueueConfig(f"que_{name}", T, name, (), 20, 30, True, True, 20, True, options)


def person(name: str, **levels: int) -> AgentProfile:
    return AgentProfile(f"usr_{name}", T, name, True, Role.AGENT, tuple(levels.items()))


def present(name: str, idle_since: int = START, **changes: object) -> PresentAgent:
    return replace(PresentAgent(f"usr_{name}", "ready", ("voice",), idle_since), **changes)  # type: ignore[arg-type]


def waiting(number: int, queue_name: str = "a", at: int = START, **changes: object) -> WaitingSession:
    return replace(WaitingSession(f"ses_{number}", f"que_{queue_name}", at, at), **changes)  # type: ignore[arg-type]


def snapshot(queues: list[QueueConfig], people: list[AgentProfile], *words: Word, now: int = START) -> Snapshot:
    made = Snapshot(T)
    made.set_up(queues, people, now)
    for word in words:
        made.take(word, now)
    return made


def pairs(matches: list[Match]) -> list[tuple[str, str]]:
    return [(match.session_id.removeprefix("ses_"), match.agent_id.removeprefix("usr_")) for match in matches]


PEOPLE = [person("ann", en=9, fr=2), person("bob", en=5), person("cid", fr=8)]


@pytest.mark.parametrize(
    ("strategy", "first"),
    [
        (Strategy.LONGEST_IDLE, "bob"),
        (Strategy.LEAST_OCCUPIED, "cid"),
        (Strategy.BEST_SKILL, "ann"),
        (Strategy.FEWEST_SESSIONS, "ann"),
        (Strategy.ROUND_ROBIN, "cid"),
        (Strategy.RING_ALL, "bob"),
    ],
)
def test_each_strategy_picks_its_own(strategy: Strategy, first: str) -> None:
    hour = START // HOUR_MS
    en = SkillLevels("en", 1)
    asks = AnyOf((en, SkillLevels("fr", 8)))
    words = [
        present("ann", START - 10, busy_ms=50, ready_ms=50, offered_at=9, handled=((hour, 1), (hour - 30, 50))),
        present("bob", START - 30, busy_ms=60, ready_ms=40, offered_at=8, handled=((hour, 2),)),
        present("cid", START - 20, busy_ms=10, ready_ms=90, offered_at=7, handled=((hour, 3),)),
    ]
    made = snapshot([queue("a", asks, strategy=strategy)], PEOPLE, *words, waiting(1))
    assert pairs(made.choose(START)) == [("1", first)]


def test_a_requirement_relaxes_with_waiting_time() -> None:
    steps = (RelaxStep(30, SkillLevels("en", 3)), RelaxStep(60, ANYONE))
    made = snapshot([queue("a", SkillLevels("en", 6), steps)], PEOPLE, waiting(1), present("cid"))
    assert made.choose(START + 30_000) == []
    assert made.explain("ses_1", START + 30_000)["step"] == 1  # type: ignore[index]  # it waits
    made.take(present("bob"), START + 30_000)
    assert pairs(made.choose(START + 30_000)) == [("1", "bob")]
    made = snapshot([queue("a", SkillLevels("en", 6), steps)], PEOPLE, waiting(1), present("cid"))
    assert made.choose(START + 59_999) == []
    assert pairs(made.choose(START + 60_000)) == [("1", "cid")]


def test_weight_goes_before_priority_and_priority_before_arrival() -> None:
    queues = [queue("a"), queue("b", weight=11)]
    words = [waiting(1, "a", START - 90), waiting(2, "a", START - 50, priority=1), waiting(3, "b", START)]
    made = snapshot(queues, PEOPLE, *words)
    order = []
    for name in ("ann", "bob", "cid"):
        made.take(present(name), START)
        order += pairs(made.choose(START))
    assert order == [("3", "ann"), ("2", "bob"), ("1", "cid")]


def test_a_ring_grows_by_one_agent_a_time_and_keeps_none_from_who_was_not_asked_for() -> None:
    queues = [queue("a", strategy=Strategy.RING_ALL, weight=11), queue("b")]
    words = [waiting(1, "a", START - 90), waiting(2, "a", START - 50), waiting(3, "b")]
    made = snapshot(queues, PEOPLE, *words, present("ann", START - 3), present("bob", START - 2))
    first = made.choose(START)
    assert pairs(first) == [("1", "ann"), ("2", "bob")]
    rings = [replace(words[0], ringing=("usr_ann",), version=2), replace(words[1], ringing=("usr_bob",), version=2)]
    words_now: list[Word] = [*rings, present("ann", channels=()), present("bob", channels=())]
    for word in words_now:
        made.take(word, START)
    for match in first:
        made.settle(match, START)
    made.take(present("cid"), START)
    assert pairs(made.choose(START)) == [("3", "cid")], "nobody was asked for it yet"
    made.take(Gone(WaitingSession, "ses_3", 1), START)
    made.take(present("bob", channels=("voice",)), START)  # has room for two, and one of them rings
    again = made.choose(START)
    assert pairs(again) == [("1", "bob")]
    verdicts = {c["agent_id"]: c["verdict"] for c in again[0].why["candidates"]}  # type: ignore[attr-defined]
    assert verdicts == {"usr_bob": "chosen"}
    made.take(replace(rings[0], ringing=("usr_ann", "usr_bob"), version=3), START)
    made.settle(again[0], START)
    assert made.choose(START) == [], "it rings for this agent already, and so does the other"
    assert made.explain("ses_1", START)["ringing"] == 2  # type: ignore[index]  # it waits


def test_a_growing_priority_overtakes() -> None:
    """A session of priority 5 that waited 120 s is worth as much as one of priority 3 that has just come."""
    for waited_s, first in ((119, "2"), (121, "1")):
        made = snapshot([queue("a", grow_s=60)], PEOPLE, waiting(1, at=START - waited_s * 1000), waiting(2, priority=3))
        made.take(present("ann"), START)
        assert pairs(made.choose(START)) == [(first, "ann")]


def test_a_sticky_agent_is_waited_for_and_then_anyone_is_taken() -> None:
    busy = present("ann", channels=(), state="on_contact")
    made = snapshot([queue("a", sticky_s=20)], PEOPLE, busy, present("bob"), waiting(1, sticky_agent="usr_ann"))
    why = made.explain("ses_1", START)
    assert why is not None
    assert why["others"] == {"not_the_last": 1, "on_contact": 1}, "bob lacks nothing"
    assert made.choose(START + 19_999) == []
    made.take(present("ann", START + 10_000), START + 10_000)
    assert pairs(made.choose(START + 10_000)) == [("1", "ann")]
    made = snapshot([queue("a", sticky_s=20)], PEOPLE, busy, present("bob"), waiting(1, sticky_agent="usr_ann"))
    assert pairs(made.choose(START + 20_000)) == [("1", "bob")]
    made = snapshot([queue("a", sticky_s=20)], PEOPLE, present("bob"), waiting(1, sticky_agent="usr_ann"))
    assert pairs(made.choose(START)) == [("1", "bob")], "who is not there is not waited for"


def test_preferred_excluded_and_rejecting_agents() -> None:
    people = [present("ann", START - 9), present("bob", START - 8), present("cid", START - 7)]
    made = snapshot([queue("a")], PEOPLE, *people, waiting(1, preferred=("usr_cid",)))
    assert pairs(made.choose(START)) == [("1", "cid")]
    made = snapshot([queue("a")], PEOPLE, *people, waiting(1, excluded=("usr_ann", "usr_bob")))
    assert pairs(made.choose(START)) == [("1", "cid")]
    rejected = tuple((f"usr_{name}", START) for name in ("ann", "bob", "cid"))
    made = snapshot([queue("a")], PEOPLE, *people, waiting(1, rejected_by=rejected), waiting(2))
    assert pairs(made.choose(START)) == [("2", "ann")], "who has nobody left blocks nobody"
    assert made.choose(START + REJECT_PAUSE_MS - 1) == []
    assert pairs(made.choose(START + REJECT_PAUSE_MS)) == [("1", "bob")]


def test_reasons_tell_of_everybody() -> None:
    crowd = [person(f"n{n}", en=5) for n in range(30)]
    states = [present(f"n{n}", START - n) for n in range(25)] + [
        present("n25", state="break", channels=()),
        present("n26", state="on_contact", channels=()),
        present("n27", state="unreachable", channels=()),
    ]
    made = snapshot([queue("a", SkillLevels("en", 3))], [*crowd, *PEOPLE], *states, present("cid"), waiting(1))
    (match,) = made.choose(START)
    why = match.why
    candidates = why["candidates"]
    assert isinstance(candidates, list)
    assert [c["agent_id"] for c in candidates] == [f"usr_n{n}" for n in range(24, 4, -1)]
    assert [c["verdict"] for c in candidates] == ["chosen", *["able"] * 19]
    assert why["others"] == {"able": 5, "lacks_skill": 1, "break": 1, "on_contact": 1, "unreachable": 1}


def test_a_new_set_up_counts_at_once() -> None:
    made = snapshot([queue("a", SkillLevels("en", 6))], PEOPLE, present("bob"), present("cid"), waiting(1), waiting(2))
    assert made.choose(START) == []
    assert made.ready("que_a") == 0
    made.set_up([queue("a", SkillLevels("en", 5))], PEOPLE, START)
    assert made.ready("que_a") == 1
    assert pairs(made.choose(START)) == [("1", "bob")]
    made.set_up([queue("a", SkillLevels("en", 5))], [*PEOPLE[:2], person("cid", en=5)], START)
    assert pairs(made.choose(START)) == [("2", "cid")]


def test_where_midnight_comes_twice_today_begins_the_first_time() -> None:
    first = int(datetime(2026, 10, 25, tzinfo=UTC).timestamp() * 1000)
    assert {midnight_in("Atlantic/Azores", first + minutes * 60_000) for minutes in (0, 59, 61, 119, 121)} == {first}


def test_today_begins_in_the_queues_time_zone() -> None:
    zone = "Pacific/Auckland"
    midnight = midnight_in(zone, START)
    hour = midnight // HOUR_MS
    words: list[Word] = [
        present("ann", handled=((hour - 1, 9),)),
        present("bob", START - 99, handled=((hour, 1),)),
        waiting(1),
    ]
    by_day = queue("a", strategy=Strategy.FEWEST_SESSIONS, time_zone=zone)
    made = snapshot([by_day], PEOPLE, *words)
    assert pairs(made.choose(START)) == [("1", "ann")], "yesterday's do not count"
    made = snapshot([by_day], PEOPLE, *words[:2], now=midnight - 1)
    made.take(waiting(1), START)
    assert pairs(made.choose(START)) == [("1", "ann")], "midnight has passed"


# --- the rules, naively --------------------------------------------------------------------------------


@dataclass
class Naive:
    """All that is known, looked through from the beginning for each match."""

    queues: list[QueueConfig]
    people: list[AgentProfile]
    sessions: dict[str, WaitingSession] = field(default_factory=dict)
    agents: dict[str, PresentAgent] = field(default_factory=dict)
    reserved: set[str] = field(default_factory=set)

    def take(self, word: Word) -> None:
        match word:
            case WaitingSession():
                self.sessions[word.session_id] = word
            case PresentAgent():
                self.agents[word.agent_id] = word
            case Gone(kind, gone_id):
                (self.sessions if kind is WaitingSession else self.agents).pop(gone_id, None)

    def choose(self, now: int) -> list[tuple[str, str]]:
        found = []
        while (pair := self._next(now)) is not None:
            self.reserved |= set(pair)
            found.append((pair[0].removeprefix("ses_"), pair[1].removeprefix("usr_")))
        return found

    def _next(self, now: int) -> tuple[str, str] | None:
        offers = []
        for session in self.sessions.values():
            queue = next(q for q in self.queues if q.queue_id == session.queue_id)
            if session.held or session.session_id in self.reserved:
                continue
            able = [a for a in self.agents.values() if self._may(session, queue, a, now)]
            if able:
                offers.append((self._urgency(session, queue, now), session, queue, able))
        if not offers:
            return None
        _, session, queue, able = min(offers, key=lambda offer: offer[0])
        by_preference = [a for wanted in session.preferred for a in able if a.agent_id == wanted]
        chosen = by_preference[0] if by_preference else min(able, key=lambda a: self._rank(session, queue, a, now))
        return session.session_id, chosen.agent_id

    def _asked(self, session: WaitingSession, queue: QueueConfig, now: int) -> Requirement:
        passed = [s for s in queue.routing.steps if now >= session.entered_at + s.after_s * 1000]
        asked = passed[-1].requirement if passed else queue.routing.requirement
        return asked if session.asks is None else AllOf((asked, session.asks))

    def _may(self, session: WaitingSession, queue: QueueConfig, agent: PresentAgent, now: int) -> bool:
        profile = next(p for p in self.people if p.user_id == agent.agent_id)
        sticky = session.sticky_agent
        waited_for = (
            sticky in self.agents
            and now < session.arrived_at + queue.routing.sticky_s * 1000
            and sticky not in session.excluded
            and all(who != sticky for who, _ in session.rejected_by)
            and meets(self._asked(session, queue, now), next(p for p in self.people if p.user_id == sticky).level)
        )
        if waited_for and agent.agent_id != sticky:
            return False
        pausing = any(who == agent.agent_id and now - at < REJECT_PAUSE_MS for who, at in session.rejected_by)
        return (
            session.channel in agent.channels
            and agent.agent_id not in self.reserved
            and meets(self._asked(session, queue, now), profile.level)
            and agent.agent_id not in session.excluded
            and agent.agent_id not in session.ringing
            and not pausing
        )

    def _urgency(self, session: WaitingSession, queue: QueueConfig, now: int) -> tuple[bool, float, float, int, str]:
        grown = (now - session.arrived_at) / (queue.routing.grow_s * 1000) if queue.routing.grow_s else 0
        rings = bool(session.ringing)
        return (rings, -queue.routing.weight, session.priority - grown, session.arrived_at, session.session_id)

    def _rank(
        self, session: WaitingSession, queue: QueueConfig, agent: PresentAgent, now: int
    ) -> tuple[float, int, str]:
        profile = next(p for p in self.people if p.user_id == agent.agent_id)
        compared: dict[Strategy, float] = {
            Strategy.LONGEST_IDLE: agent.idle_since,
            Strategy.LEAST_OCCUPIED: round(occupancy(agent), 4),
            Strategy.BEST_SKILL: -sum(profile.level(s) for s in skills_of(self._asked(session, queue, now))),
            Strategy.FEWEST_SESSIONS: handled_since(agent, midnight_in(queue.routing.time_zone, now)),
            Strategy.ROUND_ROBIN: agent.offered_at,
            Strategy.RING_ALL: agent.idle_since,
        }
        return (compared[queue.routing.strategy], agent.idle_since, agent.agent_id)


EN, FR = SkillLevels("en", 4), SkillLevels("fr", 3)
asked = st.sampled_from([ANYONE, EN, FR, AllOf((EN, FR)), AnyOf((EN, FR)), Not(FR), SkillLevels("en", 8)])
queues_of = st.builds(
    lambda name, asks, steps, strategy, weight, grow_s, sticky_s: queue(
        name,
        asks,
        tuple(RelaxStep(20 * (n + 1), step) for n, step in enumerate(steps)),
        strategy=strategy,
        weight=weight,
        grow_s=grow_s,
        sticky_s=sticky_s,
    ),
    st.just("?"),
    asked,
    st.lists(asked, max_size=2),
    st.sampled_from(Strategy),
    st.sampled_from([9, 10]),
    st.sampled_from([0, 0, 15]),
    st.sampled_from([0, 25]),
)
NAMES = ("ann", "bob", "cid", "dan")
skills = st.dictionaries(st.sampled_from(["en", "fr"]), st.integers(1, 10))
people_of = st.tuples(*(st.builds(lambda name, has: person(name, **has), st.just(name), skills) for name in NAMES))
ids = st.sampled_from([f"usr_{name}" for name in NAMES])
ages = st.integers(0, 60_000)
sessions = st.builds(
    lambda number, name, age, extra: (
        waiting(number, name, START - age) if extra is None else replace(waiting(number, name, START - age), **extra)
    ),
    st.integers(1, 6),
    st.sampled_from(["0", "1", "2"]),
    ages,
    st.none()
    | st.fixed_dictionaries(
        {},
        optional={
            "priority": st.integers(3, 5),
            "held": st.booleans(),
            "rejected_by": st.tuples(st.tuples(ids, ages.map(lambda age: START - age))),
            "asks": asked,
            "preferred": st.tuples(ids),
            "excluded": st.tuples(ids),
            "sticky_agent": ids,
            "ringing": st.tuples(ids),
            "channel": st.sampled_from(["voice", "chat"]),
        },
    ),
)
agents = st.builds(
    lambda name, age, channels, numbers: present(
        name, START - age, channels=channels, state="ready" if channels else "break", offered_at=numbers[0],
        busy_ms=numbers[1], ready_ms=numbers[2], handled=((START // HOUR_MS, numbers[3]),),
    ),
    st.sampled_from(NAMES),
    ages,
    st.sampled_from([("voice",), ("voice",), ("voice", "chat"), ("chat",), ()]),
    st.tuples(*[st.integers(0, 3)] * 4),
)  # fmt: skip
gone = st.builds(lambda number: Gone(WaitingSession, f"ses_{number}", 9), st.integers(1, 6)) | st.builds(
    lambda agent_id: Gone(PresentAgent, agent_id, 9), ids
)
steps_of = st.lists(
    st.one_of(sessions, sessions, agents, agents, gone, st.integers(1, 30_000), st.just("settle"), st.just("anew")),
    min_size=5,
    max_size=30,
)


@settings(max_examples=examples(400), deadline=None)
@given(st.lists(queues_of, min_size=3, max_size=3), people_of, steps_of)
def test_it_chooses_as_the_rules_say(
    made: list[QueueConfig], people: tuple[AgentProfile, ...], steps: list[Word | int | str]
) -> None:
    queues = [replace(q, queue_id=f"que_{n}", name=str(n)) for n, q in enumerate(made)]
    naive, real = Naive(queues, list(people)), snapshot(queues, list(people))
    now = START
    under_way: list[Match] = []
    for step in steps:
        match step:
            case int():
                now += step
            case "settle":
                for match_ in under_way:
                    real.settle(match_, now)
                under_way, naive.reserved = [], set()
            case "anew":
                real.replace([*naive.sessions.values(), *naive.agents.values()], 7, "", now)
                real.set_up(list(reversed(queues)), list(people), now)
            case str():
                raise AssertionError(step)
            case word:
                naive.take(word)
                real.take(word, now)
        matches = real.choose(now)
        under_way += matches
        assert pairs(matches) == naive.choose(now)
    for queue_id, look in real.queues().items():
        here = [s for s in naive.sessions.values() if s.queue_id == queue_id]
        assert {w.session_id for w in look.waiting} == {s.session_id for s in here}
