"""Migrations: they agree with the models, apply once, keep what is there, and refuse a schema they do not know."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import SQLModel

import server.storage.admin_tables
import server.storage.runtime_tables  # noqa: F401  # both fill the metadata
from server.domain import agent as ag
from server.domain.agent import step_agent
from server.storage import codec, migrate
from server.storage.engine import create_engine, writing
from server.storage.migrate import MigrationError, Phase, Revision, current, goal, known, newest, upgrade, usable
from server.storage.postgres_steps import PostgresSteps
from server.storage.sqlite_steps import SqliteSteps
from tests.helpers.postgres import PASSWORD, PostgresServer, postgres_server
from tests.helpers.system import free_port

PROCESSES = 4


@pytest.fixture(params=["sqlite", "postgres"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/a b%c.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return await server.empty_database()


@asynccontextmanager
async def changing(url: str) -> AsyncIterator[AsyncConnection]:
    engine = create_engine(url)
    try:
        async with writing(engine).begin() as connection:
            yield connection
    finally:
        await engine.dispose()


async def upgrade_to(url: str, revision: str) -> None:
    def run(connection: sa.Connection) -> None:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    engine = create_engine(url)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


async def test_models_and_migrations_agree(url: str) -> None:
    await upgrade(url)
    async with changing(url) as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(
                MigrationContext.configure(sync, opts={"compare_type": True}), SQLModel.metadata
            )
        )
    assert differences == []


async def test_upgrade_is_idempotent(url: str) -> None:
    assert await current(url) is None
    with pytest.raises(MigrationError, match="no schema yet; run `patchbay migrate`"):
        await usable(url)
    assert await upgrade(url) == newest()
    assert await upgrade(url) == newest()
    assert await upgrade(url, "pre") == newest()
    assert await current(url) == newest()
    await usable(url)


async def test_a_newer_schema_is_refused(url: str) -> None:
    await upgrade(url)
    async with changing(url) as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(MigrationError, match="9999, newer than this version"):
        await upgrade(url)
    with pytest.raises(MigrationError, match="9999, newer than this version"):
        await usable(url)


async def test_tables_without_a_version_are_left_alone(url: str) -> None:
    async with changing(url) as connection:
        await connection.execute(sa.text("CREATE TABLE session (id TEXT)"))
    for use in (upgrade, usable):
        with pytest.raises(MigrationError, match=r"has tables \(session …\) without a schema version"):
            await use(url)
    assert await current(url) is None


async def test_a_database_of_the_first_version_keeps_its_agents(url: str) -> None:
    """`live` is filled from what each agent's row says."""
    await upgrade_to(url, "0001")
    here = step_agent(step_agent(None, ag.AgentCreated("usr_here", "default"), 1), ag.WentLive(), 2)
    away = step_agent(None, ag.AgentCreated("usr_away", "default"), 1)
    async with changing(url) as connection:
        for agent in (here, away):
            values = {"id": agent.user_id, "version": agent.version, "state": agent.state.value}
            body = codec.AGENT.dump_json(agent).decode()
            # The text itself, as the program of then wrote it on SQLite; a cast makes it jsonb on PostgreSQL.
            written = "CAST(:body AS jsonb)" if connection.dialect.name == "postgresql" else ":body"
            await connection.execute(
                sa.text(
                    "INSERT INTO agent (user_id, tenant, version, state, body) "
                    f"VALUES (:id, 'default', :version, :state, {written})"
                ),
                values | {"body": body},
            )
        await connection.execute(sa.text("INSERT INTO person (id, tenant, head) VALUES ('usr_here', 'default', 7)"))
    with pytest.raises(MigrationError, match="has schema 0001, this version needs"):
        await usable(url)
    assert await upgrade(url, "pre") == newest()
    await usable(url)
    store = await (
        PostgresSteps.open(url) if url.startswith("postgresql") else SqliteSteps.open(Path(url.split("///")[1]))
    )
    try:
        assert {agent.user_id: agent for agent in await store.agents()} == {"usr_here": here, "usr_away": away}
        assert [seen.agent for seen in await store.seen_agents("nod_1", 0)] == [here]
        assert [row.head for row in await store.persons(["usr_here"])] == [7]
    finally:
        await store.close()


async def test_every_migration_can_be_undone(url: str) -> None:
    await upgrade(url)

    def undo(connection: sa.Connection) -> list[str]:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        return sa.inspect(connection).get_table_names()

    engine = create_engine(url)
    async with engine.connect() as connection:
        assert await connection.run_sync(undo) == ["alembic_version"]
    await engine.dispose()
    assert await upgrade(url) == newest()


