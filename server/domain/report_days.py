"""The days of a report: whole days of one time zone, as UTC epoch milliseconds.

A day runs from its midnight to the next one, so it has 23 or 25 hours when the clocks change. A midnight that the
clocks skip is the moment of the skip; of one that comes twice the first counts (`fold=0`, PEP 495 gives both).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

MAX_DAYS = 31  # a month; longer spans need numbers that are summed up ahead


class BadDays(ValueError):
    """Days that no report can be made of. `field` is zone, date, from or to; `code` is stable."""

    def __init__(self, field: str, code: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.code = code


@dataclass(frozen=True, slots=True)
class AskedDays:
    """As a request names them: `day`, or `first` to `last` (included), or none of them for today.
    `zone` is an IANA name."""

    zone: str = "UTC"
    day: date | None = None
    first: date | None = None
    last: date | None = None


@dataclass(frozen=True, slots=True)
class Days:
    """`first` to `last`, both included: `since` ≤ t < `until`. `today` is the day of the zone in which it was asked."""

    zone: str
    today: date
    first: date
    last: date
    since: int
    until: int


def days(asked: AskedDays, now: int) -> Days:
    """The days that were asked for. Raises BadDays."""
    zone = _zone(asked.zone)
    today = datetime.fromtimestamp(now / 1000, zone).date()
    first, last = _span(asked, today)
    return Days(asked.zone, today, first, last, _midnight(first, zone), _midnight(last + timedelta(days=1), zone))


def _span(asked: AskedDays, today: date) -> tuple[date, date]:
    if asked.day is not None and (asked.first or asked.last):
        raise BadDays("date", "ambiguous", "name a date, or from and to")
    if asked.last is not None and asked.first is None:
        raise BadDays("from", "missing", "to needs a from")
    first = asked.day or asked.first or today
    last = asked.last or first
    if last < first:
        raise BadDays("to", "before_from", "to lies before from")
    if (last - first).days >= MAX_DAYS:
        raise BadDays("to", "too_long", f"at most {MAX_DAYS} days at once")
    return first, last


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: the name of a folder, such as "America"
        raise BadDays("zone", "unknown_zone", "this time zone is not known here") from None


def _midnight(day: date, zone: tzinfo) -> int:
    return round(datetime.combine(day, time.min, zone).timestamp() * 1000)
