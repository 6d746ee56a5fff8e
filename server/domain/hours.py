"""When a queue is open: weekly spans and holidays of one time zone.

A span belongs to the day on which it opens and may run over midnight. Its two ends are wall-clock times, turned into
moments: a time that the clocks skip is the moment of the skip, and of one that comes twice the first counts. So a span
over a change of the clocks is an hour longer or shorter, and is never open twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

DAY_MINUTES = 1440
LOOK_DAYS = 400  # a year, and what a long list of holidays may add: who is not open by then never is
MAX_SPANS, MAX_HOLIDAYS = 6, 200


@dataclass(frozen=True, slots=True)
class Span:
    """Minutes since midnight: `opens` 0–1439; `closes` 1–1440, on the next day where it is not after `opens`."""

    opens: int
    closes: int


@dataclass(frozen=True, slots=True)
class Holiday:
    """`spans` take the place of the weekday's; none: closed."""

    day: date
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Hours:
    """`week` has seven days, Monday first. `time_zone` is an IANA name that is known here."""

    time_zone: str
    week: tuple[tuple[Span, ...], ...]
    holidays: tuple[Holiday, ...] = ()


def known_zone(name: str) -> bool:
    """True for an IANA name of this machine's list."""
    try:
        _zone(name)
    except (KeyError, ValueError, OSError):  # OSError: the name of a folder, such as "America"
        return False
    return True


def is_open(hours: Hours, at: int) -> bool:
    """Open at a moment (UTC epoch ms)."""
    zone = _zone(hours.time_zone)
    today = datetime.fromtimestamp(at / 1000, zone).date()
    return any(opens <= at < closes for opens, closes in _openings(hours, zone, today - timedelta(days=1), days=2))


def next_opening(hours: Hours, at: int) -> int | None:
    """The first open moment from `at` on (UTC epoch ms); None when there is none in LOOK_DAYS."""
    zone = _zone(hours.time_zone)
    today = datetime.fromtimestamp(at / 1000, zone).date()
    for opens, closes in _openings(hours, zone, today - timedelta(days=1), days=LOOK_DAYS):
        if at < closes:
            return max(at, opens)
    return None


def _openings(hours: Hours, zone: tzinfo, first: date, days: int) -> Iterator[tuple[int, int]]:
    """(opens, closes) of some days, by the time of opening."""
    closed_or_other = {holiday.day: holiday.spans for holiday in hours.holidays}
    for number in range(days):
        day = first + timedelta(days=number)
        spans = closed_or_other.get(day, hours.week[day.weekday()])
        moments = [(_moment(day, span.opens, zone), _closes(day, span, zone)) for span in spans]
        yield from sorted(found for found in moments if found[0] < found[1])


def _closes(day: date, span: Span, zone: tzinfo) -> int:
    return _moment(day, span.closes if span.closes > span.opens else span.closes + DAY_MINUTES, zone)


def _moment(day: date, minute: int, zone: tzinfo) -> int:
    day += timedelta(days=minute // DAY_MINUTES)
    hour, rest = divmod(minute % DAY_MINUTES, 60)
    local = datetime.combine(day, time(hour, rest), zone)
    found = round(local.timestamp() * 1000)
    skipped = datetime.fromtimestamp(found / 1000, zone).replace(tzinfo=None) != local.replace(tzinfo=None)
    return _skip(local, found, zone) if skipped else found


def _skip(local: datetime, after: int, zone: tzinfo) -> int:
    """When the clocks jump over `local`. PEP 495 reads such a time by the offset before the jump (a moment `after` it)
    or by the one after it (a moment before)."""
    before = round(local.replace(fold=1).timestamp() * 1000)
    old = datetime.fromtimestamp(before / 1000, zone).utcoffset()
    while after - before > 1000:
        middle = (before + after) // 2000 * 1000
        if datetime.fromtimestamp(middle / 1000, zone).utcoffset() == old:
            before = middle
        else:
            after = middle
    return after


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)


# --- JSON --------------------------------------------------------------------------------------------


def hours_to_json(hours: Hours) -> dict[str, object]:
    return {
        "time_zone": hours.time_zone,
        "week": [[[span.opens, span.closes] for span in spans] for spans in hours.week],
        "holidays": [[h.day.isoformat(), [[span.opens, span.closes] for span in h.spans]] for h in hours.holidays],
    }


def hours_from_json(value: Mapping[str, Any]) -> Hours:
    return Hours(
        time_zone=value["time_zone"],
        week=tuple(tuple(Span(*span) for span in spans) for spans in value["week"]),
        holidays=tuple(
            Holiday(date.fromisoformat(day), tuple(Span(*span) for span in spans)) for day, spans in value["holidays"]
        ),
    )
