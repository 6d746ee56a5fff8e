"""What the set-up, login and history services need of the outside, as Protocols.

Adapters: server/storage (directory, repository, history, reports), routing (Availability), recordings (files)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from server.domain.administration import AuditEntry, LoginSession, R, Record, User
from server.domain.directory import AgentProfile, EntryPoint, QueueConfig
from server.domain.floor import FloorAgent, FloorFilter
from server.domain.history import RecordingRow, SessionDetail, SessionFilter, SessionRow
from server.domain.reports import QueueNumbers, VisitFilter
from server.domain.waits import PastVisit
from server.services.ports import Sound

# --- reading -----------------------------------------------------------------------------------------


class Directory(Protocol):
    """Queues, agents and entry points for routing and sessions. Cached; `forget` drops a tenant's copy.
    Inactive rows are included (`active` says so); an id of another tenant is None, like an unknown one."""

    def forget(self, tenant: str) -> None:
        """The set-up of a tenant has changed, here or on another node."""
        ...

    async def queues(self, tenant: str) -> tuple[QueueConfig, ...]:
        """The same object until something changes, like that of `agents`."""
        ...

    async def queue(self, tenant: str, queue_id: str) -> QueueConfig | None: ...

    async def agents(self, tenant: str) -> tuple[AgentProfile, ...]: ...

    async def agent(self, tenant: str, user_id: str) -> AgentProfile | None: ...

    async def entry_point_by_key(self, key: str) -> EntryPoint | None: ...

    async def entry_point(self, tenant: str, entry_point_id: str) -> EntryPoint | None: ...

    async def disposition_ids(self, tenant: str) -> frozenset[str]:
        """The active dispositions."""
        ...

    async def break_reason_ids(self, tenant: str) -> frozenset[str]:
        """The active break reasons."""
        ...


class History(Protocol):
    """Sessions and recordings for lists and detail screens."""

    async def sessions(
        self, tenant: str, wanted: SessionFilter, limit: int, before: tuple[int, str] | None
    ) -> tuple[SessionRow, ...]:
        """Newest first. `before` is (created_at, session_id) of the last row of the page before."""
        ...

    async def session(self, tenant: str, session_id: str) -> SessionDetail | None: ...

    async def recording(self, tenant: str, recording_id: str) -> RecordingRow | None: ...


class Floor(Protocol):
    """Agents as they are now, for supervisors."""

    async def agents(self, tenant: str, wanted: FloorFilter, limit: int, offset: int) -> tuple[FloorAgent, ...]:
        """Active agents, and others who are not offline, by name."""
        ...


class ReportSource(Protocol):
    """What queue visits come to: `domain.reports.numbers` of the picked ones, for each queue."""

    async def numbers(self, tenant: str, wanted: VisitFilter) -> Mapping[str, QueueNumbers]:
        """By queue id; a queue without such a visit is absent."""
        ...

    async def off_ms(self, tenant: str, wanted: VisitFilter) -> Mapping[str | None, int]:
        """`domain.told_report.off_ms` of the wanted visits that were told and answered, whatever they are counted as:
        by queue id, and of all of them under None. Absent where there is no such visit."""
        ...


class WaitHistory(Protocol):
    """What a queue did lately, for `domain.waits`."""

    async def lately(self, tenant: str, queue_id: str, now: int) -> Sequence[PastVisit]:
        """At most KEPT_VISITS visits that ended within KEPT_MS of `now`, those that entered last; in any order.

        Raises StorageUnavailable."""
        ...


# --- set-up ------------------------------------------------------------------------------------------


AdminListener = Callable[[str, str, str], Awaitable[None]]
"""`on_admin_change(tenant, kind, id)`, called after the commit. Kinds: user, skill, queue, entry_point,
disposition, break_reason. It must be quick and must not raise."""


class AdminTransaction(Protocol):
    """Reads and writes of one transaction; it commits when its block ends without an exception."""

    async def get(self, kind: type[R], tenant: str, record_id: str) -> R | None: ...

    async def page(self, kind: type[R], tenant: str, limit: int, after: tuple[int, str] | None = None) -> tuple[R, ...]:
        """Ordered by (position, id); a kind without a position has 0."""
        ...

    async def add(self, record: Record) -> None:
        """Raises Duplicate when a name, login or key is taken."""
        ...

    async def save(self, record: Record) -> bool:
        """Write a changed record, its `version` one above the stored one; False when the stored one differs.
        Raises Duplicate."""
        ...

    async def remove(self, record: Record) -> None: ...

    async def audit(self, entry: AuditEntry) -> None: ...

    async def add_tenant(self, tenant: str, name: str, at: int) -> None:
        """Nothing happens when it exists."""
        ...

    async def user_by_login(self, login: str) -> User | None:
        """Logins are unique across tenants: a tenant is found by login."""
        ...

    async def active_admins(self, tenant: str) -> tuple[str, ...]:
        """Ids of the active admins, locked until the transaction ends."""
        ...

    async def skill_users(self, tenant: str, skill_id: str) -> tuple[tuple[str, str], ...]:
        """What refers to a skill, as (kind, name): queues and users."""
        ...

    async def entry_points_of(self, tenant: str, queue_id: str) -> tuple[str, ...]:
        """Names of the active entry points that lead to a queue."""
        ...

    async def add_login(self, login: LoginSession) -> None: ...

    async def login_session(self, token_hash: str) -> tuple[LoginSession, User] | None: ...

    async def end_login(self, token_hash: str) -> None: ...

    async def end_logins(self, user_id: str) -> None: ...

    async def drop_expired_logins(self, now_ms: int) -> None: ...


class AdminRepository(Protocol):
    def reading(self) -> AbstractAsyncContextManager[AdminTransaction]:
        """A transaction that only reads."""
        ...

    def writing(self) -> AbstractAsyncContextManager[AdminTransaction]:
        """A transaction that takes the write lock at once: what it read still holds when it writes."""
        ...


class Duplicate(Exception):
    """A unique value is taken. `field` is login, name or key."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} is taken")
        self.field = field


