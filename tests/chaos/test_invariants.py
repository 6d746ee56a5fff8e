"""The checker of the chaos runs sees what it is there to see: each fault that is planted in a good history is found,
and by the invariant that it breaks."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from server.media.ogg import OggOpusWriter
from server.services.sessions import SessionService
from tests.helpers import invariants as inv
from tests.helpers.free_agents import nobody_waits_in_vain
from tests.helpers.light_peer import PACKET_S, PITCHES_HZ, Ear, encode_tone
from tests.helpers.world import TENANT, World, world

NAMES = ("ana", "bo")


async def history(w: World, folder: Path) -> dict[str, str]:
    """Three calls, the third one missed and then left; what is recorded has files. Names by session."""
    await w.ready(*NAMES)
    sessions: SessionService = w.core.sessions
    calls = []
    for number in range(3):
        w.clock.advance(0.01)
        calls.append(await w.call())
        await w.rows("UPDATE session SET customer_name = ? WHERE id = ?", f"c{number}", calls[-1].session_id)
    for call in calls[:2]:
        name = await w.offered_to(call)
        assert name is not None
        await w.accept(call, name)
    await w.after(5.0)
    for call in calls[:2]:
        owner = (await w.session(call)).owner
        assert owner is not None
        name = owner.agent_id.removeprefix("usr_")
        await sessions.agent_hang_up(w.user(name), call.session_id, owner.id)
        await w.settle()
        await w.after(2.0)
        await sessions.wrap_up(w.user(name), call.session_id, owner.id, "", "dsp_sold")
        await w.settle()
    assert await w.offered_to(calls[2]) is not None
    await sessions.customer_hang_up(calls[2])
    await w.settle()
    for id_, session_id, length in await w.rows(
        "SELECT r.id, r.session_id, s.talk_ended_at - s.talk_started_at FROM recording r"
        " JOIN segment s ON s.id = r.segment_id"
    ):
        archive = {}
        for side in PITCHES_HZ:
            path = folder / TENANT / session_id / f"{id_}.{side}.opus"
            path.parent.mkdir(parents=True, exist_ok=True)
            data = opus(PITCHES_HZ[side], length)
            path.write_bytes(data)
            archive[side] = {
                "file": path.name,
                "sha256": hashlib.sha256(data).hexdigest(),
                "size_bytes": len(data),
            }
        await w.rows("UPDATE recording SET archive = ?, duration_ms = ? WHERE id = ?", json.dumps(archive), length, id_)
    return {call.session_id: f"c{number}" for number, call in enumerate(calls)}


def opus(pitch_hz: float, length_ms: int) -> bytes:
    """A file of the light peers' tone."""
    pages: list[bytes] = []
    writer = OggOpusWriter(1, pages.append)
    tone = encode_tone(pitch_hz)
    for count in range(int(length_ms / 1000 / PACKET_S) + 1):
        writer.add(tone[count % len(tone)] + bytes(4))
    writer.finish(length_ms * 48)
    return b"".join(pages)


def verdicts(w: World, names: Mapping[str, str], folder: Path) -> dict[str, inv.Verdict]:
    log = inv.read_log(w.database)
    log.skilled = {"que_sales": frozenset(f"usr_{name}" for name in NAMES)}
    now = w.clock.now_ms()
    found = [
        inv.none_lost_or_doubled(log, names, ended=True),
        inv.rows_are_folds(log),
        inv.only_allowed_steps(log),
        inv.capacity_kept(log),
        inv.order_kept(log, ()),
        inv.deadlines_kept(log, (), now),
        inv.seconds_add_up(log, now),
        inv.recordings_whole(log, folder),
        inv.nothing_left(log),
        nobody_waits_in_vain(log, log.skilled, (), 2_500)[0],
    ]
    return {verdict.name: verdict for verdict in found}


