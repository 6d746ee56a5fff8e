"""Versioned wire messages of the Socket.IO namespaces `/customer` and `/agent`.

Defined once, here. `make types` writes their JSON Schema and the TypeScript in `web/core/src/wire.ts` from it.

Transport. Client → server: `emit("m", {v, type, id, body}, ack)`; the ack is `{ok: true, body}` or
`{ok: false, error: {code, message}}`. `id` is the sender's request id: a repeated one has no second effect.
Server → client: `emit("m", {v, type, seq, at, body})`. A message with a `seq` belongs to the person's stream:
it is stored before it is sent, seqs have no gaps, and a client that is behind asks `stream.fetch`. A message
with `seq: null` is a passing live value. Server → client: `emit("p", {head, now}, ack)` every 2 s: `head` is the
newest seq of the stream (so the loss of the last message shows), the ack is `{seq}`, the client's newest. Two
unanswered pings mean that the tab is not live.

Applying a message twice, or an older view after a newer one, changes nothing: every view carries the `version`
of its row. All times are UTC epoch milliseconds of the server's clock (`now` in the ping sets the offset).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

WIRE_VERSION = 1
MAX_SDP_BYTES = 65536
MAX_NOTES_CHARS = 10_000
MAX_SEQ = 2**53  # what JavaScript counts exactly; SQLite's integers end at 2**63
MAX_FAULT_CHARS = 200  # of an error's text: it may name what was sent, which may be large

Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_\-]+$")]
Ms = Annotated[int, Field(description="UTC epoch milliseconds, server clock")]
Sdp = Annotated[str, Field(min_length=1, max_length=MAX_SDP_BYTES)]
Text = Annotated[str, Field(max_length=200)]
Name = Annotated[str, Field(max_length=100)]


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# --- views -------------------------------------------------------------------------------------------

LegState = Literal["wanted", "opening", "up", "lost", "closed"]
SegmentRole = Literal["owner", "guest", "supervisor"]
MonitorMode = Literal["listen", "coach", "barge"]
SegmentState = Literal["offered", "connecting", "talking", "held", "wrap_up", "done"]
CallState = Literal["queued", "place_kept", "connecting", "talking", "held", "ended"]
AgentState = Literal["offline", "ready", "break", "ringing", "on_contact", "wrap_up", "missed"]
ChosenState = Literal["offline", "ready", "break"]
EquipmentFault = Literal["no_microphone", "microphone_muted", "no_media"]
RecordingState = Literal["off", "on", "paused", "failed"]
Unheard = Literal["no_packets", "silence"]  # nothing arrives; or since it began nothing but digital silence


class LegView(Wire):
    """The reader's own leg. In `wanted` and `lost` the reader must send `leg.offer` with `generation` + 1.
    After a reload it must too, and when `generation` is one that it did not make: whatever the state says."""

    leg_id: str
    generation: int
    state: LegState


class CallView(Wire):
    """A session as its customer sees it. `end_reason` when ended: customer_hung_up, agent_hung_up, abandoned, no_media,
    customer_lost, system_failed, no_lines, waited_too_long, queue_full, place_expired. In `place_kept` the customer is
    away: the leg is closed until `place.take`."""

    session_id: str
    version: int
    state: CallState
    queue_name: str
    queued_at: Ms
    agent_name: str | None
    talk_started_at: Ms | None
    ended_at: Ms | None
    end_reason: str | None
    recording: RecordingState
    leg: LegView
    agent_reconnecting: bool = Field(description="the agent's leg is lost, and its grace is running")
    may_keep_place: bool = Field(default=False, description="`place.keep` is possible now")
    place_until: Ms | None = Field(default=None, description="in place_kept: for how long it is kept")
    no_lines: bool = Field(
        default=False, description="no worker has room for its sound; one is looked for, for a minute"
    )


class CustomerView(Wire):
    name: str
    locale: str
    page_url: str
    context: dict[str, str]


class OtherAgent(Wire):
    """Another agent of the same session. `state` as in ContactView, without wrap_up and done; `reconnecting`: their leg
    is lost, and its grace is running. `monitor`: of a supervisor, who hears them: the reader alone, or all."""

    segment_id: str
    agent_name: str
    role: SegmentRole
    state: SegmentState
    reconnecting: bool
    monitor: MonitorMode | None = None


class ContactView(Wire):
    """A segment as its agent sees it. The `owner` has the session and may call others in, the `guest` was called in. An
    owner who is `held` has the customer on hold, and speaks with the guests who are `talking`; a guest who is `held`
    hears music meanwhile; where both talk, all do. `customer_hears`: the customer hears what the agent says. A
    `supervisor` came unasked; an agent sees one who is to be heard, and not one who listens."""

    session_id: str
    segment_id: str
    version: int
    channel: Literal["voice"]
    state: SegmentState
    customer: CustomerView
    queue_id: str
    queue_name: str
    queued_at: Ms
    offered_at: Ms
    offer_deadline_at: Ms | None
    talk_started_at: Ms | None
    ended_at: Ms | None = Field(description="when the talk ended and wrap-up began")
    wrap_up_deadline_at: Ms | None
    wrap_up_extend_s: int | None = Field(description="by which the wrap-up may be extended now; null: no more")
    end_reason: str | None = Field(
        description="customer_hung_up, agent_hung_up, rejected, missed, customer_left, withdrawn, taken, "
        "customer_lost, agent_lost, no_media, system_failed, transferred, parked, released, taken_over"
    )
    taken_by: str | None = Field(description="the agent who was first, when it rang for several; null: nobody was")
    customer_reconnecting: bool
    customer_unheard: Unheard | None = Field(default=None, description="why the customer's voice does not come")
    you_unheard: Unheard | None = Field(default=None, description="why the reader's own voice does not come")
    recording: RecordingState
    recording_change: Literal["pause", "resume"] | None = Field(
        default=None, description="asked for, and the media worker has not said yet that it holds"
    )
    recording_resumes_at: Ms | None = Field(default=None, description="when a pause that nobody ends is over")
    leg: LegView
    notes: str
    disposition_id: str | None
    role: SegmentRole = "owner"
    invited_by: str = Field(default="", description="the agent who hands the customer over, or calls in; empty: nobody")
    muted: bool = False
    customer_hears: bool = False
    others: list[OtherAgent] = []
    monitor: MonitorMode | None = Field(default=None, description="of a supervisor: who hears the reader")
    agent_name: str = Field(default="", description="who has the session now; empty: nobody")


class NextState(Wire):
    state: ChosenState
    reason_id: str | None
    forced_by: str | None


class AgentView(Wire):
    """`state` is what the wallboard shows; `chosen` is what the agent picked; `missed` needs a new choice. `forced_by`
    is the name of the supervisor who picked it. With a `fault` of the tab nothing is offered."""

    user_id: str
    version: int
    state: AgentState
    chosen: ChosenState
    reason_id: str | None
    since: Ms
    next_state: NextState | None
    forced_by: str | None
    fault: EquipmentFault | None


class IceServer(Wire):
    """As RTCIceServer; without credentials for STUN."""

    urls: list[str]
    username: str | None
    credential: str | None


class IceServers(Wire):
    """What the reader's peer connections may use. Ask `ice.servers` for newer ones once half of the time until
    `ice_expires_at` is over; null: they do not expire. `relay_only`: no path but through a TURN server."""

    ice_servers: list[IceServer]
    relay_only: bool
    ice_expires_at: Ms | None


class QueueLine(Wire):
    queue_id: str
    name: str
    waiting: int
    longest_wait_since: Ms | None
    agents_ready: int


# --- client → server ---------------------------------------------------------------------------------


class Empty(Wire):
    pass


class CallRequest(Wire):
    """Start the session that the socket's token names. Sending it again returns the same session.
    `sdp` (an offer, generation 1) saves one round trip. `return_token`: that of this browser's last session."""

    name: Text = ""
    locale: Annotated[str, Field(max_length=35)] = "en"
    page_url: Annotated[str, Field(max_length=2000)] = ""
    context: Annotated[dict[Name, Text], Field(max_length=20)] = {}
    consent_version: Annotated[str, Field(max_length=40)] = ""
    return_token: Annotated[str, Field(max_length=2000)] | None = None
    sdp: Sdp | None = None


