"""What an admin set for a queue, read so that one row can't take the others with it: a newer version's strategy, a time
zone that this machine does not know, or a fault's JSON.

Each part that can't be read gets a value that does no harm, and is told as in readable.py: the longest idle first; of a
requirement that nobody understands it is not known who meets it, so nobody is asked; no steps, no limits, always open;
UTC. Only readers get these: who edits a queue reads it as it is, so that nothing is overwritten by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from server.domain.queue_life import LIFE, QueueLife, life_from_json
from server.domain.queue_routing import ROUTING, QueueRouting, routing_from_json
from server.domain.requirements import AnyOf, to_json
from server.storage.readable import tell_faults

T = TypeVar("T")
UTC = "UTC"
_HARMLESS: dict[str, Any] = {
    "strategy": ROUTING.strategy.value,
    "requirement": to_json(AnyOf(())),
    "steps": [],
    "priority": ROUTING.priority,
    "grow_s": ROUTING.grow_s,
    "weight": ROUTING.weight,
    "sticky_s": ROUTING.sticky_s,
    "time_zone": ROUTING.time_zone,
    "wrap_up_extend_s": ROUTING.wrap_up_extend_s,
    "wrap_up_extensions": ROUTING.wrap_up_extensions,
}
FAULTS = (KeyError, ValueError, TypeError, AttributeError, RecursionError)


def routing_of(queue_id: str, value: Any) -> QueueRouting:
    faults: list[str] = []
    routing = _read(routing_from_json, value)
    if routing is None:
        parts = dict(_HARMLESS)
        given = value if isinstance(value, Mapping) else {}
        for name in _HARMLESS:
            if name in given and _read(routing_from_json, parts | {name: given[name]}) is not None:
                parts[name] = given[name]
            else:
                faults.append(f"routing.{name}")
        routing = routing_from_json(parts)
    if not _known(routing.time_zone):
        faults.append("routing.time_zone")
        routing = replace(routing, time_zone=UTC)
    tell_faults("queue", queue_id, faults)
    return routing


def life_of(queue_id: str, value: Any) -> QueueLife:
    life = _read(life_from_json, value)
    if life is None:
        tell_faults("queue", queue_id, ["life"])
        return LIFE
    if life.hours is not None and not _known(life.hours.time_zone):
        tell_faults("queue", queue_id, ["life.hours.time_zone"])
        return replace(life, hours=replace(life.hours, time_zone=UTC))
    return life


def _read(decode: Callable[[Any], T], value: Any) -> T | None:
    try:
        return decode(value)
    except FAULTS:
        return None


def _known(time_zone: str) -> bool:
    try:
        return time_zone == UTC or bool(ZoneInfo(time_zone).key)
    except (*FAULTS, OSError):
        return False
