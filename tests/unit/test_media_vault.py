"""Sealed recordings: read anywhere, and no change goes unnoticed."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.media.keyring import Keyring, load_or_create_keys
from server.media.master_keys import BadKeys, MasterKey, read_keys
from server.media.vault import (
    CHUNK_BYTES,
    TAG_BYTES,
    Seal,
    SealedReader,
    SealedWriter,
    VaultError,
    is_sealed,
    read_header,
)

OLD, NEW = MasterKey("old", bytes(range(32))), MasterKey("new", bytes(range(32, 64)))
NAME = "default/ses_1/rec_1.customer.opus"
RING = Keyring([OLD])
SIZES = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 5)


def sound(size: int) -> bytes:
    return (b"%08x" % size * (size // 8 + 1))[:size]


def sealed(data: bytes, seal: Seal | None = None, name: str = NAME, step: int = 5000) -> bytes:
    out = io.BytesIO()
    writer = SealedWriter(out.write, seal or RING.new_seal(), name)
    for at in range(0, len(data), step):
        writer.write(data[at : at + step])
    writer.finish()
    return out.getvalue()


def opened(data: bytes, ring: Keyring = RING, name: str = NAME) -> SealedReader:
    file = io.BytesIO(data)
    return SealedReader(file, ring.seal_of(read_header(file)).data_key, name)


@pytest.mark.parametrize("size", SIZES)
def test_what_was_sealed_comes_back(size: int) -> None:
    data = sealed(sound(size))
    assert opened(data).size_bytes == size
    assert opened(data).read() == sound(size)
    assert is_sealed(io.BytesIO(data))


@given(
    size=st.one_of(st.sampled_from(SIZES), st.integers(0, 3 * CHUNK_BYTES)),
    start=st.integers(0, 3 * CHUNK_BYTES),
    length=st.integers(0, 3 * CHUNK_BYTES),
    step=st.integers(1000, 200_000),
)
def test_any_range_is_that_of_the_sound(size: int, start: int, length: int, step: int) -> None:
    reader = opened(sealed(sound(size), step=step))
    assert reader.read_at(start, length) == sound(size)[start : start + length]
    reader.seek(start)
    assert (reader.read(length), reader.tell()) == (
        sound(size)[start : start + length],
        max(start, min(start + length, size)),
    )
    assert reader.seek(-min(size, 7), os.SEEK_END) == size - min(size, 7)
    assert reader.read() == sound(size)[size - min(size, 7) :]


WHOLE = sealed(sound(2 * CHUNK_BYTES + 5))
HEADER = len(read_header(io.BytesIO(WHOLE)).raw)


@given(at=st.integers(8, len(WHOLE) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(at: int, bit: int) -> None:
    changed = bytearray(WHOLE)
    changed[at] ^= 1 << bit
    with pytest.raises(VaultError):
        opened(bytes(changed)).read()


@given(length=st.integers(0, len(WHOLE) - 1))
def test_a_file_that_was_cut_off_is_never_opened(length: int) -> None:
    with pytest.raises(VaultError):
        opened(WHOLE[:length])


def chunk(number: int) -> slice:
    at = HEADER + number * (CHUNK_BYTES + TAG_BYTES)
    return slice(at, min(at + CHUNK_BYTES + TAG_BYTES, len(WHOLE)))


OTHER = sealed(sound(2 * CHUNK_BYTES + 5))


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w[:HEADER] + w[chunk(1)] + w[chunk(0)] + w[chunk(2)],
        lambda w: w[:HEADER] + w[chunk(0)] + w[chunk(2)],
        lambda w: w[:HEADER] + w[chunk(0)] + w[chunk(0)] + w[chunk(1)] + w[chunk(2)],
        lambda w: w + w[chunk(2)],
        lambda w: w[: chunk(2).start],  # at a chunk's edge
        lambda w: w[:HEADER] + OTHER[chunk(0)] + w[chunk(1)] + w[chunk(2)],
        lambda w: OTHER[:HEADER] + w[HEADER:],
        lambda w: w + b"x",
    ],
    ids=["swapped", "left out", "twice", "longer", "shorter", "another file's", "another header", "one byte more"],
)
def test_chunks_in_other_places_are_found(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(VaultError) as caught:
        opened(change(WHOLE)).read()
    assert caught.value.code == "damaged"


def test_one_recording_can_not_be_put_in_the_place_of_another() -> None:
    seal = RING.new_seal()
    assert opened(sealed(b"ana", seal)).read() == b"ana"
    with pytest.raises(VaultError) as caught:
        opened(sealed(b"ana", seal), name=NAME.replace("customer", "agent"))
    assert caught.value.code == "damaged"


def test_a_new_master_key_leaves_older_recordings_playable() -> None:
    before = sealed(b"before")
    ring = Keyring([NEW, OLD])
    after = sealed(b"after", ring.new_seal())
    assert (opened(before, ring).read(), opened(after, ring).read()) == (b"before", b"after")
    assert read_header(io.BytesIO(after)).key_id == "new"
    with pytest.raises(VaultError) as caught:
        opened(after, RING)
    assert caught.value.code == "unknown_key"
    with pytest.raises(VaultError) as caught:
        opened(before, Keyring([MasterKey("old", NEW.key)]))
    assert caught.value.code == "damaged"


def test_the_sound_and_the_keys_are_not_in_the_file() -> None:
    seal = RING.new_seal()
    data = sealed(b"pay with 4111 1111 1111 1111", seal)
    assert not any(secret in data for secret in (b"4111", seal.data_key, OLD.key))
    assert not any(secret in repr(thing) for thing in (seal, OLD) for secret in (repr(seal.data_key), repr(OLD.key)))
    assert sealed(b"same", seal) != sealed(b"same", seal), "the prefix is random"


def test_keys_as_text() -> None:
    assert read_keys(["# a comment", "", NEW.text, f"  {OLD.text} "]) == (NEW, OLD)
    for lines, wrong in {
        ("",): "there is no key",
        ("no-colon",): "name and a colon",
        ("a:!!",): "not base64",
        ("a:AAAA",): "3 bytes instead of 32",
        (OLD.text, OLD.text): "there twice",
    }.items():
        with pytest.raises(BadKeys, match=wrong):
            read_keys(lines)


def test_a_key_file_is_made_once_and_for_this_user(tmp_path: Path) -> None:
    path = tmp_path / "recording.keys"
    made = load_or_create_keys(path)
    assert load_or_create_keys(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["recording.keys"]
    path.write_text("local-1:AAAA")
    with pytest.raises(BadKeys, match="put its copy back"):
        load_or_create_keys(path)
