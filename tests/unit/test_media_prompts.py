"""The rendered prompts: their levels, and that they keep away from the tones that tests listen for."""

from __future__ import annotations

import av
import numpy as np
import pytest

from server.domain.media import Source
from server.media.peer import level_dbfs
from server.media.relay import music
from server.media.sdp import Codec

RATE = {"opus": 48_000, "pcmu": 8_000, "pcma": 8_000, "g722": 16_000}
DECODERS = {"opus": "libopus", "pcmu": "pcm_mulaw", "pcma": "pcm_alaw", "g722": "g722"}


def render(source: Source, name: str) -> np.ndarray:
    codec = Codec(name, 1, 48_000 if name == "opus" else 8_000)
    player = music.Library().player(source, (codec,))
    assert player is not None
    decoder = av.CodecContext.create(DECODERS[name], "r")
    assert isinstance(decoder, av.AudioCodecContext)
    decoder.sample_rate, decoder.format, decoder.layout = RATE[name], "s16", "mono"
    resampler = av.AudioResampler("s16", "mono", 48_000)
    parts = []
    for _ in range(600):
        for frame in decoder.decode(av.Packet(player.next().payload)):
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
    return np.concatenate(parts)


@pytest.mark.parametrize("name", list(RATE))
@pytest.mark.parametrize("source", [Source.QUEUE_MUSIC, Source.HOLD_MUSIC])
def test_music(source: Source, name: str) -> None:
    samples = render(source, name)
    assert abs(level_dbfs(samples) + 26) < 2
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    hz = np.fft.rfftfreq(len(samples), 1 / 48_000)
    for tone in (440, 880):
        near = spectrum[np.abs(hz - tone) < 12].max()
        assert near < spectrum.max() / 18, f"25 dB below the loudest tone at {tone} Hz"


def test_comfort_is_quiet_and_begins_with_silence() -> None:
    samples = render(Source.COMFORT, "opus")
    assert level_dbfs(samples[: 48_000 * 9 // 10]) < -70
    assert -50 < level_dbfs(samples[: 48_000 * 4]) < -36


@pytest.mark.parametrize("name", list(RATE))
def test_every_source_is_there_in_every_codec_and_as_long_in_each(name: str) -> None:
    """No leg hears silence for want of a codec, and none is transcoded to."""
    library = music.Library()
    opus, codec = Codec("opus", 1, 48_000), Codec(name, 1, 48_000 if name == "opus" else 8_000)
    for source in (Source.QUEUE_MUSIC, Source.HOLD_MUSIC, Source.COMFORT, Source.RINGBACK):
        player, model = library.player(source, (codec,)), library.player(source, (opus,))
        assert player is not None
        assert model is not None
        assert len(player._loop) == len(model._loop)


def test_silence_has_no_player() -> None:
    assert music.Library().player(Source.SILENCE, (Codec("opus", 1, 48_000),)) is None
