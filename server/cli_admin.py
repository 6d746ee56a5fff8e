"""What the command line does to the database, as plain async functions: migrate, seed, users.

They may run beside a serving process; its directory notices within seconds (server/storage/directory.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

from server.clock import MonotonicClock
from server.config import Config, make_data_dir
from server.domain.administration import User
from server.domain.directory import DEFAULT_TENANT, Role
from server.services.admin import AdminService, ChangeLog
from server.services.passwords import Passwords
from server.services.refusals import not_found
from server.services.seed import SYSTEM, DemoAccounts, Seed
from server.services.users import NewUser, UserService
from server.storage import migrate as schema
from server.storage.admin_repository import StoredAdmin
from server.storage.engine import create_engine


@dataclass(frozen=True, slots=True)
class _Services:
    changes: ChangeLog
    admin: AdminService
    users: UserService


async def migrate(config: Config) -> str:
    """Bring the database to this version's schema; returns its revision. Raises MigrationError, ConfigError."""
    make_data_dir(config)
    return await schema.upgrade(config.database_url)


async def seed(config: Config, demo: bool) -> DemoAccounts | None:
    """Migrate, then fill in what a fresh installation needs; with `demo`, the demo too. Fine to repeat."""
    await migrate(config)
    async with _services(config) as services:
        work = Seed(services.changes, services.admin, services.users)
        if not demo:
            await work.base()
            return None
        own_sites = dict.fromkeys((config.own_url, f"http://127.0.0.1:{config.port}"))
        return await work.demo(config.data_dir, config.demo_password, tuple(own_sites))


async def user_add(config: Config, login: str, name: str, role: Role, password: str | None) -> str | None:
    """Create a user; returns the made-up password when none was given. Raises Refused."""
    await seed(config, demo=False)
    async with _services(config) as services:
        _user, made_up = await services.users.create(SYSTEM, NewUser(login, name, role, password))
        return made_up


async def user_reset_password(config: Config, login: str, password: str | None = None) -> str:
    """Give a user a fresh password and end their logins. Raises Refused: not_found."""
    async with _services(config) as services:
        user = await _by_login(services, login)
        return await services.users.reset_password(SYSTEM, user.id, password)


async def user_set_active(config: Config, login: str, active: bool) -> None:
    """Raises Refused: not_found, last_admin."""
    async with _services(config) as services:
        user = await _by_login(services, login)
        await services.users.change(SYSTEM, user.id, None, {"active": active})


async def user_list(config: Config) -> tuple[User, ...]:
    async with _services(config) as services:
        return await services.admin.page(SYSTEM, User, 1000, None)


async def _by_login(services: _Services, login: str) -> User:
    async with services.changes.repository.reading() as transaction:
        user = await transaction.user_by_login(login.casefold())
    if user is None or user.tenant != DEFAULT_TENANT:
        raise not_found("user")
    return user


@asynccontextmanager
async def _services(config: Config) -> AsyncIterator[_Services]:
    engine = create_engine(config.database_url)
    with ThreadPoolExecutor(1, "password") as executor:
        try:
            changes = ChangeLog(StoredAdmin(engine), MonotonicClock(), ())
            yield _Services(changes, AdminService(changes), UserService(changes, Passwords(executor)))
        finally:
            await engine.dispose()
