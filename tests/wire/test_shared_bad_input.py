"""Settings, databases, tokens and clocks that are wrong where several nodes share them: what a node says, and that
nothing is half-done."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from server.process import EXIT_CONFIG
from tests.helpers.administration import change_queue
from tests.helpers.certificates import make_certificate
from tests.helpers.cluster import Cluster, Part, cluster
from tests.helpers.customer import Customer
from tests.helpers.database import PostgresDatabase
from tests.helpers.deployments import Deployment, deployed
from tests.helpers.postgres import PostgresServer
from tests.helpers.redis_server import RedisServer
from tests.helpers.scripted_agent import ScriptedAgent
from tests.helpers.system import PASSWORD, ROOT, clean_environment, free_port, system, until

COMMAND_S = 30.0
FOUND_S = 15.0
HOUR_MS = 3_600_000


async def refused(folder: Path, *arguments: str, **settings: str) -> str:
    """What a command says on its way out: never a traceback, never a secret."""
    environment = clean_environment({"data_dir": str(folder / "data"), "port": str(free_port())} | settings)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", *arguments, cwd=ROOT, env=environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(COMMAND_S):
        _, errors = await process.communicate()
    said = errors.decode()
    assert process.returncode == EXIT_CONFIG, said
    assert "Traceback" not in said
    assert "only-for-tests" not in said, "the database's password"
    return said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"database_url": "postgresql://u:p@h/d"}, "redis_url"),
        ({"redis_url": "redis://localhost"}, "database_url"),
        ({"database_url": "mysql://u:p@h/d"}, "postgresql+asyncpg://"),
        ({"database_url": "postgresql://u:p@h", "redis_url": "redis://h"}, "no database"),
        ({"database_url": "postgresql://u:p@h/d", "redis_url": "http://h"}, "redis://host:6379/0"),
        ({"media_urls": "a=wss://10.0.0.5:7443"}, "media_token"),
        (
            {
                "database_url": "postgresql://u:p@h/d",
                "redis_url": "redis://h",
                "media_urls": "a=wss://h:1",
                "media_token": "t" * 32,
            },
            "recordings_dir",
        ),
        ({"media_urls": "10.0.0.5:7443", "media_token": "t" * 32}, "name=wss://host:port"),
        ({"media_urls": "a=wss://h:1,a=wss://h:2", "media_token": "t" * 32}, "there twice"),
        ({"media_urls": "a=wss://h:1", "media_token": "short"}, "at least 32"),
        ({"turn_urls": "turn:h:3478"}, "turn_secret"),
        ({"turn_urls": "http://h:3478", "turn_secret": "s" * 16}, "turn:host:3478"),
        ({"turn_relay_only": "yes"}, "turn_urls"),
        ({"drain_s": "300"}, "0 to 55"),
        ({"node_name": "a b"}, "letters"),
        ({"otel_endpoint": "localhost:4318"}, "http"),
    ],
)
async def test_settings_that_do_not_fit(tmp_path: Path, settings: Mapping[str, str], said: str) -> None:
    assert said in await refused(tmp_path, "serve", **settings)
    assert not (tmp_path / "data" / "patchbay.db").exists(), "nothing was begun"


async def test_a_database_that_is_not_there(tmp_path: Path, redis_server: RedisServer) -> None:
    away = f"postgresql+asyncpg://patchbay:only-for-tests@127.0.0.1:{free_port()}/patchbay"
    for arguments in (("migrate",), ("serve", "--role", "control")):
        said = await refused(tmp_path, *arguments, database_url=away, redis_url=redis_server.url)
        assert "PATCHBAY_DATABASE_URL" in said


async def test_databases_that_no_node_should_touch(
    tmp_path: Path, postgres: PostgresServer, redis_server: RedisServer
) -> None:
    empty, newer = await postgres.empty_database(), await postgres.database()
    serve = ("serve", "--role", "control")
    said = await refused(tmp_path, *serve, database_url=empty, redis_url=redis_server.url)
    assert "patchbay migrate" in said
    await execute(newer, "UPDATE alembic_version SET version_num = '9999'")
    for arguments in (("migrate",), serve):
        said = await refused(tmp_path, *arguments, database_url=newer, redis_url=redis_server.url)
        assert "9999" in said
        assert "newer" in said
    half = await postgres.database()
    await execute(half, "DROP TABLE alembic_version")
    for arguments in (("migrate",), serve):
        said = await refused(tmp_path, *arguments, database_url=half, redis_url=redis_server.url)
        assert "alembic_version" in said or "schema" in said
    wrong = newer.replace("only-for-tests", "wrong-password")
    said = await refused(tmp_path, "migrate", database_url=wrong, redis_url=redis_server.url)
    assert "password" in said
    assert "wrong-password" not in said


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def two_nodes(
    folder: Path, postgres: PostgresServer, redis: RedisServer, *, module: str = "server", **environment: str
) -> AsyncIterator[Cluster]:
    url = await postgres.database()
    redis.flush()
    settings = {"database_url": url, "redis_url": redis.url}
    async with cluster(
        folder, PostgresDatabase(url), workers=1, module=module, control_environment=environment, settings=settings
    ) as started:
        yield started


async def missing(url: str) -> list[str]:
    async with aiohttp.ClientSession() as http, http.get(url + "/readyz") as response:
        found: list[str] = (await response.json())["missing"]
        return found


async def test_a_worker_with_another_token_is_named(
    tmp_path: Path, postgres: PostgresServer, redis_server: RedisServer
) -> None:
    url = await postgres.database()
    certificate = make_certificate(tmp_path / "tls", "127.0.0.1")
    port, media_port = free_port(), free_port()
    media = clean_environment(
        {
            "data_dir": str(tmp_path / "media"), "media_listen": f"127.0.0.1:{media_port}", "media_token": "w" * 32,
            "tls_cert": str(certificate.cert), "tls_key": str(certificate.key), "media_name": "m1",
        }
    )  # fmt: skip
    control = clean_environment(
        {
            "data_dir": str(tmp_path / "control"), "port": str(port), "database_url": url,
            "redis_url": redis_server.url, "media_urls": f"m1=wss://127.0.0.1:{media_port}",
            "recordings_dir": str(tmp_path / "recordings"),
            "media_token": secrets.token_hex(16), "media_ca": str(certificate.ca),
        }
    )  # fmt: skip
    command = [sys.executable, "-m", "server", "serve", "--role"]
    parts = [
        Part("media", [*command, "media"], media, tmp_path / "media.log"),
        Part("control", [*command, "control"], control, tmp_path / "control.log"),
    ]
    for part in parts:
        await part.start()
    try:

        async def told() -> bool:
            try:
                return any("PATCHBAY_MEDIA_TOKEN" in line for line in await missing(f"http://127.0.0.1:{port}"))
            except aiohttp.ClientError:
                return False

        await until(told, FOUND_S, "the fault in /readyz")
        assert "w" * 32 not in parts[1].log.read_text()
    finally:
        for part in parts:
            await part.stop()


async def test_a_second_node_with_workers_of_its_own_refuses_to_start(
    tmp_path: Path, postgres: PostgresServer, redis_server: RedisServer
) -> None:
    """What only one node could reach would be lost for the others."""
    with deployed(Deployment("shared", postgres, redis_server)):
        async with system(tmp_path, workers=1) as patchbay:
            url = patchbay.environment["PATCHBAY_DATABASE_URL"]
            shared = {"database_url": url, "redis_url": redis_server.url, "media_workers": "1"}
            said = await refused(tmp_path / "second", "serve", "--role", "control", **shared)
            assert "PATCHBAY_MEDIA_URLS" in said
            assert patchbay.rows("SELECT COUNT(*) FROM node") == [(1,)], "it has left no row"


async def test_a_node_whose_clock_is_an_hour_ahead_goes_by_the_database(
    tmp_path: Path, postgres: PostgresServer, redis_server: RedisServer
) -> None:
    odd = {"ODD_AHEAD_S": "3600", "ODD_JUMP": str(tmp_path / "jump")}
    async with (
        two_nodes(tmp_path, postgres, redis_server, module="tests.helpers.odd_clock", **odd) as patchbay,
        ScriptedAgent(patchbay.url, "ana", PASSWORD, auto_accept=True) as agent,
    ):
        await agent.set_state("ready")
        customer = Customer(patchbay)
        await customer.begin()
        await agent.contact("talking")
        ((created_at,),) = patchbay.rows("SELECT created_at FROM session")
        ((now,),) = patchbay.rows("SELECT (extract(epoch FROM now()) * 1000)::bigint")
        assert abs(now - created_at) < 60_000
        await customer.hang_up()
        await customer.close()


async def test_a_database_clock_that_jumps_moves_no_deadline_and_no_node(
    tmp_path: Path, postgres: PostgresServer, redis_server: RedisServer
) -> None:
    """The nodes go on in their time; one that is started again takes it over from the others."""
    jump = tmp_path / "jump"
    async with (
        two_nodes(tmp_path, postgres, redis_server, module="tests.helpers.odd_clock", ODD_JUMP=str(jump)) as patchbay,
        ScriptedAgent(patchbay.url, "ana", PASSWORD) as agent,
    ):
        await agent.set_state("ready")
        customer = Customer(patchbay)
        await change_queue(patchbay, ring_timeout_s=120)  # a node's drain and start lie within
        await customer.begin()
        await agent.contact("offered", customer.session_id)
        jump.touch()
        first = patchbay.parts["control"]
        await first.stop()
        await first.start()
        await patchbay.ready()

        async def complained() -> bool:
            return "clock_jumped" in first.log.read_text()

        await until(complained, FOUND_S, "a word about the clock")
        line = next(line for line in first.log.read_text().splitlines() if "clock_jumped" in line)
        assert "NTP" in json.loads(line)["remedy"]
        seen = patchbay.rows("SELECT seen_at FROM node")
        assert len(seen) == 2
        assert abs(seen[0][0] - seen[1][0]) < 5_000, "both nodes live in the same time"
        offered = patchbay.rows("SELECT COUNT(*) FROM segment WHERE state = 'offered'")
        missed = patchbay.rows("SELECT COUNT(*) FROM segment WHERE end_reason = 'missed'")
        assert (offered, missed) == ([(1,)], [(0,)]), "no deadline has passed by the jump"
        await agent.accept()
        await agent.contact("talking")
        await customer.hang_up()
        await customer.close()
