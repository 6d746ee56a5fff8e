"""The master keys that a node has: gives each new recording its data key, and opens those of older ones."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from server.media.master_keys import MASTER_KEY_BYTES, BadKeys, MasterKey, read_keys
from server.media.vault import KEY_BYTES, Header, Seal, VaultError, unwrap, wrap

KEY_FILE_HEAD = (
    "# Recordings are sealed with this key. Keep a copy apart from the recordings: without it nobody can play them.\n"
)


class Keyring:
    """`keys`: the first is used for new recordings."""

    def __init__(self, keys: Sequence[MasterKey]) -> None:
        self._newest = keys[0]
        self._keys = {key.id: key.key for key in reversed(keys)}

    def new_seal(self) -> Seal:
        """For a new recording."""
        data_key = secrets.token_bytes(KEY_BYTES)
        return Seal(self._newest.id, wrap(self._newest.key, self._newest.id, data_key), data_key)

    def seal_of(self, header: Header) -> Seal:
        """That of a file's recording. Raises VaultError(unknown_key, damaged)."""
        key = self._keys.get(header.key_id)
        if key is None:
            raise VaultError("unknown_key", f"there is no master key {header.key_id!r} here; add it to the settings")
        return Seal(header.key_id, header.wrapped, unwrap(key, header.key_id, header.wrapped))


def load_or_create_keys(path: Path) -> tuple[MasterKey, ...]:
    """The keys in a file of this user only; a random one is made when there is none. Raises BadKeys, OSError."""
    if not path.exists():
        made = MasterKey("local-1", secrets.token_bytes(MASTER_KEY_BYTES))
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{KEY_FILE_HEAD}{made.text}\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(aside, path)  # of two processes that make it at once one wins, and both read what it made
        except FileExistsError:
            pass
        finally:
            aside.unlink()
    try:
        return read_keys(path.read_text().splitlines())
    except (BadKeys, UnicodeDecodeError) as error:
        raise BadKeys(f"{path} is damaged ({error}): put its copy back, or recordings can't be played") from None
