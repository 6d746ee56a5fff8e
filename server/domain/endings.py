"""Every end of a session gets one verdict: a reason, whose doing it was, and how the books count the wait.

An unknown cause counts as ours: a number that hides our faults is worse than none.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Blame(StrEnum):
    CUSTOMER = "customer"
    AGENT = "agent"
    NETWORK = "network"
    US = "us"


class VisitOutcome(StrEnum):
    """How one wait in one queue ended."""

    ANSWERED = "answered"
    ABANDONED = "abandoned"
    FLOWED_OUT = "flowed_out"  # to another queue or to voicemail, by the queue's rule
    CALLBACK = "callback"  # served, or tried, by calling back
    FAILED = "failed"


class EndReason(StrEnum):
    CUSTOMER_HUNG_UP = "customer_hung_up"
    AGENT_HUNG_UP = "agent_hung_up"
    ABANDONED = "abandoned"  # left while waiting, ringing or connecting
    CUSTOMER_LOST = "customer_lost"  # the connection broke and did not come back
    NO_MEDIA = "no_media"  # never audible
    SYSTEM_FAILED = "system_failed"  # no media worker could hold the call
    NO_LINES = "no_lines"  # no media worker had room for the call within a minute
    WAITED_TOO_LONG = "waited_too_long"  # the queue's maximum wait, and no queue to overflow to
    QUEUE_FULL = "queue_full"  # the queue's maximum length, and no queue to overflow to
    PLACE_EXPIRED = "place_expired"  # a kept place that nobody came back for in time
    CALLBACK_UNANSWERED = "callback_unanswered"  # the customer was called and did not answer
    CALLBACK_NOT_MADE = "callback_not_made"  # its turn did not come in time
    NOT_RECORDED = "not_recorded"  # the recording failed, and the queue wants no talk without one
    LEFT_VOICEMAIL = "left_voicemail"  # the flow in which a message may be left is over


@dataclass(frozen=True, slots=True)
class Verdict:
    """`waiting` is the outcome of a queue visit that this end cuts short."""

    blame: Blame
    waiting: VisitOutcome


VERDICTS: dict[EndReason, Verdict] = {
    EndReason.CUSTOMER_HUNG_UP: Verdict(Blame.CUSTOMER, VisitOutcome.ABANDONED),
    EndReason.AGENT_HUNG_UP: Verdict(Blame.AGENT, VisitOutcome.FAILED),
    EndReason.ABANDONED: Verdict(Blame.CUSTOMER, VisitOutcome.ABANDONED),
    EndReason.CUSTOMER_LOST: Verdict(Blame.NETWORK, VisitOutcome.ABANDONED),
    EndReason.NO_MEDIA: Verdict(Blame.US, VisitOutcome.FAILED),
    EndReason.SYSTEM_FAILED: Verdict(Blame.US, VisitOutcome.FAILED),
    EndReason.NOT_RECORDED: Verdict(Blame.US, VisitOutcome.FAILED),
    EndReason.NO_LINES: Verdict(Blame.US, VisitOutcome.FAILED),
    EndReason.WAITED_TOO_LONG: Verdict(Blame.US, VisitOutcome.FAILED),
    EndReason.QUEUE_FULL: Verdict(Blame.US, VisitOutcome.FAILED),
    EndReason.PLACE_EXPIRED: Verdict(Blame.CUSTOMER, VisitOutcome.ABANDONED),
    EndReason.CALLBACK_UNANSWERED: Verdict(Blame.CUSTOMER, VisitOutcome.CALLBACK),
    EndReason.CALLBACK_NOT_MADE: Verdict(Blame.US, VisitOutcome.FAILED),
    EndReason.LEFT_VOICEMAIL: Verdict(Blame.CUSTOMER, VisitOutcome.FLOWED_OUT),
}


class SegmentEnd(StrEnum):
    """Why an agent's part of a session ended."""

    CUSTOMER_HUNG_UP = "customer_hung_up"
    AGENT_HUNG_UP = "agent_hung_up"
    CUSTOMER_LOST = "customer_lost"
    AGENT_LOST = "agent_lost"
    SYSTEM_FAILED = "system_failed"
    REJECTED = "rejected"
    MISSED = "missed"
    WITHDRAWN = "withdrawn"  # the agent's tab died while it rang
    TAKEN = "taken"  # by another agent, for whom it rang at the same time
    TRANSFERRED = "transferred"  # to a queue or to another agent
    PARKED = "parked"  # left on hold for whoever fetches it
    RELEASED = "released"  # who was called in is not needed any more
    TAKEN_OVER = "taken_over"  # by a supervisor
    CUSTOMER_LEFT = "customer_left"  # before both could hear each other
    NO_MEDIA = "no_media"  # the agent's side never became audible
    NOT_RECORDED = "not_recorded"


# A talk that ends with the session ends for the session's reason; before the talk the customer has left.
SEGMENT_END: dict[EndReason, SegmentEnd] = {
    EndReason.CUSTOMER_HUNG_UP: SegmentEnd.CUSTOMER_HUNG_UP,
    EndReason.AGENT_HUNG_UP: SegmentEnd.AGENT_HUNG_UP,
    EndReason.ABANDONED: SegmentEnd.CUSTOMER_LEFT,
    EndReason.CUSTOMER_LOST: SegmentEnd.CUSTOMER_LOST,
    EndReason.NO_MEDIA: SegmentEnd.CUSTOMER_LEFT,
    EndReason.SYSTEM_FAILED: SegmentEnd.SYSTEM_FAILED,
    EndReason.NOT_RECORDED: SegmentEnd.NOT_RECORDED,
    EndReason.NO_LINES: SegmentEnd.WITHDRAWN,
    EndReason.WAITED_TOO_LONG: SegmentEnd.WITHDRAWN,  # nobody talks while these can happen
    EndReason.QUEUE_FULL: SegmentEnd.WITHDRAWN,
    EndReason.PLACE_EXPIRED: SegmentEnd.WITHDRAWN,
    EndReason.CALLBACK_UNANSWERED: SegmentEnd.CUSTOMER_LEFT,
    EndReason.CALLBACK_NOT_MADE: SegmentEnd.WITHDRAWN,
    EndReason.LEFT_VOICEMAIL: SegmentEnd.WITHDRAWN,
}
