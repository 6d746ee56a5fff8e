"""What a queue does with who waits too long or comes outside its hours: the `life` of a queue in the API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from server.domain.hours import DAY_MINUTES, MAX_HOLIDAYS, MAX_SPANS, Holiday, Hours, Span, known_zone
from server.domain.queue_life import PARK_LIMIT_S, PAUSE_LIMIT_S, Exit, QueueLife, WhenUnrecorded
from server.signaling.rest.models import Id, RestModel
from server.signaling.rest.reports import Day

MAX_WAIT_S, MAX_LENGTH, MAX_RETURN_S, MAX_KEEP_S = 86_400, 100_000, 3600, 28_800
MAX_PAUSE_S, SHORTEST_PAUSE_S = 3600, 30  # a payment takes longer than the one, and never the other
MIN_PARK_S, MAX_PARK_S = 15, 3600  # in less nobody can fetch it; after an hour nobody is there any more
SHORTEST_KEEP_S = 60  # nobody goes away for less
SHORTEST_WAIT_S = 5  # less is no wait: an offer takes as long


def _known(name: str) -> str:
    if not known_zone(name):
        raise ValueError("this time zone is not known here")
    return name


def _wait(seconds: int) -> int:
    if 0 < seconds < SHORTEST_WAIT_S:
        raise ValueError(f"0, or at least {SHORTEST_WAIT_S} seconds")
    return seconds


def _keep(seconds: int) -> int:
    if 0 < seconds < SHORTEST_KEEP_S:
        raise ValueError(f"0, or at least {SHORTEST_KEEP_S} seconds")
    return seconds


def _pause(seconds: int) -> int:
    if 0 < seconds < SHORTEST_PAUSE_S:
        raise ValueError(f"0, or at least {SHORTEST_PAUSE_S} seconds")
    return seconds


ExitName = Literal["queue", "callback", "voicemail", "end"]
Clock = Annotated[str, Field(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$", description="as in 09:30")]
Zone = Annotated[str, Field(max_length=64, description="an IANA name"), AfterValidator(_known)]


class SpanModel(RestModel):
    """Open from `opens` to `closes`, which lies on the next day where it is not after `opens`."""

    opens: Clock
    closes: Clock

    @model_validator(mode="after")
    def some_time(self) -> SpanModel:
        if self.opens == self.closes or self.opens == "24:00" or self.closes == "00:00":
            raise ValueError("opens and closes must differ; a day ends at 24:00, and begins at 00:00")
        return self


Spans = Annotated[list[SpanModel], Field(max_length=MAX_SPANS)]


class HolidayModel(RestModel):
    """`spans` take the place of the weekday's; none: closed."""

    day: Day
    spans: Spans = Field(default_factory=list)


class HoursModel(RestModel):
    """`week`: seven days, Monday first."""

    time_zone: Zone
    week: Annotated[list[Spans], Field(min_length=7, max_length=7)]
    holidays: Annotated[list[HolidayModel], Field(max_length=MAX_HOLIDAYS)] = Field(default_factory=list)

    @model_validator(mode="after")
    def one_a_day(self) -> HoursModel:
        if len({holiday.day for holiday in self.holidays}) != len(self.holidays):
            raise ValueError("a day is named twice")
        return self


