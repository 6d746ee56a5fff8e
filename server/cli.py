"""What the commands do. Each takes the settings and its arguments, and returns the exit status."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from server import preflight, recording_keys, supervisor
from server.clock import MonotonicClock
from server.config import Config, ConfigError
from server.domain.administration import EntryPointRecord
from server.domain.directory import DEFAULT_TENANT, Role
from server.media import transport
from server.process import EXIT_CONFIG
from server.services.admin import AdminService, ChangeLog
from server.services.passwords import Passwords
from server.services.refusals import Refused
from server.services.seed import DEMO_PASSWORD_FILE, SYSTEM, Seed
from server.services.users import NewUser, UserService
from server.storage import migrate as migrations
from server.storage.admin_repository import StoredAdmin
from server.storage.engine import create_engine

if TYPE_CHECKING:
    from server.caller import Caller

CA_REMEDY = "give a file of PEM certificates, those of the authority that signed the workers'"
FREE_DISK_BYTES = 1 << 30  # a day of one busy agent's calls is about 100 MB


class CommandFailed(Exception):
    """What went wrong and what to do; `status` is the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


async def serve(config: Config, given: argparse.Namespace) -> int:
    """Run everything, or one part."""
    if given.role == "media":
        _become_worker(config)
    try:
        supervisor.worker_addresses(config, config.data_dir)
    except OSError as error:
        raise CommandFailed(f"PATCHBAY_MEDIA_CA can't be used ({error}); {CA_REMEDY}", EXIT_CONFIG) from None
    if given.role == "control":
        from server.serving import serve_control  # a second's work, which the supervisor's other children wait for

        folder = given.run_dir or supervisor.run_dir(config)[0]
        reasons: list[str] = []
        try:
            await serve_control(config, folder)
        except* (preflight.CannotStart, migrations.MigrationError) as group:  # some are raised among the node's tasks
            reasons = [str(reason) for reason in _leaves(group)]
        if reasons:
            raise CommandFailed("; ".join(reasons), EXIT_CONFIG)
        return 0
    try:
        with preflight.bound(config):
            pass  # said here, a taken port is one clear line; the control node binds it for good
    except preflight.CannotStart as reason:
        raise CommandFailed(str(reason), EXIT_CONFIG) from None
    await migrate(config, given)
    await seed(config, given)
    print("starting …", flush=True)
    arguments = ["--config", str(given.config)] if given.config else []
    return await supervisor.serve(config, [*arguments, "serve"])


def _become_worker(config: Config) -> NoReturn:
    """This process goes on as the media worker. Raises CommandFailed."""
    try:
        preflight.tls_context(config)
        command, environment = supervisor.lone_worker(config)
    except (preflight.CannotStart, ValueError) as reason:
        raise CommandFailed(str(reason), EXIT_CONFIG) from None
    os.execve(command[0], command, os.environ | environment)


def _leaves(group: BaseExceptionGroup[Exception]) -> list[BaseException]:
    found: list[BaseException] = []
    for one in group.exceptions:
        found += _leaves(one) if isinstance(one, BaseExceptionGroup) else [one]
    return found


async def migrate(config: Config, given: argparse.Namespace) -> int:
    """Bring the database to this version's schema."""
    # A node that only starts takes nothing away from nodes of the version before.
    phase: migrations.Phase = getattr(given, "phase", "pre" if config.postgres else "all")
    try:
        before = await migrations.current(config.database_url)
        after = await migrations.upgrade(config.database_url, phase)
    except migrations.MigrationError as error:
        raise CommandFailed(str(error), EXIT_CONFIG) from None
    print(f"database: schema {after}" + ("" if before == after else f" (was {before or 'empty'})"), flush=True)
    return 0


async def seed(config: Config, given: argparse.Namespace) -> int:
    """What every center needs; with --demo, people and queues to try."""
    async with _setup(config) as setup:
        if not given.demo:
            await setup.seed.base()
            async with setup.repository.reading() as transaction:
                if not await transaction.active_admins(DEFAULT_TENANT):
                    print("there is no admin yet; make one: patchbay user add LOGIN --role admin", flush=True)
            return 0
        demo = await setup.seed.demo(config.data_dir, config.demo_password, (config.own_url,))
    password = demo.password or f"(set before; see {config.data_dir / DEMO_PASSWORD_FILE} or `patchbay user password`)"
    print(f"shop with the widget   {config.own_url}/demo/shop")
    print(f"agent console          {config.own_url}/agent     logins: ana, bo, chen")
    print(f"admin                  {config.own_url}/admin     logins: admin, sam (supervisor)")
    print(f"password of all five   {password}", flush=True)
    return 0


