"""When a queue is open: held to a slow look at every five minutes of the wall clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.domain.hours import Holiday, Hours, Span, hours_from_json, hours_to_json, is_open, known_zone, next_opening
from tests.helpers.fuzz import examples

STEP_MS = 300_000
HOUR_MS = 3_600_000
OFFICE = (Span(9 * 60, 17 * 60),)
BERLIN = Hours("Europe/Berlin", (*(OFFICE,) * 5, (), ()), (Holiday(date(2026, 12, 25)),))


def ms(text: str, zone: str = "Europe/Berlin") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


@pytest.mark.parametrize(
    ("at", "expected", "opens"),
    [
        ("2026-11-23T08:59:59", False, "2026-11-23T09:00"),  # a Monday
        ("2026-11-23T09:00", True, "2026-11-23T09:00"),
        ("2026-11-23T16:59:59", True, "2026-11-23T16:59:59"),
        ("2026-11-23T17:00", False, "2026-11-24T09:00"),
        ("2026-11-27T17:00", False, "2026-11-30T09:00"),  # over the weekend
        ("2026-12-24T18:00", False, "2026-12-28T09:00"),  # Christmas Day is a Friday, then the weekend
        ("2026-03-27T18:00", False, "2026-03-30T09:00"),  # the clocks change in between
    ],
)
def test_an_office(at: str, expected: bool, opens: str) -> None:
    assert is_open(BERLIN, ms(at)) is expected
    assert next_opening(BERLIN, ms(at)) == ms(opens)


def test_a_night_belongs_to_the_day_on_which_it_begins() -> None:
    nights = Hours("Europe/Berlin", ((), (), (), (), (Span(22 * 60, 6 * 60),), (), ()), (Holiday(date(2026, 12, 4)),))
    assert is_open(nights, ms("2026-11-28T05:59"))  # Saturday morning, of Friday's night
    assert not is_open(nights, ms("2026-11-28T06:00"))
    assert not is_open(nights, ms("2026-11-27T05:00")), "there is no Thursday night"
    assert not is_open(nights, ms("2026-12-05T01:00")), "the Friday was a holiday"
    special = Hours(nights.time_zone, nights.week, (Holiday(date(2026, 11, 28), (Span(600, 660),)),))
    assert is_open(special, ms("2026-11-28T05:59")), "Saturday's own hours do not cut Friday's night"
    assert is_open(special, ms("2026-11-28T10:30"))


def test_who_is_never_open_has_no_next_opening() -> None:
    assert next_opening(Hours("UTC", ((),) * 7), 0) is None


def test_always() -> None:
    always = Hours("UTC", ((Span(0, 1440),),) * 7)
    assert is_open(always, 86_400_000 - 1)
    assert is_open(always, 86_400_000)
    assert next_opening(always, 5) == 5


def test_a_span_that_the_clocks_skip_or_repeat() -> None:
    """Berlin jumps from 2:00 to 3:00 on 2026-03-29, and back from 3:00 to 2:00 on 2026-10-25."""

    def open_ms(day: str, span: Span) -> int:
        hours = Hours("Europe/Berlin", ((span,),) * 7)
        begin = ms(day)
        return sum(STEP_MS for at in range(begin, begin + 25 * HOUR_MS, STEP_MS)
                   if datetime.fromtimestamp(at / 1000, ZoneInfo("Europe/Berlin")).date().isoformat() == day
                   and is_open(hours, at))  # fmt: skip

    assert open_ms("2026-03-29", Span(60, 240)) == 2 * HOUR_MS
    assert open_ms("2026-03-29", Span(150, 240)) == HOUR_MS, "half past two is three o'clock on this day"
    assert open_ms("2026-03-29", Span(130, 170)) == 0
    assert open_ms("2026-03-29", Span(130, 195)) == 15 * 60_000
    assert open_ms("2026-10-25", Span(60, 240)) == 4 * HOUR_MS
    assert open_ms("2026-10-25", Span(150, 240)) == 150 * 60_000, "from the first half past two"
    assert next_opening(Hours("Europe/Berlin", ((Span(150, 240),),) * 7), ms("2026-03-29T00:30")) is not None


def _spans() -> st.SearchStrategy[tuple[Span, ...]]:
    grid = st.integers(0, 287).map(lambda n: n * 5)
    span = st.builds(Span, grid, grid.map(lambda n: n + 5)).filter(lambda s: s.opens != s.closes)
    return st.lists(span, max_size=3).map(tuple)


# Lord Howe moves by half an hour, Santiago skips a midnight.
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu")
CHANGES = ("2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2026-04-05", "2026-10-04", "2026-09-06")


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_every_moment_is_as_the_wall_clock_says(data: st.DataObject) -> None:
    """Where the clocks do not change, a moment is open when its wall-clock time lies in a span. Where they do, too,
    but for the hours that they skip or repeat. The next opening is the first open moment, always."""
    zone = data.draw(st.sampled_from(ZONES))
    middle = date.fromisoformat(data.draw(st.sampled_from(CHANGES)))
    holidays = tuple(
        Holiday(middle + timedelta(days=n), data.draw(_spans())) for n in (-1, 0, 1) if data.draw(st.booleans())
    )
    hours = Hours(zone, tuple(data.draw(_spans()) for _ in range(7)), holidays)
    assert hours_from_json(hours_to_json(hours)) == hours
    begin = round(datetime(middle.year, middle.month, middle.day, tzinfo=UTC).timestamp() * 1000) - 12 * HOUR_MS
    looked = [(at, is_open(hours, at)) for at in range(begin, begin + 48 * HOUR_MS, STEP_MS)]
    first_open = None
    for at, opened in reversed(looked):
        first_open = at if opened else first_open
        if first_open is not None:
            assert next_opening(hours, at) == first_open
        if _plain(at, zone):
            assert opened == _by_the_wall(hours, at, zone), datetime.fromtimestamp(at / 1000, ZoneInfo(zone))


def _by_the_wall(hours: Hours, at: int, zone: str) -> bool:
    local = datetime.fromtimestamp(at / 1000, ZoneInfo(zone))
    minute, found = local.hour * 60 + local.minute, False
    other = {holiday.day: holiday.spans for holiday in hours.holidays}
    for day, of_day in ((local.date(), minute), (local.date() - timedelta(days=1), minute + 1440)):
        for span in other.get(day, hours.week[day.weekday()]):
            closes = span.closes if span.closes > span.opens else span.closes + 1440
            found = found or span.opens <= of_day < closes
    return found


def _plain(at: int, zone: str) -> bool:
    """No change of the clocks within 90 minutes."""
    offsets = {
        datetime.fromtimestamp((at + shift * 60_000) / 1000, ZoneInfo(zone)).utcoffset() for shift in (-90, 0, 90)
    }
    return len(offsets) == 1


def test_zones_are_known_by_name() -> None:
    assert known_zone("UTC")
    assert known_zone("Europe/Berlin")
    assert not any(known_zone(name) for name in ("", "Berlin", "America", "../etc/passwd", "Europe/Nowhere"))
