"""Days of a time zone: 23 and 25 hours, midnights that are skipped or come twice, and what can't be asked for."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain.report_days import MAX_DAYS, AskedDays, BadDays, days

HOUR_MS = 3_600_000


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def hours(zone: str, day: date) -> float:
    found = days(AskedDays(zone, day), 0)
    return (found.until - found.since) / HOUR_MS


@pytest.mark.parametrize(
    ("zone", "day", "expected"),
    [
        ("Europe/Berlin", date(2026, 3, 28), 24),
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),  # half an hour
        ("America/Sao_Paulo", date(2018, 11, 4), 23),  # midnight itself is skipped
        ("America/Sao_Paulo", date(2018, 2, 17), 25),  # the clock goes back at midnight
        ("America/Havana", date(2023, 11, 5), 25),  # midnight comes twice
        ("Pacific/Apia", date(2011, 12, 30), 0),  # Samoa skipped the whole day
        ("Asia/Shanghai", date(2026, 5, 20), 24),
        ("UTC", date(2026, 3, 29), 24),
    ],
)
def test_the_length_of_a_day(zone: str, day: date, expected: float) -> None:
    assert hours(zone, day) == expected


def test_midnights() -> None:
    berlin = days(AskedDays("Europe/Berlin", date(2026, 3, 29)), 0)
    assert (berlin.since, berlin.until) == (ms("2026-03-28T23:00"), ms("2026-03-29T22:00"))
    skipped = days(AskedDays("America/Sao_Paulo", date(2018, 11, 4)), 0)
    assert skipped.since == ms("2018-11-04T03:00"), "the day begins as the clock is put forward"
    twice = days(AskedDays("America/Havana", date(2023, 11, 5)), 0)
    assert twice.since == ms("2023-11-05T04:00"), "the first of two midnights"


def test_today_is_the_day_of_the_zone() -> None:
    now = ms("2026-05-20T23:30")
    assert days(AskedDays(), now).first == date(2026, 5, 20)
    assert days(AskedDays("Asia/Shanghai"), now).first == date(2026, 5, 21)
    assert days(AskedDays("America/Los_Angeles"), now).today == date(2026, 5, 20)


def test_from_and_to_are_both_included() -> None:
    found = days(AskedDays("UTC", first=date(2026, 5, 1), last=date(2026, 5, 31)), 0)
    assert (found.since, found.until) == (ms("2026-05-01"), ms("2026-06-01"))
    assert days(AskedDays("UTC", first=date(2026, 5, 1)), 0).last == date(2026, 5, 1)


@pytest.mark.parametrize(
    ("asked", "field", "code"),
    [
        (AskedDays("Europe/Atlantis"), "zone", "unknown_zone"),
        (AskedDays("America"), "zone", "unknown_zone"),  # a folder of zones
        (AskedDays("../../etc/passwd"), "zone", "unknown_zone"),
        (AskedDays(""), "zone", "unknown_zone"),
        (AskedDays("UTC", date(2026, 5, 1), first=date(2026, 5, 1)), "date", "ambiguous"),
        (AskedDays("UTC", last=date(2026, 5, 1)), "from", "missing"),
        (AskedDays("UTC", first=date(2026, 5, 2), last=date(2026, 5, 1)), "to", "before_from"),
        (AskedDays("UTC", first=date(2026, 5, 1), last=date(2026, 6, 1)), "to", "too_long"),
    ],
)
def test_what_can_not_be_asked_for(asked: AskedDays, field: str, code: str) -> None:
    with pytest.raises(BadDays) as caught:
        days(asked, 0)
    assert (caught.value.field, caught.value.code) == (field, code)


ZONES = ("UTC", "Europe/Berlin", "America/Sao_Paulo", "America/Havana", "Australia/Lord_Howe", "Asia/Kathmandu")


@given(st.sampled_from(ZONES), st.integers(0, 4 * 10**12))
def test_a_moment_lies_within_its_own_day(zone: str, now: int) -> None:
    today = days(AskedDays(zone), now)
    assert today.since <= now < today.until


@given(st.sampled_from(ZONES), st.dates(date(2000, 1, 1), date(2099, 1, 1)), st.integers(1, MAX_DAYS - 1))
def test_days_follow_each_other_without_a_gap(zone: str, first: date, more: int) -> None:
    last = date.fromordinal(first.toordinal() + more)
    whole = days(AskedDays(zone, first=first, last=last), 0)
    edges = [days(AskedDays(zone, date.fromordinal(first.toordinal() + n)), 0) for n in range(more + 1)]
    assert (edges[0].since, edges[-1].until) == (whole.since, whole.until)
    assert all(before.until == after.since for before, after in pairwise(edges))