class QueueLifeModel(RestModel):
    """Who waits longer than `max_wait_s`, or finds `max_length` waiting, leaves by the `exit`: to `overflow_queue_id`
    (queue), or the call ends and tells why (end). With callback and voicemail the other queue, where one is named, is
    for those for whom that can't be done. Left out: queue where one is named, else end. 0: no limit. Who drops out
    while waiting and calls again within `return_s` has the old place. Who asks for it may be away for `keep_place_s`
    and is served in turn; 0: not offered. `hours` null: always open; outside its hours nobody overflows into it.
    An agent's pause of the recording ends by itself after `pause_limit_s`; 0: never. `when_unrecorded`: what becomes of
    a talk whose recording fails (a full disk, say). A parked call that nobody fetches within `park_limit_s` waits in
    the queue again."""

    max_wait_s: Annotated[int, Field(ge=0, le=MAX_WAIT_S), AfterValidator(_wait)] = 0
    max_length: Annotated[int, Field(ge=0, le=MAX_LENGTH)] = 0
    overflow_queue_id: Id | None = None
    return_s: Annotated[int, Field(ge=0, le=MAX_RETURN_S)] = 0
    keep_place_s: Annotated[int, Field(ge=0, le=MAX_KEEP_S), AfterValidator(_keep)] = 0
    hours: HoursModel | None = None
    exit: ExitName | None = None
    pause_limit_s: Annotated[int, Field(ge=0, le=MAX_PAUSE_S), AfterValidator(_pause)] = PAUSE_LIMIT_S
    when_unrecorded: Literal["go_on", "end"] = "go_on"
    park_limit_s: Annotated[int, Field(ge=MIN_PARK_S, le=MAX_PARK_S)] = PARK_LIMIT_S

    @model_validator(mode="after")
    def leads_somewhere(self) -> QueueLifeModel:
        if self.exit == "queue" and self.overflow_queue_id is None:
            raise ValueError("the exit queue needs an overflow_queue_id")
        if self.exit == "end" and self.overflow_queue_id is not None:
            raise ValueError("the exit end has no overflow_queue_id")
        return self


def life_view(life: QueueLife) -> QueueLifeModel:
    return QueueLifeModel(
        max_wait_s=life.max_wait_s,
        max_length=life.max_length,
        overflow_queue_id=life.overflow_queue_id,
        return_s=life.return_s,
        keep_place_s=life.keep_place_s,
        exit=_exit_name(life),
        hours=None if life.hours is None else _hours_view(life.hours),
        pause_limit_s=life.pause_limit_s,
        when_unrecorded=life.when_unrecorded.value,
        park_limit_s=life.park_limit_s,
    )


def life_of(model: QueueLifeModel) -> QueueLife:
    return QueueLife(
        max_wait_s=model.max_wait_s,
        max_length=model.max_length,
        overflow_queue_id=model.overflow_queue_id,
        return_s=model.return_s,
        keep_place_s=model.keep_place_s,
        exit=Exit(model.exit) if model.exit in ("callback", "voicemail") else Exit.QUEUE,
        hours=None if model.hours is None else _hours_of(model.hours),
        pause_limit_s=model.pause_limit_s,
        when_unrecorded=WhenUnrecorded(model.when_unrecorded),
        park_limit_s=model.park_limit_s,
    )


def _exit_name(life: QueueLife) -> ExitName:
    if life.exit is Exit.QUEUE:
        return "end" if life.overflow_queue_id is None else "queue"
    return "callback" if life.exit is Exit.CALLBACK else "voicemail"


def _hours_view(hours: Hours) -> HoursModel:
    # Built without checks: a zone that this machine has lost must not hide the queue. `day` goes out as a date.
    return HoursModel.model_construct(
        time_zone=hours.time_zone,
        week=[_span_views(spans) for spans in hours.week],
        holidays=[HolidayModel.model_construct(day=h.day, spans=_span_views(h.spans)) for h in hours.holidays],
    )


def _hours_of(model: HoursModel) -> Hours:
    return Hours(
        time_zone=model.time_zone,
        week=tuple(_spans_of(spans) for spans in model.week),
        holidays=tuple(
            sorted((Holiday(h.day, _spans_of(h.spans)) for h in model.holidays), key=lambda holiday: holiday.day)
        ),
    )


def _span_views(spans: tuple[Span, ...]) -> list[SpanModel]:
    return [SpanModel.model_construct(opens=_text(span.opens), closes=_text(span.closes)) for span in spans]


def _spans_of(spans: list[SpanModel]) -> tuple[Span, ...]:
    found = (Span(_minute(span.opens) % DAY_MINUTES, _minute(span.closes)) for span in spans)
    return tuple(sorted(found, key=lambda span: (span.opens, span.closes)))


def _minute(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def _text(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
