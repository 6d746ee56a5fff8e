"""Logins of users: cookies, CSRF tokens, and what ends them.

A login is a random token in a cookie; the database holds its SHA-256 only. Each login makes a fresh token and ends
the one that the browser had (no session fixation). Deactivating a user or changing the password ends all of theirs.
The CSRF token is an HMAC keyed with the login's token: another site can't compute it, and nothing more is stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from dataclasses import dataclass, replace
from http.cookies import CookieError, SimpleCookie

from server.domain.administration import AuditEntry, LoginSession, User
from server.domain.directory import AuthedUser
from server.ids import new_id
from server.services.admin_ports import AdminListener, AdminRepository, AdminTransaction
from server.services.passwords import Passwords, too_weak
from server.services.ports import Clock
from server.services.rate_limits import Rate, RateLimit, address_key
from server.services.refusals import Refused, invalid

COOKIE = "patchbay_session"
PER_ADDRESS = Rate(burst=30, period_s=300)  # wrong passwords from one place, whatever the login
PER_LOGIN_AND_ADDRESS = Rate(burst=10, period_s=900)  # wrong passwords for one login from one place
PER_LOGIN = Rate(burst=100, period_s=900)  # wrong passwords from everywhere; high, or a stranger locks people out
HASHING_TIMEOUT_S = 20  # the executor is bounded; a login that waits longer is better tried again


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A fresh login. `token` goes into the cookie and nowhere else."""

    token: str
    csrf: str
    user: AuthedUser


