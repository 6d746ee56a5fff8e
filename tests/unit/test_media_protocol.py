"""Worker messages: what is encoded is decoded again, and anything else is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain import media
from server.media import worker_orders
from server.media import worker_protocol as wire
from server.services.ports import LegTelemetry, OrderStamp, WorkerInfo, WorkerLeg

text = st.text(max_size=8)
number = st.integers(0, 1 << 40)
recordings = st.builds(
    media.RecordingOrder, text, number, text, text, st.booleans(), st.none(), st.none() | st.integers(0, 1 << 40)
)
routes = st.builds(media.Route, text, text) | st.builds(media.Route, text, text, st.integers(1, 1 << 40), st.booleans())
plans = st.builds(
    media.MediaPlan,
    st.lists(routes, max_size=3, unique_by=lambda route: (route.leg_id, route.hears)).map(tuple),
    st.none() | recordings,
)
orders = (
    st.builds(media.OpenLeg, text, number, text, st.booleans())
    | st.builds(media.OfferLeg, text, number, st.lists(text, max_size=3).map(tuple), st.booleans())
    | st.builds(media.AnswerLeg, text, number, text)
    | st.builds(media.SendDigits, text, text)
    | st.builds(media.ApplyPlan, plans)
    | st.builds(media.ReleaseSession)
)
reports = (
    st.builds(media.LegUp, text, number)
    | st.builds(media.LegDown, text, number, text)
    | st.builds(media.LegQuiet, text, number, st.booleans(), number, st.booleans())
    | st.builds(media.DigitPressed, text, number, text, number)
    | st.builds(media.PromptEnded, text, text, number, st.sampled_from(media.PromptEnd))
    | st.builds(media.PartClosed, text, number)
    | st.builds(media.RecordingFailed, text, number, text)
)


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@given(orders)
def test_orders(order: media.MediaOrder) -> None:
    assert worker_orders.order_from_json(through_json(worker_orders.order_to_json(order))) == order


def test_an_order_tells_how_late_it_is_when_it_is_sent() -> None:
    order = media.ApplyPlan(media.MediaPlan((), media.RecordingOrder("r", 2, "c", "a", started_at=5_000)))
    dated = media.dated(order, 5_500)
    sent = worker_orders.order_to_json(dated, waited_ms=40)["recording"]
    assert sent["at_ms"] == 540
    assert "started_at" not in sent, "a worker has no clock to compare it with"
    early, late = media.dated(order, 4_990), media.dated(order, 5_001 + media.LONGEST_TALK_MS)
    told = [worker_orders.order_to_json(one, waited_ms=40)["recording"]["at_ms"] for one in (order, early, late)]
    assert told == [None, 40, None]
    assert media.dated(media.ReleaseSession(), 5_500) == media.ReleaseSession()
    without = worker_orders.order_to_json(dated)
    del without["recording"]["at_ms"]  # of a node that does not know the field
    assert worker_orders.order_from_json(without) == media.ApplyPlan(
        media.MediaPlan((), media.RecordingOrder("r", 2, "c", "a"))
    )
    without["recording"]["at_ms"] = "soon"
    with pytest.raises(wire.ProtocolError):
        worker_orders.order_from_json(without)


@given(reports)
def test_reports(report: media.MediaReport) -> None:
    assert wire.report_from_json(through_json(wire.report_to_json(report))) == report


@given(st.builds(OrderStamp, text, text, number, number, number))
def test_stamps(stamp: OrderStamp) -> None:
    assert worker_orders.stamp_from_json(through_json(worker_orders.stamp_to_json(stamp))) == stamp


def test_legs_and_telemetry() -> None:
    legs = (WorkerLeg("s", "l", 1, 2, 0.5),)
    assert wire.legs_from_json(through_json({"legs": wire.legs_to_json(legs)})) == legs
    known = LegTelemetry("s", "l", 1, 2, 3, 4.5, -30, "opus", 0.25, -1, 2.5, 31.0)
    telemetry = (LegTelemetry("s", "l", 1, 2, 3, 4.5, -30), known)
    assert wire.telemetry_from_json(through_json({"legs": wire.telemetry_to_json(telemetry)})) == telemetry
    older = {"session_id": "s", "leg_id": "l", "packets_in": 1, "packets_out": 2, "lost": 3, "jitter_ms": 4.5}
    assert wire.telemetry_from_json({"legs": [older | {"level_dbov": -30}]}) == telemetry[:1], "from an older worker"


infos = st.builds(
    WorkerInfo, text, text, number, number, st.booleans(),
    st.none() | st.floats(0, 100), st.none() | st.floats(0, 8),
)  # fmt: skip


@given(infos, infos)
def test_a_worker_s_state(first: WorkerInfo, then: WorkerInfo) -> None:
    assert wire.info_from_json(through_json(wire.info_to_json(first))) == first
    news = through_json(wire.news_to_json(then))
    same = replace(then, worker_id=first.worker_id, incarnation=first.incarnation, capacity=first.capacity)
    assert wire.with_news(first, news) == same
    older = {name: news[name] for name in ("load", "draining")}
    assert wire.with_news(first, older) == replace(same, loop_lag_s=None, cpu_share=None)
    with pytest.raises(wire.ProtocolError):
        wire.with_news(first, news | {"cpu_share": "much"})


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"v":1}', '{"v":2,"type":"ack"}', '{"v":1,"type":7}'],
)
def test_bad_frames(text: str) -> None:
    with pytest.raises(wire.ProtocolError):
        wire.decode(text)


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"kind": "dance"},
        {"kind": "open_leg", "leg_id": "a", "generation": True, "sdp": ""},
        {"kind": "open_leg", "leg_id": "a", "generation": 1, "sdp": "", "plain": "yes"},
        {"kind": "offer_leg", "leg_id": "a", "generation": 1, "codecs": [7], "secure": False},
        {"kind": "answer_leg", "leg_id": "a", "sdp": ""},
        {"kind": "send_digits", "leg_id": "a", "digits": 1},
        {"kind": "apply_plan", "routes": [["a"]]},
        {"kind": "apply_plan", "routes": [], "recording": {"recording_id": "r"}},
    ],
)
def test_bad_orders(order: dict[str, Any]) -> None:
    with pytest.raises(wire.ProtocolError):
        worker_orders.order_from_json(order)
