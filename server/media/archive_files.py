"""The files of the archive job: each is written beside its place, sealed where a seal is given, and shows up whole.

The job knows no master key. It gets the data key of what it writes, and the data keys of what it reads, with its line
on the standard input: {"seal": {key_id, wrapped, data_key} or null, "data_keys": {path: hex}}.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from server.media.vault import Seal, SealedReader, SealedWriter, VaultError, is_sealed


@dataclass(frozen=True, slots=True)
class JobKeys:
    """`seal`: of what is written; None leaves it plain. `data_keys`: of the sealed files that are read."""

    seal: Seal | None = None
    data_keys: Mapping[Path, bytes] = field(default_factory=dict, repr=False)


OPUS_SUFFIX, WAVE_SUFFIX = ".opus", ".wav"
MEDIA_TYPES = {OPUS_SUFFIX: "audio/ogg", WAVE_SUFFIX: "audio/wav"}


def keys_to_json(keys: JobKeys) -> dict[str, object]:
    """For a job's line on the standard input."""
    seal = keys.seal
    return {
        "seal": seal and {"key_id": seal.key_id, "wrapped": seal.wrapped.hex(), "data_key": seal.data_key.hex()},
        "data_keys": {str(path): key.hex() for path, key in keys.data_keys.items()},
    }


def keys_from_json(given: Mapping[str, Any]) -> JobKeys:
    seal = given["seal"] and Seal(
        given["seal"]["key_id"], bytes.fromhex(given["seal"]["wrapped"]), bytes.fromhex(given["seal"]["data_key"])
    )
    return JobKeys(seal, {Path(path): bytes.fromhex(key) for path, key in given["data_keys"].items()})


def sound_name(path: Path) -> str:
    """What a sealed file is bound to: tenant, session, recording and side, as they are in its path."""
    return "/".join(path.parts[-3:])


def open_sound(path: Path, data_key: bytes | None) -> BinaryIO:
    """A file's sound, to be read from anywhere. With a key it must be sealed. Raises VaultError, OSError."""
    file = path.open("rb")
    try:
        if data_key is None and not is_sealed(file):
            return file
        if data_key is None:
            raise VaultError("unknown_key", f"{path.name} is sealed, and its data key was not given")
        return io.BufferedReader(SealedReader(file, data_key, sound_name(path)))
    except BaseException:
        file.close()
        raise


HALF_KEPT_S = 3600.0  # since its last byte; a job is killed after ten minutes (archive_jobs.py), wherever it runs
_HALF = re.compile(r"\..+\.(opus|wav)\.[0-9a-f]{16}\.tmp\Z")


def sweep_halves(archive: Path, now_s: float) -> int:
    """Remove what jobs that were killed left in <archive>/<tenant>/<session>; returns how many. A file that vanishes
    meanwhile is another node's work. `now_s`: of the clock that files' times are in. Raises OSError."""
    swept = 0
    for half in archive.glob("*/*/.*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if _HALF.match(half.name) and now_s - half.stat().st_mtime > HALF_KEPT_S:
                half.unlink()
                swept += 1
    return swept


class Output:
    """What `write` gets lies at `path` after `finish`, synced; the path never shows half a file. `sha256` and
    `size_bytes` are those of the sound, not of the sealed file. Writes raise OSError."""

    def __init__(self, path: Path, seal: Seal | None) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")  # other nodes share the folder
        self._file = open(self._temporary, "wb")  # noqa: SIM115 - closed by __exit__
        self._hash = hashlib.sha256()
        self._seal = seal
        self._sealed = SealedWriter(self._file.write, seal, sound_name(path)) if seal is not None else None
        self.size_bytes = 0

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what can't be flushed is thrown away below
            self._file.close()
        self._temporary.unlink(missing_ok=True)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size_bytes += len(data)
        return (self._sealed or self._file).write(data)

    def complete(self) -> BinaryIO:
        """No more is written: the sound as it can be read, before `finish` shows it."""
        if self._sealed is not None:
            self._sealed.finish()
        self._file.flush()
        os.fsync(self._file.fileno())
        written = self._temporary.open("rb")
        if self._seal is None:
            return written
        return io.BufferedReader(SealedReader(written, self._seal.data_key, sound_name(self._path)))

    def finish(self) -> None:
        """After `complete`."""
        self._temporary.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
