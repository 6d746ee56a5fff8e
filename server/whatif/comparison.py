"""PURE: what happened, what a simulation of just that says, and what one with a change says, beside each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from server.domain.reports import Counted, QueueNumbers, numbers, total
from server.whatif.outcome import AgentTimes, Outcome, half_width, occupancy

HAPPENED, AS_IT_WAS, CHANGED = "happened", "as it was", "with the change"
_WIDE, _COLUMN = 18, 22
NONE = "–"


@dataclass(frozen=True, slots=True)
class Column:
    """`outcome` None: what happened, of which only sums are known. `numbers` by queue id."""

    title: str
    numbers: Mapping[str, QueueNumbers]
    times: Mapping[str, AgentTimes]
    outcome: Outcome | None = None


def happened(found: Mapping[str, QueueNumbers], times: Mapping[str, AgentTimes]) -> Column:
    return Column(HAPPENED, found, times)


def simulated(title: str, outcome: Outcome) -> Column:
    queue_ids = {visit.queue_id for visit in outcome.visits}
    return Column(title, {one: numbers(outcome.of(one)) for one in queue_ids}, outcome.times, outcome)


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{share * 100:.1f} %"


def _seconds(ms: float | None) -> str:
    return NONE if ms is None else f"{ms / 1000:.1f} s"


@dataclass(frozen=True, slots=True)
class _Figure:
    name: str
    of: Callable[[QueueNumbers], float | None]
    show: Callable[[float | None], str]


_SHARES = (
    _Figure("service level", lambda n: n.service_level, _percent),
    _Figure("ASA", lambda n: n.asa_ms, _seconds),
    _Figure("abandoned", lambda n: n.abandon_rate, _percent),
)
COUNTS = (Counted.OFFERED, Counted.ANSWERED, Counted.FLOWED_OUT, Counted.FAILED, Counted.WAITING)


def lines(columns: Sequence[Column], names: Mapping[str, str]) -> Iterator[str]:
    """A table of text. `names`: of the queues, by id. Simulated figures have 95 % confidence intervals where there
    are visits enough for one."""
    yield " " * _WIDE + "".join(f"{column.title:>{_COLUMN}}" for column in columns)
    shown = {queue_id for column in columns for queue_id in column.numbers}
    for queue_id in sorted(shown, key=lambda one: (names.get(one, one).casefold(), one)):
        yield names.get(queue_id, queue_id)
        yield from _of(columns, queue_id)
    yield "All"
    yield from _of(columns, None)
    yield _line("occupancy", [_percent(occupancy(column.times.values())) for column in columns])
    turned_away = [sum(column.outcome.turned_away.values()) if column.outcome else 0 for column in columns]
    if any(turned_away):
        yield _line("turned away", [str(count) for count in turned_away])


def _of(columns: Sequence[Column], queue_id: str | None) -> Iterator[str]:
    found = [_numbers(column, queue_id) for column in columns]
    for counted in COUNTS:
        counts = [one.counts[counted] for one in found]
        if any(counts) or counted is Counted.OFFERED:
            yield _line(counted.value.replace("_", " "), [str(count) for count in counts])
    for figure in _SHARES:
        yield _line(figure.name, [_cell(c, n, figure, queue_id) for c, n in zip(columns, found, strict=True)])


def _numbers(column: Column, queue_id: str | None) -> QueueNumbers:
    if queue_id is None:
        return total(column.numbers.values())
    return column.numbers.get(queue_id, QueueNumbers())


def _cell(column: Column, found: QueueNumbers, figure: _Figure, queue_id: str | None) -> str:
    shown = figure.show(figure.of(found))
    half = None if column.outcome is None else half_width(column.outcome.of(queue_id), figure.of)
    return shown if half is None else f"{shown} ± {figure.show(half).split()[0]}"


def _line(name: str, cells: Sequence[str]) -> str:
    return f"  {name:<{_WIDE - 2}}" + "".join(f"{cell:>{_COLUMN}}" for cell in cells)


def trust(real: Column, as_it_was: Column) -> str:
    """How far the simulation of what was is from what was: so far a change's figures may be off, too."""
    apart = []
    before, after = _numbers(real, None), _numbers(as_it_was, None)
    for figure in _SHARES:
        one, other = figure.of(before), figure.of(after)
        if one is not None and other is not None:
            apart.append(f"{figure.name} {_signed(figure.show, other - one)}")
    worked, played = occupancy(real.times.values()), occupancy(as_it_was.times.values())
    if worked is not None and played is not None:
        apart.append(f"occupancy {_signed(_percent, played - worked)}")
    return "simulated as it was − what happened: " + (", ".join(apart) or "nothing to compare")


def _signed(show: Callable[[float | None], str], value: float) -> str:
    return ("+" if value >= 0 else "−") + show(abs(value))