ONCE, FOLDS = "each session once, in one state", "rows are the folds of their events"
LOAD, ORDER, DEADLINES = "load within capacity", "order within a queue", "no offer outlives its deadline"
SECONDS, RECORDINGS, LEFT = "agents' seconds add up", "recordings are whole and playable", "nothing is left to do"
IDLE = "nobody waits while a fitting agent is free"
FIRST = "(SELECT id FROM session WHERE customer_name = 'c0')"
LEFT_QUEUE = "type = 'CustomerHungUp'"
LAST = "(SELECT id FROM session WHERE customer_name = 'c2')"
PLANTED: list[tuple[str, str, Callable[[Path], object] | None]] = [
    (ONCE, f"DELETE FROM session WHERE id = {LAST}", None),
    (ONCE, f"UPDATE session SET customer_name = 'c1' WHERE id = {LAST}", None),
    (ONCE, f"DELETE FROM session_event WHERE session_id = {LAST} AND {LEFT_QUEUE}", None),
    (FOLDS, f"UPDATE session_event SET version = version + 1 WHERE session_id = {LAST} AND {LEFT_QUEUE}", None),
    (FOLDS, "UPDATE session SET body = json_set(body, '$.priority', 4)", None),
    (FOLDS, "UPDATE session SET ended_at = ended_at + 1", None),
    (FOLDS, f"UPDATE segment SET state = 'talking' WHERE session_id = {FIRST}", None),
    (FOLDS, f"DELETE FROM queue_visit WHERE session_id = {FIRST}", None),
    (FOLDS, "UPDATE agent SET body = json_set(body, '$.live', json('false'))", None),
    (FOLDS, "INSERT INTO segment SELECT 'seg_x', tenant, session_id, number, agent_id, queue_id, state, offered_at,"
            " accepted_at, talk_started_at, talk_ended_at, hold_ms, done_at, end_reason, disposition_id, notes"
            f" FROM segment WHERE session_id = {FIRST}", None),
    (LOAD, "UPDATE segment SET agent_id = 'usr_ana'", None),
    (ORDER, f"UPDATE session_event SET at = at - 3000 WHERE session_id = {LAST}"
            " AND (type = 'CallArrived' OR type LIKE 'Leg%')", None),
    (IDLE, "UPDATE agent_event SET at = at - 3000 WHERE type = 'ContactReleased'", None),
    (DEADLINES, f"UPDATE session_event SET at = at + 30000 WHERE session_id = {LAST} AND {LEFT_QUEUE}", None),
    (SECONDS, "UPDATE agent_event SET at = at + 100 WHERE type = 'ContactReleased'", None),
    (RECORDINGS, "UPDATE recording SET duration_ms = duration_ms + 201", None),
    (RECORDINGS, "DELETE FROM recording", None),
    (RECORDINGS, "", lambda folder: next(folder.glob("*/*/*.opus")).unlink()),
    (RECORDINGS, "", lambda folder: next(folder.glob("*/*")).joinpath("rec_x.opus").touch()),
    (RECORDINGS, "", lambda folder: next(folder.glob("*/*/*.opus")).write_bytes(b"OggS")),
    (LEFT, "INSERT INTO order_lease (session_id, node_id, expires_at) VALUES ('ses_x', 'nod_x', 0)", None),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "recordings"


async def test_a_good_history_holds(tmp_path: Path, folder: Path) -> None:
    async with world(tmp_path) as w:
        names = await history(w, folder)
        for verdict in verdicts(w, names, folder).values():
            assert verdict.holds, verdict


@pytest.mark.parametrize(("broken", "sql", "harm"), PLANTED)
async def test_what_is_planted_is_found(
    tmp_path: Path, folder: Path, broken: str, sql: str, harm: Callable[[Path], object] | None
) -> None:
    async with world(tmp_path) as w:
        names = await history(w, folder)
        if sql:
            await w.rows(sql)
        if harm is not None:
            await asyncio.to_thread(harm, folder)
        found = {name: verdict for name, verdict in verdicts(w, names, folder).items() if not verdict.holds}
        assert broken in found, found


@pytest.mark.parametrize("fault", ["", "gap", "stranger", "deaf"])
async def test_who_hears_whom_is_read_from_the_ears(tmp_path: Path, folder: Path, fault: str) -> None:
    async with world(tmp_path) as w:
        names = await history(w, folder)
        log = inv.read_log(w.database)
        numbers = inv.Numbers(dict(zip(names, (1, 2, 3), strict=True)), {"usr_ana": 11, "usr_bo": 12}, 0.0)
        began = min(s.talk_started_at for x in log.sessions.values() for s in x.segments if s.talk_started_at) / 1000
        said = [began + n * PACKET_S for n in range(200)]
        ears = {1: {11: said}, 11: {1: said}, 2: {12: said}, 12: {2: said}}
        if fault == "gap":
            ears[12] = {2: said[:20] + said[40:]}
        if fault == "stranger":
            ears[1] = {11: said, 2: said[30:31]}
        if fault == "deaf":
            ears[1] = {}
        heard = inv.Verdict("heard")
        talks = inv.talks(log, {who: Ear(of, 0) for who, of in ears.items()}, numbers, heard)
        assert heard.holds == (fault in ("", "gap")), heard
        assert (max(talk.longest_s for talk in talks) > 1.0) == (fault == "gap")
