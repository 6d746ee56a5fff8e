"""Sessions and recordings: what is listed, who sees it, and the sound."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import pytest

from server.domain import events as ev
from server.domain.directory import DEFAULT_TENANT, Role
from server.media.archive_files import sound_name
from server.media.sounds import open_sound
from server.media.vault import CHUNK_BYTES, SealedWriter
from server.services.admin_ports import FileReady, Rendering, Unreadable
from server.services.seed import DEMO_KEYS
from tests.helpers.rest_world import OTHER, World, code, open_world
from tests.helpers.sealing import RING

T0 = 1_790_000_000_000


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def _session(world: World, number: int, agent: str | None, tenant: str = DEFAULT_TENANT) -> str:
    """A session of `number` minutes after T0: waited 10 s, talked 60 s with `agent`, recorded."""
    entry = await world.deps.directory.entry_point_by_key(DEMO_KEYS["Sales"])
    assert entry is not None
    session_id, at = f"ses_{number:03}", T0 + number * 60_000
    await world.insert(
        "session",
        id=session_id,
        tenant=tenant,
        version=3,
        state="ended" if agent else "queued",
        done=bool(agent),
        channel="voice",
        entry_point_id=entry.entry_point_id,
        queue_id=entry.queue_id,
        customer_name=f"Kund_{number} 100%",
        epoch=1,
        created_at=at,
        talk_started_at=at + 10_000 if agent else None,
        ended_at=at + 70_000 if agent else None,
        end_reason="customer_hung_up" if agent else None,
        body={},
    )
    await world.insert(
        "queue_visit",
        id=f"vis_{number}",
        tenant=tenant,
        session_id=session_id,
        queue_id=entry.queue_id,
        entered_at=at + 500,
        outcome="answered" if agent else None,
    )
    await world.insert(
        "session_event", session_id=session_id, version=1, tenant=tenant, at=at, type="CallRequested", body={"a": 1}
    )
    if agent is not None:
        user = await world.user(agent)
        await world.insert(
            "segment",
            id=f"seg_{number}",
            tenant=tenant,
            session_id=session_id,
            number=1,
            agent_id=user.id,
            queue_id=entry.queue_id,
            state="done",
            offered_at=at + 5_000,
            accepted_at=at + 8_000,
            talk_started_at=at + 10_000,
            talk_ended_at=at + 70_000,
            hold_ms=0,
            disposition_id=next(iter(await world.deps.directory.disposition_ids(DEFAULT_TENANT))),
            notes="likes tripods",
        )
        await world.insert(
            "recording",
            id=f"rec_{number}",
            tenant=tenant,
            session_id=session_id,
            segment_id=f"seg_{number}",
            state="ready",
            started_at=at + 10_000,
            parts=1,
            duration_ms=60_000,
            size_bytes=1234,
            archive={
                "customer": {"file": "c.ogg", "sha256": "aa", "size_bytes": 600},
                "agent": {"file": "a.ogg", "sha256": "bb", "size_bytes": 634},
                "peaks": {"customer": [0, 255], "agent": [1, 2]},
            },
        )
    return session_id


async def test_the_list_newest_first_in_pages(world: World) -> None:
    ids = [await _session(world, number, "ana") for number in range(5)]
    api = await world.logged_in(Role.SUPERVISOR)
    first = await api.get("/api/v1/sessions?limit=3")
    second = await api.get(f"/api/v1/sessions?limit=3&cursor={first['next']}")
    assert [row["session_id"] for row in first["items"] + second["items"]] == ids[::-1]
    assert second["next"] is None
    row = first["items"][0]
    assert (row["queue_name"], row["talk_ms"], row["end_reason"]) == ("Sales", 60_000, "customer_hung_up")
    assert (row["queued_at"], row["agents"][0]["name"]) == (T0 + 4 * 60_000 + 500, "Ana Duarte")
    assert row["disposition_name"]
    assert row["recordings"] == [{"recording_id": "rec_4", "duration_ms": 60_000, "state": "ready"}]


async def test_filters(world: World) -> None:
    await _session(world, 1, "ana")
    await _session(world, 2, "bo")
    await _session(world, 3, None)
    api = await world.logged_in(Role.SUPERVISOR)
    bo = await world.user("bo")
    for query, expected in (
        ("state=queued", ["ses_003"]),
        (f"agent_id={bo.id}", ["ses_002"]),
        (f"from={T0 + 2 * 60_000}", ["ses_003", "ses_002"]),
        (f"to={T0 + 2 * 60_000}", ["ses_001"]),
        ("q=kund_2", ["ses_002"]),
        ("q=100%25", ["ses_003", "ses_002", "ses_001"]),
        ("q=%25x", []),
        ("q=ses_001", ["ses_001"]),
        ("queue_id=que_none", []),
    ):
        rows = (await api.get(f"/api/v1/sessions?{query}"))["items"]
        assert [row["session_id"] for row in rows] == expected, query
    for query in ("from=-1", "to=x", "state=DROP", f"from={2**70}"):
        await api.get(f"/api/v1/sessions?{query}", 422)


async def test_agents_see_only_what_they_took(world: World) -> None:
    mine, theirs = await _session(world, 1, "ana"), await _session(world, 2, "bo")
    api = await world.logged_in(Role.AGENT)
    assert [row["session_id"] for row in (await api.get("/api/v1/sessions"))["items"]] == [mine]
    assert (await api.get(f"/api/v1/sessions?agent_id={(await world.user('bo')).id}"))["items"] == []
    shown = await api.get(f"/api/v1/sessions/{mine}")
    assert shown["events"] is None
    assert shown["segments"][0]["notes"] == "likes tripods"
    await api.get(f"/api/v1/sessions/{theirs}", 404)
    await api.get("/api/v1/recordings/rec_2", 404)
    await api.get("/api/v1/recordings/rec_2/audio", 404)
    assert (await api.get("/api/v1/recordings/rec_1"))["recording_id"] == "rec_1"


async def test_supervisors_read_events(world: World) -> None:
    session_id = await _session(world, 1, "ana")
    api = await world.logged_in(Role.SUPERVISOR)
    shown = await api.get(f"/api/v1/sessions/{session_id}")
    assert shown["events"] == [{"version": 1, "at": T0 + 60_000, "type": "CallRequested", "body": {"a": 1}}]
    assert shown["visits"][0]["outcome"] == "answered"


async def test_how_each_came_in_and_how_long_somebody_talked(world: World) -> None:
    session_id, bo = await _session(world, 1, "ana"), await world.user("bo")
    at = T0 + 60_000
    for number, kind in enumerate(("AgentOffered", "GuestInvited"), 2):
        told = {"session_id": session_id, "version": number, "tenant": DEFAULT_TENANT, "at": at}
        await world.insert("session_event", **told, type=kind, body={})
    await world.insert(
        "segment", id="seg_guest", tenant=DEFAULT_TENANT, session_id=session_id, number=2, agent_id=bo.id,
        queue_id="que_1", state="done", offered_at=at + 20_000, accepted_at=at + 21_000,
        talk_started_at=at + 30_000, talk_ended_at=at + 75_000, hold_ms=0, notes="",
    )  # fmt: skip
    api = await world.logged_in(Role.SUPERVISOR)
    shown = await api.get(f"/api/v1/sessions/{session_id}")
    assert [(part["number"], part["came_as"]) for part in shown["segments"]] == [(1, "owner"), (2, "guest")]
    assert shown["talk_ms"] == 65_000, "from 10 s to 70 s, beside that from 30 s to 75 s"


async def test_another_tenants_sessions_do_not_exist(world: World) -> None:
    session_id = await _session(world, 1, "ana", tenant=OTHER)
    api = await world.logged_in(Role.ADMIN)
    assert (await api.get("/api/v1/sessions"))["items"] == []
    await api.get(f"/api/v1/sessions/{session_id}", 404)
    await api.get("/api/v1/recordings/rec_1", 404)


async def test_a_recording(world: World) -> None:
    await _session(world, 1, "ana")
    api = await world.logged_in(Role.SUPERVISOR)
    shown = await api.get("/api/v1/recordings/rec_1")
    assert shown["sha256"] == {"customer": "aa", "agent": "bb"}
    assert shown["peaks"] == {"customer": [0, 255], "agent": [1, 2]}
    assert (shown["state"], shown["parts"], shown["size_bytes"]) == ("ready", 1, 1234)


SOUND = b"OggS0123456789" * 10_000  # three chunks of a sealed file


def ready(folder: Path, *, plain: bool = False) -> FileReady:
    path = folder / "default" / "ses_1" / "rec_1.agent.opus"
    path.parent.mkdir(parents=True, exist_ok=True)
    if plain:
        path.write_bytes(SOUND)
    else:
        with path.open("wb") as file:
            writer = SealedWriter(file.write, RING.new_seal(), sound_name(path))
            writer.write(SOUND)
            writer.finish()
    return FileReady(open_sound(path, RING), "feed", "audio/ogg", "rec_1-agent.ogg")


AUDIO = "/api/v1/recordings/rec_1/audio?side=agent"


@pytest.mark.parametrize("plain", [False, True])
async def test_its_sound_in_ranges(world: World, tmp_path: Path, plain: bool) -> None:
    await _session(world, 1, "ana")
    api = await world.logged_in(Role.AGENT)

    async def send(method: str = "GET", **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
        world.files.found = ready(tmp_path, plain=plain)
        answer = await api.send(
            method, AUDIO, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        return answer.status, await answer.read(), answer.headers

    size = len(SOUND)
    status, body, headers = await send()
    assert (status, body == SOUND) == (200, True)
    assert (headers["Content-Type"], headers["ETag"], headers["Accept-Ranges"]) == ("audio/ogg", '"feed"', "bytes")
    assert headers["Cache-Control"].startswith("private")
    for asked, (first, last) in {
        "bytes=4-7": (4, 7), "bytes=0-0": (0, 0), "bytes=65530-65550": (65530, 65550),
        "bytes=99999-": (99999, size - 1), "bytes=-5": (size - 5, size - 1), "bytes=-999999": (0, size - 1),
        "bytes=1-999999": (1, size - 1),
    }.items():  # fmt: skip
        status, body, headers = await send(Range=asked)
        assert (status, body == SOUND[first : last + 1]) == (206, True), asked
        assert headers["Content-Range"] == f"bytes {first}-{last}/{size}"
    for asked in (f"bytes={size}-", "bytes=-0", "bytes=999999999-"):
        status, body, headers = await send(Range=asked)
        assert (status, headers["Content-Range"]) == (416, f"bytes */{size}"), asked
    for asked in ("bytes=7-4", "bytes=-", "bytes=0-1,4-5", "lines=1-2", "bytes=x-y"):
        status, body, _ = await send(Range=asked)
        assert (status, len(body)) == (200, size), asked
    status, body, headers = await send("HEAD", Range="bytes=4-7")
    assert (status, body, headers["Content-Length"]) == (206, b"", "4")
    status, body, headers = await send("HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(size))
    assert (await send(If_None_Match='"feed"'))[0] == 304
    assert (await send(If_None_Match='"other"'))[0] == 200
    assert (await send(Range="bytes=4-7", If_Range='"feed"'))[0] == 206
    assert (await send(Range="bytes=4-7", If_Range='"other"'))[0] == 200
    await api.get("/api/v1/recordings/rec_1/audio?side=both", 422)


async def test_sound_that_was_changed_breaks_off(world: World, tmp_path: Path) -> None:
    """What was sent before the changed chunk is right, and nobody takes the rest for whole."""
    await _session(world, 1, "ana")
    api = await world.logged_in(Role.AGENT)
    world.files.found = ready(tmp_path)
    (path,) = tmp_path.glob("*/*/*.opus")
    data = bytearray(path.read_bytes())
    data[CHUNK_BYTES + 1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(aiohttp.ClientPayloadError):
        await (await api.send("GET", AUDIO)).read()


async def test_sound_that_is_not_there_yet(world: World) -> None:
    await _session(world, 1, "ana")
    api = await world.logged_in(Role.AGENT)
    answer = await api.send("GET", "/api/v1/recordings/rec_1/audio")
    assert (answer.status, await code(answer)) == (409, "recording_not_ready")
    world.files.found = Rendering(retry_after_s=1)
    answer = await api.send("GET", "/api/v1/recordings/rec_1/audio")
    assert (answer.status, await answer.json()) == (202, {"state": "rendering"})
    assert answer.headers["Retry-After"] == "1"
    world.files.found = Unreadable("damaged: chunk 3 of 7 was changed")
    answer = await api.send("GET", "/api/v1/recordings/rec_1/audio")
    assert (answer.status, await code(answer)) == (409, "recording_unreadable")


WHY = {
    "strategy": "best_skill", "at": T0, "queue_id": "que_?", "asked": ["skill", "skl_gone", 5, 10], "step": 1,
    "sticky": None, "waited_ms": 31_000, "priority": 4, "weight": 10, "channel": "voice", "session_version": 4,
    "position": 77, "others": {"lacks_skill": 3, "break": 1},
}  # fmt: skip


async def test_why_this_agent(world: World) -> None:
    ana, bo = await world.user("ana"), await world.user("bo")
    session_id = await _session(world, 1, "ana")
    candidates = [
        {"agent_id": ana.id, "verdict": "chosen", "score": -9, "idle_ms": 5, "version": 3},
        {"agent_id": bo.id, "verdict": "able", "score": -5, "idle_ms": 50, "version": 2},
    ]
    body = {"agent_id": ana.id, "agent_name": ana.name, "why": WHY | {"candidates": candidates}}
    offered = {"session_id": session_id, "version": 2, "tenant": DEFAULT_TENANT, "at": T0, "type": "AgentOffered"}
    await world.insert("session_event", **offered, body=body)
    world.availability.reasons[session_id] = WHY | {"candidates": [], "place": 1, "held": False}
    api = await world.logged_in(Role.SUPERVISOR)
    answer = await api.get(f"/api/v1/sessions/{session_id}/routing")
    (decision,) = answer["decisions"]
    assert answer["waiting"] is None, "it ended, whatever the index knows as yet"
    assert decision["words"] == [
        "Ana Duarte was chosen: of 2 who could take it, this agent has the highest levels in the skills that are asked"
        " for.",
        "Asked for after 31 s of waiting: skl_gone >= 5.",
        "Not asked: 3 without the skills that are asked for, 1 on a break, 1 free for it, too.",
    ]
    assert [(c["agent_name"], c["verdict"], c["score"]) for c in decision["candidates"]] == [
        ("Ana Duarte", "chosen", -9.0),
        ("Bo Lindqvist", "able", -5.0),
    ]
    assert (decision["outcome"], decision["others"]) == ("answered", {"lacks_skill": 3, "break": 1})
    mine = await (await world.logged_in(Role.AGENT)).get(f"/api/v1/sessions/{session_id}/routing")
    assert [c["agent_name"] for c in mine["decisions"][0]["candidates"]] == ["Ana Duarte"], "and nobody else"
    theirs = await _session(world, 2, "bo")
    await (await world.logged_in(Role.AGENT)).get(f"/api/v1/sessions/{theirs}/routing", 404)


async def test_why_several_at_once(world: World) -> None:
    session_id, ana = await _session(world, 1, None), await world.user("ana")
    candidates = [{"agent_id": ana.id, "verdict": "chosen", "score": 5, "idle_ms": 5, "version": 3}]
    why = WHY | {"strategy": "ring_all", "ringing": 2, "others": {"able": 3, "ringing": 3}, "asked": ["and"]}
    body = {"agent_id": ana.id, "agent_name": ana.name, "why": why | {"candidates": candidates}}
    offered = {"session_id": session_id, "version": 2, "tenant": DEFAULT_TENANT, "at": T0, "type": "AgentOffered"}
    await world.insert("session_event", **offered, body=body)
    api = await world.logged_in(Role.SUPERVISOR)
    world.availability.reasons[session_id] = why | {"candidates": [], "place": 1, "held": False}
    answer = await api.get(f"/api/v1/sessions/{session_id}/routing")
    assert answer["decisions"][0]["words"] == [
        "Ana Duarte was chosen: all who could take it are asked at once, the longest idle first.",
        "Agents for whom it rang before: 2.",
        "Not asked: 1 with an offer ringing.",
    ]
    assert answer["waiting"]["words"] == [
        "It waits at place 1.",
        "Agents for whom it rings: 2. Who accepts first gets it.",
        "Not asked: 1 with an offer ringing.",
    ]


async def test_decisions_of_older_versions_are_told_too(world: World) -> None:
    session_id, ana = await _session(world, 1, "ana"), await world.user("ana")
    body = {
        "agent_id": ana.id, "agent_name": ana.name,
        "why": {"strategy": "longest_idle", "at": T0, "candidates": [
            {"agent_id": "usr_gone", "idle_ms": 9, "verdict": "lacks_skill"},
            {"agent_id": ana.id, "idle_ms": 5, "verdict": "chosen"}]},
    }  # fmt: skip
    offered = {"session_id": session_id, "version": 2, "tenant": DEFAULT_TENANT, "at": T0, "type": "AgentOffered"}
    await world.insert("session_event", **offered, body=body)
    api = await world.logged_in(Role.SUPERVISOR)
    (decision,) = (await api.get(f"/api/v1/sessions/{session_id}/routing"))["decisions"]
    assert decision["words"] == [
        "Ana Duarte was chosen: nobody else could take it.",
        "Not asked: 1 without the skills that are asked for.",
    ]


async def test_why_nobody_yet(world: World) -> None:
    session_id = await _session(world, 1, None)
    waits = WHY | {"candidates": [], "place": 3, "held": False}
    world.availability.reasons[session_id] = waits
    api = await world.logged_in(Role.SUPERVISOR)
    answer = await api.get(f"/api/v1/sessions/{session_id}/routing")
    assert answer["decisions"] == []
    assert answer["waiting"]["words"] == [
        "It waits at place 3.",
        "No agent who could take it is free.",
        "Asked for after 31 s of waiting: skl_gone >= 5.",
        "Not asked: 3 without the skills that are asked for, 1 on a break.",
    ]
    assert answer["steering"] is None, "a row that can't be read"
    world.availability.reasons[session_id] = waits | {"held": True}
    answer = await api.get(f"/api/v1/sessions/{session_id}/routing")
    assert answer["waiting"]["words"][1].startswith("It is not offered now")


async def test_steering_refuses_what_makes_no_sense(world: World) -> None:
    session_id = await _session(world, 1, "ana")
    path = f"/api/v1/sessions/{session_id}/routing"
    api = await world.logged_in(Role.SUPERVISOR)
    for body, loc in (
        ({"priority": 0}, "priority"),
        ({"requirement": "flying"}, "requirement"),
        ({"requirement": "sales >="}, "requirement"),
        ({"excluded": ["a b"]}, "excluded.0"),
        ({"preferred": ["usr_none"]}, "preferred.0"),
    ):
        answer = await api.patch(path, body, 422)
        assert [field["loc"] for field in answer["error"]["fields"]] == [loc]
    agent = await world.logged_in(Role.AGENT)
    await agent.patch(path, {"priority": 1}, 403)
    await api.patch("/api/v1/sessions/ses_none/routing", {"priority": 1}, 404)


async def test_a_supervisor_steers_a_session_that_waits(world: World) -> None:
    entry = await world.deps.directory.entry_point_by_key(DEMO_KEYS["Sales"])
    assert entry is not None
    rules = ev.QueueRules(entry.queue_id, "Sales", 20, 60, True, True)
    arrived = ev.CallArrived("ses_w", DEFAULT_TENANT, entry.entry_point_id, rules, ev.Customer("Li"), "media-1")
    await world.stepper.apply("ses_w", arrived, ev.LegOffered("leg_w_0", 1, "v=0"))
    ana = await world.user("ana")
    api = await world.logged_in(Role.SUPERVISOR)
    body = {"priority": 2, "requirement": "ENGLISH >= 3", "excluded": [ana.id]}
    answer = await api.patch("/api/v1/sessions/ses_w/routing", body)
    assert (answer["session_id"], answer["decisions"]) == ("ses_w", [])
    world.availability.reasons["ses_w"] = WHY | {"candidates": [], "place": 1, "held": False}
    seen = await api.get("/api/v1/sessions/ses_w/routing")
    steering = {"priority": 2, "requirement": "English >= 3", "preferred": [], "excluded": [ana.id]}
    assert seen["steering"] == steering
    events = (await api.get("/api/v1/sessions/ses_w"))["events"]
    (changed,) = [event["body"] for event in events if event["type"] == "RoutingChanged"]
    sam = await world.user("sam")
    assert (changed["priority"], changed["excluded"], changed["changed_by"]) == (2, [ana.id], sam.id)
    assert '"skill"' in changed["asks"]
    await world.stepper.apply("ses_w", ev.CustomerHungUp())
    refused = await api.patch("/api/v1/sessions/ses_w/routing", {"priority": 1}, 409)
    assert refused["error"]["code"] == "not_waiting"
