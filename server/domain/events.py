"""What happens to a session: past facts, each a frozen value. The log of them is the truth.

A field in `UNLOGGED` is used by the step that takes the event and kept out of the log: an SDP holds addresses
and fingerprints that nobody needs once the leg is up; keys that are pressed may be a card's number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from server.domain.hours import Hours
from server.domain.queue_life import PARK_LIMIT_S, PAUSE_LIMIT_S, Exit, WhenUnrecorded
from server.domain.queue_routing import PRIORITY

UNLOGGED = frozenset({"sdp", "archive", "digits"})


@dataclass(frozen=True, slots=True)
class Customer:
    """What the widget said of its visitor: claims, not facts. `number` (E.164) is where they can be called."""

    name: str = ""
    locale: str = "en"
    page_url: str = ""
    context: Mapping[str, str] = field(default_factory=dict)
    consent_version: str = ""
    number: str = ""


@dataclass(frozen=True, slots=True)
class QueueRules:
    """The queue as it was when the session arrived; later edits count for later sessions. `max_wait_s` 0: no limit.
    `overflow` is where the session goes then, or when the queue is full; None: it ends. `ring_all`: it rings for
    several agents at once, and the first who accepts gets it. `hours` are told of queues that sessions overflow into:
    outside them nobody does. None: always open. `keep_place_s`: for so long the customer may be away and keep the
    place; 0: not at all. `exit`: how the session leaves, where this installation can do that. `pause_limit_s`,
    `when_unrecorded`, `park_limit_s`: as in `queue_life.QueueLife`."""

    queue_id: str
    name: str
    ring_timeout_s: int
    wrap_up_s: int
    disposition_required: bool
    record: bool
    wrap_up_extend_s: int = 0
    wrap_up_extensions: int = 0
    max_wait_s: int = 0
    overflow: QueueRules | None = None
    ring_all: bool = False
    hours: Hours | None = None
    keep_place_s: int = 0
    exit: Exit = Exit.QUEUE
    pause_limit_s: int = PAUSE_LIMIT_S
    when_unrecorded: WhenUnrecorded = WhenUnrecorded.GO_ON
    park_limit_s: int = PARK_LIMIT_S


@dataclass(frozen=True, slots=True)
class CallArrived:
    """`priority` is the first queue's, 1 the most urgent. `sticky_agent_id`: whom the customer last talked to.
    `place_at`: the first arrival of a session the customer dropped out of a moment ago; its place is this one's."""

    session_id: str
    tenant: str
    entry_point_id: str
    queue: QueueRules
    customer: Customer
    worker_id: str | None
    channel: str = "voice"
    incarnation: str | None = None  # the worker's life, as in Placed
    priority: int = PRIORITY
    sticky_agent_id: str | None = None
    place_at: int | None = None


@dataclass(frozen=True, slots=True)
class QueueFull:
    """The session entered a queue in which as many wait already as it takes."""

    queue_id: str


@dataclass(frozen=True, slots=True)
class PlaceKept:
    """The customer goes away for a while and wants to be served in turn all the same."""


@dataclass(frozen=True, slots=True)
class PlaceTaken:
    """The customer is back in the place that was kept. The worker (and which life of it) that is to hold the session
    from now on; None while no worker has room."""

    worker_id: str | None
    incarnation: str | None = None


@dataclass(frozen=True, slots=True)
class CallbackAsked:
    """The customer wants to be called in turn. `number` is E.164."""

    number: str


@dataclass(frozen=True, slots=True)
class CallbackMissed:
    """The customer could not be reached. `reason` is the dialler's: busy, no_answer, rejected, unreachable, …"""

    reason: str


@dataclass(frozen=True, slots=True)
class FlowEnded:
    """What the customer did with a machine is over."""


@dataclass(frozen=True, slots=True)
class PlacePassedOn:
    """The customer of this session, who had dropped out, has its place in another one: nobody else gets it."""

    session_id: str


@dataclass(frozen=True, slots=True)
class WaitEstimated:
    """The customer was told a range for what is still to wait in the visit that is named by queue and entry. Only the
    first one of a visit is kept: it is the promise that the customer remembers. As in `queue_visit.ToldWait`."""

    queue_id: str
    entered_at: int
    position: int
    low_ms: int
    high_ms: int


