"""A recorded call from the worker's capture files to the archived sound."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from server.domain.media import LegUp, OpenLeg, PartClosed, RecordingFailed, RecordingOrder, ReleaseSession
from server.media.archive import ArchivedFile, ArchiveResult
from server.media.archive_audio import decode
from server.media.archive_jobs import ArchiveJobs
from server.media.capture import PartFiles, part_files, read_capture
from server.media.peer import level_dbfs, spectrum_peak
from tests.helpers.plain_peer import plain_peer
from tests.helpers.rtc_peer import Rig, running

RATE = 48_000
ORDER = RecordingOrder("rec", 1, "customer", "agent")


def files(rig: Rig, part: int = 1) -> PartFiles:
    return part_files(rig.worker.spool, "default", "s1", "rec", part)


def heard_in(side: ArchivedFile) -> np.ndarray:
    with open(side.path, "rb") as file:
        return np.concatenate(list(decode(file)))


async def archived(
    folder: Path, *parts: PartFiles, talk_ms: int | None = None
) -> tuple[ArchiveResult, np.ndarray, np.ndarray]:
    result = await ArchiveJobs().archive(parts, folder / "c.opus", folder / "a.opus", talk_ms)
    left, right = (heard_in(one) for one in (result.customer, result.agent))
    assert len(left) == len(right)
    return result, left, right


async def sound(rig: Rig, seconds: float) -> None:
    """Let the call run for some time: the length is what these tests are about."""
    await asyncio.sleep(seconds)


async def test_a_call_is_recorded_on_both_sides(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        caller, _, _ = await rig.call()
        began = time.monotonic()
        await caller.bridge(ORDER)
        await sound(rig, 3)
        await caller.bridge(None)
        length_ms = (time.monotonic() - began) * 1000
        await rig.listener.until_report(PartClosed("rec", 1))
        result, left, right = await archived(tmp_path, files(rig))
        assert abs(result.duration_ms - length_ms) < 200
        assert result.complete
        assert abs(spectrum_peak(left) - 440) < 3
        assert abs(spectrum_peak(right) - 880) < 3
        for side in (left, right):
            quiet = [level_dbfs(side[at : at + 4800]) < -40 for at in range(0, len(side) - 4800, 4800)]
            # A busy machine may hold the test's own peers up for a moment: what they did not send is quiet, rightly.
            assert sum(quiet) <= len(quiet) // 10, "no holes"


async def test_a_recording_whose_orders_came_late_is_as_long_as_the_talk(tmp_path: Path) -> None:
    """The first order is sent 800 ms into the talk; the last one, long after its end."""
    async with running(tmp_path) as rig:
        caller, _, _ = await rig.call()
        await caller.bridge(replace(ORDER, at_ms=800))
        await sound(rig, 2)
        await caller.bridge(None)
        await rig.listener.until_report(PartClosed("rec", 1))
        (segment,) = read_capture(files(rig).agent.read_bytes())
        assert segment.at_ns is not None
        assert 800 <= segment.at_ns / 1e6 < 1000, "what the order waited here is added"
        result, left, _ = await archived(tmp_path, files(rig), talk_ms=2300)
        assert (result.duration_ms, result.missing_ms, result.complete) == (2300, segment.at_ns // 1_000_000, False)
        assert level_dbfs(left[: RATE * 7 // 10]) < -70
        assert abs(spectrum_peak(left[RATE * 12 // 10 :]) - 440) < 3


async def test_a_pause_leaves_nothing_and_counts_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        caller, _, _ = await rig.call()
        began = time.monotonic()
        await caller.bridge(ORDER)
        await sound(rig, 1)
        await caller.bridge(replace(ORDER, paused=True))
        paused = time.monotonic()
        size = files(rig).customer.stat().st_size
        await sound(rig, 1.2)
        await caller.bridge(ORDER)
        paused_ms = (time.monotonic() - paused) * 1000
        assert files(rig).customer.stat().st_size - size < 200, "marks of life only"
        await sound(rig, 1)
        await caller.order(ReleaseSession())
        length_ms = (time.monotonic() - began) * 1000 - paused_ms
        result, left, _ = await archived(tmp_path, files(rig))
        assert abs(result.duration_ms - length_ms) < 200
        assert abs(spectrum_peak(left) - 440) < 3


async def test_a_re_anchor_goes_on_in_the_same_part(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        caller, _, _ = await rig.call()
        began = time.monotonic()
        await caller.bridge(ORDER)
        await sound(rig, 1)
        newer = rig.peer(600)
        await caller.open("customer", newer, generation=2)
        await rig.listener.until_report(LegUp("customer", 2))
        await sound(rig, 1)
        await caller.order(ReleaseSession())
        length_ms = (time.monotonic() - began) * 1000
        result, left, _ = await archived(tmp_path, files(rig))
        assert abs(result.duration_ms - length_ms) < 200
        assert abs(spectrum_peak(left[: RATE // 2]) - 440) < 5
        assert abs(spectrum_peak(left[-RATE // 2 :]) - 600) < 5


async def test_a_killed_worker_leaves_its_part_and_the_next_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        caller, _, _ = await rig.call()
        await caller.bridge(ORDER)
        await sound(rig, 2.5)
        rig.worker.kill()
        await rig.listener.until(lambda: bool(rig.listener.downs))
        await rig.worker.start()
        await rig.listener.until(lambda: len(rig.listener.ups) == 2)
        caller = rig.caller(epoch=2)
        for leg, tone in (("customer", 440), ("agent", 880)):
            await caller.open(leg, rig.peer(tone), generation=2)
        await caller.bridge(replace(ORDER, part=2))
        for leg in ("customer", "agent"):
            await rig.listener.until_report(LegUp(leg, 2))
        await sound(rig, 1)
        await rig.worker.stop()  # SIGTERM closes the part, and says so
        await rig.listener.until_report(PartClosed("rec", 2))
        result, left, right = await archived(tmp_path, files(rig, 1), files(rig, 2))
        assert result.parts == 2
        assert not result.complete
        assert result.duration_ms > 2500
        assert abs(spectrum_peak(left) - 440) < 5
        assert abs(spectrum_peak(right) - 880) < 5


async def test_a_disk_that_fills_up_ends_the_recording_not_the_call(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for the full disk: writes fail once the file has 12 KiB."""
    async with running(tmp_path) as rig:
        assert rig.worker.process is not None
        limit_file_size(rig.worker.process.pid, 12_288)
        caller, customer, agent = await rig.call(ORDER)
        await rig.listener.until_report(RecordingFailed("rec", 1, "disk_full"))
        await rig.listener.until_report(PartClosed("rec", 1))
        await customer.wait_tone(880)
        await agent.wait_tone(440)
        await caller.bridge(ORDER)  # the plan still wants it: told once is enough
        result, left, _ = await archived(tmp_path, files(rig))
        assert result.duration_ms > 500
        assert abs(spectrum_peak(left) - 440) < 5
        failures = [r for r in rig.listener.all() if isinstance(r, RecordingFailed)]
        assert len(failures) == 1


def limit_file_size(pid: int, size_bytes: int) -> None:
    import resource

    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


async def test_two_phones_are_recorded(tmp_path: Path) -> None:
    """Plain RTP in G.711, each side in a law of its own."""
    async with (
        running(tmp_path) as rig,
        plain_peer(440, codec="PCMU") as one,
        plain_peer(880, codec="PCMA") as other,
    ):
        caller = rig.caller()
        await caller.bridge()
        for leg_id, phone in (("customer", one), ("agent", other)):
            answer = await caller.order(OpenLeg(leg_id, 1, phone.offer(), plain=True))
            phone.take(answer.sdp or "")
            await rig.listener.until_report(LegUp(leg_id, 1))
        began = time.monotonic()
        await caller.bridge(ORDER)
        await sound(rig, 2)
        await caller.bridge(None)
        length_ms = (time.monotonic() - began) * 1000
        await rig.listener.until_report(PartClosed("rec", 1))
        result, left, right = await archived(tmp_path, files(rig))
        assert abs(result.duration_ms - length_ms) < 200
        assert (result.complete, result.skipped) == (True, 0)
        assert abs(spectrum_peak(left) - 440) < 3
        assert abs(spectrum_peak(right) - 880) < 3
