"""The web application over a SQLite file, with cheap password hashes and a clock that stands still."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from aiohttp import ClientResponse, CookieJar
from aiohttp.test_utils import TestClient, TestServer
from argon2 import PasswordHasher
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

from server.clock import ManualClock
from server.domain.administration import User
from server.domain.directory import DEFAULT_TENANT, AuthedUser, Role
from server.services.admin import AdminService, ChangeLog
from server.services.admin_ports import FileReady, NotReady, Rendering, Side, Unreadable
from server.services.auth import AuthService
from server.services.call_control import TransferTargets
from server.services.floor import FloorService
from server.services.passwords import Passwords
from server.services.reports import ReportService
from server.services.seed import DEMO_USERS, SYSTEM, Seed
from server.services.steering import SteeringService
from server.services.stepper import Stepper
from server.services.supervision import SupervisionService
from server.services.tokens import CustomerTokens
from server.services.users import NewUser, UserService
from server.services.whatif import WhatIfService
from server.signaling.views import WirePresenter
from server.signaling.web import WebDeps, build_web
from server.storage import runtime_tables as tables
from server.storage.admin_repository import StoredAdmin
from server.storage.directory import StoredDirectory
from server.storage.engine import create_engine, writing
from server.storage.floor import StoredFloor
from server.storage.history import StoredHistory
from server.storage.migrate import upgrade
from server.storage.reports import StoredReports
from server.storage.sqlite_steps import SqliteSteps
from server.whatif.child import ChildPlayer

PASSWORD = "correct horse battery"
LOGIN_OF = {Role.ADMIN: "admin", Role.SUPERVISOR: "sam", Role.AGENT: "ana"}
OTHER = "other"  # a second tenant
HOST = "cc.example:8080"
URL = f"http://{HOST}"
MANIFEST = {
    **{
        entry: {"file": f"assets/{entry.split('/')[0]}-abc.js", "isEntry": True, "imports": ["_core.js"]}
        for entry in ("login/main.ts", "agent/main.ts", "admin/main.ts", "customer-widget/frame/main.ts")
    },
    "_core.js": {"file": "assets/core-abc.js", "css": ["assets/core-abc.css"]},
}
_databases: dict[str, bytes] = {}  # a migrated and seeded file, made once per process
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass
class FakeFiles:
    """`RecordingFiles` that answers what a test put in."""

    found: FileReady | Rendering | Unreadable | None = None

    async def file(self, tenant: str, recording_id: str, side: Side) -> FileReady | Rendering:
        if self.found is None:
            raise NotReady
        if isinstance(self.found, Unreadable):
            raise self.found
        return self.found


@dataclass
class FakeAvailability:
    ready: bool = True
    reasons: dict[str, Mapping[str, object]] = field(default_factory=dict)  # by session id

    def agents_ready(self, tenant: str, queue_id: str) -> bool:
        return self.ready

    def explain(self, tenant: str, session_id: str) -> Mapping[str, object] | None:
        return self.reasons.get(session_id)


@dataclass
class FakeReadiness:
    missing: list[str] = field(default_factory=list)

    async def problems(self) -> list[str]:
        return self.missing


class Api:
    """One browser: cookies, CSRF token, and our own origin."""

    def __init__(self, client: TestClient[Any, Any]) -> None:
        self.client = client
        self.csrf: str | None = None
        self.headers: dict[str, str] = {"Host": HOST}

    async def log_in(self, login: str, password: str = PASSWORD) -> ClientResponse:
        answer = await self.send("POST", "/api/v1/login", {"login": login, "password": password})
        if answer.status == 200:
            self.csrf = (await answer.json())["csrf"]
        return answer

    async def send(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None, **more: Any
    ) -> ClientResponse:
        sent = dict(self.headers)
        if method not in ("GET", "HEAD"):
            sent["Origin"] = URL
            if self.csrf is not None:
                sent["X-CSRF-Token"] = self.csrf
        sent |= headers or {}
        if body is not None:
            more["data"] = json.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        return await self.client.request(method, path, headers=sent, allow_redirects=False, **more)

    async def get(self, path: str, status: int = 200) -> Any:
        return await _checked(await self.send("GET", path), status)

    async def post(self, path: str, body: object, status: int = 201) -> Any:
        return await _checked(await self.send("POST", path, body), status)

    async def patch(self, path: str, body: object, status: int = 200) -> Any:
        return await _checked(await self.send("PATCH", path, body), status)

    async def delete(self, path: str, status: int = 204) -> Any:
        return await _checked(await self.send("DELETE", path), status)


async def _checked(answer: ClientResponse, status: int) -> Any:
    text = await answer.text()
    assert answer.status == status, text
    return json.loads(text) if text else None


async def code(answer: ClientResponse) -> str:
    """The error code of an answer."""
    return str((await answer.json())["error"]["code"])


@dataclass
class World:
    deps: WebDeps
    engine: AsyncEngine
    stepper: Stepper
    clock: ManualClock
    changes: ChangeLog
    files: FakeFiles
    availability: FakeAvailability
    readiness: FakeReadiness
    server: TestServer
    stack: AsyncExitStack
    told: list[tuple[str, str, str]]

    async def browser(self) -> Api:
        client = TestClient(self.server, cookie_jar=CookieJar(unsafe=True))
        await self.stack.enter_async_context(client)
        return Api(client)

    async def logged_in(self, role: Role) -> Api:
        api = await self.browser()
        answer = await api.log_in(LOGIN_OF[role])
        assert answer.status == 200, await answer.text()
        return api

    async def user(self, login: str) -> User:
        async with self.changes.repository.reading() as transaction:
            found = await transaction.user_by_login(login)
        assert found is not None
        return found

    async def insert(self, table: str, **values: Any) -> None:
        """A row as a step would have written it."""
        async with writing(self.engine).begin() as connection:
            await connection.execute(sa.insert(tables.metadata.tables[table]).values(**values))


@asynccontextmanager
async def open_world(folder: Path, **overrides: Any) -> AsyncIterator[World]:
    """`overrides` replace fields of WebDeps."""
    static_dir = folder / "static"
    (static_dir / ".vite").mkdir(parents=True)
    (static_dir / ".vite" / "manifest.json").write_text(json.dumps(MANIFEST))
    (static_dir / "assets").mkdir()
    (static_dir / "assets" / "core-abc.js").write_text("export {};\n")
    (static_dir / "widget.js").write_text("/* loader */\n")
    engine = create_engine(await _database(folder))
    clock, told = ManualClock(), list[tuple[str, str, str]]()

    async def tell(tenant: str, kind: str, record_id: str) -> None:
        told.append((tenant, kind, record_id))

    directory = StoredDirectory(engine, clock)
    steps = await SqliteSteps.open(folder / "test.db")
    stepper = Stepper(steps, WirePresenter(), clock)

    async def forget(tenant: str, _kind: str, _record_id: str) -> None:
        directory.forget(tenant)

    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        stack.push_async_callback(steps.close)
        passwords = Passwords(stack.enter_context(ThreadPoolExecutor(1)), CHEAP)
        changes = ChangeLog(StoredAdmin(engine), clock, (forget, tell))
        files, availability, readiness = FakeFiles(), FakeAvailability(), FakeReadiness()
        deps = WebDeps(
            auth=AuthService(StoredAdmin(engine), passwords, clock, 12, forget),
            admin=AdminService(changes),
            users=UserService(changes, passwords),
            steering=SteeringService(steps, stepper, directory),
            floor=FloorService(StoredFloor(engine), stepper, directory, StoredAdmin(engine), clock),
            supervision=SupervisionService(steps, stepper, StoredAdmin(engine), clock),
            targets=TransferTargets(StoredFloor(engine), steps, directory, clock),
            tokens=CustomerTokens(b"k" * 32, clock),
            directory=directory,
            history=StoredHistory(engine),
            reports=ReportService(StoredReports(engine), directory, clock),
            whatif=WhatIfService(ChildPlayer(str(engine.url)), clock),
            availability=availability,
            explanations=availability,
            recordings=files,
            readiness=readiness,
            clock=clock,
            registry=CollectorRegistry(),
            static_dir=static_dir,
            version="0.0.0",
        )
        deps = replace(deps, **overrides)
        server = TestServer(build_web(deps))
        stack.push_async_callback(server.close)
        await server.start_server()
        yield World(deps, engine, stepper, clock, changes, files, availability, readiness, server, stack, told)


async def _database(folder: Path) -> str:
    """A copy of the demo's database, with a second tenant that has a queue and a user."""
    url = f"sqlite+aiosqlite:///{folder}/test.db"
    if "demo" not in _databases:
        await upgrade(url)
        engine = create_engine(url)
        with ThreadPoolExecutor(1) as executor:
            passwords = Passwords(executor, CHEAP)
            changes = ChangeLog(StoredAdmin(engine), ManualClock(), ())
            admin, users = AdminService(changes), UserService(changes, passwords)
            await Seed(changes, admin, users).demo(folder, PASSWORD, ("https://shop.example",))
            await _second_tenant(changes, admin, users)
        async with engine.connect() as connection:
            await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        await engine.dispose()
        _databases["demo"] = (folder / "test.db").read_bytes()
    (folder / "test.db").write_bytes(_databases["demo"])
    return url


async def _second_tenant(changes: ChangeLog, admin: AdminService, users: UserService) -> None:
    async with changes.repository.writing() as transaction:
        await transaction.add_tenant(OTHER, "Other", 0)
    stranger: AuthedUser = replace(SYSTEM, tenant=OTHER)
    assert stranger.tenant != DEFAULT_TENANT
    await users.create(stranger, NewUser("boss", "Boss", Role.ADMIN, PASSWORD))
    await admin.create_skill(stranger, "Sales")
    settings = {
        "name": "Sales",
        "skills": (),
        "ring_timeout_s": 20,
        "wrap_up_s": 60,
        "disposition_required": True,
        "record": True,
        "service_level_s": 20,
    }
    queue = await admin.create_queue(stranger, settings)
    entry = {"name": "Sales", "kind": "widget", "queue_id": queue.id, "allowed_sites": ()}
    await admin.create_entry_point(stranger, entry)


assert {row[0] for row in DEMO_USERS} >= set(LOGIN_OF.values())
