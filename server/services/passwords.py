"""Passwords: argon2id off the event loop, and readable ones for first logins."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MIN_PASSWORD_CHARS = 10
MAX_PASSWORD_CHARS = 200  # argon2 reads it all; a megabyte would only cost us time
_READABLE = "abcdefghjkmnpqrstuvwxyz23456789"  # no 0/o, 1/l/i: people read these aloud
T = TypeVar("T")


class Passwords:
    """Hashing and checking. One check takes about 40 ms and 64 MiB (RFC 9106, second recommended option), so the
    executor's size bounds the memory that logins can take; give it an executor of its own."""

    def __init__(self, executor: Executor, hasher: PasswordHasher | None = None) -> None:
        self._executor = executor
        self._hasher = hasher or PasswordHasher()
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """True when the password is right. With None (an unknown login) it takes as long and is False."""
        if password_hash is None:
            self._nobody = self._nobody or await self.hash(secrets.token_urlsafe())
        target = password_hash or self._nobody or ""

        def check() -> bool:
            try:
                return self._hasher.verify(target, password)
            except (VerificationError, InvalidHashError):
                return False

        return await self._run(check) and password_hash is not None

    def outdated(self, password_hash: str) -> bool:
        """True when the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(password_hash)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def readable_password() -> str:
    """A random password such as `k7mq-tx3f-9wpa-hd2n`: 79 bits, 19 characters."""
    return "-".join("".join(secrets.choice(_READABLE) for _ in range(4)) for _ in range(4))


def too_weak(password: str, login: str) -> str | None:
    """Why a password is refused, or None. Length is what counts (NIST SP 800-63B, section 3.1.1.2)."""
    if len(password) < MIN_PASSWORD_CHARS:
        return f"at least {MIN_PASSWORD_CHARS} characters"
    if login.casefold() in password.casefold() and len(password) < len(login) + MIN_PASSWORD_CHARS:
        return "not the login with a few characters around it"
    if len(set(password)) < 4:
        return "more than a few different characters"
    return None
