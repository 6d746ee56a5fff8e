"""What the services need of the outside, as Protocols. Each has a real adapter and an in-memory twin
under one contract test (tests/contract/)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from server.domain.agent import Agent, AgentEvent
from server.domain.deadlines import Deadline
from server.domain.events import Event
from server.domain.media import MediaOrder, MediaReport
from server.domain.recording import Part
from server.domain.router_state import Changes, Claim, Entry, RouterState, Word
from server.domain.session import Session

# --- media -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OrderStamp:
    """Says which step of which session an order belongs to. Orders of one session are totally ordered by
    (epoch, version, index); a worker refuses one older than the newest it applied (`stale_order`) and
    answers a repeated one with the result it gave the first time."""

    tenant: str
    session_id: str
    epoch: int
    version: int
    index: int


@dataclass(frozen=True, slots=True)
class OrderResult:
    """What an order yielded. `sdp` is set for `OpenLeg`, the worker's answer, and for `OfferLeg`, its offer."""

    sdp: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A connected worker. `load` counts open peer connections, at least one a leg; `incarnation` changes with each
    start of the process. Over the last 15 s: `loop_lag_s`, how late its event loop ran a timer at worst; `cpu_share`,
    how much of one core it used. None: it does not say."""

    worker_id: str
    incarnation: str
    load: int
    capacity: int
    draining: bool = False
    loop_lag_s: float | None = None
    cpu_share: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerLeg:
    """One leg as the worker knows it (`list_legs`)."""

    session_id: str
    leg_id: str
    generation: int
    epoch: int
    age_s: float


class MediaError(Exception):
    """An order failed. `code` is stable: bad_sdp, sdp_too_large, no_audio, no_ports, stale_epoch, stale_order,
    stale_generation, unknown_session, worker_gone, worker_timeout, worker_busy, internal."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class LegTelemetry:
    """Once a second per leg; a stream apart from reports, may be lost. What ends in `_out` is what the peer says of
    the stream that we send it; None: it has said nothing, or the worker is older."""

    session_id: str
    leg_id: str
    packets_in: int
    packets_out: int
    lost: int
    jitter_ms: float
    level_dbov: int  # 0 loudest … -127 silence, RFC 6464; -127 when the peer sends no level
    codec: str = ""  # that it speaks; "": not known
    loss_out: float | None = None  # of the peer's last interval, 0 to 1
    lost_out: int | None = None  # since the beginning
    jitter_out_ms: float | None = None
    rtt_ms: float | None = None


class MediaListener(Protocol):
    """Wired by app.py. A report is acknowledged to the worker only after `on_report` returns without an
    exception; until then it stays in the worker's buffer and comes again."""

    async def on_report(self, worker_id: str, session_id: str, epoch: int, report: MediaReport) -> None: ...

    async def on_worker_up(self, info: WorkerInfo) -> None:
        """A worker connected (first time, or a new incarnation, or after a broken connection)."""
        ...

    async def on_worker_down(self, worker_id: str, incarnation: str) -> None:
        """The process is gone (not merely a broken connection): everything it held is lost."""
        ...

    def on_telemetry(self, worker_id: str, legs: Sequence[LegTelemetry]) -> None: ...


class MediaEngine(Protocol):
    """Drives media workers. Real: server/media/client.py. Twin: server/media/memory.py."""

    def workers(self) -> Sequence[WorkerInfo]:
        """The connected workers that take new sessions (room left, not draining), least loaded first."""
        ...

    def connected(self) -> Sequence[WorkerInfo]:
        """Every worker that has said hello on the connection it has now, full and draining ones too."""
        ...

    def gone(self, worker_id: str) -> bool:
        """The worker's process is not running, for certain. False also for one that is merely silent, which others may
        still reach."""
        ...

    async def order(self, worker_id: str, stamp: OrderStamp, order: MediaOrder) -> OrderResult:
        """Carry out one order. Raises MediaError."""
        ...

    async def list_legs(self, worker_id: str) -> Sequence[WorkerLeg]: ...

    async def close_leg(self, worker_id: str, session_id: str, leg_id: str) -> None:
        """Close a leg that no row places. Not an order: needs no stamp, and is fine to repeat."""
        ...

    async def start(self, listener: MediaListener) -> None: ...

    async def stop(self) -> None: ...


