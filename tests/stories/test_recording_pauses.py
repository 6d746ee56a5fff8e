"""Pauses of a recording, its marks, and what follows when it fails: what the worker is told and people read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from server.domain.history import EventRow
from server.domain.machine import Refused, Stale
from server.domain.media import ApplyPlan, RecordingFailed, RecordingOrder
from server.domain.queue_life import QueueLife, WhenUnrecorded
from server.domain.recording import Recording
from server.domain.recording_marks import Mark, marks_of
from server.metrics import Metrics
from server.services.tokens import CustomerToken
from tests.helpers.deployments import Deployment
from tests.helpers.world import World, world


@pytest.fixture
async def w(tmp_path: Path, own_or_shared: Deployment) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def life(w: World, **changed: Any) -> None:
    """Of all queues."""
    w.directory.queue_list = [replace(q, life=QueueLife(**changed)) for q in w.directory.queue_list]


async def talk(w: World) -> CustomerToken:
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana")
    return call


async def pause(w: World, call: CustomerToken, paused: bool = True) -> None:
    owner = (await w.session(call)).owner
    assert owner is not None
    await w.core.sessions.pause_recording(w.user("ana"), call.session_id, owner.id, paused)


def order(w: World, call: CustomerToken) -> RecordingOrder:
    """What the worker does."""
    twin = w.engine.session(call.session_id)
    assert twin is not None
    assert twin.plan.recording is not None
    return twin.plan.recording


async def read(w: World) -> list[tuple[str, str | None]]:
    """What Ana has read of her recording, each change once."""
    found: list[tuple[str, str | None]] = []
    for push in await w.pushes("usr_ana"):
        contact = push.get("contact")
        if contact and contact["state"] in ("talking", "held"):
            told = contact["recording"], contact["recording_change"]
            if found[-1:] != [told]:
                found.append(told)
    return found


async def recording(w: World, call: CustomerToken) -> Recording:
    (found,) = (await w.session(call)).recordings
    return found


async def marks(w: World, call: CustomerToken) -> list[Mark]:
    rows = await w.rows(
        "SELECT version, at, type, body FROM session_event WHERE session_id = ? ORDER BY version", call.session_id
    )
    return list(
        marks_of(
            await recording(w, call), [EventRow(version, at, kind, _body(body)) for version, at, kind, body in rows]
        )
    )


def _body(value: Any) -> dict[str, Any]:
    return dict(json.loads(value) if isinstance(value, str) else value)


async def test_the_agent_reads_paused_when_the_worker_has_said_so(w: World) -> None:
    call = await talk(w)
    await w.after(10)
    await pause(w, call)
    assert (await read(w))[-1] == ("on", "pause"), "it still records"
    await w.settle()
    assert order(w, call).paused
    assert (await read(w))[-1] == ("paused", None)
    await w.after(30)
    await pause(w, call, False)
    assert (await read(w))[-1] == ("paused", "resume")
    await w.settle()
    assert not order(w, call).paused
    assert await read(w) == [("on", None), ("on", "pause"), ("paused", None), ("paused", "resume"), ("on", None)]
    with pytest.raises(Stale):
        await pause(w, call, False)
    (one,) = (await recording(w, call)).pauses
    assert one.since is not None
    assert one.until is not None
    assert 30_000 <= one.until - one.since < 31_000
    said = await w.rows("SELECT COUNT(*) FROM session_event WHERE type = 'RecordingPauseSaid'")
    assert said == [(2,)]


async def test_a_pause_that_was_forgotten_ends_by_itself(w: World) -> None:
    life(w, pause_limit_s=120)
    call = await talk(w)
    await pause(w, call)
    await w.settle()
    resumes_at = [p["contact"]["recording_resumes_at"] for p in await w.pushes("usr_ana") if "contact" in p][-1]
    assert resumes_at == (await recording(w, call)).pauses[0].asked_at + 120_000
    await w.after(119)
    assert order(w, call).paused
    await w.after(2)
    assert not order(w, call).paused
    assert (await read(w))[-1] == ("on", None)
    assert [p["contact"]["recording_resumes_at"] for p in await w.pushes("usr_ana") if "contact" in p][-1] is None


async def test_without_a_limit_a_pause_lasts(w: World) -> None:
    life(w, pause_limit_s=0)
    call = await talk(w)
    await pause(w, call)
    await w.after(4_000)
    assert order(w, call).paused


async def test_a_new_place_starts_paused(w: World) -> None:
    call = await talk(w)
    await pause(w, call)
    await w.settle()
    before = await w.session(call)
    assert before.worker_id is not None
    await w.engine.kill(before.worker_id)
    await w.settle()
    plans = [o.plan.recording for _, stamp, o in w.engine.orders if isinstance(o, ApplyPlan) and stamp.epoch == 2]
    assert [p.paused for p in plans if p is not None] == [True] * len([p for p in plans if p is not None])
    assert order(w, call).part == 2
    assert (await read(w))[-1] == ("paused", None)


async def test_a_pause_that_a_dying_worker_never_took_holds_in_the_new_place(w: World) -> None:
    call = await talk(w)
    before = await w.session(call)
    assert before.worker_id is not None
    await w.engine.kill(before.worker_id, silent=True)
    await pause(w, call)
    assert ("on", "pause") in await read(w)  # and the move may have begun by itself
    await w.settle()
    assert (await w.session(call)).epoch == 2
    assert order(w, call).paused
    assert (await read(w))[-1] == ("paused", None)


async def test_who_may_pause_and_when(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    segment = (await w.session(call)).ringing[0]
    with pytest.raises(Refused, match="not_in_call"):
        await w.core.sessions.pause_recording(w.user("ana"), call.session_id, segment.id, True)
    with pytest.raises(Refused, match="not_your_contact"):
        await w.core.sessions.pause_recording(w.user("bo"), call.session_id, segment.id, True)
    w.directory.queue_list = [replace(q, record=False) for q in w.directory.queue_list]
    await w.accept(call, "ana")
    other = await w.call()
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    await w.core.sessions.wrap_up(w.user("ana"), call.session_id, segment.id, "", "dsp_sold")
    await w.settle()
    await w.accept(other, "ana")
    with pytest.raises(Refused, match="not_recording"):
        await pause(w, other)


async def test_marks_lie_where_they_are_heard(w: World) -> None:
    call = await talk(w)
    owner = (await w.session(call)).owner
    assert owner is not None
    sessions, ana = w.core.sessions, w.user("ana")
    await w.after(10)
    await sessions.mark_recording(ana, call.session_id, owner.id)
    await w.after(10)
    await pause(w, call)
    await w.settle()
    await w.after(60)
    await pause(w, call, False)
    await w.settle()
    await w.after(10)
    await sessions.hold(ana, call.session_id, owner.id, True)
    await w.after(20)
    await sessions.hold(ana, call.session_id, owner.id, False)
    await sessions.mark_recording(ana, call.session_id, owner.id)
    await sessions.hold(ana, call.session_id, owner.id, True)
    await w.after(5)
    await sessions.agent_hang_up(ana, call.session_id, owner.id)
    await w.settle()
    found = [(mark.kind, round(mark.at_ms / 1000), round(mark.length_ms / 1000)) for mark in await marks(w, call)]
    assert found == [
        ("talk", 0, 0), ("mark", 10, 0), ("pause", 20, 60), ("hold", 30, 20), ("mark", 50, 0), ("hold", 50, 5),
    ]  # fmt: skip


@pytest.mark.parametrize("policy", list(WhenUnrecorded))
async def test_a_full_disk(w: World, policy: WhenUnrecorded) -> None:
    life(w, when_unrecorded=policy)
    call = await talk(w)
    session = await w.session(call)
    assert session.worker_id is not None
    registry = CollectorRegistry()
    w.core.stepper.listen(Metrics(registry))
    failed = RecordingFailed(session.recordings[0].id, 1, "disk_full")
    for _ in range(2):  # a report may come twice
        await w.engine.report(session.worker_id, session.id, failed, epoch=1)
        await w.settle()
    assert registry.get_sample_value("patchbay_recordings_broken_total", {"code": "disk_full"}) == 1
    session = await w.session(call)
    if policy is WhenUnrecorded.GO_ON:
        assert (session.state, (await read(w))[-1][0]) == ("connected", "failed")
        with pytest.raises(Refused, match="not_recording"):
            await pause(w, call)
    else:
        assert (session.state, session.end_reason) == ("ended", "not_recorded")
        assert session.segments[0].end_reason == "not_recorded"
        assert session.recordings[0].broken == "disk_full"
