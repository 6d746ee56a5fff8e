"""The floor: the agents as supervisors see them now. Values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FloorContact:
    """`since` is when its `state` (as in `domain.agent.ContactState`) began."""

    session_id: str
    segment_id: str
    channel: str
    state: str
    queue_name: str
    customer_name: str
    since: int


@dataclass(frozen=True, slots=True)
class FloorNext:
    state: str
    reason_id: str | None
    forced_by: str | None


@dataclass(frozen=True, slots=True)
class FloorAgent:
    """`since` is None for somebody who was never here. `live`: their console answers; `fault`: and can't take calls.
    `forced_by` is the supervisor who chose the state."""

    user_id: str
    name: str
    state: str
    reason_id: str | None
    since: int | None
    live: bool
    fault: str | None
    forced_by: str | None
    next_state: FloorNext | None
    contacts: tuple[FloorContact, ...]


@dataclass(frozen=True, slots=True)
class FloorFilter:
    """`text` is part of a name; `on_duty` leaves out who is offline."""

    text: str | None = None
    on_duty: bool = False
