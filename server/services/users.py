"""What admins do to users: create, change, deactivate, reset a password."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from server.domain.administration import SkillLevel, User
from server.domain.capacity import CAPACITY, Capacity
from server.domain.directory import AuthedUser, Role
from server.ids import new_id
from server.services.admin import ChangeLog, check_skills, found
from server.services.admin_ports import AdminTransaction
from server.services.passwords import Passwords, readable_password, too_weak
from server.services.refusals import Refused, invalid

LOGIN_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._@+\-]*$"  # typed at every start of a shift; also an e-mail address


@dataclass(frozen=True, slots=True)
class NewUser:
    """`password` None: one is made up, and told once."""

    login: str
    name: str
    role: Role
    password: str | None
    skills: tuple[SkillLevel, ...] = ()
    capacity: Capacity = CAPACITY


class UserService:
    def __init__(self, changes: ChangeLog, passwords: Passwords) -> None:
        self._changes = changes
        self._passwords = passwords

    async def create(self, actor: AuthedUser, new: NewUser) -> tuple[User, str | None]:
        """The user, and the made-up password if none was given. Raises Refused: invalid, login_taken."""
        login = new.login.casefold()
        if not re.fullmatch(LOGIN_PATTERN, login):
            raise invalid("login", "bad_login", "letters, digits and . _ @ + - only")
        weak = too_weak(new.password, login) if new.password is not None else None
        if weak:
            raise invalid("password", "weak_password", weak)
        made_up = readable_password() if new.password is None else None
        user = User(
            id=new_id("usr"),
            tenant=actor.tenant,
            login=login,
            name=new.name,
            role=new.role,
            active=True,
            locale=None,
            password_hash=await self._passwords.hash(made_up or new.password or ""),
            skills=new.skills,
            created_at=self._changes.clock.now_ms(),
            version=1,
            capacity=new.capacity,
        )
        async with self._changes.repository.writing() as transaction:
            await check_skills(transaction, actor.tenant, user.skills)
            await self._changes.add(actor, transaction, user)
        await self._changes.tell(user)
        return user, made_up

    async def change(self, actor: AuthedUser, user_id: str, version: int | None, settings: Mapping[str, Any]) -> User:
        """Any of login, name, role, active, skills, capacity. Deactivating ends the user's logins at once.

        Raises Refused: not_found, changed_meanwhile, invalid, login_taken, last_admin."""

        async def edit(transaction: AdminTransaction, user: User) -> User:
            edited = replace(user, **settings)
            skills = await check_skills(transaction, actor.tenant, edited.skills)
            edited = replace(edited, login=edited.login.casefold(), skills=skills)
            if _rules(user) and not _rules(edited):
                others = set(await transaction.active_admins(actor.tenant)) - {user_id}
                if not others:
                    raise Refused("last_admin", "this is the only admin; make somebody else admin first")
            if not edited.active:
                await transaction.end_logins(user_id)
            return edited

        return await self._changes.change(actor, User, user_id, version, edit)

    async def deactivate(self, actor: AuthedUser, user_id: str) -> None:
        """History keeps the name; the login stays taken. Raises Refused: not_found, last_admin."""
        await self.change(actor, user_id, None, {"active": False})

    async def reset_password(self, actor: AuthedUser, user_id: str, password: str | None = None) -> str:
        """A fresh password (made up unless given), told once; the user's logins end. Raises Refused: not_found."""
        fresh = password or readable_password()
        password_hash = await self._passwords.hash(fresh)
        async with self._changes.repository.writing() as transaction:
            user = await found(transaction, User, actor.tenant, user_id)
            await transaction.save(replace(user, password_hash=password_hash, version=user.version + 1))
            await transaction.end_logins(user_id)
            await self._changes.audit(actor, transaction, "password_reset", user, {})
        await self._changes.tell(user)
        return fresh


def _rules(user: User) -> bool:
    return user.active and user.role is Role.ADMIN
