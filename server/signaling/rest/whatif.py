"""/whatif: recorded days played again with a change, beside what happened."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from server.domain.report_days import AskedDays
from server.signaling.access import SUPERVISORS
from server.signaling.rest.endpoint import Call, Endpoint, Endpoints, Nothing
from server.signaling.rest.models import RestModel
from server.signaling.rest.reports import ReportQuery, Share

Half = Annotated[float | None, Field(ge=0, description="half of the 95 % confidence interval; null with few visits")]


class AskWhatIf(ReportQuery):
    """The days as in a report. `change` says what is to be different, as the file of `patchbay simulate --change` does
    (docs/what-if.md); empty: only how well the simulation does on what was. The same `seed` gives the same answer."""

    change: Annotated[dict[str, JsonValue], Field(max_length=4, default_factory=dict)]
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 1


class PlayedNumbers(RestModel):
    """Counts of queue visits that entered in these days, and figures, as in the queue report."""

    offered: int
    answered: int
    abandoned: int
    flowed_out: int
    failed: int
    waiting: int
    service_level: Share | None
    service_level_half: Half
    asa_ms: Annotated[float, Field(ge=0)] | None
    asa_ms_half: Half
    abandon_rate: Share | None
    abandon_rate_half: Half


class PlayedColumn(RestModel):
    """`queues` by queue id; `turned_away`: calls that opening hours refused, which are no visits."""

    title: Literal["happened", "as it was", "with the change"]
    total: PlayedNumbers
    occupancy: Share | None
    turned_away: int
    queues: dict[str, PlayedNumbers]


class WhatIfView(RestModel):
    """`since` ≤ entered < `until`, UTC epoch milliseconds. `known`: how many of the patiences the days tell; `drawn`:
    how many are drawn from those."""

    zone: str
    first_day: date
    last_day: date
    since: int
    until: int
    known: int
    drawn: int
    columns: list[PlayedColumn]
    queue_names: dict[str, str]


async def ask_what_if(call: Call[AskWhatIf, Nothing]) -> WhatIfView:
    body = call.body
    asked = AskedDays(body.zone, body.day, body.first, body.last)
    played = await call.deps.whatif.play(call.user.tenant, asked, body.change, body.seed)
    return WhatIfView.model_validate(
        {
            "zone": played.days.zone,
            "first_day": played.days.first,
            "last_day": played.days.last,
            "since": played.days.since,
            "until": played.until,
            **played.answer,
        }
    )


ENDPOINTS: Endpoints = (
    Endpoint(
        "POST",
        "/whatif",
        "Recorded days played again with a change; takes up to a minute",
        SUPERVISORS,
        ask_what_if,
        body=AskWhatIf,
        answer=WhatIfView,
        codes=("nothing_to_play", "whatif_busy", "whatif_too_long", "whatif_failed"),
    ),
)
