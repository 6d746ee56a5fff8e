"""Sealed files: AES-256-GCM in chunks that can be read from anywhere, and in which no change goes unnoticed. Pure.

    header   MAGIC with the version (8) | length of the key id (1) | key id | wrapped data key (60) | nonce prefix (7)
    chunks   64 KiB of sound each, the last one shorter; behind each its tag (16)

Theory of operation. Each recording has a data key of its own, of 32 random bytes, which all its files share. A file
holds it wrapped: sealed by a master key, which `key_id` names (keyring.py). So whoever has only the files has nothing,
and a new master key needs no file to be written anew.

The chunks are sealed by the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption
and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015, section 7; age and Tink use it): the nonce is prefix (7) | number
of the chunk (4) | whether it is the last (1). A chunk that was moved, taken from another file, left out, put behind
the end or changed in one bit does not open, nor does the last chunk of a file that was cut off at a chunk's edge. The
header and the file's name are authenticated with every chunk (as associated data), so one recording can't be put in
the place of another. A nonce never comes twice under a key: the prefix is random for each file (three files a
recording), the number counts.

A reader opens the last chunk first: from then on the length can be trusted.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"PBVAULT\x01"
_NAME = MAGIC[:-1]  # of the format, in whatever version
CHUNK_BYTES = 64 * 1024  # a jump in the player costs one chunk; the tags add 0.03 %
TAG_BYTES = 16
KEY_BYTES = 32
WRAP_NONCE_BYTES = 12
WRAPPED_BYTES = WRAP_NONCE_BYTES + KEY_BYTES + TAG_BYTES
PREFIX_BYTES = 7
MAX_KEY_ID_CHARS = 64
MAX_CHUNKS = 1 << 32  # what the counter holds: 256 TiB


class VaultError(Exception):
    """A sealed file can't be opened. `code`: not_sealed (plain where a sealed one belongs: somebody put it there),
    unknown_version (a newer node's), unknown_key (no such master key here), damaged (changed, cut off, swapped, or not
    what its name says)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Seal:
    """A recording's data key, bare and wrapped. The bare one leaves a process only by a pipe."""

    key_id: str
    wrapped: bytes
    data_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Header:
    """`raw`: as it lies in the file."""

    key_id: str
    wrapped: bytes
    prefix: bytes
    raw: bytes

    @property
    def tag(self) -> str:
        """What no other file's header has, 32 hex digits: the prefix is random."""
        return hashlib.sha256(self.raw).hexdigest()[:32]


def is_sealed(file: BinaryIO) -> bool:
    """Whether a file begins like a sealed one of any version; it is at its beginning afterwards."""
    file.seek(0)
    found = file.read(len(_NAME)) == _NAME
    file.seek(0)
    return found


def read_header(file: BinaryIO) -> Header:
    """From the file's beginning. Raises VaultError(not_sealed, unknown_version, damaged), OSError."""
    file.seek(0)
    begin = file.read(len(MAGIC))
    if not begin.startswith(_NAME):
        raise VaultError("not_sealed", "the file is plain, where a sealed one belongs")
    if begin != MAGIC:
        raise VaultError("unknown_version", "the file is sealed in a way that this program is too old to know")
    length = int.from_bytes(file.read(1), "big")
    rest = file.read(length + WRAPPED_BYTES + PREFIX_BYTES)
    if not 1 <= length <= MAX_KEY_ID_CHARS or len(rest) != length + WRAPPED_BYTES + PREFIX_BYTES:
        raise VaultError("damaged", "the header is cut off")
    try:
        key_id = rest[:length].decode("ascii")
    except UnicodeDecodeError:
        raise VaultError("damaged", "the key's name is not text") from None
    wrapped, prefix = rest[length : length + WRAPPED_BYTES], rest[length + WRAPPED_BYTES :]
    return Header(key_id, wrapped, prefix, MAGIC + bytes((length,)) + rest)


def wrap(master_key: bytes, key_id: str, data_key: bytes) -> bytes:
    """A data key, sealed by a master key; its nonce is random and comes first (NIST SP 800-38D section 8.2.2: safe for
    2^32 recordings a master key)."""
    nonce = secrets.token_bytes(WRAP_NONCE_BYTES)
    return nonce + AESGCM(master_key).encrypt(nonce, data_key, MAGIC + key_id.encode())


