"""Customer tokens: what a browser without a login shows to be let into one session, or to be known again.

`c1.<payload>.<signature>`: the payload is JSON in base64url, the signature HMAC-SHA-256 over `c1.<payload>` with a
key that lies in the data directory. Nothing is stored per token, so a widget view costs the database nothing.

`r1.…` is made alike and says only that this browser had that session: it opens nothing, and lasts longer.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.services.ports import Clock

RETURN_DAYS = 7  # whom somebody talked to a week ago, they may ask for again; later it is another matter
TOKEN_HOURS = 12  # a session that waits or talks longer than this is over for other reasons
KEY_BYTES = 32
MAX_TOKEN_CHARS = 2000
_VERSION = "c1"
_RETURN_VERSION = "r1"


@dataclass(frozen=True, slots=True)
class CustomerToken:
    tenant: str
    session_id: str
    entry_point_id: str
    expires_at: int


class TokenError(Exception):
    """`code`: token_invalid, token_expired."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class CustomerTokens:
    """Issues and reads tokens with one key."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key = key
        self._clock = clock

    def issue(self, tenant: str, session_id: str, entry_point_id: str) -> tuple[str, CustomerToken]:
        """A token of TOKEN_HOURS for a session that need not exist yet."""
        token = CustomerToken(tenant, session_id, entry_point_id, self._clock.now_ms() + TOKEN_HOURS * 3_600_000)
        parts = [token.tenant, token.session_id, token.entry_point_id, token.expires_at]
        return self._write(_VERSION, parts), token

    def read(self, text: object) -> CustomerToken:
        """What a token says. Raises TokenError."""
        tenant, session_id, entry_point_id, expires_at = self._read(_VERSION, text, 4)
        return CustomerToken(tenant, session_id, entry_point_id, expires_at)

    def issue_return(self, tenant: str, session_id: str) -> str:
        """A token of RETURN_DAYS that says which session this browser had."""
        return self._write(_RETURN_VERSION, [tenant, session_id, self._clock.now_ms() + RETURN_DAYS * 86_400_000])

    def read_return(self, text: object, tenant: str) -> str | None:
        """The session of the tenant that a browser had; None for a token that is not ours, too old, or another
        tenant's: it is a favour, no right."""
        try:
            whose, session_id, _ = self._read(_RETURN_VERSION, text, 3)
        except TokenError:
            return None
        return str(session_id) if whose == tenant else None

    def _write(self, version: str, parts: list[object]) -> str:
        signed = f"{version}.{_encode(json.dumps(parts, separators=(',', ':')).encode())}"
        return f"{signed}.{_encode(self._sign(signed))}"

    def _read(self, version: str, text: object, length: int) -> list[Any]:
        """What was signed; its last part is when it expires. Raises TokenError."""
        if not isinstance(text, str) or len(text) > MAX_TOKEN_CHARS or text.count(".") != 2:
            raise TokenError("token_invalid")
        signed, _, signature = text.rpartition(".")
        try:
            genuine = hmac.compare_digest(_decode(signature), self._sign(signed))
            found, _, payload = signed.partition(".")
            if not genuine or found != version:
                raise TokenError("token_invalid")
            parts: list[Any] = json.loads(_decode(payload))
        except (ValueError, TypeError, binascii.Error):
            raise TokenError("token_invalid") from None
        if len(parts) != length:
            raise TokenError("token_invalid")
        if parts[-1] <= self._clock.now_ms():
            raise TokenError("token_expired")
        return parts

    def _sign(self, signed: str) -> bytes:
        return hmac.digest(self._key, signed.encode(), hashlib.sha256)


def load_or_create_key(path: Path) -> bytes:
    """The key in `path`, made on first use: 32 random bytes that only this user may read. Two processes that start
    at once get the same key: the file is written aside and linked into place, and the first link wins."""
    if not path.exists():
        aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # the other process was first
                os.link(aside, path)
        finally:
            aside.unlink()
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path} is damaged: it must hold {KEY_BYTES} bytes. Delete it; open customer tokens end.")
    return key


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