# --- ways out of a queue -----------------------------------------------------------------------------


class CallbackDialer(Protocol):
    """Calls customers back. There is none yet: it comes with phone calls."""

    async def dial(self, session_id: str, leg_id: str, number: str) -> None:
        """The session's turn has come: an agent is asked for it, and it is placed. Call `number` (E.164), and as soon
        as the line rings post LegOffered for the customer's leg, with the next generation; the worker's words about it
        follow as for any leg. Who can't be reached: CallbackMissed. May be asked again for the same session, by any
        node, until the line rings; a second call must not come of it. Returns at once or when the call is up."""
        ...


class Voicemail(Protocol):
    """Takes messages. There is none yet: it comes with call flows (IVR)."""

    async def begin(self, session_id: str, leg_id: str) -> None:
        """The session is in its flow: greet its customer, who is on that leg, and record. FlowEnded when it is over.
        May be asked again for the same session, by any node, until it is over."""
        ...


# --- time --------------------------------------------------------------------------------------------


class Clock(Protocol):
    """UTC as epoch milliseconds: the database's offset + the monotonic clock. Never jumps backwards."""

    def now_ms(self) -> int: ...


# --- storage -----------------------------------------------------------------------------------------


NODE_DEAD_MS = 4_000  # a node beats once a second; agents' tabs are given up after two missed pings, 4 s
NODE_FORGOTTEN_MS = 60_000


class Conflict(Exception):
    """Another step saved a newer version first: load again and step again."""


class StorageUnavailable(Exception):
    """The database can't be written now (disk full, locked for too long). Nothing was saved."""


class Unreadable(Exception):
    """A row that this version can't read: a newer one wrote it, or it is broken. Lists leave it out."""

    def __init__(self, kind: str, row_id: str) -> None:
        super().__init__(f"{kind} {row_id} can't be read by this version")


@dataclass(frozen=True, slots=True)
class OutboxKey:
    session_id: str
    version: int
    index: int


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An order that a step left to be carried out."""

    key: OutboxKey
    tenant: str
    worker_id: str
    epoch: int
    order: MediaOrder

    @property
    def stamp(self) -> OrderStamp:
        return OrderStamp(self.tenant, self.key.session_id, self.epoch, self.key.version, self.key.index)


@dataclass(frozen=True, slots=True)
class SessionSave:
    """One session's part of a save. `events` are (version, event), ascending; `before` None inserts."""

    before: Session | None
    after: Session
    events: tuple[tuple[int, Event], ...]
    orders: tuple[OutboxRow, ...]
    archives: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # recording id -> archive


@dataclass(frozen=True, slots=True)
class AgentSave:
    """One agent's part of a save."""

    before: Agent | None
    after: Agent
    events: tuple[tuple[int, AgentEvent], ...]


@dataclass(frozen=True, slots=True)
class Push:
    """A message of a person's stream before it has a seq. `person_id`: a user, or a session for its customer."""

    person_id: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StreamMessage:
    person_id: str
    seq: int
    at: int
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StreamPart:
    """What a person has not seen. `reset`: older messages than the kept ones are asked for."""

    head: int
    reset: bool
    messages: tuple[StreamMessage, ...]


@dataclass(frozen=True, slots=True)
class Save:
    """Everything that one step changes: saved in one transaction, or not at all."""

    tenant: str
    now: int
    sessions: tuple[SessionSave, ...] = ()
    agents: tuple[AgentSave, ...] = ()
    pushes: tuple[Push, ...] = ()
    consumed: tuple[OutboxKey, ...] = ()


@dataclass(frozen=True, slots=True)
class DueDeadline:
    """`owner_id` is a session or a user."""

    tenant: str
    owner_id: str
    deadline: Deadline


