"""Ring-back tones: what a caller hears while the other side rings. Source: ITU-T E.180 supplement 2 (01/1994)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL_DBFS = -26.0  # while it sounds: as loud as our music on average
EDGE_S = 0.005  # no click


@dataclass(frozen=True, slots=True)
class Cadence:
    """`hz`: what sounds at once. `beats_s`: on, off, on, off …, in a loop."""

    hz: tuple[float, ...]
    beats_s: tuple[float, ...]


DEFAULT = Cadence((425,), (1, 4))
_DOUBLE = (0.4, 0.2, 0.4, 2.0)

COUNTRIES = {
    "AU": Cadence((400, 425), _DOUBLE),
    "BE": Cadence((425,), (1, 3)),
    "CA": Cadence((440, 480), (2, 4)),
    "CN": Cadence((450,), (1, 4)),
    "ES": Cadence((425,), (1.5, 3)),
    "FR": Cadence((440,), (1.5, 3.5)),
    "GB": Cadence((400, 450), _DOUBLE),
    "IE": Cadence((400, 450), _DOUBLE),
    "KR": Cadence((440, 480), (1, 2)),
    "NZ": Cadence((400, 450), _DOUBLE),
    "SE": Cadence((425,), (1, 5)),
    "US": Cadence((440, 480), (2, 4)),
}  # the rest of Europe and of Latin America has the default, or nearly


def cadence(country: str) -> Cadence:
    """`country`: ISO 3166-1, two letters; one that is not in the table has the default."""
    return COUNTRIES.get(country.upper(), DEFAULT)


def ring_back(tone: Cadence, rate: int) -> NDArray[np.float64]:
    """One round of it."""
    parts = []
    for index, length_s in enumerate(tone.beats_s):
        t = np.arange(round(length_s * rate)) / rate
        if index % 2:
            parts.append(np.zeros(len(t)))
            continue
        wave = sum(np.sin(2 * np.pi * hz * t) for hz in tone.hz) * 10 ** (LEVEL_DBFS / 20) * (2 / len(tone.hz)) ** 0.5
        edge = np.minimum(1, np.minimum(t, length_s - t) / EDGE_S)
        parts.append(np.asarray(wave * edge))
    return np.concatenate(parts)
