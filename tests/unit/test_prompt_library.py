"""Prompts of one's own: what is taken, what comes out of it, and what is refused with which code."""

from __future__ import annotations

import os
import stat
import wave
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from server.domain.media import Source
from server.media.mixer import codecs
from server.media.mixer.formats import BY_NAME
from server.media.ogg import OggOpusWriter
from server.media.peer import level_dbfs
from server.media.prompt_library import PromptError, PromptLibrary
from server.media.prompts import render, tones
from server.media.relay import music
from server.media.sdp import Codec
from server.media.text_to_speech import EspeakNg, SpeechError

CODECS = [Codec(name, 96, BY_NAME[name].clock_rate) for name in music.PROMPT_CODECS]


def write_wav(path: Path, seconds: float = 1.0, rate: int = 44_100, channels: int = 2, hz: float = 700) -> Path:
    t = np.arange(int(seconds * rate)) / rate
    sound = (8000 * np.sin(2 * np.pi * hz * t)).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat(sound, channels).tobytes())
    return path


def write_ogg(path: Path, hz: float = 700) -> Path:
    encoder = codecs.encoder(BY_NAME["opus"], 48_000)
    with path.open("wb") as file:
        writer = OggOpusWriter(7, file.write)
        for n in range(50):
            t = np.arange(n * 960, n * 960 + 960) / 48_000
            writer.add(encoder.encode(np.asarray(0.25 * np.sin(2 * np.pi * hz * t), np.float32)))
        writer.finish(48_000)
    return path


class NoSpeech:
    async def speak(self, text: str, voice: str, to: Path) -> None:
        raise AssertionError("nobody asked for speech")


def played(library: music.Library, name: str, codec: Codec, packets: int = 45) -> np.ndarray:
    player = library.player(name, (codec,))
    assert player is not None
    decoder = codecs.decoder(BY_NAME[codec.name], 48_000)
    return np.concatenate([decoder.decode(player.next().payload) for _ in range(packets)])


def peak_hz(sound: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(sound * np.hanning(len(sound))))) * 48_000 / len(sound))


@pytest.mark.parametrize("kind", ["wav", "mono", "narrow", "ogg"])
async def test_a_file_is_played_in_every_codec(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "sound"
    match kind:
        case "wav":
            write_wav(path)
        case "mono":
            write_wav(path, channels=1, rate=48_000)
        case "narrow":
            write_wav(path, rate=8000)
        case "ogg":
            write_ogg(path)
    folder = tmp_path / "prompts"
    prompts = PromptLibrary(folder, NoSpeech())
    prompt = await prompts.add_file(path)
    assert prompt.seconds == pytest.approx(1.0, abs=0.05)
    assert prompts.has(prompt.name)
    library = music.Library(folder)
    for codec in CODECS:
        sound = played(library, prompt.name, codec)
        assert abs(peak_hz(sound) - 700) < 5, codec.name
        assert level_dbfs(sound * 32768) == pytest.approx(-15, abs=1.5), codec.name


async def test_the_same_sound_is_there_once(tmp_path: Path) -> None:
    prompts = PromptLibrary(tmp_path / "prompts", NoSpeech())
    first = await prompts.add_file(write_wav(tmp_path / "a.wav"))
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "prompts").iterdir()}
    again = await prompts.add_file(write_wav(tmp_path / "b.wav"))
    assert made == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "prompts").iterdir()}
    other = await prompts.add_file(write_wav(tmp_path / "c.wav", hz=900))
    assert first == again != other
    assert len(list((tmp_path / "prompts").iterdir())) == 2 * len(CODECS)


def bad_files(folder: Path) -> Iterator[tuple[str, Path]]:
    write_wav(folder / "long.wav", seconds=render.MAX_S + 1, rate=8000, channels=1)
    yield "prompt_too_long", folder / "long.wav"
    write_wav(folder / "empty.wav", seconds=0)
    yield "prompt_empty", folder / "empty.wav"
    (folder / "text.wav").write_text("not a sound")
    yield "prompt_bad_format", folder / "text.wav"
    (folder / "cut.wav").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    yield "prompt_bad_format", folder / "cut.wav"
    (folder / "noise.ogg").write_bytes(b"OggS" + bytes(range(256)) * 8)
    yield "prompt_bad_format", folder / "noise.ogg"
    write_wav(folder / "many.wav", channels=6)
    yield "prompt_bad_format", folder / "many.wav"
    write_wav(folder / "slow.wav", rate=4000)
    yield "prompt_bad_format", folder / "slow.wav"
    with (folder / "large.wav").open("wb") as file:
        file.write(b"RIFF")
        file.truncate(render.MAX_FILE_BYTES + 1)
    yield "prompt_too_large", folder / "large.wav"
    yield "io_error", folder / "nowhere.wav"


