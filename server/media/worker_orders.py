"""Orders to a media worker as JSON; worker_protocol.py has the table of messages."""

from __future__ import annotations

from dataclasses import asdict

from server.domain.media import (
    AnswerLeg,
    ApplyPlan,
    MediaOrder,
    MediaPlan,
    OfferLeg,
    OpenLeg,
    RecordingOrder,
    ReleaseSession,
    Route,
    SendDigits,
)
from server.media.worker_protocol import Json, ProtocolError, field
from server.services.ports import OrderStamp


def order_to_json(order: MediaOrder, waited_ms: int = 0) -> Json:
    """`waited_ms`: since the order was dated."""
    match order:
        case OpenLeg():
            return {"kind": "open_leg", **asdict(order)}
        case OfferLeg():
            return {"kind": "offer_leg", **asdict(order)}
        case AnswerLeg():
            return {"kind": "answer_leg", **asdict(order)}
        case SendDigits():
            return {"kind": "send_digits", **asdict(order)}
        case ApplyPlan(plan):
            return {
                "kind": "apply_plan",
                "routes": [[route.leg_id, route.hears] for route in plan.routes],
                "recording": None if plan.recording is None else _recording_to_json(plan.recording, waited_ms),
            } | _turns_to_json(plan)
        case ReleaseSession():
            return {"kind": "release"}


def _turns_to_json(plan: MediaPlan) -> Json:
    turns = [[route.leg_id, route.hears, route.turn, route.barge_in] for route in plan.routes if route.turn]
    return {"turns": turns} if turns else {}


def _recording_to_json(order: RecordingOrder, waited_ms: int) -> Json:
    body = asdict(order)
    del body["started_at"]  # by a clock that the worker does not have
    return body | {"at_ms": None if order.at_ms is None else order.at_ms + waited_ms}


def order_from_json(body: Json) -> MediaOrder:
    match field(body, "kind", str):
        case "open_leg":
            plain = "plain" in body and field(body, "plain", bool)
            return OpenLeg(field(body, "leg_id", str), field(body, "generation", int), field(body, "sdp", str), plain)
        case "offer_leg":
            leg_id, generation = field(body, "leg_id", str), field(body, "generation", int)
            return OfferLeg(leg_id, generation, _texts(body, "codecs"), field(body, "secure", bool))
        case "answer_leg":
            return AnswerLeg(field(body, "leg_id", str), field(body, "generation", int), field(body, "sdp", str))
        case "send_digits":
            return SendDigits(field(body, "leg_id", str), field(body, "digits", str))
        case "apply_plan":
            return ApplyPlan(MediaPlan(_routes(body), _recording(body)))
        case "release":
            return ReleaseSession()
        case kind:
            raise ProtocolError(f"unknown order {kind!r}")


def _texts(body: Json, name: str) -> tuple[str, ...]:
    items = field(body, name, list)
    if not all(isinstance(item, str) for item in items):
        raise ProtocolError(f"field {name!r} must hold texts")
    return tuple(items)


def _routes(body: Json) -> tuple[Route, ...]:
    routes = []
    turns = {}
    for item in field(body, "turns", list) if "turns" in body else ():
        match item:
            case [str() as leg_id, str() as hears, int() as turn, bool() as barge_in] if turn > 0:
                turns[leg_id, hears] = turn, barge_in
            case _:
                raise ProtocolError("field 'turns' must hold [leg_id, hears, turn, barge_in]")
    for pair in field(body, "routes", list):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(item, str) for item in pair)):
            raise ProtocolError("field 'routes' must hold [leg_id, hears] pairs")
        routes.append(Route(pair[0], pair[1], *turns.get((pair[0], pair[1]), ())))
    return tuple(routes)


def _recording(body: Json) -> RecordingOrder | None:
    if body.get("recording") is None:
        return None
    value = field(body, "recording", dict)
    return RecordingOrder(
        recording_id=field(value, "recording_id", str),
        part=field(value, "part", int),
        customer_leg=field(value, "customer_leg", str),
        agent_leg=field(value, "agent_leg", str),
        paused=field(value, "paused", bool),
        at_ms=None if value.get("at_ms") is None else field(value, "at_ms", int),
        without_agent="without_agent" in value and field(value, "without_agent", bool),
    )


def stamp_to_json(stamp: OrderStamp) -> Json:
    return asdict(stamp)


def stamp_from_json(body: Json) -> OrderStamp:
    return OrderStamp(
        tenant=field(body, "tenant", str),
        session_id=field(body, "session_id", str),
        epoch=field(body, "epoch", int),
        version=field(body, "version", int),
        index=field(body, "index", int),
    )
