"""/reports: numbers that supervisors and admins look at. Each count is listed by GET /sessions?counted_as=…"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from server.domain.report_days import AskedDays, Days
from server.domain.reports import Counted, LongestWait, QueueNumbers
from server.signaling.access import SUPERVISORS
from server.signaling.rest.endpoint import Call, Endpoint, Endpoints, Nothing
from server.signaling.rest.models import Id, RestModel

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_COUNTED = frozenset(counted.value for counted in Counted)
FIRST_YEAR, LAST_YEAR = 2000, 2100  # zones' rules are known; nothing overflows


def _day(value: object) -> date:
    if not isinstance(value, str) or _DAY.fullmatch(value) is None:
        raise ValueError("a date as in 2026-05-20")
    day = date.fromisoformat(value)
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"a year from {FIRST_YEAR} to {LAST_YEAR}")
    return day


Day = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]
Share = Annotated[float, Field(ge=0, le=1, description="a share; null where there is nothing to divide")]


class ReportQuery(RestModel):
    """`date`, or `from` and `to` (both included, at most 31 days), or none of them: today. `zone` is an IANA name."""

    day: Annotated[Day | None, Field(alias="date")] = None
    first: Annotated[Day | None, Field(alias="from")] = None
    last: Annotated[Day | None, Field(alias="to")] = None
    zone: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+){0,3}$")] = "UTC"


class ToldQuery(ReportQuery):
    """Days as in the queue report; `queue_id`: one queue only."""

    queue_id: Id | None = None


class WaitView(RestModel):
    wait_ms: int
    session_id: str


class LiveView(RestModel):
    """What waits at this moment, whenever it came."""

    waiting: int
    longest: WaitView | None


class NumbersView(RestModel):
    """Counts of queue visits that entered in these days. offered = answered + abandoned +
    flowed out + callback + failed + waiting. docs/metrics.md defines each."""

    offered: int
    answered: int
    abandoned: int
    flowed_out: int
    callback: int
    failed: int
    waiting: int
    answered_in_time: int
    left_in_time: int
    service_level_base: int
    short_abandons: int
    long_abandons: int
    abandon_rate_base: int
    handled: int
    service_level: Share | None
    service_level_answered: Share | None
    service_level_leaving: Share | None
    abandon_rate: Share | None
    asa_ms: int | None
    aht_ms: int | None
    longest: WaitView | None
    now: LiveView


class QueueNumbersView(NumbersView):
    queue_id: str
    queue_name: str
    active: bool
    service_level_s: int


class QueueReportView(RestModel):
    """`since` ≤ entered < `until`, UTC epoch milliseconds; `at` is the moment that the numbers are of. `today` is the
    day of the zone at that moment."""

    zone: str
    today: date
    first_day: date
    last_day: date
    since: int
    until: int
    at: int
    queues: list[QueueNumbersView]
    total: NumbersView


class ToldView(RestModel):
    """How right the ranges were that customers were told, of visits that entered in these days. `told_within` of
    `told_answered` were answered by the upper end of the range (90 % are wanted), `told_below` by the lower one (50 %);
    `off_ms` is the median distance of the answer from the middle. docs/metrics.md defines each."""

    told: int
    told_answered: int
    told_within: int
    told_below: int
    told_abandoned: int
    within: Share | None
    below: Share | None
    off_ms: int | None


class QueueToldView(ToldView):
    queue_id: str
    queue_name: str
    active: bool


class ToldReportView(RestModel):
    """Only queues of which somebody was told a range. The rest as in the queue report."""

    zone: str
    today: date
    first_day: date
    last_day: date
    since: int
    until: int
    at: int
    queues: list[QueueToldView]
    total: ToldView


def _told(numbers: QueueNumbers, off_ms: int | None) -> dict[str, object]:
    counts = {name: numbers.counts[Counted(name)] for name in ToldView.model_fields if name in _COUNTED}
    return {**counts, "within": numbers.told_within, "below": numbers.told_below, "off_ms": off_ms}


def _wait(longest: LongestWait | None) -> WaitView | None:
    return None if longest is None else WaitView(wait_ms=max(0, longest.wait_ms), session_id=longest.session_id)


def _fields(numbers: QueueNumbers, live: QueueNumbers) -> dict[str, object]:
    return {
        **{name: numbers.counts[Counted(name)] for name in NumbersView.model_fields if name in _COUNTED},
        "service_level": numbers.service_level,
        "service_level_answered": numbers.service_level_answered,
        "service_level_leaving": numbers.service_level_leaving,
        "abandon_rate": numbers.abandon_rate,
        "asa_ms": numbers.asa_ms,
        "aht_ms": numbers.aht_ms,
        "longest": _wait(numbers.longest),
        "now": LiveView(waiting=live.counts[Counted.WAITING], longest=_wait(live.longest)),
    }


def _asked(query: ReportQuery) -> AskedDays:
    return AskedDays(query.zone, query.day, query.first, query.last)


def _span(days: Days) -> dict[str, Any]:
    return {
        "zone": days.zone,
        "today": days.today,
        "first_day": days.first,
        "last_day": days.last,
        "since": days.since,
        "until": days.until,
    }


async def read_queue_report(call: Call[Nothing, ReportQuery]) -> QueueReportView:
    report = await call.deps.reports.queues(call.user.tenant, _asked(call.query))
    return QueueReportView(
        **_span(report.days),
        at=report.at,
        queues=[
            QueueNumbersView.model_validate(
                _fields(row.numbers, row.live)
                | {
                    "queue_id": row.queue_id,
                    "queue_name": row.name,
                    "active": row.active,
                    "service_level_s": row.service_level_s,
                }
            )
            for row in report.rows
        ],
        total=NumbersView.model_validate(_fields(report.total, report.live_total)),
    )


async def read_told_report(call: Call[Nothing, ToldQuery]) -> ToldReportView:
    report = await call.deps.reports.told_waits(call.user.tenant, _asked(call.query), call.query.queue_id)
    return ToldReportView(
        **_span(report.days),
        at=report.at,
        queues=[
            QueueToldView.model_validate(
                _told(row.numbers, row.off_ms)
                | {"queue_id": row.queue_id, "queue_name": row.name, "active": row.active}
            )
            for row in report.rows
        ],
        total=ToldView.model_validate(_told(report.total, report.off_ms)),
    )


ENDPOINTS: Endpoints = (
    Endpoint(
        "GET",
        "/reports/queues",
        "Numbers per queue for some days; each count opens its sessions",
        SUPERVISORS,
        read_queue_report,
        query=ReportQuery,
        answer=QueueReportView,
    ),
    Endpoint(
        "GET",
        "/reports/ewt",
        "How right the ranges of the wait were that customers were told; each count opens its sessions",
        SUPERVISORS,
        read_told_report,
        query=ToldQuery,
        answer=ToldReportView,
    ),
)
