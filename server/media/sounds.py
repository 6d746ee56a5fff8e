"""Finished recordings as they are played: opened with the node's master keys, or as they are where they are plain (made
before recordings were sealed)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from server.media.archive_files import MEDIA_TYPES, sound_name
from server.media.keyring import Keyring
from server.media.vault import Seal, SealedReader, VaultError, is_sealed, read_header
from server.services.ports import SoundDamaged


class PlainSound:
    """`Sound` over a plain file, which is closed with it."""

    def __init__(self, file: BinaryIO, media_type: str) -> None:
        self._file = file
        self.media_type = media_type
        facts = os.fstat(file.fileno())
        self.size_bytes = facts.st_size
        self.tag = f"{facts.st_mtime_ns:x}-{facts.st_size:x}"

    def read(self, start: int, length: int) -> bytes:
        self._file.seek(start)
        return self._file.read(length)

    def close(self) -> None:
        self._file.close()


class SealedSound:
    """`Sound` over a sealed file."""

    def __init__(self, reader: SealedReader, media_type: str) -> None:
        self._reader = reader
        self.media_type = media_type
        self.size_bytes = reader.size_bytes
        self.tag = reader.header.tag

    def read(self, start: int, length: int) -> bytes:
        try:
            return self._reader.read_at(start, length)
        except VaultError as error:
            raise SoundDamaged(str(error)) from error

    def close(self) -> None:
        self._reader.close()


def open_sound(path: Path, keyring: Keyring, sealed: bool = False) -> PlainSound | SealedSound:
    """`sealed`: it was, so a plain file is not what was recorded. Raises SoundDamaged (also where its master key is not
    here), OSError."""
    file = path.open("rb")
    media_type = MEDIA_TYPES[path.suffix]
    try:
        if not sealed and not is_sealed(file):
            return PlainSound(file, media_type)
        seal = keyring.seal_of(read_header(file))
        return SealedSound(SealedReader(file, seal.data_key, sound_name(path)), media_type)
    except VaultError as error:
        file.close()
        raise SoundDamaged(f"{path.name}: {error}") from error
    except BaseException:
        file.close()
        raise


def seal_of(path: Path, keyring: Keyring, sealed: bool = False) -> Seal | None:
    """That of a sealed file; None of a plain one, where one may be. Raises VaultError, OSError."""
    with path.open("rb") as file:
        return keyring.seal_of(read_header(file)) if sealed or is_sealed(file) else None