class CallbackAsk(Wire):
    """`number` is E.164: + and 7 to 15 digits."""

    number: Annotated[str, Field(pattern=r"^\+[1-9][0-9]{6,14}$")]


class LegOffer(Wire):
    """A new peer connection for the sender's leg: first, or a re-anchor. `generation` = the view's + 1."""

    session_id: Id
    leg_id: Id
    generation: Annotated[int, Field(ge=1, le=1_000_000)]
    sdp: Sdp


class StreamFetch(Wire):
    after: Annotated[int, Field(ge=0, le=MAX_SEQ)]


class SetState(Wire):
    """During a contact this picks the next state; otherwise it takes effect at once."""

    state: ChosenState
    reason_id: Id | None = None


class Equipment(Wire):
    """What the tab's microphone and media are like now; null: they work. While there is a fault nothing is offered."""

    fault: EquipmentFault | None


class SegmentRef(Wire):
    session_id: Id
    segment_id: Id


class OfferAccept(SegmentRef):
    """`sdp` (an offer, generation 1) saves one round trip."""

    sdp: Sdp | None = None


class Hold(SegmentRef):
    on: bool


class Record(SegmentRef):
    """`paused`: nothing is to be kept from now on (a payment, say). The contact's `recording` tells when it holds."""

    paused: bool


