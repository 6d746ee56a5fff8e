"""What the nouns of the API share: field types, pages of lists, ids."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Annotated, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from server.services.refusals import Refused

MAX_MS = 2**53 - 1  # what JavaScript counts exactly
# No control characters: they hide in lists and break PostgreSQL (NUL) and CSV exports (line ends).
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")


class RestModel(BaseModel):
    """Answers, and the base of what comes in."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _printable(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("no control characters")
    return value


Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_\-]+$")]
Ms = Annotated[int, Field(ge=0, le=MAX_MS, description="UTC epoch milliseconds")]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100),
    AfterValidator(_printable),
]
Version = Annotated[int, Field(ge=1, le=MAX_MS, description="the version that this change is based on")]
Position = Annotated[int, Field(ge=0, le=100_000)]
Locale = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$", max_length=35)]

T = TypeVar("T", bound=BaseModel)


class Page(RestModel, Generic[T]):
    """A page of a list; `next` is the cursor of the following one."""

    items: list[T]
    next: str | None


class PageQuery(RestModel):
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, Field(max_length=200)] | None = None


def cursor_of(position: int, record_id: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([position, record_id]).encode()).decode()


def read_cursor(cursor: str | None) -> tuple[int, str] | None:
    """Where a page begins. Raises Refused: invalid."""
    if cursor is None:
        return None
    try:
        position, record_id = json.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
    except (ValueError, TypeError, binascii.Error):
        raise Refused("invalid", "this cursor is not one of ours") from None
    whole = isinstance(position, int) and isinstance(record_id, str) and 0 <= position <= MAX_MS
    if not whole or "\x00" in record_id:
        raise Refused("invalid", "this cursor is not one of ours")
    return position, record_id


def given(model: BaseModel) -> dict[str, object]:
    """The fields that a PATCH names, apart from `version`. Null is as good as absent."""
    fields = model.model_fields_set - {"version"}
    return {name: getattr(model, name) for name in fields if getattr(model, name) is not None}