def unwrap(master_key: bytes, key_id: str, wrapped: bytes) -> bytes:
    """Raises VaultError(damaged)."""
    nonce, sealed = wrapped[:WRAP_NONCE_BYTES], wrapped[WRAP_NONCE_BYTES:]
    try:
        return AESGCM(master_key).decrypt(nonce, sealed, MAGIC + key_id.encode())
    except InvalidTag:
        raise VaultError("damaged", f"master key {key_id!r} does not open its data key") from None


def _nonce(prefix: bytes, number: int, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes((last,))


class SealedWriter:
    """Seals what is written and hands it to `sink`; `finish` ends the file. `name` must be given again for reading."""

    def __init__(self, sink: Callable[[bytes], object], seal: Seal, name: str) -> None:
        key_id = seal.key_id.encode("ascii")
        self._prefix = secrets.token_bytes(PREFIX_BYTES)
        header = MAGIC + bytes((len(key_id),)) + key_id + seal.wrapped + self._prefix
        self._sink = sink
        self._cipher = AESGCM(seal.data_key)
        self._bound = header + name.encode()
        self._buffer = bytearray()
        self._number = 0
        sink(header)

    def write(self, data: bytes) -> int:
        self._buffer += data
        while len(self._buffer) > CHUNK_BYTES:  # a full one is kept back: it may be the last
            self._seal(bytes(self._buffer[:CHUNK_BYTES]), last=False)
            del self._buffer[:CHUNK_BYTES]
        return len(data)

    def finish(self) -> None:
        self._seal(bytes(self._buffer), last=True)
        self._buffer.clear()

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        if self._number >= MAX_CHUNKS:
            raise VaultError("damaged", "a file can't be that long")
        self._sink(self._cipher.encrypt(_nonce(self._prefix, self._number, last), chunk, self._bound))
        self._number += 1


class SealedReader(io.RawIOBase):
    """The sound in a sealed file, as a file that can be read from anywhere. `close` closes the file below.

    Raises VaultError(damaged) when it is opened, or read, and is not what was written; OSError."""

    def __init__(self, file: BinaryIO, data_key: bytes, name: str) -> None:
        super().__init__()
        self._file = file
        self.header = read_header(file)
        self._cipher = AESGCM(data_key)
        self._bound = self.header.raw + name.encode()
        sealed = file.seek(0, os.SEEK_END) - len(self.header.raw)
        self._chunks = -(-sealed // (CHUNK_BYTES + TAG_BYTES))
        self.size_bytes = sealed - self._chunks * TAG_BYTES
        self._at = 0
        self._held: tuple[int, bytes] = (-1, b"")
        if not 0 < self._chunks <= MAX_CHUNKS or self.size_bytes < 0:
            raise VaultError("damaged", "the file is cut off")
        self._chunk(self._chunks - 1)

    def _chunk(self, number: int) -> bytes:
        if self._held[0] == number:
            return self._held[1]
        self._file.seek(len(self.header.raw) + number * (CHUNK_BYTES + TAG_BYTES))
        sealed = self._file.read(CHUNK_BYTES + TAG_BYTES)
        try:
            nonce = _nonce(self.header.prefix, number, number == self._chunks - 1)
            self._held = number, self._cipher.decrypt(nonce, sealed, self._bound)
        except (InvalidTag, ValueError):  # ValueError: shorter than a tag
            raise VaultError("damaged", f"chunk {number} of {self._chunks} was changed") from None
        return self._held[1]

    def read_at(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`, fewer only at the end."""
        found = bytearray()
        stop = min(start + length, self.size_bytes)
        while start < stop:
            number, offset = divmod(start, CHUNK_BYTES)
            piece = self._chunk(number)[offset : offset + stop - start]
            found += piece
            start += len(piece)
        return bytes(found)

    # --- io.RawIOBase ---

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size_bytes}[whence]
        if at < 0:
            raise ValueError(f"negative position {at}")
        self._at = at
        return at

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # typeshed: any buffer
        data = self.read_at(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