@dataclass(frozen=True, slots=True)
class Connection:
    """The newest tab of a person: the control node that holds its socket, and the socket's id there."""

    node_id: str
    tab_id: str


@dataclass(frozen=True, slots=True)
class PersonRow:
    """`head`: the seq of the newest message of the person's stream. `connection` None: no tab is connected."""

    person_id: str
    head: int
    connection: Connection | None


@dataclass(frozen=True, slots=True)
class SeenAgent:
    """An agent's row beside the connection of the same moment."""

    agent: Agent
    connection: Connection | None


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A control node that beats. `node_id` is new with each start of the process; `name` stays the same."""

    node_id: str
    name: str
    started_at: int
    seen_at: int
    draining: bool = False
    workers: tuple[str, ...] = ()  # ids of the media workers that it is connected to


class StepStore(Protocol):
    """Sessions, agents and what their steps leave. Real: server/storage/sqlite_steps.py and postgres_steps.py, under
    one contract test; the twin of the fast tests is SQLite in memory.

    Every method raises StorageUnavailable when the database can't be reached; what a write left is then uncertain.
    `session` and `agent` raise Unreadable; a list leaves such a row out."""

    async def session(self, session_id: str) -> Session | None: ...

    async def agent(self, user_id: str) -> Agent | None: ...

    async def save(self, save: Save) -> tuple[StreamMessage, ...]:
        """All or nothing; gives the pushes their seqs. Raises Conflict, StorageUnavailable."""
        ...

    async def parked(self, tenant: str) -> Sequence[Session]:
        """Sessions that are parked, the first customer first."""
        ...

    async def open_sessions(self, *, worker_id: str | None = None) -> Sequence[Session]:
        """Sessions that are not done, oldest first; those placed on one worker when it is named."""
        ...

    async def waiting(self, tenant: str, queue_id: str) -> int:
        """How many sessions wait in a queue, those whose customers are away and keep their place included."""
        ...

    async def agents(self) -> Sequence[Agent]: ...

    async def outbox(self, session_id: str, limit: int = 16) -> Sequence[OutboxRow]:
        """The session's orders that are not carried out yet, in their order."""
        ...

    async def outbox_sessions(self, before: int | None = None) -> Sequence[str]:
        """The sessions that have orders; those whose oldest order was saved before a moment (ms) when it is given."""
        ...

    async def lease_orders(
        self, session_id: str, node_id: str, now: int, until: int, limit: int = 16
    ) -> Sequence[OutboxRow] | None:
        """Take (or keep) the lease of a session's orders, and read them in their order; None while another node holds
        it. A lease ends at `until`, or with its node: when the node's row is gone or not seen for NODE_DEAD_MS."""
        ...

    async def end_lease(self, session_id: str, node_id: str) -> bool:
        """Give up a lease that is this node's. True when the session has orders: they came since they were last read,
        and whoever saved them found the lease taken."""
        ...

    async def drop_orders(self, keys: Sequence[OutboxKey]) -> None: ...

    async def due(self, now: int, limit: int = 200) -> Sequence[DueDeadline]: ...

    async def next_deadline(self) -> int | None: ...

    async def stream(self, person_id: str, after: int, limit: int = 200) -> StreamPart: ...

    async def prune_streams(self, before: int) -> int:
        """Forget stream messages older than `before`; returns how many."""
        ...

    # --- tabs and nodes ---

    async def connect(self, tenant: str, person_id: str, connection: Connection) -> int:
        """This is the person's newest tab now, whatever was before; returns the head of the person's stream."""
        ...

    async def disconnect(self, person_id: str, connection: Connection) -> bool:
        """The tab is gone; False when it was not the newest any more."""
        ...

    async def persons(self, person_ids: Sequence[str]) -> Sequence[PersonRow]:
        """The rows of those that have one, in any order."""
        ...

    async def seen_agents(self, node_id: str, now: int) -> Sequence[SeenAgent]:
        """The agents that concern a node's look at presence: those whose newest tab is on this node, and those who are
        live or hold a contact while their newest tab is on no living node (seen within NODE_DEAD_MS of `now`)."""
        ...

    async def beat(self, node: NodeRow) -> Sequence[NodeRow]:
        """Save this node's row, and give the living ones (seen within NODE_DEAD_MS of this beat), by node id.
        Rows of other nodes of the same name are this node's earlier lives: they are removed, with their leases.
        Rows that were not seen for NODE_FORGOTTEN_MS are removed, too."""
        ...

    async def nodes(self) -> Sequence[NodeRow]:
        """Every node's row, dead ones too."""
        ...

    async def leave(self, node_id: str) -> None:
        """The node stops: its row and its leases are removed."""
        ...

    async def time_ms(self) -> int:
        """The database's clock, UTC epoch ms: the one that all nodes go by."""
        ...


