"""A PostgreSQL of the tests' own: its process, on a free port of the loopback, in a folder that goes with it.

PostgreSQL refuses to run as root: then it runs as Debian's user `postgres`. fsync stays on, so that a test may kill it.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from server.process import die_with_parent
from server.storage.migrate import upgrade
from tests.helpers.system import PASSWORD as DEMO_PASSWORD
from tests.helpers.system import clean_environment, free_port, run_command

START_S = 30.0
PROBE_S = 0.02
USER, PASSWORD = "patchbay", "only-for-tests"
TEMPLATE, DEMO_TEMPLATE = "patchbay_template", "patchbay_demo_template"
SETTINGS = {"max_connections": "200", "shared_buffers": "64MB", "listen_addresses": "127.0.0.1"}


class PostgresServer:
    """`port` stays the same over a restart. Made by `postgres_server`."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.log = folder / "postgres.log"
        self._data = folder / "data"
        self._user = _user()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._migrated = self._seeded = False
        if self._user is not None:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        self._initialise(folder)

    def url(self, database: str, *, user: str = USER, password: str = PASSWORD) -> str:
        """As in PATCHBAY_DATABASE_URL."""
        return f"postgresql+asyncpg://{user}:{password}@127.0.0.1:{self.port}/{database}"

    async def database(self) -> str:
        """The URL of a new database with this version's schema."""
        if not self._migrated:
            await self._sql(f"DROP DATABASE IF EXISTS {TEMPLATE}", f"CREATE DATABASE {TEMPLATE}")
            await upgrade(self.url(TEMPLATE))
            self._migrated = True
        return await self.empty_database(template=TEMPLATE)

    async def demo_database(self) -> str:
        """The URL of a new database with what `patchbay seed --demo` makes."""
        if not self._seeded:
            await self.database()  # makes TEMPLATE
            made = f"CREATE DATABASE {DEMO_TEMPLATE} TEMPLATE {TEMPLATE}"
            await self._sql(f"DROP DATABASE IF EXISTS {DEMO_TEMPLATE}", made)
            settings = {
                "database_url": self.url(DEMO_TEMPLATE),
                "redis_url": "redis://127.0.0.1:1",  # asked for, never used
                "demo_password": DEMO_PASSWORD,
                "data_dir": str(self.log.parent / "seed"),
            }
            await run_command(["seed", "--demo"], clean_environment(settings), self.log)
            self._seeded = True
        return await self.empty_database(template=DEMO_TEMPLATE)

    async def empty_database(self, template: str = "template0") -> str:
        """The URL of a new database without any table."""
        name = f"test_{next(self._numbers)}"
        await self._sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def start(self) -> None:
        """Returns when it answers."""
        assert self._process is None, "it runs"
        command = [program("postgres"), "-D", str(self._data), "-p", str(self.port), "-k", str(self._data.parent)]
        for name, value in SETTINGS.items():
            command += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            self._process = self._spawn(command, log.fileno())
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop(immediate=True)
                raise AssertionError(f"PostgreSQL did not start\n{self.log.read_text()[-2000:]}")
            time.sleep(PROBE_S)

    def stop(self, *, immediate: bool = False) -> None:
        """Like pg_ctl: "fast" rolls back what runs; "immediate" is a crash, and its next start a recovery."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(START_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def restart(self, *, immediate: bool = True) -> None:
        """Returns when it answers again."""
        self.stop(immediate=immediate)
        self.start()

    def _answers(self) -> bool:
        """The postmaster writes its state into the eighth line of its file, as pg_ctl knows."""
        with suppress(OSError, IndexError):
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            return self._process is not None and lines[0] == str(self._process.pid) and lines[7].strip() == "ready"
        return False

    def _initialise(self, folder: Path) -> None:
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        command = [program("initdb"), "-D", str(self._data), "-U", USER, "--pwfile", str(password), "--no-sync",
                   "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]  # fmt: skip
        done = self._spawn(command, subprocess.PIPE)
        said = done.communicate(timeout=START_S)[0]
        assert done.returncode == 0, said.decode()

    def _spawn(self, command: list[str], output: int) -> subprocess.Popen[bytes]:
        # Called on the main thread only: the system takes a child for orphaned when the thread that made it ends.
        found = self._user
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            user=found.pw_uid if found else None,
            group=found.pw_gid if found else None,
            extra_groups=[] if found else None,
            preexec_fn=die_with_parent,
        )

    async def _sql(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.url("postgres").replace("+asyncpg", ""), timeout=START_S)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


def program(name: str) -> str:
    """The path of a program of PostgreSQL: the newest that Debian installed, or the one in PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    found = str(installed[-1]) if installed else shutil.which(name)
    assert found, f"PostgreSQL's {name} is missing: tools/test-packages installs it, or says how"
    return found


def _user() -> pwd.struct_passwd | None:
    """Whom the server runs as; None for ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


@contextmanager
def postgres_server(folder: Path | None = None) -> Iterator[PostgresServer]:
    """Started, and gone afterwards, its files too. `folder`: a parent that the server's user may enter; default: the
    system's temporary folder."""
    with tempfile.TemporaryDirectory(prefix="postgres-", dir=folder) as made:
        server = PostgresServer(Path(made))
        try:
            server.start()
            yield server
        finally:
            server.stop(immediate=True)


@pytest.fixture(scope="session", name="postgres")
def shared_postgres() -> Iterator[PostgresServer]:
    """One for all tests of a run. Who stops it starts it again."""
    with postgres_server() as server:
        yield server
