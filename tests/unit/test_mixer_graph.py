"""Who hears whom in a mix, the limiter, the sample rate, and the messages between a worker and its mixer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from server.media.mixer import codecs
from server.media.mixer.desk import Desk
from server.media.mixer.formats import G722, OPUS, PCMA, PCMU, Format
from server.media.mixer.graph import Limiter, Mix
from server.media.mixer.jitter import Arrived
from server.media.mixer.protocol import (
    MAX_BYTES,
    End,
    beat_from_bytes,
    beat_to_bytes,
    end_to_bytes,
    frame_from_bytes,
    frame_to_bytes,
    order_from_bytes,
    packet_from_bytes,
    packet_to_bytes,
    pieces,
    setup_to_bytes,
)
from server.media.mixer.setup import Listener, Setup, rate_of

PITCHES = {1: 400, 2: 900, 3: 1500}
RATE = 8000


def conference(*hears: tuple[int, set[int]], form: Format = PCMU) -> Setup:
    listeners = tuple(Listener(name, form, frozenset(heard)) for name, heard in hears)
    return Setup(7, tuple((name, PCMU) for name in PITCHES), listeners)


class Talk:
    """Each input says its tone; what each listener hears is kept."""

    def __init__(self, setup: Setup) -> None:
        self.mix = Mix(setup, 0)
        self.frames = 0
        self.heard: dict[int, list[bytes]] = {}
        self.shared: list[tuple[int, ...]] = []
        self._encoders = {name: codecs.encoder(PCMU, RATE) for name in PITCHES}

    def go_on(self, frames: int, speakers: Mapping[int, float] = PITCHES) -> None:
        for _ in range(frames):
            n = self.frames
            self.frames += 1
            for name, hz in speakers.items():
                at = np.arange(n * 160, n * 160 + 160)
                sound = np.asarray(0.2 * np.sin(2 * np.pi * hz * at / RATE), np.float32)
                payload = self._encoders[name].encode(sound)
                self.mix.put(name, Arrived(PCMU, n & 0xFFFF, n * 160, name, payload, n * 20.0))
            for frame in self.mix.tick(n * 20 + 3.0):
                self.shared.append(frame.listeners)
                for listener in frame.listeners:
                    self.heard.setdefault(listener, []).append(frame.payload)

    def hears(self, listener: int, form: Format = PCMU, frames: int = 25) -> set[int]:
        """Whose tones are in the last half second."""
        decoder = codecs.decoder(form, RATE)
        sound = np.concatenate([decoder.decode(payload) for payload in self.heard[listener][-frames:]])
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) * 4 / len(sound)
        return {name for name, hz in PITCHES.items() if spectrum[round(hz * len(sound) / RATE)] > 0.05}


def test_a_conference_of_three_hears_the_others_and_not_itself() -> None:
    talk = Talk(conference((1, {2, 3}), (2, {1, 3}), (3, {1, 2})))
    talk.go_on(60)
    assert {name: talk.hears(name) for name in PITCHES} == {1: {2, 3}, 2: {1, 3}, 3: {1, 2}}


@pytest.mark.parametrize(
    "hears",
    [
        {1: {2}, 2: {1}, 3: {1, 2}},  # 3 listens
        {1: {2}, 2: {1, 3}, 3: {1, 2}},  # 3 coaches 2
        {1: {2, 3}, 2: {1, 3}, 3: {1, 2}},  # 3 barges in
        {1: {3}, 2: set(), 3: {1}},  # 3 has taken over
    ],
)
def test_supervision(hears: dict[int, set[int]]) -> None:
    talk = Talk(conference((1, {2}), (2, {1})))
    talk.go_on(30)
    talk.mix.apply(conference(*hears.items()), talk.frames * 20)
    talk.go_on(60)
    assert {name: talk.hears(name) for name in PITCHES} == hears


def test_who_hears_the_same_shares_an_encoding() -> None:
    talk = Talk(conference((1, {2}), (2, {1, 3}), (3, {1, 2}), (4, {1, 2}), (5, {1, 2})))
    talk.go_on(50)
    assert set(talk.shared[-3:]) == {(1,), (2,), (3, 4, 5)}


def test_a_listener_in_another_format_hears_the_same() -> None:
    setup = conference((1, {2, 3}), (2, {1, 3}))
    setup = Setup(setup.mix_id, setup.inputs, (*setup.listeners, Listener(3, OPUS, frozenset({1, 2}))))
    talk = Talk(setup)
    talk.go_on(60)
    assert talk.hears(3, OPUS) == {1, 2}


def test_nobody_is_sent_anything_before_there_is_something_to_hear() -> None:
    """So that a relayed call goes on until the mix is ready; but no listener waits longer than 200 ms."""
    talk = Talk(conference((1, {2}), (2, {1})))
    talk.go_on(30, {2: 900})
    assert talk.shared[0] == (1,)
    assert talk.heard[1][0] != talk.heard[2][0]
    first_of_2 = 30 - len(talk.heard[2])
    assert 9 <= first_of_2 <= 11
    assert 1 <= 30 - len(talk.heard[1]) <= 4


def test_a_listener_who_stays_is_not_interrupted() -> None:
    talk = Talk(conference((1, {2}), (2, {1})))
    talk.go_on(50)
    before = len(talk.heard[1])
    talk.mix.apply(conference((1, {2, 3}), (2, {1, 3}), (3, {1, 2})), talk.frames * 20)
    talk.go_on(50)
    assert len(talk.heard[1]) == before + 50
    assert talk.hears(1) == {2, 3}


def test_an_input_that_says_nothing_costs_nothing_and_others_go_on() -> None:
    talk = Talk(conference((1, {2, 3}), (2, {1, 3}), (3, {1, 2})))
    talk.go_on(60, {1: 400})
    assert {name: talk.hears(name) for name in PITCHES} == {1: set(), 2: {1}, 3: {1}}


def test_the_limiter_keeps_shouting_below_full_scale_and_lets_go_again() -> None:
    limiter = Limiter()
    at = np.arange(160) / RATE
    loud, quiet = np.sin(2 * np.pi * 400 * at).astype(np.float32) * 2.5, np.full(160, 0.1, np.float32)
    for _ in range(5):
        out = limiter.run(loud)
    assert 0.85 < float(np.abs(out).max()) <= 0.9
    softly = limiter.run(quiet)
    assert softly[-1] < 0.05, "not at once"
    for _ in range(60):
        softly = limiter.run(quiet)
    assert softly[-1] == pytest.approx(0.1)
    assert limiter.run(quiet) is quiet, "what is not loud is not touched"


def test_the_sample_rate_is_what_somebody_can_say_to_somebody() -> None:
    def meeting(*forms: Format) -> int:
        names = range(len(forms))
        everybody = tuple(Listener(n, forms[n], frozenset(names) - {n}) for n in names)
        return rate_of(Setup(1, tuple(enumerate(forms)), everybody))

    assert meeting(OPUS, PCMU) == 8000
    assert meeting(OPUS, OPUS, PCMA) == 48_000
    assert meeting(OPUS, G722, PCMU) == 16_000
    assert rate_of(Setup(1, (), ())) == 8000


def test_a_wider_voice_joins() -> None:
    """The mix begins anew at the higher rate; those who were there are heard again within 200 ms."""
    talk = Talk(conference((1, {2}), (2, {1})))
    talk.go_on(50)
    wide = (Listener(3, OPUS, frozenset({1, 2, 4})), Listener(4, OPUS, frozenset({3})))
    setup = conference((1, {2}), (2, {1}))
    setup = Setup(7, (*setup.inputs, (4, OPUS)), (*setup.listeners, *wide))
    talk.mix.apply(setup, talk.frames * 20)
    before = len(talk.heard[1])
    talk.go_on(60)
    assert talk.mix.rate == 48_000
    assert len(talk.heard[1]) >= before + 50
    assert (talk.hears(1), talk.hears(3, OPUS)) == ({2}, {1, 2})


def test_messages_come_back_as_they_went() -> None:
    setup = conference((1, {2, 3}), (2, {1}), form=OPUS)
    assert order_from_bytes(setup_to_bytes(setup)) == setup
    assert order_from_bytes(end_to_bytes(7)) == End(7)
    message = packet_to_bytes(5, "opus", (65535, 2**32 - 1, 9), 1_500_000, b"sound")
    assert packet_from_bytes(message) == (5, Arrived(OPUS, 65535, 2**32 - 1, 9, b"sound", 1.5))
    assert frame_from_bytes(frame_to_bytes(3, "pcma", 2**32 + 1, b"x")) == (3, "pcma", 1, b"x")
    assert beat_from_bytes(beat_to_bytes(2**63)) == 2**63


@pytest.mark.parametrize(("people", "messages"), [(8, 1), (150, 16)])
def test_an_order_of_any_length_arrives_whole(people: int, messages: int) -> None:
    """The largest conference that is allowed, with ids as long as they get, fits one message; larger ones would not."""
    ids = [2**32 - 1 - n for n in range(people)]
    listeners = tuple(Listener(one, PCMU, frozenset(ids) - {one}) for one in ids)
    setup = Setup(2**32 - 1, tuple((one, PCMU) for one in ids), listeners)
    sent = list(pieces(setup_to_bytes(setup)))
    assert (len(sent), max(map(len, sent)) <= MAX_BYTES) == (messages, True)
    desk = Desk()
    for n, message in enumerate(sent):
        assert not desk.mixes
        desk.take(message, 0)
        if n < len(sent) - 1:
            desk.take(packet_to_bytes(ids[0], "pcmu", (n, n, 1), 0, b"sound"), 0)
    assert desk.mixes[setup.mix_id].setup == setup
    desk.take(end_to_bytes(setup.mix_id), 0)
    assert not desk.mixes, "nothing of the long order is left before the next one"


def test_a_beat_is_to_be_said_back() -> None:
    desk = Desk()
    desk.take(beat_to_bytes(41), 0)
    desk.take(beat_to_bytes(42), 0)
    assert desk.beat == 42


@pytest.mark.parametrize("message", [b"", b"?", b"J", b"J{}", b"J[]", b'J{"kind":"mix"}', b"P", b"P" + bytes(10), b"B"])
def test_a_message_that_is_none_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Desk().take(message, 0)


def test_a_mix_that_fails_begins_anew_and_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    for mix_id in (1, 2):
        setup = Setup(mix_id, ((mix_id, PCMU),), (Listener(mix_id, PCMU, frozenset({mix_id})),))
        desk.take(setup_to_bytes(setup), 0)
    bad = desk.mixes[1]
    monkeypatch.setattr(bad, "_ears", None)
    heard = {frame_from_bytes(message)[0] for n in range(20) for message in desk.tick(n * 20.0)}
    assert heard == {1, 2}
    assert desk.mixes[1] is not bad
    desk.take(end_to_bytes(1), 400)
    assert list(desk.mixes) == [2]
