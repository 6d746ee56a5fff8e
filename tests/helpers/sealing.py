"""The master key of recordings in tests, and what it opens."""

from __future__ import annotations

import contextlib
from pathlib import Path

from server.media.keyring import Keyring
from server.media.master_keys import MasterKey
from server.media.sounds import open_sound

MASTER_KEY = MasterKey("tests", bytes(range(32)))
RING = Keyring([MASTER_KEY])


def read_sound(path: Path) -> bytes:
    """A recording file's sound, sealed or not. Raises SoundDamaged, OSError."""
    with contextlib.closing(open_sound(path, RING)) as sound:
        return sound.read(0, sound.size_bytes)
