"""Master keys as text: what settings and key files hold. One key is `id:base64 of 32 bytes`; the first of several is
used for new recordings, the others open older ones."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

MASTER_KEY_BYTES = 32
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class BadKeys(Exception):
    """The text holds no usable keys. Says what is wrong, and never a key."""


@dataclass(frozen=True, slots=True)
class MasterKey:
    id: str
    key: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """Tells nothing of the key: nodes compare it."""
        return hashlib.sha256(b"patchbay recording key\0" + self.key).hexdigest()[:32]

    @property
    def text(self) -> str:
        return f"{self.id}:{base64.b64encode(self.key).decode()}"


def read_keys(lines: Iterable[str]) -> tuple[MasterKey, ...]:
    """The keys of these texts; empty ones and comments (#) are passed over. Raises BadKeys, also when there is none."""
    found: dict[str, MasterKey] = {}
    for number, line in enumerate((line.strip() for line in lines), 1):
        if not line or line.startswith("#"):
            continue
        key_id, colon, text = line.partition(":")
        if not colon or not _ID.fullmatch(key_id):
            raise BadKeys(f"key {number} does not begin with a name and a colon")
        try:
            key = base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError):
            raise BadKeys(f"key {key_id!r} is not base64") from None
        if len(key) != MASTER_KEY_BYTES:
            raise BadKeys(f"key {key_id!r} has {len(key)} bytes instead of {MASTER_KEY_BYTES}")
        if key_id in found:
            raise BadKeys(f"key {key_id!r} is there twice")
        found[key_id] = MasterKey(key_id, key)
    if not found:
        raise BadKeys("there is no key")
    return tuple(found.values())
