"""PURE: the file of a synthetic day, in TOML or the same in JSON:

    from = "2026-01-05T08:00Z"            # a moment with a zone
    hours = 10
    [[queue]]
    name = "Sales"
    skills = { english = 5 }              # what agents need; without it anyone
    calls_per_hour = [60, 80, 120, 90]    # each hour's, then again from the first; or one number
    talk_s = 240                          # means; log-normal
    talk_spread = 0.9                     # standard deviation ÷ mean
    patience_s = 180                      # without it nobody leaves; log-normal, patience_spread
    wrap_up_s = 30                        # always so long
    answer_s = 3                          # mean from offer to accept
    service_level_s = 20
    [[agents]]
    count = 12
    skills = { english = 7 }
    from = "08:00"                        # each day, in `zone` (UTC without one); without both, always
    to = "16:30"

What else a queue may be told is in the file of a change. Skills are those that the file names.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from server.domain.directory import DEFAULT_TENANT, AgentProfile, QueueConfig, Role
from server.whatif.change import MOST_ADDED, WEEK_S, Names, SkillReader, daily_spans
from server.whatif.faults import Faults, Table
from server.whatif.workload import HOUR_MS, Center, Shift, Stream, Workload, log_normal, synthetic

MOST_HOURS = 31 * 24
MOST_CALLS = 1_000_000  # of a queue in an hour
SPREAD = 1.0  # log-normal times whose standard deviation is their mean, as the exponential's is
RING_TIMEOUT_S = 20
_QUEUE = (
    "name", "skills", "calls_per_hour", "talk_s", "talk_spread", "patience_s", "patience_spread", "wrap_up_s",
    "answer_s", "service_level_s", "ring_timeout_s",
)  # fmt: skip


def made_day(file: Table, seed: int) -> tuple[Center, Workload, Names]:
    """Raises BadFile."""
    faults = Faults()
    faults.unknown("", file, ("from", "hours", "queue", "agents"))
    since = _moment(faults, file.get("from"))
    until = since + faults.whole("hours", file.get("hours", 24), 1, MOST_HOURS) * HOUR_MS
    queue_tables = faults.tables("queue", file.get("queue", []))
    agent_tables = faults.tables("agents", file.get("agents", []))
    names = Names({name: name for name in _skills(table for _, table in (*queue_tables, *agent_tables))})
    skills = SkillReader(names.ids(), faults)
    queues, streams = [], []
    for number, (place, table) in enumerate(queue_tables, 1):
        queue, stream = _queue(faults, skills, f"que_{number}", place, table)
        queues.append(queue)
        streams.append(stream)
    if not queues:
        faults.add("queue", "at least one is wanted")
    profiles: list[AgentProfile] = []
    shifts: list[Shift] = []
    for place, table in agent_tables:
        people, spans = _agents(faults, skills, place, table, (since, until))
        for number, person in enumerate(people, len(profiles) + 1):
            named = AgentProfile(f"agent-{number:05}", *person)
            profiles.append(named)
            shifts += [Shift(named.user_id, begins, ends) for begins, ends in spans]
    faults.raise_if_any()
    return Center(tuple(queues), tuple(profiles)), synthetic(since, until, streams, shifts, seed), names


def _queue(faults: Faults, skills: SkillReader, queue_id: str, place: str, table: Table) -> tuple[QueueConfig, Stream]:
    faults.unknown(place, table, _QUEUE)

    def number(name: str, usual: float | None, low: float = 0) -> float:
        return faults.number(f"{place}.{name}", table.get(name, usual), low, WEEK_S)

    rates = table.get("calls_per_hour")
    listed = rates if isinstance(rates, list) else [rates]
    per_hour = tuple(faults.number(f"{place}.calls_per_hour", rate, 0, MOST_CALLS) for rate in listed)
    if not per_hour:
        faults.add(f"{place}.calls_per_hour", "at least one number is wanted")
    wrap_up_s = faults.whole(f"{place}.wrap_up_s", table.get("wrap_up_s", 0), 0, WEEK_S)
    queue = QueueConfig(
        queue_id=queue_id,
        tenant=DEFAULT_TENANT,
        name=faults.text(f"{place}.name", table.get("name")),
        skills=skills.levels(f"{place}.skills", table.get("skills", {}), lowest=1),
        ring_timeout_s=faults.whole(f"{place}.ring_timeout_s", table.get("ring_timeout_s", RING_TIMEOUT_S), 1, WEEK_S),
        wrap_up_s=wrap_up_s,
        disposition_required=False,
        record=False,
        service_level_s=faults.whole(f"{place}.service_level_s", table.get("service_level_s", 20), 1, WEEK_S),
        active=True,
    )
    stream = Stream(
        queue_id,
        per_hour,
        number("talk_s", None, 1) * 1000,
        number("patience_s", None, 1) * 1000 if "patience_s" in table else None,
        wrap_up_s * 1000,
        number("answer_s", 0) * 1000,
        log_normal(number("talk_spread", SPREAD, 0.01)),
        log_normal(number("patience_spread", SPREAD, 0.01)),
    )
    return queue, stream


_Person = tuple[str, str, bool, Role, tuple[tuple[str, int], ...]]


def _agents(
    faults: Faults, skills: SkillReader, place: str, table: Table, span: tuple[int, int]
) -> tuple[list[_Person], list[tuple[int, int]]]:
    faults.unknown(place, table, ("count", "name", "skills", "from", "to", "zone"))
    count = faults.whole(f"{place}.count", table.get("count", 1), 1, MOST_ADDED)
    name = faults.text(f"{place}.name", table.get("name", place))
    levels = skills.levels(f"{place}.skills", table.get("skills", {}), lowest=1)
    names = [name] if count == 1 else [f"{name} {number}" for number in range(1, count + 1)]
    all_day = "from" not in table and "to" not in table
    spans = [span] if all_day else daily_spans(place, table, *span, faults)
    return [(DEFAULT_TENANT, one, True, Role.AGENT, levels) for one in names], spans


def _skills(tables: Iterable[Table]) -> list[str]:
    found: dict[str, str] = {}
    for table in tables:
        named = table.get("skills", {})
        for name in named if isinstance(named, dict) else ():
            found.setdefault(name.casefold(), name)
    return list(found.values())


def _moment(faults: Faults, value: object) -> int:
    """UTC epoch ms; a TOML moment or text."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        at = None
    if not isinstance(at, datetime) or at.tzinfo is None:
        faults.add("from", f"a moment with a zone, like 2026-01-05T08:00Z, is wanted, not {value!r}")
        return 0
    return round(at.timestamp() * 1000)
