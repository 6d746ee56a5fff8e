"""What a mix is to be: inputs, and who hears which of them. Values; the media worker has them without numpy."""

from __future__ import annotations

from dataclasses import dataclass

from server.media.mixer.formats import Format


@dataclass(frozen=True, slots=True)
class Listener:
    """`hears`: ids of inputs."""

    listener_id: int
    form: Format
    hears: frozenset[int]


@dataclass(frozen=True, slots=True)
class Setup:
    """All of a mix. `inputs`: id and the format that it is expected to come in."""

    mix_id: int
    inputs: tuple[tuple[int, Format], ...]
    listeners: tuple[Listener, ...]


def rate_of(setup: Setup) -> int:
    """The lowest sample rate at which nobody misses anything: the highest that anybody can say to somebody."""
    forms = dict(setup.inputs)
    meetings = [
        min(forms[heard].sample_rate, listener.form.sample_rate)
        for listener in setup.listeners
        for heard in listener.hears
        if heard in forms
    ]
    return max(meetings, default=8000)
