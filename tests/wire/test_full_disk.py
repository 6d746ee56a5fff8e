"""The disk fills up during a call: the call goes on, the screens say so, and what was there before is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from server.caller import Caller, CallFailed
from server.media.capture import read_capture
from server.services.seed import DEMO_KEYS
from tests.helpers.full_disk import SmallDisk, small_disk
from tests.helpers.scripted_agent import AgentRefused, ScriptedAgent
from tests.helpers.system import PASSWORD, System, system, until

SPOOL_KIB = 96  # a few seconds of two sides
DATA_KIB = 24 * 1024
FULL_WITHIN_S = 40.0
ARCHIVE_S = 60.0


async def test_the_spool_fills_up_during_a_call(tmp_path: Path) -> None:
    disk = small_disk(tmp_path / "data" / "spool", SPOOL_KIB)
    async with system(tmp_path, workers=1, wrapper=disk.wrapper) as patchbay:
        disk.limit(patchbay)
        async with ScriptedAgent(patchbay.url, "ana", PASSWORD, auto_accept=True) as ana:
            await ana.set_state("ready")
            caller = Caller(patchbay.url, patchbay.widget_key())
            await caller.begin()
            contact = await ana.contact("talking")
            assert contact["recording"] == "on"
            await ana.until(lambda: ana.current["recording"] == "failed", "recording failed", FULL_WITHIN_S)
            assert caller.view["recording"] == "failed"
            assert caller.peer is not None
            assert ana.peer is not None
            await asyncio.gather(caller.peer.wait_tone(880), ana.peer.wait_tone(440))
            assert ana.current["state"] == "talking", "the call goes on"
            kept = [read_capture(path.read_bytes()) for path in disk.seen_from_here(patchbay).rglob("*.cap")]
            assert len(kept) == 2
            assert all(segments[0].packets for segments in kept), "what was recorded before is readable"
            await ana.hang_up()

            row = await _archived(patchbay)
            assert (row["state"], row["reason"]) == ("ready", "disk_full")
            talk_ms = patchbay.rows("SELECT talk_ended_at - talk_started_at FROM segment")[0][0]
            assert 500 < row["duration_ms"] < talk_ms
            facts = await ana.rest("GET", f"/recordings/{row['id']}")
            assert (facts["state"], facts["reason"]) == ("ready", "disk_full")
            for side in ("customer", "agent", "stereo"):
                assert await _sound(patchbay.url, ana, row["id"], side) > 1000, side
            await _and_the_next_call(patchbay, ana, caller, disk)
        log = patchbay.log.read_text()
        assert '"event": "recording_failed"' in log
        assert "Traceback" not in log, log[-3000:]


async def _and_the_next_call(patchbay: System, ana: ScriptedAgent, first: Caller, disk: SmallDisk) -> None:
    """The parts of the first are discarded: there is room again, and the next call is recorded."""
    await first.close()
    dispositions = (await ana.rest("GET", "/dispositions"))["items"]
    await ana.wrap_up(dispositions[0]["disposition_id"])
    await ana.in_state("ready")
    caller = Caller(patchbay.url, patchbay.widget_key())
    await caller.begin()
    contact = await ana.contact("talking")
    assert contact["recording"] == "on"
    await caller.hang_up()
    await ana.contact("wrap_up", contact["session_id"])

    async def both() -> bool:
        return [row[0] for row in patchbay.rows("SELECT state FROM recording ORDER BY started_at")] == ["ready"] * 2

    await until(both, ARCHIVE_S, "the second recording")
    await ana.wrap_up(dispositions[0]["disposition_id"])
    await caller.close()


async def _archived(patchbay: System) -> dict[str, Any]:
    columns = ("id", "state", "reason", "duration_ms")

    async def settled() -> dict[str, Any] | None:
        ((*values,),) = patchbay.rows(f"SELECT {', '.join(columns)} FROM recording")
        row = dict(zip(columns, values, strict=True))
        return row if row["state"] in ("ready", "failed") else None

    found: dict[str, Any] = await until(settled, ARCHIVE_S, "the archive")
    return found


async def _sound(url: str, agent: ScriptedAgent, recording_id: str, side: str) -> int:
    """The size of a side's audio, once it is there."""
    async with aiohttp.ClientSession(cookies={"patchbay_session": agent._cookie}) as http:

        async def there() -> int:
            async with http.get(f"{url}/api/v1/recordings/{recording_id}/audio?side={side}") as answer:
                assert answer.status in (200, 202), await answer.text()
                return len(await answer.read()) if answer.status == 200 else 0

        return int(await until(there, ARCHIVE_S, f"{side} audio"))


