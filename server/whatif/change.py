"""PURE: a change file: what is to be different from what was. In TOML, or the same in JSON:

    remove = ["Bo"]                     # agents who are not there, by name or id
    [queue.Sales]                       # by name or id; only what is different
    strategy = "best_skill"
    requirement = "english >= 5 and (billing or refunds)"
    skills = { english = 5 }            # in place of the queue's list
    steps = [{ after_s = 30, requirement = "english >= 3" }]
    hours = { time_zone = "Europe/Berlin", mon = ["09:00-17:00"], holidays = { 2026-12-25 = [] } }   # or "always"
    overflow = "Support"                # "" for none
    [agent.Ana]
    skills = { english = 7, billing = 0 }   # levels that change; 0 takes the skill away
    [[add]]                             # more agents
    count = 3
    like = "Ana"                        # Ana's skills, and hours of work; or `skills`, and `from` and `to`
    [[add]]
    count = 2
    skills = { english = 5 }
    from = "09:00"                      # each day of the span, in `zone` (UTC without one)
    to = "17:30"
    zone = "Europe/Berlin"

Of a queue may change: strategy, requirement, skills, steps, priority, grow_s, weight, sticky_s, wrap_up_s,
ring_timeout_s, service_level_s, max_wait_s, max_length, overflow, hours, active.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from server.domain.directory import AgentProfile, QueueConfig, Role
from server.domain.hours import Holiday, Hours, Span, known_zone
from server.domain.queue_routing import RelaxStep, Strategy
from server.domain.requirements import ANYONE, Requirement, RequirementFault, parse
from server.whatif.faults import Faults, Table, one_of
from server.whatif.workload import Center, Shift, Workload

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MOST_ADDED = 10_000
MOST_SHIFTS = 50_000  # of all that are added, over all days
WEEK_S = 7 * 86_400
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_SPAN = re.compile(rf"({_CLOCK.pattern})-({_CLOCK.pattern})")


@dataclass(frozen=True, slots=True)
class Names:
    """`skills`: names by id."""

    skills: Mapping[str, str]

    def ids(self) -> dict[str, str]:
        """By casefolded name, as `requirements.parse` wants them."""
        return {name.casefold(): skill_id for skill_id, name in self.skills.items()}


def changed(file: Table, center: Center, workload: Workload, names: Names) -> tuple[Center, Workload]:
    """The set-up and the shifts with a change. Raises BadFile."""
    return _Change(file, center, workload, names).made()


class _Change:
    def __init__(self, file: Table, center: Center, workload: Workload, names: Names) -> None:
        self._file = file
        self._faults = Faults()
        self._skills = SkillReader(names.ids(), self._faults)
        self._workload = workload
        self._room = MOST_SHIFTS
        self._queues = {queue.queue_id: queue for queue in center.queues}
        self._profiles = {profile.user_id: profile for profile in center.profiles}
        self._queue_ids = _by_name((queue.queue_id, queue.name) for queue in center.queues)
        self._agent_ids = _by_name((profile.user_id, profile.name) for profile in center.profiles)

    def made(self) -> tuple[Center, Workload]:
        file, faults = self._file, self._faults
        faults.unknown("", file, ("queue", "agent", "add", "remove"))
        for name, table in faults.table("queue", file.get("queue", {})).items():
            self._queue(name, f"queue.{name}", faults.table(f"queue.{name}", table))
        for name, table in faults.table("agent", file.get("agent", {})).items():
            self._agent(name, f"agent.{name}", faults.table(f"agent.{name}", table))
        added = [
            shift for place, table in faults.tables("add", file.get("add", [])) for shift in self._add(place, table)
        ]
        gone = self._removed()
        self._check_overflow()
        faults.raise_if_any()
        kept = tuple(shift for shift in self._workload.shifts if shift.agent_id not in gone)
        people = tuple(profile for profile in self._profiles.values() if profile.user_id not in gone)
        return Center(tuple(self._queues.values()), people), replace(self._workload, shifts=(*kept, *added))

    # --- agents ---

    def _agent(self, name: str, place: str, table: Table) -> None:
        agent_id = one_of(name, self._agent_ids, self._faults, place)
        self._faults.unknown(place, table, ("skills",))
        levels = self._skills.levels(f"{place}.skills", table.get("skills", {}), lowest=0)
        if agent_id is not None:
            profile = self._profiles[agent_id]
            after = {**dict(profile.skills), **dict(levels)}
            kept = tuple((skill_id, level) for skill_id, level in after.items() if level)
            self._profiles[agent_id] = replace(profile, skills=kept)

    def _removed(self) -> set[str]:
        found = self._file.get("remove", [])
        if not isinstance(found, list):
            self._faults.add("remove", "a list of agents' names or ids is wanted")
            return set()
        places = [(f"remove[{number}]", name) for number, name in enumerate(found, 1)]
        ids = (one_of(self._faults.text(at, name), self._agent_ids, self._faults, at) for at, name in places)
        return {agent_id for agent_id in ids if agent_id is not None}

    def _add(self, place: str, table: Table) -> list[Shift]:
        faults = self._faults
        faults.unknown(place, table, ("count", "like", "skills", "from", "to", "zone"))
        how_many = faults.whole(f"{place}.count", table.get("count"), 1, MOST_ADDED)
        if ("like" in table) == ("skills" in table):
            faults.add(place, "either like or skills is wanted")
            return []
        spans: list[tuple[int, int]] | None = None
        if "from" in table or "to" in table or "skills" in table:
            spans = daily_spans(place, table, self._workload.since, self._workload.until, faults)
        if "skills" in table:
            levels = self._skills.levels(f"{place}.skills", table["skills"], lowest=1)
            model = AgentProfile("", next((q.tenant for q in self._queues.values()), ""), "", True, Role.AGENT, levels)
        else:
            like = one_of(faults.text(f"{place}.like", table["like"]), self._agent_ids, faults, f"{place}.like")
            if like is None:
                return []
            model = self._profiles[like]
            if spans is None:
                mine = [(s.since, s.until) for s in self._workload.shifts if s.agent_id == like]
                spans = mine
                if not mine:
                    faults.add(f"{place}.like", f"{model.name!r} did not work in this span; give from and to")
        self._room -= how_many * len(spans or ())
        if self._room < 0:
            faults.add(place, f"at most {MOST_SHIFTS} shifts may be added in all; fewer agents or days are wanted")
            return []
        added = []
        for number in range(1, how_many + 1):
            agent_id = f"{place} {number}"  # no id looks like this
            self._profiles[agent_id] = replace(model, user_id=agent_id, name=agent_id, active=True)
            added += [Shift(agent_id, since, until) for since, until in spans or ()]
        return added

    # --- queues ---

    def _queue(self, name: str, place: str, table: Table) -> None:
        self._faults.unknown(place, table, _QUEUE_FIELDS)
        queue_id = one_of(name, self._queue_ids, self._faults, place)
        if queue_id is not None:
            queue = self._queues[queue_id]
            for field, value in table.items():
                if field in _QUEUE_FIELDS:
                    queue = _QUEUE_FIELDS[field](self, queue, f"{place}.{field}", value)
            self._queues[queue_id] = queue

    def _strategy(self, queue: QueueConfig, place: str, value: object) -> QueueConfig:
        known = [strategy.value for strategy in Strategy]
        if value not in known:
            self._faults.add(place, f"one of {', '.join(known)} is wanted, not {value!r}")
            return queue
        return replace(queue, routing=replace(queue.routing, strategy=Strategy(value)))

    def _requirement(self, queue: QueueConfig, place: str, value: object) -> QueueConfig:
        return replace(queue, routing=replace(queue.routing, requirement=self._skills.requirement(place, value)))

    def _listed(self, queue: QueueConfig, place: str, value: object) -> QueueConfig:
        return replace(queue, skills=self._skills.levels(place, value, lowest=1))

    def _steps(self, queue: QueueConfig, place: str, value: object) -> QueueConfig:
        steps: list[RelaxStep] = []
        for at, table in self._faults.tables(place, value):
            self._faults.unknown(at, table, ("after_s", "requirement"))
            after_s = self._faults.whole(f"{at}.after_s", table.get("after_s"), 1, WEEK_S)
            if steps and after_s <= steps[-1].after_s:
                self._faults.add(f"{at}.after_s", "later than the step before is wanted")
            steps.append(RelaxStep(after_s, self._skills.requirement(f"{at}.requirement", table.get("requirement"))))
        return replace(queue, routing=replace(queue.routing, steps=tuple(steps)))

    def _overflow(self, queue: QueueConfig, place: str, value: object) -> QueueConfig:
        name = self._faults.text(place, value)
        target = one_of(name, self._queue_ids, self._faults, place) if name else None
        return replace(queue, life=replace(queue.life, overflow_queue_id=target))

    def _hours(self, queue: QueueConfig, place: str, value: object) -> QueueConfig:
        hours = None if value == "always" else _read_hours(self._faults, place, value)
        return replace(queue, life=replace(queue.life, hours=hours))

    def _active(self, queue: QueueConfig, place: str, value: object) -> QueueConfig:
        return replace(queue, active=self._faults.flag(place, value))

    def whole(self, place: str, value: object, low: int, high: int) -> int:
        return self._faults.whole(place, value, low, high)

    def _check_overflow(self) -> None:
        for start in self._queues.values():
            seen, at = [start.queue_id], start.life.overflow_queue_id
            while at is not None and at in self._queues and at not in seen:
                seen.append(at)
                at = self._queues[at].life.overflow_queue_id
            if at == start.queue_id:
                names = " > ".join(self._queues[queue_id].name for queue_id in (*seen, at))
                self._faults.add(f"queue.{start.name}.overflow", f"a circle: {names}")


def _of_queue(name: str, low: int, high: int) -> Callable[[_Change, QueueConfig, str, object], QueueConfig]:
    """A number of the queue itself."""

    def read(change: _Change, queue: QueueConfig, place: str, value: object) -> QueueConfig:
        whole: Any = change.whole(place, value, low, high)
        return replace(queue, **{name: whole})

    return read


def _of(part: str, name: str, low: int, high: int) -> Callable[[_Change, QueueConfig, str, object], QueueConfig]:
    """A number of a queue's `routing` or `life`."""

    def read(change: _Change, queue: QueueConfig, place: str, value: object) -> QueueConfig:
        inner: Any = getattr(queue, part)
        return replace(queue, **{part: replace(inner, **{name: change.whole(place, value, low, high)})})

    return read


