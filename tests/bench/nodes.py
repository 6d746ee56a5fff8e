"""How many agents one control node carries, how soon they are back when it is killed, and how many steps a second each
database takes -> bench/out/nodes.json. On PostgreSQL, Redis and HAProxy of its own; `make bench-nodes`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from tests.bench.report import Figure, at_least, at_most, report
from tests.bench.steps import measure_postgres, measure_sqlite
from tests.helpers.cluster import Cluster, cluster
from tests.helpers.database import PostgresDatabase
from tests.helpers.postgres import postgres_server
from tests.helpers.redis_server import redis_server
from tests.helpers.staff import hire
from tests.helpers.system import ROOT

AGENTS = 1_000
RAMP_S = 15.0
HOLD_S = 30.0
STORMS = 3
STORM_LIMIT_S = 60.0
STEP_RUNS = 3


class DeskProcess:
    """tests/bench/desks.py as a process of its own; `status` is the newest line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.status: dict[str, Any] = {"ok": 0, "at": 0.0, "opened": 0, "refused": {}}
        self.lowest = 0
        self._changed = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.status = json.loads(line)
            self.lowest = min(self.lowest, self.status["ok"])
            self._changed.set()

    async def all_ok(self, timeout_s: float) -> float:
        """Wait until every desk has its snapshot; when the last one had (monotonic)."""
        async with asyncio.timeout(timeout_s):
            while self.status["ok"] < AGENTS:
                self._changed.clear()
                await self._changed.wait()
        return float(self.status["at"])

    async def fell(self, timeout_s: float = 10.0) -> None:
        async with asyncio.timeout(timeout_s):
            while self.status["ok"] == AGENTS:
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def desks(url: str, cookies: Path) -> AsyncIterator[DeskProcess]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.desks", url, str(cookies), str(RAMP_S), cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    started = DeskProcess(process)
    try:
        yield started
    finally:
        process.kill()
        await process.wait()
        await started._reader


def memory_kb(pid: int) -> int:
    """Proportional set size."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError("no Pss")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def rows_live(patchbay: Cluster) -> bool:
    """Every agent's row is live, its tab on a node that beats."""
    found = patchbay.rows(
        "SELECT COUNT(*) FROM agent a JOIN person p ON p.id = a.user_id JOIN node n ON n.id = p.node_id "
        "WHERE a.live AND a.state = 'ready' AND n.seen_at > (extract(epoch FROM now()) * 1000) - 4000"
    )
    return found == [(AGENTS,)]


async def online(patchbay: Cluster, folder: Path) -> tuple[list[Figure], dict[str, list[float]]]:
    node, other = patchbay.parts["control"], patchbay.parts["control-2"]
    cookies = folder / "cookies.json"
    assert isinstance(patchbay.database, PostgresDatabase)
    (skill_id,) = patchbay.rows("SELECT skill_id FROM queue_skill LIMIT 1")[0]
    hired = await hire(patchbay.database._url, [{skill_id: 5}] * AGENTS)
    cookies.write_text(json.dumps([one.token for one in hired]))
    await other.stop(signal.SIGINT)
    await asyncio.sleep(6)  # the directory of the other has taken in the new agents, and nothing moves any more
    before_kb = memory_kb(node.pid)
    began = time.monotonic()
    async with desks(patchbay.url, cookies) as seats:
        joined_s = await seats.all_ok(120) - began
        await asyncio.sleep(10)
        seats.lowest, cpu = seats.status["ok"], cpu_s(node.pid)
        await asyncio.sleep(HOLD_S)
        held, idle_cpu = seats.lowest, (cpu_s(node.pid) - cpu) / HOLD_S
        assert await rows_live(patchbay), "a row is not live"
        per_agent_kb = (memory_kb(node.pid) - before_kb) / AGENTS
        storms = []
        for _ in range(STORMS):
            await other.start()
            await patchbay.ready()
            await asyncio.sleep(3)  # HAProxy has seen it
            seats._changed.clear()
            at = time.monotonic()
            await node.stop(signal.SIGKILL)
            await seats.fell()
            back_s = await seats.all_ok(STORM_LIMIT_S) - at
            deadline = time.monotonic() + STORM_LIMIT_S
            while not await rows_live(patchbay) and time.monotonic() < deadline:  # noqa: ASYNC110  # another process's
                await asyncio.sleep(0.1)
            storms.append(max(back_s, 0.0))
            print(f"storm: all back after {back_s:.2f} s, rows live after {time.monotonic() - at:.2f} s", flush=True)
            print(f"  refused so far {seats.status['refused']}", flush=True)
            node, other = other, node
        figures = [
            at_least("agents_online_per_node", held, "", AGENTS),
            at_most("storm_recovery_s", statistics.median(storms), "s", 8),
            Figure("memory_kb_per_agent", round(per_agent_kb, 1), "KiB", None, None),
            Figure("idle_cpu_of_a_node_with_them", round(idle_cpu, 3), "core", None, None),
            Figure("time_until_all_had_joined", round(joined_s, 1), "s", None, None),
        ]
        return figures, {"storm_recovery_s": storms}


async def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="patchbay-bench-"))
    sqlite = []
    for run in range(STEP_RUNS):
        (steps_folder := folder / f"steps-{run}").mkdir()
        sqlite.append(await measure_sqlite(steps_folder))
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(postgres_server())
        redis = stack.enter_context(redis_server(folder))
        shared = [await measure_postgres(await postgres.database()) for _ in range(STEP_RUNS)]
        url = await postgres.database()
        settings = {"database_url": url, "redis_url": redis.url}
        async with cluster(folder, PostgresDatabase(url), workers=1, balanced=True, settings=settings) as patchbay:
            figures, samples = await online(patchbay, folder)
    steps = [
        at_least("step_and_save_per_second_postgres", statistics.median(shared), "1/s", 800),
        at_least("step_and_save_per_second_sqlite", statistics.median(sqlite), "1/s", 800),
    ]
    samples |= {"step_and_save_per_second_postgres": shared, "step_and_save_per_second_sqlite": sqlite}
    report("nodes", [*figures[:2], *steps, *figures[2:]], samples)


if __name__ == "__main__":
    uvloop.run(main())
