"""PURE: what is wrong in a file that a person wrote: every fault with its place, all of them at once."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Table = Mapping[str, Any]


class BadFile(Exception):
    """`faults` are lines, each with the place that it is about."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class Faults:
    """Collects them, so that one look at a file finds all."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def add(self, place: str, message: str) -> None:
        self._found.append(f"{place}: {message}")

    def raise_if_any(self) -> None:
        if self._found:
            raise BadFile(self._found)

    def unknown(self, place: str, table: Table, known: Iterable[str]) -> None:
        """Names that mean nothing."""
        names = sorted(known)
        for name in table:
            if name not in names:
                self.add(f"{place}.{name}" if place else name, f"unknown; known here: {', '.join(names)}")

    def whole(self, place: str, value: object, low: int, high: int) -> int:
        """A whole number in a range; `low` after a fault."""
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.add(place, f"a whole number from {low} to {high} is wanted, not {value!r}")
        return low

    def number(self, place: str, value: object, low: float, high: float) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            return float(value)
        self.add(place, f"a number from {low:g} to {high:g} is wanted, not {value!r}")
        return low

    def text(self, place: str, value: object) -> str:
        if isinstance(value, str):
            return value
        self.add(place, f"text is wanted, not {value!r}")
        return ""

    def flag(self, place: str, value: object) -> bool:
        if isinstance(value, bool):
            return value
        self.add(place, f"true or false is wanted, not {value!r}")
        return False

    def table(self, place: str, value: object) -> Table:
        if isinstance(value, Mapping):
            return value
        self.add(place, "a table is wanted")
        return {}

    def tables(self, place: str, value: object) -> list[tuple[str, Table]]:
        """Each with its own place."""
        if isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
            return [(f"{place}[{number}]", one) for number, one in enumerate(value, 1)]
        self.add(place, "a list of tables is wanted")
        return []


def one_of(named: str, found: Mapping[str, list[str]], faults: Faults, place: str) -> str | None:
    """The id behind a name (any case) or an id. `found`: ids by casefolded name."""
    ids = found.get(named.casefold(), [])
    if len(ids) == 1:
        return ids[0]
    if not ids:
        faults.add(place, f"there is no {named!r}")
    else:
        faults.add(place, f"{named!r} is the name of several; use an id: {', '.join(sorted(ids))}")
    return None


def read(text: str, *, is_json: bool) -> Table:
    """The whole file. Raises BadFile with the line."""
    parse: Callable[[str], Any] = json.loads if is_json else tomllib.loads
    try:
        found = parse(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadFile([str(error)]) from None
    if not isinstance(found, dict):
        raise BadFile(["a table is wanted at the top"])
    return found