async def user(config: Config, given: argparse.Namespace) -> int:
    """Add a user, or give one a new password."""
    password = given.ask_password() if given.ask else None
    async with _setup(config) as setup:
        await setup.seed.base()
        try:
            if given.action == "add":
                new = NewUser(given.login, given.name or given.login, Role(given.user_role), password)
                _, made_up = await setup.users.create(SYSTEM, new)
            else:
                async with setup.repository.reading() as transaction:
                    known = await transaction.user_by_login(given.login.casefold())
                if known is None:
                    raise CommandFailed(f"there is no user {given.login}")
                made_up = await setup.users.reset_password(SYSTEM, known.id, password)
        except Refused as refusal:
            raise CommandFailed(refusal.message) from None
    print(f"{given.login}: " + ("done" if password else f"the password is {made_up}"), flush=True)
    return 0


async def testcall(config: Config, given: argparse.Namespace) -> int:
    """Call a queue, print what is heard once a second, until somebody hangs up."""
    from server.caller import Caller, CallFailed  # aiortc and numpy: no other command waits for them

    url = given.url or config.own_url
    key = given.key or await _first_key(config)
    caller = Caller(url, key, tone_hz=given.tone, audio=given.file, name=given.name, on_change=_printer())
    print(f"calling {url} with {given.file or f'a tone of {given.tone:g} Hz'} …", flush=True)
    try:
        await caller.begin()
        deadline = asyncio.get_running_loop().time() + given.seconds
        while not caller.ended.is_set() and asyncio.get_running_loop().time() < deadline:
            try:
                async with asyncio.timeout(1):
                    await caller.ended.wait()
            except TimeoutError:
                _print_heard(caller)
        await caller.hang_up()
    except CallFailed as failure:
        raise CommandFailed(str(failure)) from None
    finally:
        await caller.close()
    if not caller.view.get("talk_started_at"):
        print("nobody answered", flush=True)
        return 1
    return 0


async def doctor(config: Config, given: argparse.Namespace) -> int:
    """Say what is missing here and how to get it; status 1 when something that is needed is."""
    wrong = 0
    for name, fault, remedy in await _findings(config):
        print(f"{'ok  ' if fault is None else 'MISS' if remedy else 'note'}  {name}" + (f": {fault}" if fault else ""))
        if fault and remedy:
            wrong += 1
            print(f"      {remedy}")
    return 1 if wrong else 0


Finding = tuple[str, str | None, str]  # what was looked at, what is wrong with it, what to do ("" for a mere note)


async def _findings(config: Config) -> list[Finding]:
    found: list[Finding] = []
    version = ".".join(str(part) for part in sys.version_info[:3])
    good = (3, 11) <= sys.version_info[:2] <= (3, 13)
    found.append(("Python " + version, None if good else "not 3.11 to 3.13", "install Python 3.11, 3.12 or 3.13"))
    for module in ("aiortc", "av", "pylibsrtp", "uvloop", "aiosqlite", "argon2"):
        missing = importlib.util.find_spec(module) is None
        found.append((f"package {module}", "not installed" if missing else None, "make run installs it"))
    built = (preflight.STATIC_DIR / ".vite" / "manifest.json").is_file()
    found.append(("web apps", None if built else "not built", "make run builds them"))
    found.append(_data_dir(config))
    found.append(await _database(config))
    found.append(_recording_keys(config))
    found.append(_port(config))
    found += await _workers(config)
    free = shutil.disk_usage(config.data_dir).free
    small = f"{free >> 20} MiB free" if free < FREE_DISK_BYTES else None
    found.append(("disk", small, "free some space: recordings stop when the disk is full"))
    local = config.host in ("127.0.0.1", "::1", "localhost")
    try:
        preflight.tls_context(config)
    except preflight.CannotStart as reason:
        found.append(("TLS", str(reason), "give a certificate chain and the key that belongs to it"))
        return found
    plain = None if local or config.tls or config.trusted_proxies else "browsers on other hosts get no microphone"
    found.append(("TLS", plain, "set PATCHBAY_TLS_CERT and PATCHBAY_TLS_KEY, or see deploy/haproxy"))
    return found


