"""Which master keys a node seals recordings with. All nodes of one database must open what any of them sealed.

- On one machine: those of the settings, and `recording.keys` in the data directory, which the first start makes.
- On many: those of the settings, and the one in the database, which the first node without settings made there. So no
  node ever seals with a key that the others can't know, unless their settings differ: each node writes its keys' names
  and fingerprints into the database. A key of the same name that is another one is refused at the start; a key that
  other nodes have and this one has not is a warning, since it may be one that is not needed any more.
"""

from __future__ import annotations

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from server.config import Config, ConfigError, Fault
from server.media.keyring import Keyring, load_or_create_keys
from server.media.master_keys import MASTER_KEY_BYTES, BadKeys, MasterKey
from server.storage.secrets import agreed, known_secrets, shared_secret

log = structlog.get_logger()
FILE_NAME = "recording.keys"
DATABASE_KEY = "database-1"
DATABASE_SECRET = "recording-key"
FINGERPRINT = "recording-key-fingerprint:"


def local_keyring(config: Config) -> Keyring:
    """Of a node that has its database for itself. Raises ConfigError."""
    path = config.data_dir / FILE_NAME
    keys = config.master_keys
    try:
        if not keys or path.exists():  # what was sealed before there were settings stays playable
            named = {key.id for key in keys}
            keys += tuple(key for key in load_or_create_keys(path) if key.id not in named)
    except (BadKeys, OSError) as error:
        remedy = "Put the copy of the file back, or set PATCHBAY_RECORDING_KEYS and move it away"
        raise ConfigError([Fault(FILE_NAME, str(error), remedy)]) from None
    return Keyring(keys)


async def shared_keyring(config: Config, database: AsyncEngine) -> Keyring:
    """Of one of several nodes. Raises ConfigError."""
    keys = config.master_keys
    made_before = await known_secrets(database, DATABASE_SECRET)
    if not keys or "" in made_before:
        key = await shared_secret(database, DATABASE_SECRET, MASTER_KEY_BYTES)
        keys += (MasterKey(DATABASE_KEY, key),)
    faults = [
        Fault(
            "recording_keys",
            f"the key {key.id!r} is not the one that other nodes know by that name",
            "Give all nodes the same keys, and a new key a new name",
        )
        for key in keys
        if await agreed(database, FINGERPRINT + key.id, key.fingerprint) != key.fingerprint
    ]
    if faults:
        raise ConfigError(faults)
    missing = sorted((await known_secrets(database, FINGERPRINT)).keys() - {key.id for key in keys})
    if missing:
        log.warning(
            "recording_keys_missing", keys=missing, remedy="give this node PATCHBAY_RECORDING_KEYS of the others"
        )
    if not config.master_keys:
        log.info("recording_key_in_database", remedy="set PATCHBAY_RECORDING_KEYS to keep it apart from the database")
    return Keyring(keys)
