"""The archive over real files and the real job: sealed at rest, played with the node's keys, old files as they were."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.media.archive import ArchiveError
from server.media.archive_files import HALF_KEPT_S, JobKeys, Output
from server.media.archive_jobs import ArchiveJobs
from server.media.archiver import LocalArchiver
from server.media.capture import part_files
from server.media.keyring import Keyring
from server.media.master_keys import MasterKey
from server.media.peer import spectrum_peak
from server.services.ports import ArchiveFault, RecordingRef, SoundDamaged
from tests.helpers.recordings import decode
from tests.helpers.sealing import MASTER_KEY
from tests.unit.test_media_archive import Side
from tests.unit.test_media_archive_recode import say

REF = RecordingRef("default", "ses_1", "rec_1")
PITCHES_HZ = {"customer": 440, "agent": 880}
NEWER = MasterKey("newer", bytes(range(1, 33)))


def archiver(folder: Path, *keys: MasterKey) -> LocalArchiver:
    return LocalArchiver(folder / "spool", folder / "recordings", ArchiveJobs(), Keyring(keys or (MASTER_KEY,)))


async def archived(folder: Path) -> dict[str, Any]:
    """Two seconds of both sides' tones."""
    files = part_files(folder / "spool", *REF_IDS, 1)
    for path, pitch in ((files.customer, 440), (files.agent, 880)):
        side = Side(path)
        side.tone(pitch, 0, 100)
        side.end(2000)
    done = await archiver(folder).archive(REF, [1])
    assert done.duration_ms == 2000
    return dict(done.archive)


REF_IDS = REF.tenant, REF.session_id, REF.recording_id


def sound(one: LocalArchiver, side: str) -> bytes:
    opened = one.open(REF, side)
    assert opened is not None
    with contextlib.closing(opened):
        return opened.read(0, opened.size_bytes)


def path_of(folder: Path, side: str) -> Path:
    return folder / "recordings" / "default" / "ses_1" / f"rec_1.{side}.opus"


