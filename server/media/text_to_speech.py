"""Text to speech: a port, and espeak-ng behind it. espeak-ng is GPL: it is run as a program and never linked."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path
from typing import Protocol

TIMEOUT_S = 20.0
MAX_CHARS = 4000  # five minutes of speech
WORDS_A_MINUTE = 160
_VOICE = re.compile(r"[a-z]{2,3}(-[a-z0-9-]{1,20})?\Z")


class SpeechError(Exception):
    """`code`: tts_missing, tts_bad_voice, tts_too_long, tts_failed. The text tells what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class TextToSpeech(Protocol):
    async def speak(self, text: str, voice: str, to: Path) -> None:
        """Write `text` as a WAV file. `voice`: a language such as en, en-us or cmn. Raises SpeechError."""


class EspeakNg:
    """Debian's espeak-ng; about 15 ms a prompt."""

    def __init__(self, program: str = "espeak-ng") -> None:
        self._program = program

    async def speak(self, text: str, voice: str, to: Path) -> None:
        """Raises SpeechError."""
        if not _VOICE.match(voice):
            raise SpeechError("tts_bad_voice", f"{voice[:30]!r} is no language; give one such as en, en-us or cmn")
        if not text.strip() or len(text) > MAX_CHARS:
            raise SpeechError("tts_too_long", f"give 1 to {MAX_CHARS} characters")
        program = shutil.which(self._program)
        if program is None:
            raise SpeechError("tts_missing", f"{self._program} is not installed; Debian: apt-get install espeak-ng")
        process = await asyncio.create_subprocess_exec(
            program, "-v", voice, "-s", str(WORDS_A_MINUTE), "-w", str(to), "--stdin",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, said = await process.communicate(text.encode())
        except TimeoutError:
            raise SpeechError("tts_failed", f"{self._program} took longer than {TIMEOUT_S:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode != 0 or not to.exists():
            raise SpeechError("tts_failed", said.decode(errors="replace")[:200] or "it said nothing")