# --- what steps mean for people ----------------------------------------------------------------------


class Presenter(Protocol):
    """Draws the messages of people's streams from what a step changed. Pure. Real: server/signaling/views.py."""

    def session_pushes(self, before: Session | None, after: Session, event: Event) -> Sequence[Push]: ...

    def agent_pushes(self, before: Agent | None, after: Agent) -> Sequence[Push]: ...


@dataclass(frozen=True, slots=True)
class Commit:
    """What was just saved."""

    sessions: tuple[SessionSave, ...]
    agents: tuple[AgentSave, ...]
    messages: tuple[StreamMessage, ...]


class CommitListener(Protocol):
    """Told after each commit, in order, on the loop. Must not block or raise: it only wakes somebody."""

    def on_commit(self, commit: Commit) -> None: ...


# --- router store ------------------------------------------------------------------------------------


class RouterStore(Protocol):
    """The router's index, shared by all nodes. It can be flushed at any moment and rebuilt from the database: nothing
    but waiting time depends on it. Twin: server/routing/memory_store.py; real: server/routing/redis_store.py.

    Every entry carries the version of the row that it was made of. Nodes write in any order: a word about an older
    version than the newest one heard of (present or dropped) changes nothing. Every method raises
    RouterStoreUnavailable when the store can't be reached."""

    async def write(self, tenant: str, words: Sequence[Word]) -> None:
        """Note what has changed, in any number of sessions and agents."""
        ...

    async def changes(self, tenant: str, after: int, proof: str) -> Changes:
        """What took effect after a position, by whomever; `proof` came with that position. `lost` when the store can't
        tell, or nothing is built."""
        ...

    async def claim(self, tenant: str, claims: Sequence[Claim], now: int) -> tuple[bool, ...]:
        """Reserve waiting sessions and agents for each other until `expires_at`, each claim for itself, all of them
        in one atomic operation. False when a session is gone, held or claimed, or its agent gone, claimed or not
        free on its channel. The same request id again gives the same answer."""
        ...

    async def release(self, tenant: str, request_ids: Sequence[str]) -> None: ...

    async def state(self, tenant: str, now: int) -> RouterState:
        """`built` is False until the first `replace_all`, and again once the store was flushed."""
        ...

    async def mark(self, tenant: str) -> int:
        """A point in the sequence of this tenant's words, to be taken before the database is read for a rebuild."""
        ...

    async def replace_all(self, tenant: str, mark: int, entries: Sequence[Entry]) -> None:
        """Rebuild from what the database said after `mark`: entries that were changed since the mark stay as they
        are, all others become exactly those given. Claims that still hold are kept. A mark that a flush has made
        void (the sequence is behind it) counts as the beginning."""
        ...


class RouterStoreUnavailable(Exception):
    """The router's index can't be reached: routing pauses, everything else goes on."""


# --- between nodes -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Notice:
    """What a node tells the others. A notice may be lost, doubled or late: each is a mere hint to look earlier.

    `messages` are saved messages of people's streams; `connected` are persons' new tabs, which take over from older
    ones; `routing` are tenants where something changed for the router; `directory` tenants whose set-up changed."""

    messages: tuple[StreamMessage, ...] = ()
    connected: tuple[tuple[str, Connection], ...] = ()
    routing: tuple[str, ...] = ()
    directory: tuple[str, ...] = ()


