"""Jitter buffer, concealment and pace of a mixer's input, in virtual time: a sender that says a tone in G.711, a
network that loses, delays and repeats, and a mixer that takes 20 ms at a time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.media.mixer import codecs, g711, opus
from server.media.mixer.formats import COMFORT_NOISE, G722, OPUS, PCMA, PCMU, Format
from server.media.mixer.jitter import Arrived
from server.media.mixer.voice import Voice

RATE = 8000
TONE_HZ = 400
LOUD = 0.2  # RMS of the tone below is 0.21
Network = Callable[[int], Iterable[float]]  # packet number → how late its copies arrive, ms


def tone(samples: int, rate: int = RATE, hz: float = TONE_HZ) -> np.ndarray:
    return np.asarray(0.3 * np.sin(2 * np.pi * hz * np.arange(samples) / rate), np.float32)


PERIODS = g711.encode("pcmu", tone(160))  # 20 ms are 8 whole periods: each packet goes on from the one before
SILENCE = g711.encode("pcmu", np.zeros(160, np.float32))


@dataclass
class Run:
    """What a voice gave."""

    levels: list[float] = field(default_factory=list)  # RMS of each 20 ms; 0 for nothing
    delays_ms: list[float] = field(default_factory=list)  # while it played
    voice: Voice = field(default_factory=lambda: Voice(RATE))

    def loud(self, begin: int = 0) -> float:
        """The share of frames with sound, from frame `begin` on."""
        return sum(level > LOUD / 2 for level in self.levels[begin:]) / max(1, len(self.levels) - begin)


def packet(
    number: int, at_ms: float, sequence: int = 0, timestamp: int = 0, ssrc: int = 1, payload: bytes = PERIODS
) -> Arrived:
    """Packet `number` of a stream whose first one has this sequence number and timestamp."""
    return Arrived(PCMU, (sequence + number) & 0xFFFF, (timestamp + 160 * number) & 0xFFFFFFFF, ssrc, payload, at_ms)


def play(packets: Iterable[Arrived], frames: int, voice: Voice | None = None, phase_ms: float = 7.0) -> Run:
    """Pull `frames` times 20 ms while the packets come in."""
    run = Run(voice=voice or Voice(RATE))
    coming = sorted(packets, key=lambda one: one.at_ms)
    at = 0
    for frame in range(frames):
        now_ms = frame * 20 + phase_ms
        while at < len(coming) and coming[at].at_ms <= now_ms:
            run.voice.put(coming[at])
            at += 1
        sound = run.voice.pull(now_ms)
        assert sound is None or len(sound) == RATE // 50
        run.levels.append(0.0 if sound is None else float(np.sqrt(np.mean(sound**2))))
        if run.voice.playing:
            run.delays_ms.append(run.voice.delay_ms(now_ms + 20))  # of what is pulled next
    return run


def through(network: Network, count: int, **numbers: Any) -> list[Arrived]:
    return [packet(n, 20 * n + late, **numbers) for n in range(count) for late in network(n)]


def test_a_steady_stream_is_heard_whole_and_soon() -> None:
    run = play(through(lambda n: [0], 500), 500)
    assert run.loud(5) == 1.0
    counts = run.voice.buffer.counts
    assert (counts.lost, counts.late, counts.restarts) == (0, 0, 0)
    assert max(run.delays_ms) <= 70, "40 ms until the network is known, and one frame"
    assert run.delays_ms[-1] <= 50, "then 20 ms and one frame at most"


@pytest.mark.parametrize("loss", [0.0, 0.01, 0.05, 0.2])
@pytest.mark.parametrize("jitter_ms", [0, 60, 200])
def test_a_lossy_pair_neither_stalls_nor_falls_behind(loss: float, jitter_ms: int) -> None:
    """5 % of the packets are overtaken by others on top of the jitter, 2 % come twice."""
    dice = random.Random(int(loss * 100) + jitter_ms)

    def network(n: int) -> list[float]:
        if dice.random() < loss:
            return []
        late = dice.uniform(0, jitter_ms) + (30 if dice.random() < 0.05 else 0)
        return [late, late + 5] if dice.random() < 0.02 else [late]

    run = play(through(network, 3000), 3000)
    run_late = run.delays_ms[len(run.delays_ms) // 2 :]
    assert max(run.delays_ms) < 200 + 60 + 25, "the delay is bounded"
    assert np.mean(run_late[-300:]) < np.mean(run_late[:300]) + 20, "and does not grow"
    longest = longest_silence(run.levels[20:])
    assert longest <= 200, f"no stall: {longest} ms"
    assert run.loud(50) > 1 - loss - 0.1
    counts = run.voice.buffer.counts
    assert counts.restarts == 0
    assert counts.played > 0.9 * (1 - loss) * 3000


def longest_silence(levels: Iterable[float]) -> int:
    longest = now = 0
    for level in levels:
        now = now + 20 if level < LOUD / 8 else 0
        longest = max(longest, now)
    return longest


def test_the_delay_falls_again_after_a_bad_moment() -> None:
    dice = random.Random(3)
    run = play(through(lambda n: [dice.uniform(0, 180) if n < 500 else 0], 2500), 2500)
    assert np.mean(run.delays_ms[300:480]) > 120
    assert np.mean(run.delays_ms[-100:]) <= 50


def test_what_comes_twice_or_late_is_dropped() -> None:
    def network(n: int) -> list[float]:
        return [0, 3] if n % 3 == 0 else [400] if n % 100 == 50 else [0]

    run = play(through(network, 1000), 1000)
    counts = run.voice.buffer.counts
    assert counts.late >= 7
    assert counts.repeated + counts.late >= 334
    assert counts.played <= 993
    assert max(run.delays_ms) <= 90
    assert run.loud(5) == 1.0, "20 ms at a time are made up"


def test_sequence_and_timestamp_wrap() -> None:
    run = play(through(lambda n: [0], 400, sequence=65536 - 100, timestamp=2**32 - 100 * 160), 400)
    counts = run.voice.buffer.counts
    assert run.loud(5) == 1.0
    assert (counts.restarts, counts.lost, counts.late) == (0, 0, 0)


def test_another_ssrc_goes_on_after_200_ms_at_most() -> None:
    first = through(lambda n: [0], 200, ssrc=1, sequence=9)
    second = [packet(n, 4000 + 20 * n, ssrc=2, sequence=40_000, timestamp=77) for n in range(200)]
    run = play([*first, *second], 400)
    assert run.voice.buffer.counts.restarts == 1
    assert longest_silence(run.levels[5:]) <= 200
    assert run.loud(215) == 1.0


@pytest.mark.parametrize("jump", [10 * 8000, -10 * 8000, 2**31 + 5])
def test_a_jump_of_the_timestamp_begins_anew(jump: int) -> None:
    first = through(lambda n: [0], 200)
    second = [packet(n, 20 * n, timestamp=jump & 0xFFFFFFFF) for n in range(200, 400)]
    run = play([*first, *second], 400)
    assert run.voice.buffer.counts.restarts == 1
    assert run.loud(215) == 1.0
    assert longest_silence(run.levels[5:]) <= 200


@pytest.mark.parametrize("extra_ms", [150, 500, 900])
def test_a_longer_way_is_got_used_to(extra_ms: int) -> None:
    run = play(through(lambda n: [0 if n < 200 else extra_ms], 1200), 1200)
    assert run.loud(200 + extra_ms // 20 + 40) > 0.98
    assert run.delays_ms[-1] < 100


def test_a_stall_of_the_network_is_not_played_out_later() -> None:
    """A second of packets comes at once: the newest count."""
    run = play(through(lambda n: [max(0, 1000 - 20 * (n - 200))] if 200 <= n < 250 else [0], 1000), 1000)
    assert run.loud(260) > 0.98
    assert np.mean(run.delays_ms[-50:]) < 60


def test_silence_that_the_sender_leaves_out() -> None:
    """DTX: sequence numbers go on by one, timestamps jump. It is silence, and no loss is made up."""
    packets = [
        packet(n, 20 * n, sequence=-(n // 100) * 50 & 0xFFFF) for n in range(1000) if n % 100 < 50
    ]  # a second of speech, a second of nothing
    run = play(packets, 1000)
    counts = run.voice.buffer.counts
    assert counts.restarts == 0
    assert counts.lost == 0
    assert 0.45 < run.loud() < 0.56


def test_comfort_noise_lasts_until_speech_comes_back() -> None:
    packets = [packet(n, 20 * n) for n in range(50)]
    packets += [Arrived(COMFORT_NOISE, 50 + n, 160 * (50 + 50 * n), 1, b"\x32", 1000 + 1000.0 * n) for n in range(3)]
    packets += [Arrived(PCMU, 53 + n, 160 * (200 + n), 1, PERIODS, 4000 + 20.0 * n) for n in range(50)]
    run = play(packets, 250)
    level = 10 ** (-50 / 20)
    assert all(level / 2 < one < level * 2 for one in run.levels[60:195]), "50 dB below full scale, without a gap"
    assert run.loud(210) == 1.0


@pytest.mark.parametrize("ppm", [200, -200])
def test_an_hour_of_clock_drift(ppm: int) -> None:
    """3,600 s against a sender whose clock is off: the delay stays, and nothing is lost."""
    count = 180_000
    quick = 1 + ppm / 1e6

    class Still:
        """A decoder that costs nothing; what is said is silence."""

        sound = np.zeros(160, np.float32)

        def decode(self, payload: bytes) -> np.ndarray:
            return self.sound

        def conceal(self, samples: int, following: bytes | None) -> np.ndarray:
            return np.zeros(samples, np.float32)

    voice = Voice(RATE)
    voice._decoder, voice._form = Still(), PCMU
    run = play((packet(n, 20 * n / quick, payload=SILENCE) for n in range(count)), count - 50, voice)
    counts = voice.buffer.counts
    assert (counts.late, counts.restarts, counts.skipped) == (0, 0, 0)
    assert counts.lost <= 2
    assert abs(counts.played - count * quick) < 100
    for begin in range(0, len(run.delays_ms), 10_000):
        assert min(run.delays_ms[begin : begin + 10_000]) >= 10
        assert max(run.delays_ms[begin : begin + 10_000]) <= 80


def test_drift_in_speech_leaves_no_click() -> None:
    """5,000 ppm, so that a minute has as many edits as 25 minutes of 200 ppm."""
    voice = Voice(RATE)
    coming = [packet(n, 20 * n / 1.005) for n in range(3000)]
    at, sound = 0, []
    for frame in range(2900):
        while coming[at].at_ms <= frame * 20 + 7:
            voice.put(coming[at])
            at += 1
        sound.append(voice.pull(frame * 20 + 7))
    heard = np.concatenate([one for one in sound[10:] if one is not None])
    step = float(np.abs(np.diff(tone(800))).max())
    assert float(np.abs(np.diff(heard)).max()) < 1.5 * step
    assert abs(len(heard) - len(sound[10:]) * 160) == 0


def test_a_lost_packet_of_g711_is_filled_with_the_tone_and_long_loss_fades() -> None:
    run = play(through(lambda n: [] if n == 100 or 200 <= n < 230 else [0], 400), 400)
    assert run.levels[95:110] == pytest.approx([0.21] * 15, abs=0.03), "one packet is not missed"
    assert min(run.levels[200:235]) < 0.001, "60 ms later there is silence"
    assert run.loud(240) == 1.0


@pytest.mark.skipif(not opus.available(), reason="no libopus: PyAV's decoder conceals like G.711's")
def test_opus_brings_a_lost_packet_back_by_its_successor() -> None:
    """In-band FEC: what stands for a lost packet is nearer to it than a guess is."""
    dice = np.random.default_rng(5)
    hz = np.repeat(dice.uniform(150, 400, 30), 960 * 2)  # another pitch every 40 ms: nothing to guess
    speech = np.asarray(0.3 * np.sin(2 * np.pi * np.cumsum(hz) / 48_000), np.float32)
    encoder = opus.Encoder(16_000, loss_percent=10)
    low = speech[::3]
    payloads = [encoder.encode(low[at : at + 320]) for at in range(0, len(low), 320)]
    whole, guess, fec = opus.Decoder(16_000), opus.Decoder(16_000), opus.Decoder(16_000)
    worse = better = 0.0
    for number, payload in enumerate(payloads[:-1]):
        good = whole.decode(payload)
        if number % 4 != 3:
            guess.decode(payload)
            fec.decode(payload)
            continue
        following = payloads[number + 1]
        worse += float(np.sum((spectrum(guess.conceal(320)) - spectrum(good)) ** 2))
        better += float(np.sum((spectrum(fec.conceal(320, following)) - spectrum(good)) ** 2))
    assert better < 0.7 * worse


def spectrum(sound: np.ndarray) -> np.ndarray:
    return np.abs(np.fft.rfft(sound * np.hanning(len(sound))))


def test_garbage_is_counted_and_speech_goes_on() -> None:
    dice = random.Random(1)
    voice = Voice(48_000)
    encoder = codecs.encoder(OPUS, 48_000)
    loud = 0
    for n in range(300):
        good = encoder.encode(tone(960, 48_000))
        payload = dice.randbytes(dice.randint(0, 90)) if n % 10 == 5 else good
        voice.put(Arrived(OPUS, n, 960 * n, 1, payload, 20.0 * n))
        sound = voice.pull(20.0 * n + 5)
        loud += sound is not None and float(np.abs(sound).max()) > 0.1
    assert loud > 240
    assert voice.buffer.counts.malformed > 0


@pytest.mark.parametrize("form", [OPUS, PCMU, PCMA, G722, COMFORT_NOISE])
def test_a_packet_without_a_payload_is_no_sound(form: Format) -> None:
    voice = Voice(8_000)
    for n in range(100):
        voice.put(Arrived(form, n, n * form.clock_rate // 50, 1, b"", 20.0 * n))
        voice.pull(20.0 * n + 5)
    assert voice.buffer.counts.malformed == 100


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_random_arrivals(data: st.DataObject) -> None:
    """Whatever comes: 20 ms each time, a bounded delay and a bounded stock of packets; and when the stream is steady
    again, it is heard again within a second."""
    dice = random.Random(data.draw(st.integers(0, 2**32)))
    lateness = data.draw(st.sampled_from([0, 20, 100, 300, 1500]))
    loss = data.draw(st.floats(0, 0.9))
    jumps = data.draw(st.integers(0, 6))
    packets, sequence, timestamp, ssrc = [], dice.getrandbits(16), dice.getrandbits(32), 1
    for n in range(400):
        if jumps and dice.random() < jumps / 400:
            sequence, timestamp, ssrc = dice.getrandbits(16), dice.getrandbits(32), dice.choice([1, 2, 3])
        if dice.random() >= loss:
            packets.append(packet(n, 20 * n + dice.uniform(0, lateness), sequence, timestamp, ssrc))
    packets += [packet(n, 20 * n + 1600, sequence, timestamp, ssrc) for n in range(400, 600)]
    run = play(packets, 600 + 80, phase_ms=data.draw(st.floats(0, 20)))
    pairs = zip(run.delays_ms, run.delays_ms[1:], strict=False)
    assert all(min(pair) < 300 for pair in pairs), "a packet that is far quicker than all before is reacted to at once"
    assert len(run.voice.buffer._held) <= 64
    assert run.loud(680 - 100) == 1.0


def test_every_format_is_decoded_at_every_rate() -> None:
    from server.media.mixer.formats import FORMATS, SPEECH

    def peak(sound: np.ndarray, rate: int) -> float:
        return float(np.argmax(spectrum(sound)) * rate / len(sound))

    forms: list[Format] = [form for form in FORMATS if form.name in SPEECH]
    for form in forms:
        for rate in (8000, 16_000, 48_000):
            encoder, decoder, frame = codecs.encoder(form, rate), codecs.decoder(form, rate), rate // 50
            sound = tone(rate, rate)
            heard = [decoder.decode(encoder.encode(sound[at : at + frame])) for at in range(0, rate, frame)]
            assert all(len(one) == frame for one in heard), (form.name, rate)
            end = np.concatenate(heard)[rate // 2 :]
            assert abs(peak(end, rate) - TONE_HZ) < 5, (form.name, rate)
            assert 0.19 < float(end.std()) < 0.23, (form.name, rate)