# --- what the routing and recording services answer --------------------------------------------------


class Availability(Protocol):
    def agents_ready(self, tenant: str, queue_id: str) -> bool:
        """True when some agent of the queue could take a session now."""
        ...


class Explanations(Protocol):
    def explain(self, tenant: str, session_id: str) -> Mapping[str, object] | None:
        """Why a session that waits is not offered, in the form of server/routing/reasons.py with `held` and `place`;
        None for one that does not wait, or that this node does not know yet."""
        ...


Side = Literal["customer", "agent", "stereo"]


@dataclass(frozen=True, slots=True)
class FileReady:
    """`filename` is what a download is called. `etag`: its SHA-256 where the row tells it, else its file's tag. Who
    gets it closes the sound."""

    sound: Sound
    etag: str
    content_type: str
    filename: str


@dataclass(frozen=True, slots=True)
class Rendering:
    """The stereo file is being made; ask again after `retry_after_s`."""

    retry_after_s: int


class NotReady(Exception):
    """There is no file for this recording (yet, or any more): the API answers 409 recording_not_ready."""


class Unreadable(Exception):
    """The recording's file is there and can't be opened: it was changed, or its key is not here."""


class RecordingFiles(Protocol):
    async def file(self, tenant: str, recording_id: str, side: Side) -> FileReady | Rendering:
        """Raises NotReady, Unreadable. The caller has checked that the recording exists and may be heard."""
        ...


class Readiness(Protocol):
    async def problems(self) -> list[str]:
        """What keeps this node from serving, in words for an operator; empty when it is ready."""
        ...


# --- what if -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WhatIfJob:
    """A span `since` ≤ t < `until` (UTC epoch ms; `now` is a moment after it), and a change as in
    `whatif/change.py`; empty for none. The same `seed` draws the same patience and talks."""

    tenant: str
    since: int
    until: int
    now: int
    seed: int
    change: Mapping[str, object]


class NotPlayed(Exception):
    """`code`: nothing_to_play, bad_change (`faults` are lines "place: message"), whatif_busy, whatif_too_long,
    whatif_failed (ours)."""

    def __init__(self, code: str, message: str, faults: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.faults = faults


class WhatIfPlayer(Protocol):
    async def play(self, job: WhatIfJob) -> Mapping[str, object]:
        """The answer of `whatif/answer.py`. Takes seconds up to most of a minute. Raises NotPlayed."""
        ...
