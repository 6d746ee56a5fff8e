"""Queue reports: the days that somebody asks for, the numbers of the database, a line for every queue."""

from __future__ import annotations

from server.domain.directory import QueueConfig
from server.domain.report_days import AskedDays, BadDays, Days, days
from server.domain.reports import Counted, QueueNumbers, QueueReport, QueueRow, VisitFilter
from server.domain.told_report import ToldReport, ToldRow
from server.services.admin_ports import Directory, ReportSource
from server.services.ports import Clock
from server.services.refusals import invalid


class ReportService:
    def __init__(self, source: ReportSource, directory: Directory, clock: Clock) -> None:
        self._source = source
        self._directory = directory
        self._clock = clock

    async def queues(self, tenant: str, asked: AskedDays) -> QueueReport:
        """A line for each queue that is active, or has visits in these days or waiting ones; by name.

        Raises Refused: invalid."""
        now = self._clock.now_ms()
        span = self._days(asked, now)
        entered = VisitFilter(now, entered_from=span.since, entered_to=span.until)
        found = await self._source.numbers(tenant, entered)
        live = await self._source.numbers(tenant, VisitFilter(now, Counted.WAITING))
        rows = [
            QueueRow(
                queue_id=queue.queue_id,
                name=queue.name,
                active=queue.active,
                service_level_s=queue.service_level_s,
                numbers=found.get(queue.queue_id, QueueNumbers()),
                live=live.get(queue.queue_id, QueueNumbers()),
            )
            for queue in await self._queues(tenant, {*found, *live})
            if queue.active or queue.queue_id in found or queue.queue_id in live
        ]
        return QueueReport(span, now, tuple(sorted(rows, key=lambda row: (row.name.casefold(), row.queue_id))))

    async def told_waits(self, tenant: str, asked: AskedDays, queue_id: str | None) -> ToldReport:
        """How right the ranges were that customers were told in some days: a line for each queue, or the one that is
        asked for, of which somebody was told one; by name.

        Raises Refused: invalid."""
        now = self._clock.now_ms()
        span = self._days(asked, now)
        wanted = VisitFilter(now, Counted.TOLD, queue_id, span.since, span.until)
        found = await self._source.numbers(tenant, wanted)
        off_ms = await self._source.off_ms(tenant, wanted)
        rows = [
            ToldRow(queue.queue_id, queue.name, queue.active, found[queue.queue_id], off_ms.get(queue.queue_id))
            for queue in await self._queues(tenant, set(found))
            if queue.queue_id in found
        ]
        rows.sort(key=lambda row: (row.name.casefold(), row.queue_id))
        return ToldReport(span, now, tuple(rows), off_ms.get(None))

    def _days(self, asked: AskedDays, now: int) -> Days:
        try:
            return days(asked, now)
        except BadDays as error:
            raise invalid(error.field, error.code, str(error)) from None

    async def _queues(self, tenant: str, counted: set[str]) -> tuple[QueueConfig, ...]:
        """All queues. One that another node made a moment ago may be missing in our copy of the set-up: read again,
        or its visits would be in no line."""
        known = await self._directory.queues(tenant)
        if counted <= {queue.queue_id for queue in known}:
            return known
        self._directory.forget(tenant)
        return await self._directory.queues(tenant)
