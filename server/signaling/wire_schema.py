"""Prints the JSON Schema of the wire messages, from which `npm run types` makes `web/core/src/wire.ts`.

One document whose `$defs` hold every client message, view, push and ack of `protocol.py`. What a client sends
is described as it is validated (a field with a default may be left out); what the server sends, as it is
serialised (every field is there). Named literals, such as `LegState`, are lifted into `$defs` of their own,
since pydantic writes them out at each use.
"""

from __future__ import annotations

import json
import sys
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from server.signaling import protocol

FROM_CLIENT: dict[str, Any] = {
    "CustomerMessage": protocol.CustomerMessage,
    "AgentMessage": protocol.AgentMessage,
}
PUSHES: dict[str, Any] = {"CustomerPush": protocol.CustomerPush, "AgentPush": protocol.AgentPush}
FROM_SERVER: tuple[type[BaseModel], ...] = (
    protocol.CustomerSync,
    protocol.AgentSync,
    protocol.IceServers,
    protocol.WireError,
    protocol.CustomerEnvelope,
    protocol.AgentEnvelope,
    protocol.CustomerStream,
    protocol.AgentStream,
    protocol.Ping,
    protocol.Pong,
)
LITERALS: dict[str, Any] = {
    "LegState": protocol.LegState,
    "SegmentState": protocol.SegmentState,
    "CallState": protocol.CallState,
    "AgentState": protocol.AgentState,
    "ChosenState": protocol.ChosenState,
    "RecordingState": protocol.RecordingState,
}


class _Generator(GenerateJsonSchema):
    """What is serialised always carries its fields, those with a default included."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        return self.mode == "serialization" or super().field_is_required(field, total)


def wire_schema() -> dict[str, Any]:
    """The JSON Schema document (draft 2020-12), deterministic for a given protocol.py."""
    sent: list[tuple[Any, Any]] = [(model, "validation") for union in FROM_CLIENT.values() for model in _members(union)]
    received: list[tuple[Any, Any]] = [(model, "serialization") for model in FROM_SERVER]
    _, document = models_json_schema(
        [*dict.fromkeys(sent), *received], ref_template="#/$defs/{model}", schema_generator=_Generator
    )
    defs: dict[str, Any] = {name: _tidy(schema) for name, schema in document["$defs"].items()}
    for name, union in (FROM_CLIENT | PUSHES).items():
        defs[name] = {"oneOf": [{"$ref": f"#/$defs/{model.__name__}"} for model in _members(union)]}
    for name, literal in LITERALS.items():
        defs[name] = {"enum": list(get_args(literal)), "type": "string"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Wire",
        "description": f"Wire version {protocol.WIRE_VERSION}",
        "$defs": dict(sorted(defs.items())),
    }


def _members(union: Any) -> tuple[type[BaseModel], ...]:
    """The models of `Annotated[A | B, Field(discriminator=…)]`."""
    return get_args(get_args(union)[0])


def _tidy(node: Any, *, in_properties: bool = False) -> Any:
    """Without pydantic's titles and defaults, and with named literals and pushes as references."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    if not in_properties:
        for name, literal in LITERALS.items():
            if node.get("enum") == list(get_args(literal)):
                return {"$ref": f"#/$defs/{name}"}
        for name, union in PUSHES.items():
            refs = [{"$ref": f"#/$defs/{model.__name__}"} for model in _members(union)]
            if node.get("oneOf") == refs:
                return {"$ref": f"#/$defs/{name}"}
    dropped = set() if in_properties else {"title", "default", "discriminator"}
    return {
        key: _tidy(value, in_properties=key == "properties" and not in_properties)
        for key, value in node.items()
        if key not in dropped
    }


if __name__ == "__main__":
    json.dump(wire_schema(), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")