class Membership(Protocol):
    """This control node among the others: server/services/nodes.py."""

    @property
    def node_id(self) -> str: ...

    def mine(self, key: str) -> bool:
        """This node goes first at what concerns `key`; any other may act, too, and later."""
        ...


class Bus(Protocol):
    """Carries notices between control nodes. Twin: server/routing/memory_bus.py, for one node or several in one
    process; real: server/routing/redis_bus.py (publish and subscribe)."""

    def publish(self, notice: Notice) -> None:
        """Tell all other nodes. Never blocks and never raises; while the bus is away notices are dropped."""
        ...

    async def start(self, on_notice: Callable[[Notice], None]) -> None:
        """Begin to hear the others' notices (never one's own); returns at once, connects by itself, again and again."""
        ...

    async def stop(self) -> None: ...


# --- recordings --------------------------------------------------------------------------------------


class ArchiveFault(Exception):
    """An archive job failed. `code` is stable; `passing` tells that the same job may succeed later (a full disk)."""

    def __init__(self, code: str, *, passing: bool) -> None:
        super().__init__(code)
        self.code = code
        self.passing = passing


@dataclass(frozen=True, slots=True)
class Archived:
    """`archive` is JSON-ready: {customer: {file, codec, sha256, size_bytes}, agent: {…}, peaks: {customer, agent},
    size_bytes, complete, missing_ms, sealed}; missing_ms: silence that stands for what nobody wrote. More than 200 ms
    of it, or a part whose worker died, and `complete` is false."""

    duration_ms: int
    archive: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RecordingRef:
    """`sealed`: its row says that its files were sealed, so plain ones are not played in their place."""

    tenant: str
    session_id: str
    recording_id: str
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class Collected:
    """What is not here of a recording's parts: the numbers of those that their worker does not have (`missing`), and of
    those whose worker can't be asked now (`away`)."""

    missing: tuple[int, ...] = ()
    away: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class LeftParts:
    """Captured parts of a recording: on another machine's worker, or (None) in the spool of this one."""

    recording: RecordingRef
    worker_id: str | None


class SoundDamaged(Exception):
    """A recording's file was changed, or can't be opened with the keys that are here; the text says which."""


FILE_ENDINGS = {"audio/ogg": "ogg", "audio/wav": "wav"}  # of a download, by media type


class Sound(Protocol):
    """A finished recording, open for reading. What it does blocks for a moment: call it in a thread."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def media_type(self) -> str:
        """A key of FILE_ENDINGS."""
        ...

    @property
    def tag(self) -> str:
        """Another one for every file that was ever written; fit for an ETag."""
        ...

    def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`. Raises SoundDamaged, OSError."""
        ...

    def close(self) -> None: ...


class Archiver(Protocol):
    """Makes and keeps recording files. Real: server/media/archiver.py."""

    async def collect(self, recording: RecordingRef, parts: Sequence[Part]) -> Collected:
        """Bring the parts that workers of other machines hold into this node's spool. Raises ArchiveFault."""
        ...

    async def archive(self, recording: RecordingRef, parts: Sequence[int], talk_ms: int | None = None) -> Archived:
        """Join the captured parts into one file a side, as long as the talk where that is told. Raises ArchiveFault."""
        ...

    async def stereo(self, recording: RecordingRef) -> Path:
        """Render left customer, right agent; at once when it was rendered before. Raises ArchiveFault."""
        ...

    def open(self, recording: RecordingRef, side: str) -> Sound | None:
        """The sound of customer, agent or stereo, where it exists. Blocks for a moment. Raises SoundDamaged,
        OSError."""
        ...

    async def left_parts(self) -> Sequence[LeftParts]:
        """The recordings whose captured parts still lie in this node's spool, or with workers that can be asked."""
        ...

    async def discard_parts(self, recording: RecordingRef, worker_ids: Collection[str]) -> None:
        """The archive is safe: forget what it was made of, in this node's spool and with these workers."""
        ...

    async def sweep(self) -> int:
        """Remove what jobs that were killed left half-made; returns how many files. Raises OSError."""
        ...
