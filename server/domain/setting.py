"""Numbers of settings, as JSON has them."""

from __future__ import annotations

from typing import Any

MOST = 1_000_000_000


def whole(value: Any) -> int:
    """A whole number from 0 to MOST. Raises ValueError for anything else: JSON may hold a text, null or true there."""
    if type(value) is not int or not 0 <= value <= MOST:
        raise ValueError(f"a whole number is wanted, not {value!r}")
    return value
