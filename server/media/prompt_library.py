"""Prompts of one's own: sound files, spoken text and ring-back tones become packets in the folder of the workers.

A prompt is named by its content ("prompt:" and a hash): adding the same again makes nothing anew, and a plan that names
it means the same sound for ever. Decoding and encoding happen in a process of their own (prompts/render.py), a few at a
time."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from server.media.prompts.tones import cadence, ring_back
from server.media.relay import music
from server.media.text_to_speech import SpeechError, TextToSpeech

RENDER_TIMEOUT_S = 120.0  # five minutes of sound take 10 s of CPU, at the lowest priority
AT_ONCE = 2
TONE_RATE = 48_000


class PromptError(Exception):
    """`code`: those of render.BadSound and of SpeechError, io_error, prompt_timeout."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Prompt:
    """`name` is what a plan's route hears."""

    name: str
    seconds: float


class PromptLibrary:
    """`folder`: the workers' --prompts."""

    def __init__(self, folder: Path, speech: TextToSpeech) -> None:
        self._folder = folder
        self._speech = speech
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def add_file(self, path: Path) -> Prompt:
        """A WAV or Ogg file. Raises PromptError."""
        async with self._turns:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "server.media.prompts.render", str(path), "--folder", str(self._folder),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                async with asyncio.timeout(RENDER_TIMEOUT_S):
                    said, _ = await process.communicate()
            except TimeoutError:
                raise PromptError("prompt_timeout", f"encoding took longer than {RENDER_TIMEOUT_S:.0f} s") from None
            finally:
                if process.returncode is None:
                    process.kill()
        try:
            result = json.loads(said)
        except ValueError:  # it died: a file that breaks its decoder
            raise PromptError("prompt_bad_format", "the file can't be decoded") from None
        if process.returncode != 0:
            raise PromptError(result["code"], result["message"])
        return Prompt(result["name"], result["seconds"])

    async def add_speech(self, text: str, voice: str) -> Prompt:
        """Spoken text. Raises PromptError."""
        key = hashlib.sha256(f"{voice}\0{text}".encode()).hexdigest()
        known = self._folder / f"speech-{key[:32]}.json"
        if known.exists():
            return Prompt(**json.loads(known.read_text()))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "speech.wav"
            try:
                await self._speech.speak(text, voice, path)
            except SpeechError as error:
                raise PromptError(error.code, str(error)) from error
            prompt = await self.add_file(path)
        known.write_text(json.dumps({"name": prompt.name, "seconds": prompt.seconds}))
        return prompt

    async def add_ring_back(self, country: str) -> Prompt:
        """The ring-back tone of a country (two letters). Raises PromptError."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tone.wav"
            with wave.open(str(path), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(TONE_RATE)
                file.writeframes((ring_back(cadence(country), TONE_RATE) * 32767).astype(np.int16).tobytes())
            return await self.add_file(path)

    def has(self, name: str) -> bool:
        """The prompt can be played."""
        return all((self._folder / music.prompt_file(name, codec)).exists() for codec in music.PROMPT_CODECS)
