"""What mixing costs: `python -m tests.bench.mixer` → bench/out/mixer.json.

One process, no sockets: the mixer's graph is fed speech-like sound in packets that were encoded before, and ticks as
fast as it can. The figures are CPU milliseconds for each second of a call, after 2 s of it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the mixer's process

import numpy as np

from server.media.mixer import codecs
from server.media.mixer.formats import OPUS, PCMU, Format
from server.media.mixer.graph import Mix
from server.media.mixer.jitter import Arrived
from server.media.mixer.setup import Listener, Setup
from tests.bench.report import Figure, percentile, report

RATE = 48_000
SECONDS = 10
WARM_S = 2
ROUNDS = 3
Hears = dict[int, set[int]]


def speech(seed: int) -> np.ndarray:
    """Syllables of a voice with harmonics and pauses: costs a codec what speech does."""
    dice = np.random.default_rng(seed)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < RATE * SECONDS:
        length = int(RATE * dice.uniform(0.12, 0.3))
        t = np.arange(length) / RATE
        pitch = dice.uniform(100, 220) * (1 + 0.1 * np.sin(2 * np.pi * 3 * t))
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        wave = sum(np.sin(k * phase) / k for k in range(1, 15)) * np.hanning(length)
        parts += [0.12 * wave, 0.003 * dice.standard_normal(int(RATE * dice.uniform(0.03, 0.2)))]
    return np.concatenate(parts)[: RATE * SECONDS].astype(np.float32)


def packets(form: Format, seed: int) -> list[bytes]:
    encoder, sound = codecs.encoder(form, RATE), speech(seed)
    return [encoder.encode(sound[at : at + RATE // 50]) for at in range(0, len(sound), RATE // 50)]


def cost(forms: Sequence[Format], hears: Hears) -> float:
    """CPU ms a second."""
    said = {name: packets(form, name) for name, form in enumerate(forms)}
    inputs = tuple(enumerate(forms))
    mix = Mix(Setup(1, inputs, tuple(Listener(n, forms[n], frozenset(heard)) for n, heard in hears.items())), 0)
    used = 0.0
    for n in range(SECONDS * 50):
        began = time.process_time()
        for name, form in inputs:
            payload = said[name][n]
            mix.put(name, Arrived(form, n, n * form.clock_rate // 50, name, payload, n * 20.0 + name % 3))
        frames = list(mix.tick(n * 20.0 + 10))
        if n >= WARM_S * 50:
            used += time.process_time() - began
            assert len(frames) == len({frozenset(heard) for heard in hears.values()})
    return 1000 * used / (SECONDS - WARM_S)


def everybody(count: int) -> Hears:
    return {n: set(range(count)) - {n} for n in range(count)}


COACHED: Hears = {0: {1}, 1: {0, 2}, 2: {0, 1}}  # customer, agent, coach
CASES: dict[str, tuple[tuple[Format, ...], Hears]] = {
    "conference_of_3_opus": ((OPUS,) * 3, everybody(3)),
    "conference_of_8_opus": ((OPUS,) * 8, everybody(8)),
    "conference_of_8_one_pcmu": ((PCMU, *(OPUS,) * 7), everybody(8)),
    "conference_of_8_pcmu": ((PCMU,) * 8, everybody(8)),
    "coached_call_opus": ((OPUS,) * 3, COACHED),
    "coached_call_customer_pcmu": ((PCMU, OPUS, OPUS), COACHED),
    "transcoded_call_opus_pcmu": ((OPUS, PCMU), everybody(2)),
}


def main() -> None:
    samples: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(ROUNDS):  # interleaved: a busy moment of the machine meets all
        for name, (forms, hears) in CASES.items():
            samples[name].append(cost(forms, hears))
    figures = [Figure(f"mixer_{name}", round(percentile(s, 0.5), 2), "ms/s", None, None) for name, s in samples.items()]
    report("mixer", figures, samples)


if __name__ == "__main__":
    main()
