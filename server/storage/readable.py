"""Rows whose JSON this version can't read: a newer version wrote them during an upgrade, or a fault did.

Such a row must not take the others with it. A list leaves it out; whoever asks for it by its id hears so. Each look at
it is counted (patchbay_rows_unreadable_total); the log names it once in LOG_AGAIN_S.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, TypeVar

import structlog
from pydantic import TypeAdapter, ValidationError

from server.domain.agent import Agent
from server.domain.session import Session
from server.probes import note
from server.services.ports import SeenAgent, Unreadable
from server.storage import codec
from server.storage.step_rows import connection_of

log = structlog.get_logger()
LOG_AGAIN_S = 60.0  # a look comes every few seconds
TOLD_KEPT = 1_000
PORTION = 200  # rows: some 10 ms

T = TypeVar("T")
_told: dict[str, float] = {}  # id -> when the log named it


def session(row_id: str, body: str) -> Session:
    """Raises Unreadable."""
    return _read(codec.SESSION, "session", row_id, body)


def agent(row_id: str, body: str) -> Agent:
    """Raises Unreadable."""
    return _read(codec.AGENT, "agent", row_id, body)


async def sessions(rows: Iterable[tuple[str, str]]) -> list[Session]:
    """Those of (id, body) that can be read; sockets are served meanwhile."""
    return await _in_portions(codec.SESSION, "session", rows)


async def agents(rows: Iterable[tuple[str, str]]) -> list[Agent]:
    """Those of (id, body) that can be read; sockets are served meanwhile."""
    return await _in_portions(codec.AGENT, "agent", rows)


def seen_agents(rows: Iterable[tuple[str, str, str | None, str | None]]) -> list[SeenAgent]:
    """Those of (id, body, node id, tab id) that can be read."""
    found = []
    for user_id, body, *tab in rows:
        found += [SeenAgent(one, connection_of(*tab)) for one in _readable(codec.AGENT, "agent", [(user_id, body)])]
    return found


async def _in_portions(adapter: TypeAdapter[T], kind: str, rows: Iterable[tuple[str, str]]) -> list[T]:
    """Tens of thousands of agents take a second or more."""
    left, found = iter(rows), []
    while portion := list(islice(left, PORTION)):
        found += _readable(adapter, kind, portion)
        await asyncio.sleep(0)
    return found


def _readable(adapter: TypeAdapter[T], kind: str, rows: Iterable[tuple[str, str]]) -> list[T]:
    found = []
    for row_id, body in rows:
        try:
            found.append(_read(adapter, kind, row_id, body))
        except Unreadable:
            continue
    return found


def _read(adapter: TypeAdapter[T], kind: str, row_id: str, body: str) -> T:
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        note("unreadable", kind)
        faults = [{"at": ".".join(map(str, fault["loc"])), "fault": fault["type"]} for fault in error.errors()[:3]]
        _tell(kind, row_id, faults)
        raise Unreadable(kind, row_id) from error


def tell_faults(kind: str, row_id: str, parts: Sequence[str]) -> None:
    """Parts of a row that are read as something harmless. Nothing is told of none."""
    if parts:
        note("unreadable", kind)
        _tell(kind, row_id, [{"at": part, "fault": "not understood"} for part in parts])


def _tell(kind: str, row_id: str, faults: list[dict[str, Any]]) -> None:
    """Where it broke, and never what it says."""
    now = time.monotonic()
    if now - _told.get(row_id, float("-inf")) < LOG_AGAIN_S:
        return
    if len(_told) >= TOLD_KEPT:
        _told.clear()
    _told[row_id] = now
    named = {f"{kind}_id": row_id}
    remedy = "a newer version wrote it: upgrade this node; or the row is broken: mend it by hand"
    log.error("row_unreadable", kind=kind, faults=faults, remedy=remedy, **named)