class Mute(SegmentRef):
    """Nobody hears the sender; also after a reload."""

    on: bool


class SendDigits(SegmentRef):
    """Keys of a phone, pressed for the customer's side."""

    digits: Annotated[str, Field(pattern=r"^[0-9*#A-D]{1,32}$")]


class Transfer(SegmentRef):
    """Without a word before: to a queue, or to an agent who is asked at once. One of the two."""

    queue_id: Id | None = None
    agent_id: Id | None = None

    @model_validator(mode="after")
    def to_one(self) -> Transfer:
        if (self.queue_id is None) == (self.agent_id is None):
            raise ValueError("queue_id or agent_id, one of the two")
        return self


class ConsultBegin(SegmentRef):
    """`agent_id` is asked; the customer hears music meanwhile, unless they are in a conference already."""

    agent_id: Id


class GuestRef(SegmentRef):
    """`guest_segment_id` as in the view's `others`."""

    guest_segment_id: Id


class ConsultSwap(SegmentRef):
    """Speak with the customer, or with the agent who is consulted; the other one hears music."""

    to_customer: bool


class Fetch(Wire):
    """`session_id` as in `parked.changed`."""

    session_id: Id


class Supervise(Wire):
    session_id: Id


class Monitoring(SegmentRef):
    """`listen`: nobody hears the sender; `coach`: the agent does; `barge`: everybody does."""

    monitor: MonitorMode


class SaveNotes(SegmentRef):
    """The draft, saved while it is typed. `disposition_id` may be picked early."""

    notes: Annotated[str, Field(max_length=MAX_NOTES_CHARS)]
    disposition_id: Id | None = None


class ExtendWrapUp(SegmentRef):
    """`deadline_at` is the deadline that is to move: the view's, so that a repeated wish moves it once."""

    deadline_at: Annotated[int, Field(ge=0, le=MAX_SEQ)]


class WrapUp(SaveNotes):
    """Finish the wrap-up. Refused with `disposition_required` when the queue wants one."""


class _Message(Wire):
    v: Literal[1]
    id: Id


class CallRequestMessage(_Message):
    type: Literal["call.request"]
    body: CallRequest


class CallHangUpMessage(_Message):
    type: Literal["call.hang_up"]
    body: Empty


class PlaceKeepMessage(_Message):
    """The customer, who waits, goes away for a while, and is served in turn when back."""

    type: Literal["place.keep"]
    body: Empty


class CallbackAskMessage(_Message):
    """The customer, who waits or keeps a place, wants to be called in turn. Refused with `callback_not_offered` where
    the queue does not call back."""

    type: Literal["callback.ask"]
    body: CallbackAsk


class PlaceTakeMessage(_Message):
    """The customer is back: the leg is wanted again."""

    type: Literal["place.take"]
    body: Empty


class LegOfferMessage(_Message):
    type: Literal["leg.offer"]
    body: LegOffer


class StreamFetchMessage(_Message):
    type: Literal["stream.fetch"]
    body: StreamFetch


class SyncMessage(_Message):
    type: Literal["sync"]
    body: Empty


class IceServersMessage(_Message):
    type: Literal["ice.servers"]
    body: Empty


class SetStateMessage(_Message):
    type: Literal["agent.set_state"]
    body: SetState


class EquipmentMessage(_Message):
    type: Literal["agent.equipment"]
    body: Equipment


class OfferAckMessage(_Message):
    type: Literal["offer.ack"]
    body: SegmentRef


class OfferAcceptMessage(_Message):
    type: Literal["offer.accept"]
    body: OfferAccept


class OfferRejectMessage(_Message):
    type: Literal["offer.reject"]
    body: SegmentRef


class ContactHoldMessage(_Message):
    type: Literal["contact.hold"]
    body: Hold


class ContactRecordMessage(_Message):
    type: Literal["contact.record"]
    body: Record


class ContactMarkMessage(_Message):
    """A mark at this place of the recording."""

    type: Literal["contact.mark"]
    body: SegmentRef


class ContactMuteMessage(_Message):
    type: Literal["contact.mute"]
    body: Mute


