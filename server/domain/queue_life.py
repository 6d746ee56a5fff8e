"""What may happen to a session in a queue other than being answered: what admins set, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class QueueLife:
    """Nothing yet but waiting without an end."""


LIFE = QueueLife()


def life_to_json(life: QueueLife) -> dict[str, object]:
    return {}


def life_from_json(value: Mapping[str, Any]) -> QueueLife:
    return LIFE
