"""The messages between a control node and a media worker: JSON objects on a WebSocket, one per text frame.

Every message has `v` (1) and `type`. Unknown fields are ignored, unknown types and malformed fields raise
`ProtocolError`: both sides are ours, so a malformed message is a bug and never silently skipped.

| direction | type | fields |
| --- | --- | --- |
| worker → client | hello | worker_id, capacity, incarnation, and its state; first message of a connection |
| client → worker | order | id, stamp {tenant, session_id, epoch, version, index}, order {kind, …} |
| worker → client | result | id, ok, sdp or null; or ok false, error {code, message} |
| worker → client | report | seq, session_id, epoch, report {kind, …} |
| client → worker | ack | seq: this report is safe; fine to repeat |
| client → worker | list_legs | id; the answer is `legs` |
| worker → client | legs | id, legs [{session_id, leg_id, generation, epoch, age_s}] |
| client → worker | close_leg | id, session_id, leg_id; the answer is `result` |
| client → worker | drain | id; the answer is `result`; new sessions go elsewhere, live ones may be moved |
| worker → client | telemetry | once a second, and as a drain begins: its state, legs [LegTelemetry], maybe none |

Orders: open_leg {leg_id, generation, sdp, plain}, apply_plan {routes [[leg_id, hears]], turns [[leg_id, hears, turn,
barge_in]], recording or null}, release {};
for phones offer_leg {leg_id, generation, codecs [name], secure} and answer_leg {leg_id, generation, sdp}; send_digits
{leg_id, digits}. `plain` is missing in the messages of nodes that know no phones. `turns` says which of the routes are
prompts that are played once; it is missing where there are none, and an older worker plays those in a loop.
A recording is {recording_id, part, customer_leg, agent_leg, paused, at_ms, without_agent}; at_ms, how far into the talk
the order is sent, may be null. The last two are missing in the messages of nodes that do not know them yet. Reports:
leg_up, leg_down, leg_quiet, digit_pressed, prompt_ended, part_closed, recording_failed with the fields of
`server.domain.media`. Orders are read and written by worker_orders.py.

A worker's state is load, draining, loop_lag_s and cpu_share; the last two may be null, or missing in the messages of
older workers.

Several control connections may be open, of several control nodes. Each report goes to one of them, and to another one
when that is gone or acknowledges nothing for 3 s (relay/reports.py); the newest connection gets the legs' telemetry,
the others a telemetry without legs, as a sign of life.

The same socket answers plain requests: GET /v1/info (the hello), and /v1/parts (relay/parts.py). A worker that listens
on the network serves all of it over TLS, and to whoever shows `Authorization: Bearer <token>` only; else it answers
401, {"error": {"code": "bad_token"}}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

from server.domain.media import (
    DigitPressed,
    LegDown,
    LegQuiet,
    LegUp,
    MediaReport,
    PartClosed,
    PromptEnd,
    PromptEnded,
    RecordingFailed,
)
from server.services.ports import LegTelemetry, WorkerInfo, WorkerLeg

VERSION = 1
CONTROL_PATH = "/v1/control"
INFO_PATH = "/v1/info"  # the hello as a plain GET, for whoever only wants to know
PARTS_PATH = "/v1/parts"
MAX_MESSAGE_BYTES = 1 << 20  # an SDP is at most 64 KiB; 400 legs of telemetry are about 80 KiB

Json = dict[str, Any]
T = TypeVar("T")


class ProtocolError(ValueError):
    """A message that breaks the table above; the text names the field."""


def encode(kind: str, **fields: object) -> str:
    """One message as a text frame."""
    return json.dumps({"v": VERSION, "type": kind, **fields}, separators=(",", ":"))


def decode(text: str) -> tuple[str, Json]:
    """Type and fields of a text frame. Raises ProtocolError."""
    try:
        message = json.loads(text)
    except ValueError as error:
        raise ProtocolError(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise ProtocolError("not an object")
    if message.get("v") != VERSION:
        raise ProtocolError(f"version {message.get('v')!r}; this side speaks {VERSION}")
    return field(message, "type", str), message


def field(message: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """A field of exactly this type (a bool is no int). Raises ProtocolError."""
    value = message.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ProtocolError(f"field {name!r} must be {kind.__name__}")
    return value


def number(message: Mapping[str, Any], name: str) -> float:
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ProtocolError(f"field {name!r} must be a number")
    return float(value)


def _number_or_none(message: Mapping[str, Any], name: str) -> float | None:
    return None if message.get(name) is None else number(message, name)


def objects(message: Mapping[str, Any], name: str) -> list[Json]:
    items = field(message, name, list)
    if not all(isinstance(item, dict) for item in items):
        raise ProtocolError(f"field {name!r} must hold objects")
    return items


# --- reports -----------------------------------------------------------------------------------------

_REPORTS: dict[str, type[MediaReport]] = {
    "leg_up": LegUp,
    "leg_down": LegDown,
    "leg_quiet": LegQuiet,
    "digit_pressed": DigitPressed,
    "prompt_ended": PromptEnded,
    "part_closed": PartClosed,
    "recording_failed": RecordingFailed,
}
_REPORT_NAMES = {kind: name for name, kind in _REPORTS.items()}


def report_to_json(report: MediaReport) -> Json:
    return {"kind": _REPORT_NAMES[type(report)], **asdict(report)}


def report_from_json(body: Json) -> MediaReport:
    match field(body, "kind", str):
        case "leg_up":
            return LegUp(field(body, "leg_id", str), field(body, "generation", int))
        case "leg_down":
            generation = field(body, "generation", int)
            return LegDown(field(body, "leg_id", str), generation, field(body, "reason", str))
        case "leg_quiet":
            generation = field(body, "generation", int)
            quiet, change = field(body, "quiet", bool), field(body, "change", int)
            silent = "silent" in body and field(body, "silent", bool)  # older workers do not say
            return LegQuiet(field(body, "leg_id", str), generation, quiet, change, silent)
        case "digit_pressed":
            leg_id, generation = field(body, "leg_id", str), field(body, "generation", int)
            return DigitPressed(leg_id, generation, field(body, "digit", str), field(body, "number", int))
        case "prompt_ended":
            leg_id, reason = field(body, "leg_id", str), field(body, "reason", str)
            if reason not in frozenset(PromptEnd):
                raise ProtocolError(f"unknown end of a prompt {reason!r}")
            return PromptEnded(leg_id, field(body, "prompt", str), field(body, "turn", int), PromptEnd(reason))
        case "part_closed":
            return PartClosed(field(body, "recording_id", str), field(body, "part", int))
        case "recording_failed":
            part = field(body, "part", int)
            return RecordingFailed(field(body, "recording_id", str), part, field(body, "code", str))
        case kind:
            raise ProtocolError(f"unknown report {kind!r}")


# --- facts about the worker ---------------------------------------------------------------------------


def info_to_json(info: WorkerInfo) -> Json:
    return asdict(info)


def info_from_json(message: Json) -> WorkerInfo:
    return WorkerInfo(
        worker_id=field(message, "worker_id", str),
        incarnation=field(message, "incarnation", str),
        load=field(message, "load", int),
        capacity=field(message, "capacity", int),
        draining=field(message, "draining", bool),
        loop_lag_s=_number_or_none(message, "loop_lag_s"),
        cpu_share=_number_or_none(message, "cpu_share"),
    )


def news_to_json(info: WorkerInfo) -> Json:
    """What changes while a worker lives."""
    state = asdict(info)
    return {name: state[name] for name in ("load", "draining", "loop_lag_s", "cpu_share")}


def with_news(info: WorkerInfo, message: Json) -> WorkerInfo:
    return replace(
        info,
        load=field(message, "load", int),
        draining=field(message, "draining", bool),
        loop_lag_s=_number_or_none(message, "loop_lag_s"),
        cpu_share=_number_or_none(message, "cpu_share"),
    )


def legs_to_json(legs: Sequence[WorkerLeg]) -> list[Json]:
    return [asdict(leg) for leg in legs]


def legs_from_json(message: Json) -> tuple[WorkerLeg, ...]:
    return tuple(
        WorkerLeg(
            session_id=field(leg, "session_id", str),
            leg_id=field(leg, "leg_id", str),
            generation=field(leg, "generation", int),
            epoch=field(leg, "epoch", int),
            age_s=number(leg, "age_s"),
        )
        for leg in objects(message, "legs")
    )


def telemetry_to_json(legs: Sequence[LegTelemetry]) -> list[Json]:
    return [asdict(leg) for leg in legs]


def telemetry_from_json(message: Json) -> tuple[LegTelemetry, ...]:
    return tuple(
        LegTelemetry(
            session_id=field(leg, "session_id", str),
            leg_id=field(leg, "leg_id", str),
            packets_in=field(leg, "packets_in", int),
            packets_out=field(leg, "packets_out", int),
            lost=field(leg, "lost", int),
            jitter_ms=number(leg, "jitter_ms"),
            level_dbov=field(leg, "level_dbov", int),
            codec=field(leg, "codec", str) if "codec" in leg else "",
            loss_out=_number_or_none(leg, "loss_out"),
            lost_out=field(leg, "lost_out", int) if leg.get("lost_out") is not None else None,
            jitter_out_ms=_number_or_none(leg, "jitter_out_ms"),
            rtt_ms=_number_or_none(leg, "rtt_ms"),
        )
        for leg in objects(message, "legs")
    )