class ContactDigitsMessage(_Message):
    type: Literal["contact.digits"]
    body: SendDigits


class ContactTransferMessage(_Message):
    type: Literal["contact.transfer"]
    body: Transfer


class ContactParkMessage(_Message):
    """The customer stays on hold, for whoever fetches them; the sender's part is over."""

    type: Literal["contact.park"]
    body: SegmentRef


class ContactFetchMessage(_Message):
    """Take a parked call; the answer has the contact, as one that was accepted."""

    type: Literal["contact.fetch"]
    body: Fetch


class ConsultBeginMessage(_Message):
    type: Literal["consult.begin"]
    body: ConsultBegin


class ConsultEndMessage(_Message):
    """The guest leaves, or is not asked any more. With the last one gone the sender is back with the customer."""

    type: Literal["consult.end"]
    body: GuestRef


class ConsultSwapMessage(_Message):
    type: Literal["consult.swap"]
    body: ConsultSwap


class ConsultConferMessage(_Message):
    """Customer, owner and guests all hear each other."""

    type: Literal["consult.confer"]
    body: SegmentRef


class ConsultCompleteMessage(_Message):
    """The guest has the session from now on; the sender's part is over."""

    type: Literal["consult.complete"]
    body: GuestRef


class SuperviseBeginMessage(_Message):
    """Listen to a talk, with the microphone off; the answer has the contact. `contact.hang_up` ends it."""

    type: Literal["supervise.begin"]
    body: Supervise


class SuperviseModeMessage(_Message):
    type: Literal["supervise.mode"]
    body: Monitoring


class SuperviseTakeOverMessage(_Message):
    """The session is the sender's from now on; its agent goes to wrap-up."""

    type: Literal["supervise.take_over"]
    body: SegmentRef


class ContactHangUpMessage(_Message):
    type: Literal["contact.hang_up"]
    body: SegmentRef


class ContactNotesMessage(_Message):
    type: Literal["contact.notes"]
    body: SaveNotes


class ContactExtendMessage(_Message):
    type: Literal["contact.extend_wrap_up"]
    body: ExtendWrapUp


class ContactWrapUpMessage(_Message):
    type: Literal["contact.wrap_up"]
    body: WrapUp


CustomerMessage = Annotated[
    CallRequestMessage
    | CallHangUpMessage
    | PlaceKeepMessage
    | PlaceTakeMessage
    | CallbackAskMessage
    | LegOfferMessage
    | IceServersMessage
    | StreamFetchMessage
    | SyncMessage,
    Field(discriminator="type"),
]
AgentMessage = Annotated[
    SetStateMessage
    | EquipmentMessage
    | OfferAckMessage
    | OfferAcceptMessage
    | OfferRejectMessage
    | LegOfferMessage
    | ContactHoldMessage
    | ContactRecordMessage
    | ContactMarkMessage
    | ContactMuteMessage
    | ContactDigitsMessage
    | ContactTransferMessage
    | ContactParkMessage
    | ContactFetchMessage
    | ConsultBeginMessage
    | ConsultEndMessage
    | ConsultSwapMessage
    | ConsultConferMessage
    | ConsultCompleteMessage
    | SuperviseBeginMessage
    | SuperviseModeMessage
    | SuperviseTakeOverMessage
    | ContactHangUpMessage
    | ContactNotesMessage
    | ContactExtendMessage
    | ContactWrapUpMessage
    | IceServersMessage
    | StreamFetchMessage
    | SyncMessage,
    Field(discriminator="type"),
]

# --- answers (the ack's body) ------------------------------------------------------------------------


class CustomerSync(Wire):
    """`call` is null before `call.request`."""

    head: int
    now: Ms
    call: CallView | None
    ice: IceServers


class AgentSync(Wire):
    head: int
    now: Ms
    routing_paused: bool = Field(description="as in queues.changed, which does not come while nothing is routed")
    agent: AgentView
    contacts: list[ContactView] = Field(description="every segment of the agent that is not done")
    ice: IceServers


class WireError(Wire):
    """`code` is stable and translated by the client; `message` is English, for logs; `params` fill the
    translation, e.g. `{"agent": "Bo"}` of `offer_taken`."""

    code: str
    message: str
    params: dict[str, str] = {}


# --- server → client ---------------------------------------------------------------------------------


class CallChanged(Wire):
    type: Literal["call.changed"] = "call.changed"
    call: CallView


class LegAnswer(Wire):
    type: Literal["leg.answer"] = "leg.answer"
    session_id: str
    leg_id: str
    generation: int
    sdp: str


