"""A page of set-up records, in the shape that all lists have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel

from server.domain.administration import R
from server.signaling.rest.endpoint import Call, Nothing
from server.signaling.rest.models import Page, PageQuery, cursor_of, read_cursor

V = TypeVar("V", bound=BaseModel)


async def record_page(call: Call[Nothing, PageQuery], kind: type[R], view: Callable[[R], V]) -> Page[V]:
    """One more row than asked for is read: it tells whether another page follows."""
    limit = call.query.limit
    found = await call.deps.admin.page(call.user, kind, limit + 1, read_cursor(call.query.cursor))
    shown = found[:limit]
    more = cursor_of(getattr(shown[-1], "position", 0), shown[-1].id) if len(found) > limit else None
    # Any: an unbound type variable would be written out as the empty base model.
    return Page[Any](items=[view(record) for record in shown], next=more)
