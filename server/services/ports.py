"""What the services need of the outside, as Protocols. Each has a real adapter and an in-memory twin
under one contract test (tests/contract/)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from server.domain.media import MediaOrder, MediaReport

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
    """What an order yielded. `sdp` is set for `OpenLeg` only: the worker's answer."""

    sdp: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A connected worker. `load` counts live legs; `incarnation` changes with each start of the process."""

    worker_id: str
    incarnation: str
    load: int
    capacity: int
    draining: bool = False


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
    stale_generation, unknown_session, worker_gone, worker_timeout, internal."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class LegTelemetry:
    """Once a second per leg; a stream apart from reports, may be lost."""

    session_id: str
    leg_id: str
    packets_in: int
    packets_out: int
    lost: int
    jitter_ms: float
    level_dbov: int  # 0 loudest … -127 silence, RFC 6464; -127 when the peer sends no level


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
        """The connected workers that take new sessions, least loaded first."""
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


# --- time --------------------------------------------------------------------------------------------


class Clock(Protocol):
    """UTC as epoch milliseconds: the database's offset + the monotonic clock. Never jumps backwards."""

    def now_ms(self) -> int: ...


Callback = Callable[[], Awaitable[None]]
