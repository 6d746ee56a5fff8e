"""The command line as processes: what it does, what it prints, and how it says no."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from server.clock import ManualClock
from server.domain.directory import DEFAULT_TENANT
from server.process import EXIT_CONFIG
from server.services.seed import DEMO_KEYS
from server.storage.directory import StoredDirectory
from server.storage.engine import create_engine
from tests.helpers.system import ROOT, free_port, system

COMMAND_S = 60


class Center:
    """A data folder, and the commands on it."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.database = self.data_dir / "patchbay.db"

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """`settings` are PATCHBAY_* values by lower-case name."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PATCHBAY_")}
        values = {"data_dir": str(self.data_dir), "media_workers": "1"} | settings
        environment |= {f"PATCHBAY_{name.upper()}": value for name, value in values.items()}
        return subprocess.run(
            [sys.executable, "-m", "server", *arguments],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S,
            check=False,
        )  # fmt: skip

    def ok(self, *arguments: str, **settings: str) -> str:
        done = self.run(*arguments, **settings)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str, status: int = 1, **settings: str) -> str:
        """What it says on the way out; never a traceback."""
        done = self.run(*arguments, **settings)
        assert done.returncode == status, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stderr

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.database)) as connection, connection:
            return connection.execute(statement).fetchall()


@pytest.fixture
def center(tmp_path: Path) -> Center:
    return Center(tmp_path)


def test_migrate_seed_and_users(center: Center) -> None:
    assert "(was empty)" in center.ok("migrate")
    assert "was" not in center.ok("migrate"), "a second time changes nothing"
    assert stat.S_IMODE(center.data_dir.stat().st_mode) == 0o700
    center.ok("seed")
    assert center.execute('SELECT COUNT(*) FROM "user"') == [(0,)], "nobody with a password that others know"

    made_up = re.search(r"Dana: the password is (\S{12,})", center.ok("user", "add", "Dana", "--role", "admin"))
    assert made_up
    assert "this login is taken" in center.refused("user", "add", "dana")
    assert "letters, digits" in center.refused("user", "add", "no spaces")
    again = re.search(r"the password is (\S{12,})", center.ok("user", "password", "DANA"))
    assert again
    assert again[1] != made_up[1]
    assert "no user nobody" in center.refused("user", "password", "nobody")
    center.refused("user", "add", "x", "--role", "owner", status=2)


async def test_the_demo_reaches_every_agent(center: Center) -> None:
    center.ok("migrate")
    told = center.ok("seed", "--demo")
    file = center.data_dir / "demo-password"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    password = file.read_text().strip()
    assert len(password) >= 16
    assert f"password of all five   {password}" in told
    assert "http://127.0.0.1:8080/demo/shop" in told
    users = center.execute('SELECT login, password_hash FROM "user" ORDER BY login')
    assert [login for login, _ in users] == ["admin", "ana", "bo", "chen", "sam"]
    center.ok("seed", "--demo")
    assert center.execute('SELECT login, password_hash FROM "user" ORDER BY login') == users, "a second time: as it was"

    engine = create_engine(f"sqlite+aiosqlite:///{center.database}")
    directory = StoredDirectory(engine, ManualClock())
    served: dict[str, set[str]] = {}
    for name, key in DEMO_KEYS.items():
        entry = await directory.entry_point_by_key(key)
        assert entry is not None
        assert entry.allowed_sites == ("http://127.0.0.1:8080",)
        queue = await directory.queue(DEFAULT_TENANT, entry.queue_id)
        assert queue is not None
        served[name] = {agent.name for agent in await directory.agents(DEFAULT_TENANT) if queue.serves(agent)}
    assert served == {"Sales": {"Ana Duarte", "Bo Lindqvist"}, "Support": {"Bo Lindqvist", "陈静"}}
    assert len(await directory.disposition_ids(DEFAULT_TENANT)) >= 3
    assert len(await directory.break_reason_ids(DEFAULT_TENANT)) >= 3
    await engine.dispose()


def test_a_given_demo_password_is_written_nowhere(center: Center) -> None:
    center.ok("migrate")
    center.ok("seed", "--demo", demo_password="a shared secret")
    assert not (center.data_dir / "demo-password").exists()


def test_a_database_without_a_schema(center: Center) -> None:
    for command in (("seed",), ("serve", "--role", "control")):
        said = center.refused(*command, status=EXIT_CONFIG, port=str(free_port()))
        assert "has no schema yet; run `patchbay migrate`" in said, command


def test_a_database_of_a_newer_version(center: Center) -> None:
    center.ok("migrate")
    center.execute("UPDATE alembic_version SET version_num = '9999'")
    for command in (("serve",), ("serve", "--role", "control")):
        said = center.refused(*command, status=EXIT_CONFIG, port=str(free_port()))
        assert "9999" in said, command
    assert center.execute("SELECT version_num FROM alembic_version") == [("9999",)], "it stays as it is"


def test_every_wrong_setting_is_named_at_once(center: Center) -> None:
    wrong = {"port": "http", "media_workers": "0", "tls_cert": "/nowhere.pem", "log_level": "loud", "prot": "8080"}
    said = center.refused("serve", status=EXIT_CONFIG, **wrong)
    for name in wrong:
        assert f"PATCHBAY_{name.upper()}" in said, (name, said)
    assert not center.data_dir.exists()


def test_a_data_folder_that_can_not_be_one(center: Center) -> None:
    center.data_dir.write_text("a file")
    center.refused("migrate", status=EXIT_CONFIG)
    center.data_dir.unlink()
    center.data_dir.mkdir(mode=0o700)
    center.database.write_text("this is no database, and long enough to look like one" * 100)
    for command in (("migrate",), ("serve", "--role", "control")):
        assert "not a database" in center.refused(*command, status=EXIT_CONFIG)


def test_the_doctor_names_what_is_missing(center: Center) -> None:
    before = center.run("doctor", port=str(free_port()))
    assert before.returncode == 1
    assert "patchbay migrate" in before.stdout
    center.ok("migrate")
    center.data_dir.chmod(0o755)
    after = center.run("doctor", port=str(free_port()))
    assert "patchbay migrate" not in after.stdout
    assert "chmod 700" in after.stdout


async def test_a_second_node_on_the_same_folder_refuses_to_start(tmp_path: Path) -> None:
    async with system(tmp_path, workers=1) as patchbay:
        center = Center(tmp_path)
        for command in (("serve", "--role", "control"), ("serve",)):
            said = center.refused(*command, status=EXIT_CONFIG, port=str(free_port()))
            assert "another Patchbay serves" in said
        await patchbay.ready()
        port = patchbay.url.rpartition(":")[2]
        elsewhere = Center(tmp_path / "elsewhere")
        elsewhere.data_dir.mkdir(parents=True)
        elsewhere.ok("migrate")
        said = elsewhere.refused("serve", "--role", "control", status=EXIT_CONFIG, port=port)
        assert "can't be listened on" in said
