"""A session: one customer's contact with the center on one channel, from arrival to end.

Theory of operation. The session row is the fold of its events. `session_step.step` takes the session, one
event and the time, and gives the next session; everything that must then be done (orders to the media worker,
deadlines, what agents are told) is a function of the two sessions, in `effects.py`. So nothing can be
forgotten on one of many paths, and the fold of the log is the session again.

A session holds its segments, and each holds its agent's leg; the customer's leg is the session's own. It rings for
one agent at a time, or, where its queue rings all, for several: the first who accepts owns it, and what rings for the
others ends in the same step. At most one segment owns the session at a time, and while one does it rings for nobody but
guests, whom the owner calls in (session_guests.py).
Segments in wrap-up and recordings being archived outlive the end: `done` tells that nothing more will happen.

The row stays small however long a queue rings: of the offers that came to nothing in one that rings all it keeps the
newest KEPT_OFFERS and counts the others (`folded`). All are in the log and have rows of their own.

A session whose worker is to stop *moves*: it has its new placement at once, and the `former` one goes on with the legs
that are not there yet, and with the recording. When the last leg has arrived, the recording goes on in the new place
and the former one is released. Nobody hears a gap, since both hear each other there until both are here.

A customer who waits may leave and keep the place: then no worker holds the session, the customer's leg is closed, and
the wait goes on at the same order key until they take the place again, or stay away for too long.

An agent may park a customer: then nobody has the session and it is in no queue, until some agent fetches it, or the
time is over and it waits in its queue again (session_park.py).

Ids of what a session holds are derived from its own, so that the fold gives the same ids each time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from server.domain import recording as recordings
from server.domain.endings import EndReason, SegmentEnd
from server.domain.events import Customer, QueueRules
from server.domain.leg import Leg
from server.domain.media import Placement
from server.domain.queue_routing import PRIORITY
from server.domain.queue_visit import QueueVisit
from server.domain.recording import Recording
from server.domain.segment import Role, Segment, SegmentState

REJECT_PAUSE_MS = 30_000  # an agent who declined a session is not asked again at once
MAX_RINGING = 20  # agents for whom a session rings at once: each is a row that the accept has to save
KEPT_OFFERS = 40  # two rounds of a ring: enough to tell who answers late why it was too late
KEPT_REJECTIONS = 40  # two rounds of a ring: more than decline within the pause


class SessionState(StrEnum):
    ARRIVING = "arriving"  # the customer's first SDP offer, until the arrival deadline
    FLOW = "flow"  # a machine that the customer talks to, until the flow's deadline
    QUEUED = "queued"  # an agent who can hear the customer: waiting, ringing, connecting
    PLACE_KEPT = "place_kept"  # the customer, who is away, or who is to be called, until the place's deadline
    CONNECTED = "connected"  # a hang-up, or a lost leg's grace
    PARKED = "parked"  # an agent who fetches it and can hear the customer, until the park's deadline
    ENDED = "ended"  # nobody; segments and recordings may still be finishing


@dataclass(frozen=True, slots=True)
class Rejection:
    """An agent who declined this session: not asked again for a while."""

    agent_id: str
    at: int


@dataclass(frozen=True, slots=True)
class Callback:
    """A customer who waits to be called at `number` (E.164). `begun`: they are dialled."""

    number: str
    asked_at: int
    begun: bool = False


@dataclass(frozen=True, slots=True)
class Flow:
    """What a customer does with a machine: `kind` is voicemail."""

    kind: str
    since: int


@dataclass(frozen=True, slots=True)
class Parked:
    """Whose talk it was, and until when the session may be fetched before it goes back to its queue."""

    agent_id: str
    agent_name: str
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Session:
    """All times are UTC epoch milliseconds. `epoch` counts placements (and the ends of those that a customer left) and
    never falls; `placed_at` is when the newest began; `worker_id` is None while no worker holds the session (since
    `unplaced_since`, where one is looked for); `incarnation` is which life of the worker holds it, where that is known.
    `former` is set while legs are on their way from another worker. `queue` is the one in which the session waits, or
    last waited; `priority` stays that of the first."""

    id: str
    tenant: str
    version: int
    state: SessionState
    channel: str
    entry_point_id: str
    queue: QueueRules
    customer: Customer
    created_at: int
    customer_leg: Leg
    worker_id: str | None
    epoch: int
    placed_at: int
    incarnation: str | None = None
    former: Placement | None = None
    unplaced_since: int | None = None
    priority: int = PRIORITY
    asks: str = ""  # beside what the queue asks; as in RoutingChanged
    preferred: tuple[str, ...] = ()  # agents who are asked first
    excluded: tuple[str, ...] = ()  # agents who are not asked
    sticky_agent_id: str | None = None
    place_at: int | None = None  # the arrival that the place goes by, where it is an earlier session's
    kept_since: int | None = None  # when the customer left, while the place is kept
    callback: Callback | None = None  # of the wait that runs
    flow: Flow | None = None
    parked: Parked | None = None
    passed_to: str | None = None  # the session that has this one's place, after the customer had dropped out
    visits: tuple[QueueVisit, ...] = ()
    segments: tuple[Segment, ...] = ()
    folded: int = 0  # segments that the row holds no more
    recordings: tuple[Recording, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    talk_started_at: int | None = None
    ended_at: int | None = None
    end_reason: EndReason | None = None

    @property
    def ended(self) -> bool:
        return self.state is SessionState.ENDED

    @property
    def done(self) -> bool:
        return (
            self.ended
            and all(segment.state is SegmentState.DONE for segment in self.segments)
            and all(recording.state in recordings.FINAL for recording in self.recordings)
        )

    @property
    def owner(self) -> Segment | None:
        """The segment whose agent has accepted and has the session now, if any."""
        return next((segment for segment in self.segments if segment.owns), None)

    @property
    def ringing(self) -> tuple[Segment, ...]:
        """The offers that wait for their agents' answers, in the order in which they were made; guests apart."""
        return tuple(segment for segment in self.segments if segment.rings and segment.role is Role.OWNER)

    @property
    def guests(self) -> tuple[Segment, ...]:
        """Whom the owner has called in: those for whom it rings, and those who take part."""
        return tuple(x for x in self.segments if x.role is Role.GUEST and (x.rings or x.takes_part))

    @property
    def supervisors(self) -> tuple[Segment, ...]:
        """Who listens, or more, without having been called in."""
        return tuple(x for x in self.segments if x.role is Role.SUPERVISOR and x.takes_part)

    @property
    def in_conference(self) -> bool:
        """The customer hears somebody beside the owner."""
        owner = self.owner
        return owner is not None and owner.state is SegmentState.TALKING and any(_talks(x) for x in self.guests)

    @property
    def unattended(self) -> bool:
        """No agent has it, and it rings for none."""
        return self.owner is None and not self.ringing

    @property
    def offers(self) -> int:
        """How many there were, all in all."""
        return self.folded + len(self.segments)

    def taker(self, segment: Segment) -> Segment | None:
        """Who was first, of an offer that another agent took."""
        if segment.end_reason is not SegmentEnd.TAKEN:
            return None
        return next((one for one in self.segments if one.accepted_at == segment.done_at), None)

    @property
    def live_legs(self) -> tuple[Leg, ...]:
        """The customer's, and those of the agents who take part."""
        return (self.customer_leg, *(segment.leg for segment in self.segments if segment.takes_part))

    @property
    def visit(self) -> QueueVisit | None:
        """The wait that is still running, if any."""
        return next((visit for visit in self.visits if visit.outcome is None), None)

    @property
    def first_arrival(self) -> int:
        """When the customer came for the first time, before dropping out for a moment."""
        return self.created_at if self.place_at is None else self.place_at

    @property
    def order_key(self) -> tuple[int, int, str]:
        """The place in a queue: priority, first arrival, id. A requeued session keeps it, so it comes first."""
        return (self.priority, self.first_arrival, self.id)

    def has_left(self, worker_id: str, epoch: int) -> bool:
        """Something of placements up to `epoch` is still on a worker: legs on their way from it, or an open part."""
        former = self.former
        if former is not None and former.worker_id == worker_id and former.epoch <= epoch:
            return True
        return any(recordings.open_parts(recording, worker_id, epoch) for recording in self.recordings)

    def segment(self, segment_id: str) -> Segment | None:
        return next((segment for segment in self.segments if segment.id == segment_id), None)

    def with_segment(self, changed: Segment) -> Session:
        return replace(self, segments=tuple(changed if s.id == changed.id else s for s in self.segments))

    def with_recording(self, changed: Recording) -> Session:
        return replace(self, recordings=tuple(changed if r.id == changed.id else r for r in self.recordings))

    def leg(self, leg_id: str) -> Leg | None:
        if leg_id == self.customer_leg.id:
            return self.customer_leg
        return next((segment.leg for segment in self.segments if segment.leg.id == leg_id), None)

    def with_leg(self, changed: Leg) -> Session:
        if changed.id == self.customer_leg.id:
            return replace(self, customer_leg=changed)
        return replace(
            self,
            segments=tuple(replace(s, leg=changed) if s.leg.id == changed.id else s for s in self.segments),
        )


def _talks(segment: Segment) -> bool:
    return segment.state is SegmentState.TALKING


def derived_id(session_id: str, kind: str, number: int) -> str:
    """The id of the session's `number`-th leg, segment, visit or recording (`kind`: leg, seg, vis, rec)."""
    return f"{kind}_{session_id.removeprefix('ses_')}_{number}"