async def test_the_audit_log_is_append_only(url: str) -> None:
    await upgrade(url)
    async with changing(url) as connection:
        await connection.execute(sa.text("INSERT INTO tenant (id, name, created_at) VALUES ('t', 't', 0)"))
        await connection.execute(
            sa.text("INSERT INTO audit_log VALUES ('a', 't', 0, 'system', 'created', 'user', 'u', '{}')")
        )
    for statement in ("UPDATE audit_log SET at = 1", "DELETE FROM audit_log"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            async with changing(url) as connection:
                await connection.execute(sa.text(statement))


# --- phases ---


def test_every_script_has_a_phase() -> None:
    assert {revision.phase for revision in known()} <= {"pre", "post"}
    assert [revision.id for revision in known()] == sorted(revision.id for revision in known())


@pytest.mark.parametrize(
    ("found", "phase", "reached"),
    [
        (None, "pre", "4"),
        (None, "post", "4"),
        ("1", "pre", "2"),
        ("1", "post", "1"),
        ("1", "all", "4"),
        ("2", "pre", "2"),
        ("2", "post", "3"),
        ("3", "pre", "4"),
        ("4", "pre", "4"),
        ("4", "post", "4"),
    ],
)
def test_a_phase_goes_as_far_as_its_scripts(found: str | None, phase: Phase, reached: str) -> None:
    scripts = [Revision("1", "pre"), Revision("2", "pre"), Revision("3", "post"), Revision("4", "pre")]
    assert goal(scripts, found, phase) == reached


async def test_a_program_works_before_and_after_the_post_scripts(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await upgrade(url)
    last = newest()
    for scripts, works in (
        ([("0000", "pre"), (last, "pre")], True),
        ([(last, "pre"), ("9998", "post"), ("9999", "post")], True),
        ([("0000", "pre"), (last, "post")], True),
        ([(last, "pre"), ("9998", "pre"), ("9999", "post")], False),
        ([(last, "post"), ("9999", "pre")], False),
        ([("0000", "pre")], False),
    ):
        revisions = [Revision(name, "pre" if phase == "pre" else "post") for name, phase in scripts]
        monkeypatch.setattr(migrate, "known", lambda revisions=revisions: revisions)
        if works:
            await usable(url)
        else:
            with pytest.raises(MigrationError):
                await usable(url)


# --- PostgreSQL alone ---


async def test_of_many_processes_one_migrates(postgres: PostgresServer) -> None:
    url = await postgres.empty_database()
    assert await asyncio.gather(*(upgrade(url) for _ in range(PROCESSES))) == [newest()] * PROCESSES
    await usable(url)


async def test_a_script_that_fails_leaves_nothing(postgres: PostgresServer) -> None:
    """The second script breaks half-way: what it did before is undone, and the first one stays."""
    url = await postgres.empty_database()
    await upgrade_to(url, "0001")
    async with changing(url) as connection:
        await connection.execute(
            sa.text("INSERT INTO agent VALUES ('usr_1', 'default', 1, 'offline', CAST(:body AS jsonb))"),
            {"body": json.dumps({"live": "neither"})},
        )
    with pytest.raises(MigrationError, match="neither"):
        await upgrade(url)
    assert await current(url) == "0001"
    async with changing(url) as connection:
        columns = await connection.run_sync(lambda sync: [c["name"] for c in sa.inspect(sync).get_columns("agent")])
        assert "live" not in columns
        await connection.execute(sa.text("DELETE FROM agent"))
    assert await upgrade(url) == newest()


async def test_a_table_that_stays_in_use_is_not_waited_for_for_ever(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_S", 1)
    url = await postgres.empty_database()
    await upgrade_to(url, "0001")
    async with changing(url) as connection:
        await connection.execute(sa.text("LOCK TABLE agent"))
        with pytest.raises(MigrationError, match="run it again"):
            await upgrade(url)
    assert await upgrade(url) == newest()


async def test_what_is_wrong_is_said_without_the_password(postgres: PostgresServer) -> None:
    for url, said in (
        (postgres.url("postgres", password="wrong-password"), "refuses user patchbay"),
        (postgres.url("postgres", user="nobody"), "refuses user nobody"),
        (postgres.url("no_such"), f"There is no database no_such on 127.0.0.1:{postgres.port}"),
        (postgres.url("x").replace(str(postgres.port), str(free_port())), "can't be reached"),
        (postgres.url("x").replace("127.0.0.1", "no-such-host.invalid"), "can't be reached"),
    ):
        for use in (upgrade, current, usable):
            with pytest.raises(MigrationError, match=said) as raised:
                await use(url)
            assert "PATCHBAY_DATABASE_URL" in str(raised.value)
            assert PASSWORD not in str(raised.value)
            assert "wrong-password" not in str(raised.value)


async def test_a_user_without_rights_is_told(postgres: PostgresServer) -> None:
    async with changing(await postgres.empty_database()) as connection:
        await connection.execute(sa.text("CREATE USER reader PASSWORD 'reader'"))
    url = await postgres.empty_database()
    with pytest.raises(MigrationError, match="User reader may not change the schema"):
        await upgrade(postgres.url(url.rpartition("/")[2], user="reader", password="reader"))


async def test_a_server_that_is_stopped_is_told() -> None:
    with postgres_server() as server:
        url = await server.database()
        await usable(url)
        server.stop()
        with pytest.raises(MigrationError, match="can't be reached"):
            await usable(url)
        server.start()
        await usable(url)