async def test_all_three_files_are_sealed_and_played(tmp_path: Path) -> None:
    row = await archived(tmp_path)
    one = archiver(tmp_path)
    assert one.open(REF, "stereo") is None
    await one.stereo(REF)
    for side in ("customer", "agent", "stereo"):
        data, lying = sound(one, side), path_of(tmp_path, side).read_bytes()
        assert data.startswith(b"OggS")
        assert b"OggS" not in lying
        left, right = decode(data)
        assert abs(spectrum_peak(left[9600:67200]) - PITCHES_HZ.get(side, 440)) < 5
        assert abs(spectrum_peak(right[9600:67200]) - PITCHES_HZ.get(side, 880)) < 5
        if side in row:
            assert (row[side]["sha256"], row[side]["size_bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))


async def test_after_a_change_of_the_master_key(tmp_path: Path) -> None:
    await archived(tmp_path)
    both = archiver(tmp_path, NEWER, MASTER_KEY)
    await both.stereo(REF)
    assert sound(both, "stereo").startswith(b"OggS")
    lost = archiver(tmp_path, NEWER)
    with pytest.raises(SoundDamaged, match="no master key 'tests' here"):
        lost.open(REF, "customer")
    path_of(tmp_path, "stereo").unlink()
    with pytest.raises(ArchiveFault, match="unknown_key"):
        await lost.stereo(REF)


@pytest.mark.parametrize("change", ["cut", "flipped", "swapped"])
async def test_what_was_changed_is_not_played(tmp_path: Path, change: str) -> None:
    await archived(tmp_path)
    path = path_of(tmp_path, "customer")
    data = bytearray(path.read_bytes())
    if change == "cut":
        del data[-1]
    elif change == "flipped":
        data[-1] ^= 1
    else:
        data = bytearray(path_of(tmp_path, "agent").read_bytes())
    path.write_bytes(data)
    with pytest.raises(SoundDamaged):
        archiver(tmp_path).open(REF, "customer")
    with pytest.raises(ArchiveFault):
        await archiver(tmp_path).stereo(REF)
    assert not path_of(tmp_path, "stereo").exists()


async def test_a_plain_file_in_the_place_of_a_sealed_one_is_refused(tmp_path: Path) -> None:
    row = await archived(tmp_path)
    assert row["sealed"] is True
    one, sealed = archiver(tmp_path), replace(REF, sealed=True)
    path = path_of(tmp_path, "agent")
    path.write_bytes(sound(one, "customer"))
    with pytest.raises(SoundDamaged, match="not_sealed"):
        one.open(sealed, "agent")
    with pytest.raises(ArchiveFault, match="not_sealed"):
        await one.stereo(sealed)
    path_of(tmp_path, "stereo").write_bytes(path.read_bytes())
    with pytest.raises(SoundDamaged, match="not_sealed"):
        one.open(sealed, "stereo")


async def test_the_job_takes_no_plain_file_where_it_was_given_a_key(tmp_path: Path) -> None:
    """The file may be changed between the look at it and the job."""
    customer, agent, out = (tmp_path / name for name in ("c.opus", "a.opus", "s.opus"))
    await archived(tmp_path)
    customer.write_bytes(sound(archiver(tmp_path), "customer"))
    agent.write_bytes(sound(archiver(tmp_path), "agent"))
    with pytest.raises(ArchiveError, match="not_sealed"):
        await ArchiveJobs().stereo(customer, agent, out, JobKeys(None, {agent: bytes(32)}))
    assert not out.exists()


async def test_a_later_version_of_sealing_is_named(tmp_path: Path) -> None:
    await archived(tmp_path)
    path = path_of(tmp_path, "agent")
    data = path.read_bytes()
    path.write_bytes(b"PBVAULT\x02" + data[8:])
    for ref in (REF, replace(REF, sealed=True)):
        with pytest.raises(SoundDamaged, match="unknown_version"):
            archiver(tmp_path).open(ref, "agent")
        with pytest.raises(ArchiveFault, match="unknown_version"):
            await archiver(tmp_path).stereo(ref)


async def test_a_call_of_phones_is_sealed_and_played_as_it_came(tmp_path: Path) -> None:
    files = part_files(tmp_path / "spool", *REF_IDS, 1)
    customer, agent = Side(files.customer), Side(files.agent)
    say(customer, "pcmu", 440, 0, 100)
    agent.tone(880, 0, 100)
    for side in (customer, agent):
        side.end(2000)
    one = archiver(tmp_path)
    row = (await one.archive(REF, [1])).archive
    assert (row["customer"]["file"], row["customer"]["codec"]) == ("rec_1.customer.wav", "pcmu")
    assert (row["agent"]["file"], row["agent"]["codec"]) == ("rec_1.agent.opus", "opus")
    assert hashlib.sha256(sound(one, "customer")).hexdigest() == row["customer"]["sha256"]
    lying = path_of(tmp_path, "customer").with_suffix(".wav").read_bytes()
    assert b"RIFF" not in lying
    media_types = []
    await one.stereo(REF)
    for name in ("customer", "agent", "stereo"):
        opened = one.open(REF, name)
        assert opened is not None
        with contextlib.closing(opened):
            media_types.append(opened.media_type)
    assert media_types == ["audio/wav", "audio/ogg", "audio/ogg"]
    left, right = decode(sound(one, "stereo"))
    assert abs(spectrum_peak(left[9600:67200]) - 440) < 5
    assert abs(spectrum_peak(right[9600:67200]) - 880) < 5


async def test_what_a_killed_job_left_half_made_is_swept_and_nothing_else(tmp_path: Path) -> None:
    await archived(tmp_path)
    hour_ago = time.time() - HALF_KEPT_S - 1
    for path in (path_of(tmp_path, "customer"), path_of(tmp_path, "agent")):
        os.utime(path, (hour_ago, hour_ago))
    folder = path_of(tmp_path, "customer").parent
    finished = set(folder.iterdir())
    with Output(folder / "rec_2.agent.opus", None):
        (running,) = set(folder.iterdir()) - finished
        with Output(folder / "rec_3.agent.opus", None):
            (left,) = set(folder.iterdir()) - finished - {running}
            os.utime(left, (hour_ago, hour_ago))
            mine = folder / ".notes.tmp"
            mine.touch()
            os.utime(mine, (hour_ago, hour_ago))
            assert await archiver(tmp_path).sweep() == 1
            assert set(folder.iterdir()) == finished | {running, mine}


async def test_plain_files_of_before_stay_playable(tmp_path: Path) -> None:
    await archived(tmp_path)
    one = archiver(tmp_path)
    plain = {side: sound(one, side) for side in PITCHES_HZ}
    for side, data in plain.items():
        path_of(tmp_path, side).write_bytes(data)
    assert {side: sound(one, side) for side in PITCHES_HZ} == plain
    await one.stereo(REF)
    assert b"OggS" not in path_of(tmp_path, "stereo").read_bytes(), "what is new is sealed"
    assert len(decode(sound(one, "stereo"))[0]) == pytest.approx(96_000, abs=960)