_QUEUE_FIELDS: dict[str, Callable[[_Change, QueueConfig, str, object], QueueConfig]] = {
    "strategy": _Change._strategy,
    "requirement": _Change._requirement,
    "skills": _Change._listed,
    "steps": _Change._steps,
    "priority": _of("routing", "priority", 1, 10),
    "grow_s": _of("routing", "grow_s", 0, WEEK_S),
    "weight": _of("routing", "weight", 1, 1000),
    "sticky_s": _of("routing", "sticky_s", 0, WEEK_S),
    "wrap_up_s": _of_queue("wrap_up_s", 0, WEEK_S),
    "ring_timeout_s": _of_queue("ring_timeout_s", 1, WEEK_S),
    "service_level_s": _of_queue("service_level_s", 1, WEEK_S),
    "max_wait_s": _of("life", "max_wait_s", 0, WEEK_S),
    "max_length": _of("life", "max_length", 0, 1_000_000),
    "overflow": _Change._overflow,
    "hours": _Change._hours,
    "active": _Change._active,
}


class SkillReader:
    """`ids`: skill ids by casefolded name."""

    def __init__(self, ids: Mapping[str, str], faults: Faults) -> None:
        self._ids = ids
        self._faults = faults

    def levels(self, place: str, value: object, *, lowest: int) -> tuple[tuple[str, int], ...]:
        found = []
        for name, level in self._faults.table(place, value).items():
            skill_id = self._ids.get(name.casefold())
            if skill_id is None:
                self._faults.add(f"{place}.{name}", f"there is no skill {name!r}")
            found.append((skill_id or name, self._faults.whole(f"{place}.{name}", level, lowest, 10)))
        return tuple(found)

    def requirement(self, place: str, value: object) -> Requirement:
        try:
            return parse(self._faults.text(place, value), self._ids)
        except RequirementFault as fault:
            self._faults.add(place, str(fault))
            return ANYONE


