"""PURE: the columns of a replay as JSON, for programs and the admin's screen.

    {"known": patiences that are known, "drawn": those that are drawn,
     "columns": [{"title": "happened" | "as it was" | "with the change", "occupancy", "turned_away",
                  "total": NUMBERS, "queues": {queue id: NUMBERS}}],
     "queue_names": {queue id: name}}

NUMBERS are counts, and each figure with half of its 95 % confidence interval (`…_half`), which is null where there are
too few visits for one, and of what happened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from server.domain.reports import Counted, QueueNumbers, total
from server.whatif.comparison import COUNTS, Column
from server.whatif.outcome import Figure, half_width, occupancy

_FIGURES: dict[str, Figure] = {
    "service_level": lambda n: n.service_level,
    "asa_ms": lambda n: n.asa_ms,
    "abandon_rate": lambda n: n.abandon_rate,
}


def answer(columns: Sequence[Column], queue_names: Mapping[str, str], known: int, drawn: int) -> dict[str, object]:
    return {
        "known": known,
        "drawn": drawn,
        "columns": [_column(column) for column in columns],
        "queue_names": dict(queue_names),
    }


def _column(column: Column) -> dict[str, object]:
    return {
        "title": column.title,
        "occupancy": occupancy(column.times.values()),
        "turned_away": sum(column.outcome.turned_away.values()) if column.outcome else 0,
        "total": _numbers(column, total(column.numbers.values()), None),
        "queues": {queue_id: _numbers(column, found, queue_id) for queue_id, found in column.numbers.items()},
    }


def _numbers(column: Column, found: QueueNumbers, queue_id: str | None) -> dict[str, object]:
    visits = None if column.outcome is None else column.outcome.of(queue_id)
    figures: dict[str, object] = {}
    for name, figure in _FIGURES.items():
        figures[name] = figure(found)
        figures[f"{name}_half"] = None if visits is None else half_width(visits, figure)
    return {**{counted.value: found.counts[counted] for counted in (*COUNTS, Counted.ABANDONED)}, **figures}
