"""Which keys a node seals with: what one node sealed, any other node of its database opens."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from server.config import Config, ConfigError
from server.media.keyring import Keyring
from server.media.master_keys import MasterKey
from server.media.vault import SealedReader, SealedWriter, read_header
from server.recording_keys import local_keyring, shared_keyring
from server.storage.engine import create_engine
from server.storage.migrate import upgrade

A, B = MasterKey("a", bytes(32)), MasterKey("b", bytes(range(32)))


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    url = f"sqlite+aiosqlite:///{tmp_path}/test.db"
    if request.param == "sqlite":
        await upgrade(url)
    else:
        url = await request.getfixturevalue("postgres").database()
    opened = create_engine(url)
    yield opened
    await opened.dispose()


def sealed_by(ring: Keyring) -> bytes:
    out = io.BytesIO()
    writer = SealedWriter(out.write, ring.new_seal(), "x")
    writer.write(b"sound")
    writer.finish()
    return out.getvalue()


def opens(ring: Keyring, data: bytes) -> bool:
    file = io.BytesIO(data)
    return SealedReader(file, ring.seal_of(read_header(file)).data_key, "x").read() == b"sound"


async def test_nodes_without_settings_share_the_databases_key(database: AsyncEngine) -> None:
    one, two = [await shared_keyring(Config(), database) for _ in range(2)]
    assert opens(two, sealed_by(one))


async def test_settings_that_come_later_leave_older_recordings_playable(database: AsyncEngine) -> None:
    before = sealed_by(await shared_keyring(Config(), database))
    ring = await shared_keyring(Config(recording_keys=(A,)), database)
    assert opens(ring, before)
    assert opens(await shared_keyring(Config(recording_keys_file=(B, A)), database), sealed_by(ring))
    assert read_header(io.BytesIO(sealed_by(ring))).key_id == "a"


async def test_another_key_of_the_same_name_is_refused(database: AsyncEngine) -> None:
    await shared_keyring(Config(recording_keys=(A,)), database)
    with pytest.raises(ConfigError, match="'a' is not the one that other nodes know"):
        await shared_keyring(Config(recording_keys=(MasterKey("a", B.key),)), database)


async def test_a_key_that_other_nodes_have_is_missed(database: AsyncEngine) -> None:
    await shared_keyring(Config(recording_keys=(A,)), database)
    with capture_logs() as logs:
        await shared_keyring(Config(recording_keys=(B,)), database)
    assert [(entry["event"], entry["keys"]) for entry in logs] == [("recording_keys_missing", ["a"])]


def test_one_machine_makes_its_key_at_the_first_start(tmp_path: Path) -> None:
    before = sealed_by(local_keyring(Config(data_dir=tmp_path)))
    assert opens(local_keyring(Config(data_dir=tmp_path)), before)
    later = local_keyring(Config(data_dir=tmp_path, recording_keys=(A,)))
    assert opens(later, before)
    assert read_header(io.BytesIO(sealed_by(later))).key_id == "a"
    (tmp_path / "recording.keys").write_text("local-1:damaged")
    with pytest.raises(ConfigError, match="Put the copy of the file back"):
        local_keyring(Config(data_dir=tmp_path))


def test_settings_make_no_key_file(tmp_path: Path) -> None:
    local_keyring(Config(data_dir=tmp_path, recording_keys=(A,)))
    assert list(tmp_path.iterdir()) == []