def daily_spans(place: str, table: Table, since: int, until: int, faults: Faults) -> list[tuple[int, int]]:
    """`from` to `to` on each day that a span touches, cut to it; UTC epoch ms. Over midnight when `to` is not later."""
    zone_name = faults.text(f"{place}.zone", table.get("zone", "UTC"))
    begins = _minute(faults, f"{place}.from", table.get("from"))
    ends = _minute(faults, f"{place}.to", table.get("to"))
    if not known_zone(zone_name):
        faults.add(f"{place}.zone", f"this time zone is not known here: {zone_name!r}")
        return []
    zone = UTC if zone_name == "UTC" else ZoneInfo(zone_name)
    day = datetime.fromtimestamp(since / 1000, zone).date() - timedelta(days=1)
    spans: list[tuple[int, int]] = []
    while True:
        moments = [
            round((datetime.combine(day, datetime.min.time()) + timedelta(minutes=m)).replace(tzinfo=zone).timestamp())
            for m in (begins, ends if ends > begins else ends + 1440)
        ]
        if moments[0] * 1000 >= until:
            return spans
        cut = (max(since, moments[0] * 1000), min(until, moments[1] * 1000))
        if cut[0] < cut[1]:
            spans.append(cut)
        day += timedelta(days=1)


def _minute(faults: Faults, place: str, value: object) -> int:
    """Since midnight, 0 to 1440."""
    if not isinstance(value, str) or not _CLOCK.fullmatch(value):
        faults.add(place, f"a time like 09:00 is wanted, not {value!r}")
        return 0
    return int(value[:2]) * 60 + int(value[3:])