class AuthService:
    """Log in, log out, and say who a cookie belongs to."""

    def __init__(
        self,
        repository: AdminRepository,
        passwords: Passwords,
        clock: Clock,
        session_hours: int,
        on_admin_change: AdminListener,
    ) -> None:
        self._repository = repository
        self._passwords = passwords
        self._clock = clock
        self._session_ms = session_hours * 3_600_000
        self._on_admin_change = on_admin_change
        self._per_address = RateLimit(PER_ADDRESS, clock)
        self._per_login_and_address = RateLimit(PER_LOGIN_AND_ADDRESS, clock)
        self._per_login = RateLimit(PER_LOGIN, clock)

    @property
    def session_s(self) -> int:
        """How long a login lasts, for the cookie's Max-Age."""
        return self._session_ms // 1000

    async def log_in(self, login: str, password: str, address: str, old_token: str | None) -> LoggedIn:
        """Raises Refused: bad_credentials, rate_limited. `old_token` is what the browser had; it ends."""
        login = login.casefold()
        limits = self._take(login, address)
        async with self._repository.reading() as transaction:
            user = await transaction.user_by_login(login)
        usable = user if user is not None and user.active else None
        right = await self._verify(usable.password_hash if usable else None, password)
        if not right or usable is None:
            raise Refused("bad_credentials", "the login or the password is wrong")
        for limit, key in limits:  # only wrong passwords count: a whole shift may log in behind one NAT
            limit.give_back(key)
        new_hash = None
        if self._passwords.outdated(usable.password_hash):
            new_hash = await self._passwords.hash(password)
        async with self._repository.writing() as transaction:
            if new_hash is not None:
                # A save that fails means that somebody changed the user meanwhile; the next login tries again.
                await transaction.save(replace(usable, password_hash=new_hash, version=usable.version + 1))
            if old_token is not None:
                await transaction.end_login(_digest(old_token))
            await transaction.drop_expired_logins(self._clock.now_ms())
            return await self._begin(transaction, usable, "logged_in")

    def _take(self, login: str, address: str) -> tuple[tuple[RateLimit, str], ...]:
        """Count an attempt before it is checked, so that a thousand at once are counted too."""
        place = address_key(address)
        limits = (
            (self._per_address, place),
            (self._per_login_and_address, f"{login} {place}"),
            (self._per_login, login),
        )
        wait_s = max(limit.wait_s(key) for limit, key in limits)
        if wait_s:
            raise Refused("rate_limited", "too many login attempts", retry_after_s=wait_s)
        for limit, key in limits:
            limit.take(key)
        return limits

    async def log_out(self, token: str) -> None:
        async with self._repository.writing() as transaction:
            await transaction.end_login(_digest(token))

    async def user_for_token(self, token: str | None) -> AuthedUser | None:
        """Whose login this is; None when it is unknown, over, or the user was deactivated."""
        if not token or len(token) > 100:
            return None
        async with self._repository.reading() as transaction:
            found = await transaction.login_session(_digest(token))
        if found is None:
            return None
        login, user = found
        return _authed(user) if user.active and login.expires_at > self._clock.now_ms() else None

    async def user_for_cookie(self, cookie_header: str | None) -> AuthedUser | None:
        """Whose login a `Cookie` header carries: for the agents' socket."""
        try:
            cookie = SimpleCookie(cookie_header or "").get(COOKIE)
        except CookieError:
            return None
        return await self.user_for_token(cookie.value if cookie else None)

    def csrf(self, token: str) -> str:
        return hmac.digest(token.encode(), b"patchbay csrf", hashlib.sha256).hex()

    def csrf_matches(self, token: str, given: str) -> bool:
        return hmac.compare_digest(self.csrf(token).encode(), given.encode(errors="replace"))

    async def set_locale(self, user: AuthedUser, locale: str) -> AuthedUser:
        """Raises Refused: not_found."""
        async with self._repository.writing() as transaction:
            found = await self._self(transaction, user)
            await transaction.save(replace(found, locale=locale, version=found.version + 1))
        await self._on_admin_change(user.tenant, "user", user.user_id)
        return replace(user, locale=locale)

    async def change_password(self, user: AuthedUser, old: str, new: str, address: str) -> LoggedIn:
        """Ends all logins of the user and begins a fresh one. Raises Refused: invalid, rate_limited."""
        limits = self._take(user.login, address)
        async with self._repository.reading() as transaction:
            known = await self._self(transaction, user)
        if not await self._verify(known.password_hash, old):
            raise invalid("password.old", "bad_credentials", "the old password is wrong")
        for limit, key in limits:
            limit.give_back(key)
        weak = too_weak(new, user.login)
        if weak:
            raise invalid("password.new", "weak_password", weak)
        password_hash = await self._passwords.hash(new)
        async with self._repository.writing() as transaction:
            found = await self._self(transaction, user)
            changed = replace(found, password_hash=password_hash, version=found.version + 1)
            await transaction.save(changed)
            await transaction.end_logins(user.user_id)
            fresh = await self._begin(transaction, changed, "password_changed")
        await self._on_admin_change(user.tenant, "user", user.user_id)
        return fresh

    async def _verify(self, password_hash: str | None, password: str) -> bool:
        try:
            async with asyncio.timeout(HASHING_TIMEOUT_S):
                return await self._passwords.verify(password_hash, password)
        except TimeoutError:
            raise Refused("rate_limited", "too many logins at once", retry_after_s=HASHING_TIMEOUT_S) from None

    async def _self(self, transaction: AdminTransaction, user: AuthedUser) -> User:
        found = await transaction.get(User, user.tenant, user.user_id)
        if found is None:
            raise Refused("not_found", "no such user")
        return found

    async def _begin(self, transaction: AdminTransaction, user: User, action: str) -> LoggedIn:
        token, now = secrets.token_urlsafe(32), self._clock.now_ms()
        await transaction.add_login(LoginSession(_digest(token), user.tenant, user.id, now, now + self._session_ms))
        await transaction.audit(AuditEntry(new_id("aud"), user.tenant, now, user.id, action, "user", user.id, {}))
        return LoggedIn(token, self.csrf(token), _authed(user))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _authed(user: User) -> AuthedUser:
    return AuthedUser(user.tenant, user.id, user.login, user.name, user.role, user.locale)
