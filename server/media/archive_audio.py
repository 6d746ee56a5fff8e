"""The decoding half of the archive job: peaks for a waveform, and the stereo file for playback and export."""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from server.media.archive import ArchiveError
from server.media.archive_files import JobKeys, Output, open_sound
from server.media.archive_peaks import spread
from server.media.ogg import RATE

Samples = NDArray[np.int16]
BLOCK = RATE // 50
STEREO_BIT_RATE = 48_000


def decode(sound: BinaryIO) -> Iterator[Samples]:
    """A file's sound as blocks of 48 kHz mono. Raises ArchiveError(bad_audio)."""
    resampler = av.AudioResampler("s16", "mono", RATE)
    try:
        with av.open(sound, "r") as container:
            for packet in container.demux(audio=0):
                for frame in _frames(packet):
                    yield from _arrays(resampler.resample(frame))
            yield from _arrays(resampler.resample(None))
    except (av.error.FFmpegError, IndexError) as error:
        raise ArchiveError("bad_audio", f"it can't be decoded: {error}") from error


def _arrays(parts: Iterable[av.AudioFrame]) -> Iterator[Samples]:
    for part in parts:
        yield np.asarray(part.to_ndarray()[0], dtype=np.int16)


def _frames(packet: av.Packet[av.AudioStream]) -> list[av.AudioFrame]:
    """A packet that the decoder refuses is silence of its length: one that a peer made must not take the rest along."""
    try:
        return packet.decode()
    except av.error.InvalidDataError:
        frame = av.AudioFrame("s16", "mono", int(packet.duration or 0))
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate = RATE
        return [frame] if frame.samples else []


def peaks(sound: BinaryIO, count: int) -> list[int]:
    """The loudest sample of each of `count` equal spans, 0..255 (all 0 for an empty file)."""
    blocks = array("i")  # one for each 2.5 ms, so that an hour fits in memory
    rest = np.zeros(0, np.int16)
    step = RATE // 400
    for samples in decode(sound):
        joined = np.concatenate([rest, samples])
        whole = len(joined) // step * step
        steps = np.abs(joined[:whole].astype(np.int32)).reshape(-1, step).max(axis=1)
        blocks.frombytes(steps.astype(np.intc).tobytes())
        rest = joined[whole:]
    loudest = spread(np.frombuffer(blocks, np.intc), count)
    return [min(255, value * 255 // 32767) for value in loudest]


def render_stereo(customer: Path, agent: Path, out: Path, keys: JobKeys) -> dict[str, Any]:
    """Left the customer, right the agent, in Ogg Opus. Atomic.

    Returns {path, sha256, size_bytes, duration_ms}. Raises ArchiveError, VaultError and OSError."""
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(open_sound(path, keys.data_keys.get(path))) for path in (customer, agent)]
        output = stack.enter_context(Output(out, keys.seal))
        samples = _encode(sides, output)
        output.complete().close()
        output.finish()
    return {
        "path": str(out),
        "sha256": output.sha256,
        "size_bytes": output.size_bytes,
        "duration_ms": round(samples * 1000 / RATE),
    }


def _encode(sides: Sequence[BinaryIO], output: Output) -> int:
    with av.open(output, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=RATE)
        stream.layout = "stereo"
        stream.bit_rate = STEREO_BIT_RATE
        count = 0
        for block in _interleaved(sides):
            frame = av.AudioFrame.from_ndarray(block, "s16", "stereo")
            frame.sample_rate, frame.pts = RATE, count
            count += block.shape[1] // 2
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return count


def _interleaved(files: Sequence[BinaryIO]) -> Iterator[Samples]:
    """Blocks of both sides, packed left-right; the shorter side goes on with silence."""
    sides = [decode(file) for file in files]
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
