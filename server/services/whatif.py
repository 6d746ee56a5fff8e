"""What-if runs that people ask for: a span of days, and what is to be different in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from server.domain.report_days import AskedDays, BadDays, Days, days
from server.services.admin_ports import NotPlayed, WhatIfJob, WhatIfPlayer
from server.services.ports import Clock
from server.services.refusals import FieldFault, Refused, invalid

BUSY_S = 30  # after which it is worth to ask again


@dataclass(frozen=True, slots=True)
class Played:
    """`until` is cut to now. `answer` as in `whatif/answer.py`."""

    days: Days
    until: int
    answer: Mapping[str, object]


class WhatIfService:
    def __init__(self, player: WhatIfPlayer, clock: Clock) -> None:
        self._player = player
        self._clock = clock

    async def play(self, tenant: str, asked: AskedDays, change: Mapping[str, object], seed: int) -> Played:
        """Raises Refused: invalid, nothing_to_play, whatif_busy, whatif_too_long, whatif_failed."""
        now = self._clock.now_ms()
        try:
            span = days(asked, now)
        except BadDays as error:
            raise invalid(error.field, error.code, str(error)) from None
        until = min(span.until, now)
        if until <= span.since:
            raise invalid("from", "in_future", "these days are yet to come")
        try:
            answer = await self._player.play(WhatIfJob(tenant, span.since, until, now, seed, change))
        except NotPlayed as reason:
            raise _refused(reason) from None
        return Played(span, until, answer)


def _refused(reason: NotPlayed) -> Refused:
    if reason.code != "bad_change":
        return Refused(reason.code, reason.message, retry_after_s=BUSY_S if reason.code == "whatif_busy" else None)
    faults = [fault.partition(": ") for fault in reason.faults]
    fields = tuple(FieldFault(f"change.{place}", "invalid", message) for place, _, message in faults)
    return Refused("invalid", reason.message, fields=fields)
