"""The decoding half of the archive job: peaks for a waveform, and the stereo file for playback and export."""

from __future__ import annotations

import hashlib
import os
import secrets
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from server.media.archive import ArchiveError
from server.media.ogg import RATE

Samples = NDArray[np.int16]
BLOCK = RATE // 50
STEREO_BIT_RATE = 48_000


def decode(path: Path) -> Iterator[Samples]:
    """A file's sound as blocks of 48 kHz mono. Raises ArchiveError(bad_audio)."""
    resampler = av.AudioResampler("s16", "mono", RATE)
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(audio=0):
                for part in resampler.resample(frame):
                    yield np.asarray(part.to_ndarray()[0], dtype=np.int16)
    except (av.error.FFmpegError, IndexError) as error:
        raise ArchiveError("bad_audio", f"{path.name} can't be decoded: {error}") from error


def peaks(path: Path, count: int) -> list[int]:
    """The loudest sample of each of `count` equal spans, 0..255 (all 0 for an empty file)."""
    blocks = array("i")  # one for each 2.5 ms, so that an hour fits in memory
    rest = np.zeros(0, np.int16)
    step = RATE // 400
    for samples in decode(path):
        joined = np.concatenate([rest, samples])
        whole = len(joined) // step * step
        loudest = np.abs(joined[:whole].astype(np.int32)).reshape(-1, step).max(axis=1)
        blocks.frombytes(loudest.astype(np.intc).tobytes())
        rest = joined[whole:]
    if not blocks:
        return [0] * count
    edges = np.linspace(0, len(blocks), count + 1)
    values = np.frombuffer(blocks, np.intc)
    found = []
    for index in range(count):
        begin = min(int(edges[index]), len(blocks) - 1)
        found.append(int(values[begin : max(begin + 1, int(edges[index + 1]))].max()))
    return [min(255, value * 255 // 32767) for value in found]


def render_stereo(customer: Path, agent: Path, out: Path) -> dict[str, Any]:
    """Left the customer, right the agent: Ogg Opus for `.opus` and `.ogg`, else WAV. Atomic.

    Returns {path, sha256, size_bytes, duration_ms}. Raises ArchiveError and OSError."""
    out.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(8)}.tmp")  # other nodes share the folder
    opus = out.suffix in (".opus", ".ogg")
    try:
        samples = _encode(customer, agent, temporary, opus)
        with open(temporary, "rb+") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        size = temporary.stat().st_size
        temporary.replace(out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return {
        "path": str(out),
        "sha256": digest,
        "size_bytes": size,
        "duration_ms": round(samples * 1000 / RATE),
    }


def _encode(customer: Path, agent: Path, path: Path, opus: bool) -> int:
    with av.open(str(path), "w", format="ogg" if opus else "wav") as container:
        stream = container.add_stream("libopus" if opus else "pcm_s16le", rate=RATE)
        stream.layout = "stereo"
        if opus:
            stream.bit_rate = STEREO_BIT_RATE
        count = 0
        for block in _interleaved(customer, agent):
            frame = av.AudioFrame.from_ndarray(block, "s16", "stereo")
            frame.sample_rate, frame.pts = RATE, count
            count += block.shape[1] // 2
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return count


def _interleaved(customer: Path, agent: Path) -> Iterator[Samples]:
    """Blocks of both sides, packed left-right; the shorter side goes on with silence."""
    sides = [decode(customer), decode(agent)]
    rests = [np.zeros(0, np.int16), np.zeros(0, np.int16)]
    ended = [False, False]
    while not all(ended) or any(len(rest) for rest in rests):
        for index, side in enumerate(sides):
            while not ended[index] and len(rests[index]) < BLOCK:
                part = next(side, None)
                if part is None:
                    ended[index] = True
                else:
                    rests[index] = np.concatenate([rests[index], part])
        length = min(BLOCK, max(len(rest) for rest in rests))
        if not length:
            return
        block = np.zeros((length, 2), np.int16)
        for index, rest in enumerate(rests):
            part = rest[:length]
            block[: len(part), index] = part
            rests[index] = rest[length:]
        yield block.reshape(1, -1)
