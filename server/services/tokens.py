"""Customer tokens: what a browser without a login shows to be let into one session.

`c1.<payload>.<signature>`: the payload is JSON in base64url, the signature HMAC-SHA-256 over `c1.<payload>` with a
key that lies in the data directory. Nothing is stored per token, so a widget view costs the database nothing.
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

from server.services.ports import Clock

TOKEN_HOURS = 12  # a session that waits or talks longer than this is over for other reasons
KEY_BYTES = 32
MAX_TOKEN_CHARS = 2000
_VERSION = "c1"


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
        payload = json.dumps(
            [token.tenant, token.session_id, token.entry_point_id, token.expires_at], separators=(",", ":")
        )
        signed = f"{_VERSION}.{_encode(payload.encode())}"
        return f"{signed}.{_encode(self._sign(signed))}", token

    def read(self, text: object) -> CustomerToken:
        """What a token says. Raises TokenError."""
        if not isinstance(text, str) or len(text) > MAX_TOKEN_CHARS or text.count(".") != 2:
            raise TokenError("token_invalid")
        signed, _, signature = text.rpartition(".")
        try:
            genuine = hmac.compare_digest(_decode(signature), self._sign(signed))
            version, _, payload = signed.partition(".")
            if not genuine or version != _VERSION:
                raise TokenError("token_invalid")
            tenant, session_id, entry_point_id, expires_at = json.loads(_decode(payload))
        except (ValueError, TypeError, binascii.Error):
            raise TokenError("token_invalid") from None
        if expires_at <= self._clock.now_ms():
            raise TokenError("token_expired")
        return CustomerToken(tenant, session_id, entry_point_id, expires_at)

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
