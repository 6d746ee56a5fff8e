"""What every benchmark prints and writes: a table, and bench/out/NAME.json."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

OUT = Path(__file__).parents[2] / "bench" / "out"


@dataclass(frozen=True, slots=True)
class Figure:
    """`wanted` reads like "<= 1.0"; None for a figure without a target."""

    name: str
    value: float
    unit: str
    wanted: str | None
    holds: bool | None


def at_least(name: str, value: float, unit: str, limit: float) -> Figure:
    return Figure(name, round(value, 4), unit, f">= {limit:g}", value >= limit)


def at_most(name: str, value: float, unit: str, limit: float) -> Figure:
    return Figure(name, round(value, 4), unit, f"<= {limit:g}", value <= limit)


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank: the smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def machine() -> dict[str, object]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "python": platform.python_version(),
        "system": platform.system(),
        "load_1m": round(os.getloadavg()[0], 2),
    }


def report(name: str, figures: Sequence[Figure], samples: dict[str, list[float]]) -> None:
    """Print the table and write the file. `samples` are kept so that a figure can be looked behind."""
    OUT.mkdir(parents=True, exist_ok=True)
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        verdict = "" if figure.holds is None else "holds" if figure.holds else "FALLS SHORT"
        print(f"{figure.name:{width}}  {figure.value:>9g} {figure.unit:4} wanted {figure.wanted or '-':8} {verdict}")
    body = {
        "figures": [asdict(figure) for figure in figures],
        "machine": machine(),
        "samples": {key: [round(value, 4) for value in values] for key, values in samples.items()},
    }
    (OUT / f"{name}.json").write_text(json.dumps(body, indent=1) + "\n")
    print(f"written to bench/out/{name}.json")