def _read_hours(faults: Faults, place: str, value: object) -> Hours | None:
    if not isinstance(value, Mapping):
        faults.add(place, '"always", or a table of time_zone, days and holidays, is wanted')
        return None
    faults.unknown(place, value, ("time_zone", "holidays", *DAYS))
    zone = faults.text(f"{place}.time_zone", value.get("time_zone", "UTC"))
    if not known_zone(zone):
        faults.add(f"{place}.time_zone", f"this time zone is not known here: {zone!r}")
    week = tuple(_spans(faults, f"{place}.{day}", value.get(day, [])) for day in DAYS)
    holidays = []
    for named, spans in faults.table(f"{place}.holidays", value.get("holidays", {})).items():
        at = f"{place}.holidays.{named}"
        try:
            holidays.append(Holiday(date.fromisoformat(named), _spans(faults, at, spans)))
        except ValueError:
            faults.add(at, "a day like 2026-12-25 is wanted")
    return Hours(zone, week, tuple(holidays))


def _spans(faults: Faults, place: str, value: object) -> tuple[Span, ...]:
    if not isinstance(value, list):
        faults.add(place, 'a list of spans like "09:00-17:00" is wanted')
        return ()
    found = []
    for text in value:
        if not isinstance(text, str) or not _SPAN.fullmatch(text) or text.startswith("24"):
            faults.add(place, f"a span like 09:00-17:00 is wanted, not {text!r}")
            continue
        opens, closes = (_minute(faults, place, part) for part in text.split("-"))
        found.append(Span(opens, closes or 1440))
    return tuple(found)


def _by_name(pairs: Any) -> dict[str, list[str]]:
    """Ids by casefolded name, and each id by itself."""
    found: dict[str, list[str]] = {}
    for one_id, name in pairs:
        for key in {one_id.casefold(), name.casefold()}:
            found.setdefault(key, []).append(one_id)
    return found