@dataclass(frozen=True, slots=True)
class LegOffered:
    """A participant sent an SDP offer: the first, or a re-anchor."""

    leg_id: str
    generation: int
    sdp: str = ""


@dataclass(frozen=True, slots=True)
class LegAnswered:
    """The worker opened the generation; its answer goes to the participant."""

    leg_id: str
    generation: int
    epoch: int
    sdp: str = ""


@dataclass(frozen=True, slots=True)
class LegRefused:
    """The worker could not open the generation. `code` as in services.ports.MediaError."""

    leg_id: str
    generation: int
    epoch: int
    code: str


@dataclass(frozen=True, slots=True)
class LegWentUp:
    leg_id: str
    generation: int
    epoch: int


@dataclass(frozen=True, slots=True)
class LegWentDown:
    leg_id: str
    generation: int
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class LegFellQuiet:
    leg_id: str
    generation: int
    epoch: int
    quiet: bool
    change: int = 0  # as in domain.media.LegQuiet
    silent: bool = False


@dataclass(frozen=True, slots=True)
class AgentOffered:
    """The router's choice. `why` keeps the candidates and reasons that led to it. Or the choice of an agent, named by
    `handed_over_by`, who transfers to this one."""

    agent_id: str
    agent_name: str
    why: Mapping[str, object] = field(default_factory=dict)
    handed_over_by: str = ""


@dataclass(frozen=True, slots=True)
class RoutingChanged:
    """A supervisor says who is to get a session that waits, and how soon: all of it, each time. `asks` is asked beside
    what the queue asks, as the JSON of `requirements.to_json`; empty: nothing more."""

    priority: int
    asks: str
    preferred: tuple[str, ...]
    excluded: tuple[str, ...]
    changed_by: str  # a user id


@dataclass(frozen=True, slots=True)
class AgentAccepted:
    segment_id: str
    agent_id: str


@dataclass(frozen=True, slots=True)
class AgentRejected:
    segment_id: str
    agent_id: str


@dataclass(frozen=True, slots=True)
class AgentVanished:
    """The agent's tab died while it rang: the offer is withdrawn without blame."""

    segment_id: str
    agent_id: str


@dataclass(frozen=True, slots=True)
class CustomerHungUp:
    pass


@dataclass(frozen=True, slots=True)
class AgentHungUp:
    segment_id: str
    agent_id: str


@dataclass(frozen=True, slots=True)
class HoldChanged:
    segment_id: str
    agent_id: str
    on: bool


@dataclass(frozen=True, slots=True)
class MuteChanged:
    """Nobody hears the agent, or everybody does again."""

    segment_id: str
    agent_id: str
    on: bool


@dataclass(frozen=True, slots=True)
class DigitsSent:
    """The agent presses keys for the customer's side (a phone menu, say): 0-9, *, #, A-D."""

    segment_id: str
    agent_id: str
    digits: str = ""


@dataclass(frozen=True, slots=True)
class Transferred:
    """The owner hands the customer over without a word before. `queue`: where they wait from now on. None: first in
    line where they came from, and an `AgentOffered` of the same step says who is asked."""

    segment_id: str
    agent_id: str
    queue: QueueRules | None


@dataclass(frozen=True, slots=True)
class SessionParked:
    """The owner leaves the customer on hold, for any agent of the queue to fetch."""

    segment_id: str
    agent_id: str


@dataclass(frozen=True, slots=True)
class SessionFetched:
    """An agent takes a parked session: offer and acceptance in one."""

    agent_id: str
    agent_name: str


@dataclass(frozen=True, slots=True)
class GuestInvited:
    """The owner calls another agent in."""

    segment_id: str
    agent_id: str
    guest_id: str
    guest_name: str


@dataclass(frozen=True, slots=True)
class GuestReleased:
    """The owner needs the guest no more, or takes the question back while it rings."""

    segment_id: str
    agent_id: str
    guest_segment_id: str


@dataclass(frozen=True, slots=True)
class ConsultSwapped:
    """The owner speaks with the customer and the guests wait, or the other way round. `to_customer` names which, so
    that a repeated wish swaps once."""

    segment_id: str
    agent_id: str
    to_customer: bool


@dataclass(frozen=True, slots=True)
class ConferenceBegun:
    """Owner, guests and customer all hear each other."""

    segment_id: str
    agent_id: str


