"""What a fresh installation begins with, and the demo. Both may run again: what is there stays as it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from server.domain.administration import (
    BreakReason,
    Disposition,
    EntryPointRecord,
    Queue,
    R,
    Skill,
    SkillLevel,
)
from server.domain.directory import DEFAULT_TENANT, AuthedUser, Role
from server.services.admin import AdminService, ChangeLog
from server.services.passwords import readable_password
from server.services.users import NewUser, UserService

SYSTEM = AuthedUser(DEFAULT_TENANT, "system", "system", "System", Role.ADMIN, None)
DISPOSITIONS = ("Resolved", "Follow-up needed", "Sale", "Wrong number", "No answer to the question")
BREAK_REASONS = ("Lunch", "Short break", "Training", "Meeting")

DEMO_PASSWORD_FILE = "demo-password"
# The demo shop finds its widgets by these keys. Keys are no secrets: they stand in web pages.
DEMO_KEYS = {"Sales": "wk_demo_sales", "Support": "wk_demo_support"}
DEMO_SKILLS = ("Sales", "Support", "English", "中文")
DEMO_QUEUES = {"Sales": (("Sales", 1),), "Support": (("Support", 1),)}
DEMO_USERS: tuple[tuple[str, str, Role, dict[str, int]], ...] = (
    ("admin", "Alex Admin", Role.ADMIN, {}),
    ("sam", "Sam Rivera", Role.SUPERVISOR, {}),
    ("ana", "Ana Duarte", Role.AGENT, {"Sales": 8, "English": 9}),
    ("bo", "Bo Lindqvist", Role.AGENT, {"Sales": 5, "Support": 7, "English": 8}),
    ("chen", "陈静", Role.AGENT, {"Support": 9, "English": 6, "中文": 10}),
)


@dataclass(frozen=True, slots=True)
class DemoAccounts:
    """`password` is the one of all demo accounts; None when they exist already and it is not known any more."""

    logins: tuple[str, ...]
    created: tuple[str, ...]
    password: str | None


class Seed:
    def __init__(self, changes: ChangeLog, admin: AdminService, users: UserService) -> None:
        self._changes = changes
        self._admin = admin
        self._users = users

    async def base(self) -> None:
        """The default tenant with its dispositions and break reasons; no account."""
        async with self._changes.repository.writing() as transaction:
            await transaction.add_tenant(DEFAULT_TENANT, "Default", self._changes.clock.now_ms())
        if not await self._all(Disposition):
            for name in DISPOSITIONS:
                await self._admin.create_label(SYSTEM, Disposition, name, None)
        if not await self._all(BreakReason):
            for name in BREAK_REASONS:
                await self._admin.create_label(SYSTEM, BreakReason, name, None)

    async def demo(self, data_dir: Path, password: str | None, own_sites: tuple[str, ...]) -> DemoAccounts:
        """Accounts, skills, queues and widgets of the demo. `password` None: the one in the data directory, made up
        on first use. Accounts that exist keep theirs."""
        await self.base()
        skills = await self._demo_skills()
        await self._demo_queues(skills, own_sites)
        return await self._demo_users(skills, data_dir / DEMO_PASSWORD_FILE, password)

    async def _demo_skills(self) -> dict[str, str]:
        known = {skill.name: skill.id for skill in await self._all(Skill)}
        for name in DEMO_SKILLS:
            if name not in known:
                known[name] = (await self._admin.create_skill(SYSTEM, name)).id
        return known

    async def _demo_queues(self, skills: dict[str, str], own_sites: tuple[str, ...]) -> None:
        queues = {queue.name: queue.id for queue in await self._all(Queue) if queue.active}
        keys = {entry_point.key for entry_point in await self._all(EntryPointRecord)}
        for name, needed in DEMO_QUEUES.items():
            if DEMO_KEYS[name] in keys:
                continue  # an admin may have renamed or rewired it since
            if name not in queues:
                settings = {
                    "name": name,
                    "skills": tuple(SkillLevel(skills[skill], level) for skill, level in needed),
                    "ring_timeout_s": 20,
                    "wrap_up_s": 60,
                    "disposition_required": True,
                    "record": True,
                    "service_level_s": 20,
                }
                queues[name] = (await self._admin.create_queue(SYSTEM, settings)).id
            widget = {
                "name": f"{name} widget",
                "kind": "widget",
                "queue_id": queues[name],
                "allowed_sites": own_sites,
            }
            await self._admin.create_entry_point(SYSTEM, widget, DEMO_KEYS[name])

    async def _demo_users(self, skills: dict[str, str], password_file: Path, password: str | None) -> DemoAccounts:
        async with self._changes.repository.reading() as transaction:
            missing = [row for row in DEMO_USERS if await transaction.user_by_login(row[0]) is None]
        known = password or _read(password_file)
        if known is None and missing:
            known = _keep(password_file, readable_password())
        for login, name, role, levels in missing:
            has = tuple(SkillLevel(skills[skill], level) for skill, level in levels.items())
            await self._users.create(SYSTEM, NewUser(login, name, role, known, has))
        logins, created = tuple(row[0] for row in DEMO_USERS), tuple(row[0] for row in missing)
        return DemoAccounts(logins, created, known)

    async def _all(self, kind: type[R]) -> tuple[R, ...]:
        return await self._admin.page(SYSTEM, kind, 1000, None)


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip() or None
    except FileNotFoundError:
        return None


def _keep(file: Path, password: str) -> str:
    """Write the password where only this user reads it, before any account has it."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(password + "\n")
    return password
