"""Domain values to JSON and back, through pydantic's adapters for the plain dataclasses of the domain."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, get_args

from pydantic import TypeAdapter

from server.domain import agent as ag
from server.domain import events as ev
from server.domain import media
from server.domain.agent import Agent
from server.domain.session import Session

SESSION: TypeAdapter[Session] = TypeAdapter(Session)
AGENT: TypeAdapter[Agent] = TypeAdapter(Agent)


class _Tagged:
    """A union of dataclasses, told apart by the class's name beside the body."""

    def __init__(self, union: Any, unlogged: frozenset[str] = frozenset()) -> None:
        self._types = {cls.__name__: cls for cls in get_args(union)}
        self._adapters: dict[str, TypeAdapter[Any]] = {name: TypeAdapter(cls) for name, cls in self._types.items()}
        self._exclude = {name: {field.name for field in fields(cls)} & unlogged for name, cls in self._types.items()}

    def dump(self, value: Any) -> tuple[str, str]:
        """(type name, JSON text)."""
        name = type(value).__name__
        return name, self._adapters[name].dump_json(value, exclude=self._exclude[name]).decode()

    def load(self, name: str, body: str) -> Any:
        return self._adapters[name].validate_json(body)


EVENTS = _Tagged(ev.Event, ev.UNLOGGED)
AGENT_EVENTS = _Tagged(ag.AgentEvent)
_ORDERS = _Tagged(media.MediaOrder)


def dump_order(order: media.MediaOrder) -> str:
    name, body = _ORDERS.dump(order)
    return f'{{"type":"{name}","body":{body}}}'


def load_order(text: str) -> media.MediaOrder:
    data = json.loads(text)
    order: media.MediaOrder = _ORDERS.load(data["type"], json.dumps(data["body"]))
    return order