@dataclass(frozen=True, slots=True)
class ConsultCompleted:
    """The guest has the session from now on; the owner is done."""

    segment_id: str
    agent_id: str
    guest_segment_id: str


@dataclass(frozen=True, slots=True)
class SupervisionBegun:
    """A supervisor comes to listen."""

    supervisor_id: str
    supervisor_name: str


@dataclass(frozen=True, slots=True)
class SupervisionChanged:
    """`monitor`: listen, coach or barge, as in `segment.Monitor`."""

    segment_id: str
    agent_id: str
    monitor: str


@dataclass(frozen=True, slots=True)
class SupervisorTookOver:
    segment_id: str
    agent_id: str


@dataclass(frozen=True, slots=True)
class NotesSaved:
    segment_id: str
    agent_id: str
    notes: str
    disposition_id: str | None


@dataclass(frozen=True, slots=True)
class WrapUpExtended:
    """`deadline_at` names the deadline that is moved: a repeated wish moves it once."""

    segment_id: str
    agent_id: str
    deadline_at: int


@dataclass(frozen=True, slots=True)
class WrapUpDone:
    segment_id: str
    agent_id: str
    notes: str
    disposition_id: str | None


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A media worker is gone with all it held under placements up to `epoch`: several nodes may say so, and what was
    placed since then is not meant. `replacement` (and which life of it) takes the call over, when there is one.
    `epoch` None, of logs before there were many nodes: whatever it holds now."""

    worker_id: str
    replacement: str | None
    epoch: int | None = None
    incarnation: str | None = None


@dataclass(frozen=True, slots=True)
class SessionMoved:
    """The worker that holds the session under `epoch` is to stop, and another takes over. What it carries goes on
    there until the new placement carries it."""

    worker_id: str
    epoch: int
    incarnation: str | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """A worker (and which life of it) for a session that had none."""

    worker_id: str
    incarnation: str | None = None


@dataclass(frozen=True, slots=True)
class RecordingPartClosed:
    recording_id: str
    part: int


@dataclass(frozen=True, slots=True)
class RecordingBroke:
    recording_id: str
    part: int
    code: str


@dataclass(frozen=True, slots=True)
class RecordingPauseAsked:
    """The agent wants that nothing is kept of what comes (or, `paused` false, that it is again)."""

    segment_id: str
    agent_id: str
    paused: bool


@dataclass(frozen=True, slots=True)
class RecordingPauseSaid:
    """The worker has carried out the `change`-th change of the recording's pauses."""

    recording_id: str
    change: int


@dataclass(frozen=True, slots=True)
class RecordingMarked:
    """The agent marks this place of the talk."""

    segment_id: str
    agent_id: str


@dataclass(frozen=True, slots=True)
class RecordingArchived:
    """`archive` holds files, hashes and peaks; it goes to the recording's row. `reason`: why it is not whole."""

    recording_id: str
    duration_ms: int
    archive: Mapping[str, object] = field(default_factory=dict)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ArchiveFailed:
    recording_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """`at` names the deadline as it was set: stale unless it is still current."""

    kind: str
    key: str
    at: int


Event = (
    CallArrived
    | QueueFull
    | PlaceKept
    | PlaceTaken
    | PlacePassedOn
    | WaitEstimated
    | CallbackAsked
    | CallbackMissed
    | FlowEnded
    | RoutingChanged
    | LegOffered
    | LegAnswered
    | LegRefused
    | LegWentUp
    | LegWentDown
    | LegFellQuiet
    | AgentOffered
    | AgentAccepted
    | AgentRejected
    | AgentVanished
    | CustomerHungUp
    | AgentHungUp
    | HoldChanged
    | MuteChanged
    | DigitsSent
    | Transferred
    | SessionParked
    | SessionFetched
    | GuestInvited
    | GuestReleased
    | ConsultSwapped
    | ConferenceBegun
    | ConsultCompleted
    | SupervisionBegun
    | SupervisionChanged
    | SupervisorTookOver
    | NotesSaved
    | WrapUpExtended
    | WrapUpDone
    | WorkerLost
    | SessionMoved
    | Placed
    | RecordingPartClosed
    | RecordingBroke
    | RecordingPauseAsked
    | RecordingPauseSaid
    | RecordingMarked
    | RecordingArchived
    | ArchiveFailed
    | DeadlinePassed
)
