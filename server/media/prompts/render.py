"""Turn a sound file into packets that a worker can play: `python -m server.media.prompts.render FILE --folder DIR`.

A process of its own: what somebody uploaded is parsed and encoded here, never in a worker or on a node. WAV and Ogg
(Opus, Vorbis, FLAC), mono or stereo, any rate from 8 to 192 kHz. One file a codec, named by the content of what came
in: what is there already is not made again. Prints {"name", "seconds"}, or {"code", "message"} and exits with 1."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from server.media.mixer import codecs
from server.media.mixer.formats import BY_NAME
from server.media.relay import music

MAX_FILE_BYTES = 64 << 20  # five minutes of 48 kHz stereo are 58 MB
MAX_S = 300
RATE = 48_000
FRAME = RATE // 50
PEAK = 0.9
NICE = 10

_KINDS = {b"RIFF": "wav", b"OggS": "ogg"}
_CODECS = ("opus", "vorbis", "flac")  # and pcm_…

Samples = NDArray[np.float32]


class BadSound(ValueError):
    """A file that is no prompt. `code`: prompt_too_large, prompt_too_long, prompt_empty, prompt_bad_format."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def read(path: Path) -> Samples:
    """48 kHz mono. Raises BadSound, OSError."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise BadSound("prompt_too_large", f"a prompt has at most {MAX_FILE_BYTES >> 20} MB")
    with path.open("rb") as file:
        kind = _KINDS.get(file.read(4))
    if kind is None:
        raise BadSound("prompt_bad_format", "give a WAV or Ogg file")
    parts: list[Samples] = []
    length = 0
    try:
        for part in _decode(path, kind):
            parts.append(part)
            length += len(part)
            if length > MAX_S * RATE:
                raise BadSound("prompt_too_long", f"a prompt lasts at most {MAX_S} s")
    except av.FFmpegError as error:
        raise BadSound("prompt_bad_format", f"the file can't be decoded: {error}") from error
    if length < FRAME:
        raise BadSound("prompt_empty", "there is no sound in the file")
    sound = np.concatenate(parts)
    peak = float(np.abs(sound).max())
    return sound if peak <= PEAK else np.asarray(sound * (PEAK / peak), np.float32)


def _decode(path: Path, kind: str) -> Iterator[Samples]:
    with av.open(str(path), format=kind) as container:
        if not container.streams.audio:
            raise BadSound("prompt_empty", "there is no sound in the file")
        stream = container.streams.audio[0]
        context = stream.codec_context
        if not (context.name in _CODECS or context.name.startswith("pcm_")):
            raise BadSound("prompt_bad_format", f"{context.name} is not taken: give PCM, Opus, Vorbis or FLAC")
        if context.channels not in (1, 2) or not 8000 <= context.sample_rate <= 192_000:
            raise BadSound("prompt_bad_format", "give one or two channels at 8 to 192 kHz")
        resampler = av.AudioResampler("fltp", "mono" if context.channels == 1 else "stereo", RATE)
        for frame in container.decode(stream):
            yield from (_mono(part) for part in resampler.resample(frame))
        yield from (_mono(part) for part in resampler.resample(None))


def _mono(frame: av.AudioFrame) -> Samples:
    """The mean of both sides: FFmpeg's own way would be 3 dB louder."""
    return np.asarray(frame.to_ndarray().mean(axis=0), np.float32)


def write(sound: Samples, folder: Path, name: str) -> None:
    """One file a codec, each whole or not there. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    sound = np.concatenate((sound, np.zeros(-len(sound) % FRAME, np.float32)))
    for form in map(BY_NAME.__getitem__, music.PROMPT_CODECS):
        encoder = codecs.encoder(form, RATE)
        packets = [encoder.encode(sound[at : at + FRAME]) for at in range(0, len(sound), FRAME)]
        path = folder / music.prompt_file(name, form.name)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(music.pack(form.name, form.clock_rate, packets))
        unfinished.replace(path)


def name_of(path: Path) -> str:
    """What the sound is called in a plan. Raises OSError."""
    with path.open("rb") as file:
        return music.PROMPT + hashlib.file_digest(file, "sha256").hexdigest()[:32]


def known(folder: Path, name: str) -> float | None:
    """How long a prompt that is there lasts, s; None when it is to be made."""
    try:
        files = [(folder / music.prompt_file(name, codec)).read_bytes() for codec in music.PROMPT_CODECS]
        packets = [music.unpack(data)[2] for data in files]
    except (OSError, ValueError, zlib.error):
        return None
    return len(packets[0]) * music.PACKET_S


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m server.media.prompts.render", description="Encode a prompt.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="where the workers look for prompts")
    given = parser.parse_args()
    os.nice(NICE)
    try:
        name = name_of(given.file)
        seconds = known(given.folder, name)
        if seconds is None:
            sound = read(given.file)
            write(sound, given.folder, name)
            seconds = len(sound) / RATE
    except BadSound as error:
        print(json.dumps({"code": error.code, "message": str(error)}))
        return 1
    except OSError as error:
        print(json.dumps({"code": "io_error", "message": str(error)}))
        return 1
    print(json.dumps({"name": name, "seconds": round(seconds, 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
