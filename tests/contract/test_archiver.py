"""The archive over real files and the real job: sealed at rest, played with the node's keys, old files as they were."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

import pytest

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