def _data_dir(config: Config) -> Finding:
    mode = config.data_dir.stat().st_mode & 0o777
    fault = f"{config.data_dir} may be read by others (mode {mode:o})" if mode & 0o077 else None
    return "data folder", fault, f"chmod 700 {config.data_dir}"


def _recording_keys(config: Config) -> Finding:
    path = config.data_dir / recording_keys.FILE_NAME
    where = "in the database" if config.postgres else f"in {path}"
    note = f"the master key lies {where}: keep a copy apart from the recordings"
    try:
        if path.exists():
            recording_keys.local_keyring(config)
    except ConfigError as reason:
        return "recording keys", str(reason), "put the copy of the file back: recordings can't be played without it"
    return "recording keys", None if config.master_keys else note, ""


async def _database(config: Config) -> Finding:
    try:
        await preflight.check_schema(config)
    except preflight.CannotStart as reason:
        return "database", str(reason), "run: patchbay migrate"
    except Exception as error:
        return "database", f"{type(error).__name__}: {error}", "check PATCHBAY_DATABASE_URL and the file's permissions"
    return "database", None, ""


async def _workers(config: Config) -> list[Finding]:
    """The media workers of other machines, each asked under its name."""
    if not config.media_urls:
        return []
    try:
        addresses = supervisor.worker_addresses(config, config.data_dir)
    except OSError as error:
        return [("media workers", f"PATCHBAY_MEDIA_CA can't be used ({error})", CA_REMEDY)]
    faults = await asyncio.gather(*(transport.probe(name, address) for name, address in addresses.items()))
    remedy = "until then calls go to the other workers, if there are any"
    return [(f"media worker {name}", fault, remedy) for name, fault in zip(addresses, faults, strict=True)]


def _port(config: Config) -> Finding:
    with socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            return f"port {config.port}", f"{error.strerror} (fine if Patchbay is running)", ""
    return f"port {config.port}", None, ""


@dataclass(frozen=True, slots=True)
class _SetUp:
    repository: StoredAdmin
    users: UserService
    seed: Seed


@asynccontextmanager
async def _setup(config: Config) -> AsyncIterator[_SetUp]:
    """The set-up services over the database, which must have this version's schema."""
    try:
        await preflight.check_schema(config)
    except (preflight.CannotStart, migrations.MigrationError) as reason:
        raise CommandFailed(str(reason), EXIT_CONFIG) from None
    engine = create_engine(config.database_url)
    with ThreadPoolExecutor(1, "argon2") as thread:
        try:
            repository = StoredAdmin(engine)
            changes = ChangeLog(repository, MonotonicClock(), [])
            users = UserService(changes, Passwords(thread))
            yield _SetUp(repository, users, Seed(changes, AdminService(changes), users))
        finally:
            await engine.dispose()


async def _first_key(config: Config) -> str:
    """The widget key of the oldest active entry point."""
    async with _setup(config) as setup, setup.repository.reading() as transaction:
        for entry in await transaction.page(EntryPointRecord, DEFAULT_TENANT, 200):
            if entry.active:
                return entry.key
    raise CommandFailed("there is no entry point to call; make one in the admin app, or give --key")


def _printer() -> Callable[[dict[str, object]], None]:
    """Prints a view when its line differs from the one before."""
    last = ""

    def show(view: dict[str, object]) -> None:
        nonlocal last
        agent = f" with {view['agent_name']}" if view["agent_name"] else ""
        reason = f" ({view['end_reason']})" if view["end_reason"] else ""
        line = f"{view['state']}{agent}{reason}"
        if line != last:
            print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)
            last = line

    return show


def _print_heard(caller: Caller) -> None:
    if caller.peer is None:
        return
    heard = caller.peer.heard()
    place = f"  place {caller.position}" if caller.position and caller.view["state"] == "queued" else ""
    what = f"{heard.peak_hz:.0f} Hz at {heard.level_dbfs:.0f} dBFS" if heard.level_dbfs > -60 else "silence"
    print(f"{time.strftime('%H:%M:%S')}  hearing {what}{place}", flush=True)