async def test_the_whole_data_folder_is_full(tmp_path: Path) -> None:
    """Database, recordings and all: refused with a code, the live call goes on, and all is well when there is room."""
    disk = small_disk(tmp_path / "data", DATA_KIB)
    assert disk.mounted, "this machine lets us mount nothing; what remains is tests/contract/test_full_database.py"
    async with system(tmp_path, workers=1, wrapper=disk.wrapper) as patchbay:
        async with ScriptedAgent(patchbay.url, "ana", PASSWORD, auto_accept=True) as ana:
            await ana.set_state("ready")
            caller = Caller(patchbay.url, DEMO_KEYS["Sales"])
            await caller.begin()
            contact = await ana.contact("talking")
            ballast = disk.fill(patchbay)
            saved = await _notes_until_refused(ana, contact)
            with pytest.raises(CallFailed, match="storage_unavailable"):
                await caller.hang_up()
            with pytest.raises(AgentRefused, match="storage_unavailable"):
                await ana.hang_up()
            async with aiohttp.ClientSession() as http:
                login = {"login": "bo", "password": PASSWORD}
                async with http.post(f"{patchbay.url}/api/v1/login", json=login) as answer:
                    assert (answer.status, (await answer.json())["error"]["code"]) == (503, "storage_unavailable")
                    assert "Retry-After" in answer.headers
                async with http.get(f"{patchbay.url}/healthz") as answer:
                    assert answer.status == 200
            assert (await ana.rest("GET", "/sessions"))["items"], "what is there can be read"
            assert caller.peer is not None
            assert ana.peer is not None
            await asyncio.gather(caller.peer.wait_tone(880), ana.peer.wait_tone(440))

            ballast.unlink()
            await caller.hang_up()
            await ana.contact("wrap_up")
            assert (await ana.send("sync", {}))["contacts"][0]["notes"] == saved, "what was saved is there, no more"
            await ana.wrap_up((await ana.rest("GET", "/dispositions"))["items"][0]["disposition_id"])
            await ana.in_state("ready")

            async def archived() -> bool:
                recordings = (await ana.rest("GET", "/sessions"))["items"][0]["recordings"]
                return [one["state"] for one in recordings] == ["ready"]

            await until(archived, ARCHIVE_S, "the recording")
            await caller.close()
        log = patchbay.log.read_text()
        for fault in ("socket_handler_failed", "loop_failed", "tab_failed", "part_ended"):
            assert fault not in log, log[max(0, log.index(fault) - 1000) :][:3000]


async def _notes_until_refused(agent: ScriptedAgent, contact: dict[str, Any]) -> str:
    """Save longer and longer notes; those that were saved last."""
    ids = {"session_id": contact["session_id"], "segment_id": contact["segment_id"], "disposition_id": None}
    saved = ""
    for length in range(1, 2000):
        notes = "x" * length
        try:
            await agent.send("contact.notes", {**ids, "notes": notes})
        except AgentRefused as refusal:
            if refusal.code == "storage_unavailable":
                return saved
            if refusal.code != "rate_limited":
                raise
            await asyncio.sleep(0.1)
        else:
            saved = notes
    raise AssertionError("the disk was never full")
