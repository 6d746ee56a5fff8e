"""A whole Patchbay as its own processes, on a free port and an empty data folder, for tests and benchmarks: on SQLite,
or as the test's deployment says (tests/helpers/deployments.py)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from server.services.tokens import KEY_BYTES
from tests.helpers.database import Database, PostgresDatabase, SqliteFile
from tests.helpers.deployments import CHOICE

ROOT = Path(__file__).parents[2]
START_S = 60.0
STOP_S = 5.0  # what the product promises
PASSWORD = "correct-horse-battery"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], Awaitable[Any]], timeout_s: float, what: str, every_s: float = 0.05) -> Any:
    """The condition's first true answer. Raises AssertionError, which names what was waited for."""
    try:
        async with asyncio.timeout(timeout_s):
            while not (found := await condition()):  # noqa: ASYNC110  # the condition is another process's
                await asyncio.sleep(every_s)
            return found
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s} s: {what}") from None


@dataclass
class System:
    url: str
    data_dir: Path
    process: asyncio.subprocess.Process
    log: Path
    database: Database
    environment: dict[str, str] = field(default_factory=dict)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database holds, read by this test and not by the product."""
        return self.database.rows(query, *values)

    def token_key(self) -> bytes:
        """The key that signs customers' tokens."""
        if isinstance(self.database, PostgresDatabase):
            return bytes.fromhex(self.rows("SELECT value FROM secret WHERE name = 'customer-token'")[0][0])
        key = (self.data_dir / "customer-token.key").read_bytes()
        assert len(key) == KEY_BYTES
        return key

    def forget_token_key(self) -> None:
        """The nodes make another one at their next start."""
        if isinstance(self.database, PostgresDatabase):
            self.rows("DELETE FROM secret WHERE name = 'customer-token'")
        else:
            (self.data_dir / "customer-token.key").unlink()

    def session(self, session_id: str) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.rows("SELECT body FROM session WHERE id = ?", session_id)[0][0])
        return body

    def widget_key(self, queue: str = "Sales") -> str:
        query = "SELECT e.key FROM entry_point e JOIN queue q ON q.id = e.queue_id WHERE q.name = ?"
        return str(self.rows(query, queue)[0][0])

    def pids(self) -> dict[str, int]:
        """The parts that are running: {"control": pid, "media-1": pid, …}."""
        found: dict[str, int] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                arguments = (entry / "cmdline").read_bytes().decode().split("\0")
                parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
            except OSError:
                continue
            if int(parent) != self.process.pid:
                continue
            if "server.media.relay" in arguments:
                found[arguments[arguments.index("--id") + 1]] = int(entry.name)
            elif "control" in arguments:
                found["control"] = int(entry.name)
        return found

    def kill(self, part: str, number: int = signal.SIGKILL) -> int:
        """Signal one part of this system; returns its process id."""
        pid = self.pids()[part]
        os.kill(pid, number)
        return pid

    async def ready(self, timeout_s: float = START_S) -> None:
        async with aiohttp.ClientSession() as http:

            async def answered() -> bool:
                assert self.process.returncode is None, self.log.read_text()[-3000:]
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with http.get(self.url + "/readyz", timeout=aiohttp.ClientTimeout(2)) as response:
                        return response.status == 200
                return False

            await until(answered, timeout_s, f"{self.url}/readyz\n{self.log.read_text()[-3000:]}")

    async def stop(self) -> float:
        """Ctrl-C; returns how long it took, s."""
        if self.process.returncode is not None:
            return 0.0
        began = asyncio.get_running_loop().time()
        self.process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(STOP_S + 5):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            raise AssertionError("Ctrl-C did not stop it\n" + self.log.read_text()[-3000:]) from None
        return asyncio.get_running_loop().time() - began


@asynccontextmanager
async def system(
    folder: Path,
    *,
    arguments: Sequence[str] = ("serve", "--demo"),
    workers: int = 2,
    module: str = "server",
    wrapper: Sequence[str] = (),
    **settings: str,
) -> AsyncIterator[System]:
    """Started, ready, and stopped afterwards. `settings` are PATCHBAY_* values by lower-case name; `module` is run in
    place of the product to have it misbehave; `wrapper` is a command that runs the rest of its arguments."""
    chosen = CHOICE.now
    database: Database = SqliteFile(folder / "data" / "patchbay.db")
    if chosen.postgres is not None and chosen.redis is not None:
        seeded = chosen.name == "cluster"  # else the node does it as it starts
        url = await (chosen.postgres.demo_database() if seeded else chosen.postgres.database())
        database = PostgresDatabase(url)
        chosen.redis.flush()
        settings |= {"database_url": url, "redis_url": chosen.redis.url}
    if chosen.name == "cluster":
        from tests.helpers.cluster import cluster  # it stands on this file

        async with cluster(folder, database, workers=workers, module=module, seeded=True, settings=settings) as started:
            yield started
        return
    port = free_port()
    environment = clean_environment(
        {
            "port": str(port), "data_dir": str(folder / "data"), "demo_password": PASSWORD,
            "media_workers": str(workers), "media_bind": "127.0.0.1", "log_json": "true",
        }
        | settings
    )  # fmt: skip
    log = folder / "patchbay.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *wrapper, sys.executable, "-m", module, *arguments, cwd=ROOT, env=environment, stdout=output, stderr=output,
            stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    single = System(f"http://127.0.0.1:{port}", folder / "data", process, log, database, environment)
    try:
        await single.ready()
        yield single
    finally:
        await single.stop()


def clean_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with these settings and no others."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PATCHBAY_")}
    return environment | {f"PATCHBAY_{name.upper()}": value for name, value in settings.items()}


async def run_command(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    """One `patchbay` command. Raises AssertionError with what it said when it fails."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "server", *arguments, cwd=ROOT, env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    assert await process.wait() == 0, log.read_text()[-3000:]