def test_what_is_no_prompt_is_refused_with_a_code(tmp_path: Path) -> None:
    for code, path in bad_files(tmp_path):
        try:
            render.read(path)
            found = "taken"
        except render.BadSound as error:
            found = error.code
        except FileNotFoundError:
            found = "io_error"
        assert found == code, path.name


async def test_a_refusal_comes_out_of_the_process_that_looked(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not a sound")
    with pytest.raises(PromptError) as caught:
        await PromptLibrary(tmp_path / "prompts", NoSpeech()).add_file(tmp_path / "text.wav")
    assert caught.value.code == "prompt_bad_format"


def test_a_film_is_no_prompt_even_if_it_calls_itself_one(tmp_path: Path) -> None:
    """Only the two containers are tried, whatever else FFmpeg could open."""
    with av.open(str(tmp_path / "film.mka"), "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        for packet in stream.encode(frame):
            container.mux(packet)
    with pytest.raises(render.BadSound) as caught:
        render.read(tmp_path / "film.mka")
    assert caught.value.code == "prompt_bad_format"


@pytest.mark.parametrize(
    "name", ["prompt:", "prompt:../../etc/passwd", "prompt:" + "0" * 32, "leg", "prompt:" + "g" * 32]
)
def test_a_prompt_that_is_not_there_is_silence(tmp_path: Path, name: str) -> None:
    assert music.Library(tmp_path).player(name, tuple(CODECS)) is None


def test_a_broken_prompt_is_silence(tmp_path: Path) -> None:
    name = music.PROMPT + "0" * 32
    for broken in (b"", b"PBP1", b"PBP1" + bytes(20)):
        (tmp_path / music.prompt_file(name, "pcmu")).write_bytes(broken)
        assert music.Library(tmp_path).player(name, (CODECS[1],)) is None


def test_ring_back_as_it_comes() -> None:
    sound = played(music.Library(), Source.RINGBACK, Codec("opus", 111, 48_000), 260)
    assert abs(peak_hz(sound[:40_000]) - 425) < 3
    levels = [level_dbfs(sound[at : at + 4800] * 32768) for at in range(0, 48_000 * 5, 4800)]
    assert [level > -40 for level in levels[1:9]] == [True] * 8
    assert all(level < -60 for level in levels[11:49])


@pytest.mark.parametrize(("country", "hz", "round_s"), [("US", {440, 480}, 6), ("gb", {400, 450}, 3), ("DE", {425}, 5)])
async def test_ring_back_of_a_country(tmp_path: Path, country: str, hz: set[int], round_s: float) -> None:
    prompt = await PromptLibrary(tmp_path, NoSpeech()).add_ring_back(country)
    assert prompt.seconds == pytest.approx(round_s, abs=0.05)
    sound = tones.ring_back(tones.cadence(country), 8000)[: 8000 * 4 // 10]
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 8000))
    loudest = {int(at) for at in range(1, len(spectrum) - 1) if spectrum[at] > spectrum.max() / 2
               and spectrum[at] >= max(spectrum[at - 1], spectrum[at + 1])}  # fmt: skip
    assert loudest == hz


FAKE = """#!/bin/sh
while [ "$1" != "-w" ]; do shift; done
cat > "$2.text"
cp "{wav}" "$2"
echo once >> "{calls}"
"""


async def test_speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of espeak-ng's name stands for it: its arguments, and that a text is spoken once."""
    program, calls = tmp_path / "bin" / "espeak-ng", tmp_path / "calls"
    program.parent.mkdir()
    program.write_text(FAKE.format(wav=write_wav(tmp_path / "voice.wav", rate=22_050, channels=1), calls=calls))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    prompts = PromptLibrary(tmp_path / "prompts", EspeakNg())
    first = await prompts.add_speech("You are next.", "en")
    assert await prompts.add_speech("You are next.", "en") == first
    assert calls.read_text() == "once\n"
    assert prompts.has(first.name)


@pytest.mark.parametrize(
    ("text", "voice", "code"),
    [
        ("hello", "en", "tts_missing"),
        ("hello", "en; rm", "tts_bad_voice"),
        ("hello", "-w", "tts_bad_voice"),
        (" ", "en", "tts_too_long"),
        ("x" * 4001, "en", "tts_too_long"),
    ],
)
async def test_speech_that_can_not_be_had(tmp_path: Path, text: str, voice: str, code: str) -> None:
    with pytest.raises(SpeechError) as refused:
        await EspeakNg("no-such-program").speak(text, voice, tmp_path / "x.wav")
    assert refused.value.code == code
    with pytest.raises(PromptError) as caught:
        await PromptLibrary(tmp_path, EspeakNg("no-such-program")).add_speech(text, voice)
    assert caught.value.code == code