class LegRefused(Wire):
    """The offer of this generation can't be served; `code` as in docs/architecture.md#error-codes."""

    type: Literal["leg.refused"] = "leg.refused"
    session_id: str
    leg_id: str
    generation: int
    code: str


class AgentChanged(Wire):
    type: Literal["agent.changed"] = "agent.changed"
    agent: AgentView


class OfferMade(Wire):
    """Ring. The client answers `offer.ack` at once; without it the message is sent again after 1 s."""

    type: Literal["offer.made"] = "offer.made"
    contact: ContactView


class ContactChanged(Wire):
    type: Literal["contact.changed"] = "contact.changed"
    contact: ContactView


class QueuePosition(Wire):
    """Passing (seq null). `position` is 1-based. The wait from now on is `wait_low_s` to `wait_high_s` (half of such
    waits are over by the first, nine in ten by the second; whole tens up to 120, whole minutes above, 0 for "up to"),
    or both are null: nobody knows."""

    type: Literal["queue.position"] = "queue.position"
    session_id: str
    position: int
    wait_low_s: int | None = None
    wait_high_s: int | None = None


class QueuesChanged(Wire):
    """Passing (seq null): the queues that the agent serves."""

    type: Literal["queues.changed"] = "queues.changed"
    queues: list[QueueLine]
    paused: bool = False  # nothing is routed now: the router's index is away


class ParkedCall(Wire):
    """`until`: goes back to its queue then."""

    session_id: str
    customer_name: str
    queue_name: str
    parked_by: str
    since: Ms
    until: Ms


class ParkedChanged(Wire):
    """Passing (seq null): the parked calls that the agent may fetch, those that nobody fetches already."""

    type: Literal["parked.changed"] = "parked.changed"
    calls: list[ParkedCall]


class Superseded(Wire):
    """Passing: another tab or computer of the same person holds the connection now; do not reconnect by itself."""

    type: Literal["superseded"] = "superseded"


class Moving(Wire):
    """Passing: this node is about to stop; connect anew at once, to whichever node answers. Nothing else changes."""

    type: Literal["moving"] = "moving"


CustomerPush = Annotated[
    CallChanged | LegAnswer | LegRefused | QueuePosition | Superseded | Moving, Field(discriminator="type")
]
AgentPush = Annotated[
    AgentChanged
    | OfferMade
    | ContactChanged
    | LegAnswer
    | LegRefused
    | QueuesChanged
    | ParkedChanged
    | Superseded
    | Moving,
    Field(discriminator="type"),
]


class CustomerEnvelope(Wire):
    v: Literal[1] = 1
    seq: int | None
    at: Ms
    body: CustomerPush


class AgentEnvelope(Wire):
    v: Literal[1] = 1
    seq: int | None
    at: Ms
    body: AgentPush


class CustomerStream(Wire):
    """`reset`: what came after `after` is not kept any more; ask `sync` instead."""

    head: int
    reset: bool
    messages: list[CustomerEnvelope]


class AgentStream(Wire):
    head: int
    reset: bool
    messages: list[AgentEnvelope]


class Ping(Wire):
    head: int
    now: Ms


class Pong(Wire):
    seq: Annotated[int, Field(ge=0)]


# --- parsing -----------------------------------------------------------------------------------------

_CUSTOMER: TypeAdapter[Any] = TypeAdapter(CustomerMessage)
_AGENT: TypeAdapter[Any] = TypeAdapter(AgentMessage)


class BadMessage(Exception):
    """What a client sent does not parse. `code`: unknown_version, unknown_type, bad_message, too_large."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def parse_customer(data: object) -> Any:
    """A `CustomerMessage` from what a socket delivered. Raises BadMessage."""
    return _parse(_CUSTOMER, data)


def parse_agent(data: object) -> Any:
    """An `AgentMessage` from what a socket delivered. Raises BadMessage."""
    return _parse(_AGENT, data)


def _parse(adapter: TypeAdapter[Any], data: object) -> Any:
    if not isinstance(data, dict):
        raise BadMessage("bad_message", "a message is an object {v, type, id, body}")
    if data.get("v") != WIRE_VERSION:
        raise BadMessage("unknown_version", f"this server speaks version {WIRE_VERSION}; reload the page")
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
            raise BadMessage("unknown_type", "unknown message type") from None
        sdp = first["loc"] and first["loc"][-1] == "sdp" and first["type"] == "string_too_long"
        where = ".".join(str(part) for part in first["loc"])[:MAX_FAULT_CHARS]
        raise BadMessage("sdp_too_large" if sdp else "bad_message", f"{where}: {first['msg']}") from None
