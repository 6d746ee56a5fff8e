"""What a node exposes at /metrics, and what PromQL expressions ask for: read by this and not by the product."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

PROMETHEUS_S = 10  # its usual time-out of a scrape
OWN_LABELS = {"instance", "job"}  # Prometheus adds them
KEYWORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR = re.compile(r"([A-Za-z_:][\w:]*)\s*\{([^}]*)\}")
_MATCHER = re.compile(r'^\s*(\w+)\s*(=~|!~|!=|=)\s*""\s*$')
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


@dataclass
class Scrape:
    """`samples` by name: (labels, value). `types` by family; a family may have no sample yet."""

    samples: dict[str, list[tuple[dict[str, str], float]]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def value(self, name: str, **labels: str) -> float:
        """The one sample that has these labels. Raises AssertionError."""
        found = [value for own, value in self.samples.get(name, []) if labels.items() <= own.items()]
        assert len(found) == 1, (name, labels, found)
        return found[0]

    def by(self, name: str, label: str) -> dict[str, float]:
        """The samples that are not 0, by a label; summed where several have the same."""
        found: dict[str, float] = {}
        for own, value in self.samples.get(name, []):
            if value:
                found[own[label]] = found.get(own[label], 0.0) + value
        return found

    def total(self, name: str, **labels: str) -> float:
        return sum(value for own, value in self.samples.get(name, []) if labels.items() <= own.items())


def read(text: str) -> Scrape:
    scrape = Scrape()
    for family in text_string_to_metric_families(text):
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        scrape.names |= {family.name + ending for ending in endings}
        for sample in family.samples:
            scrape.samples.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return scrape


async def scrape(url: str) -> Scrape:
    timeout = aiohttp.ClientTimeout(PROMETHEUS_S)
    async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url + "/metrics") as response:
        assert response.status == 200, await response.text()
        return read(await response.text())


@dataclass(frozen=True)
class Asked:
    """A metric of an expression, and the labels that its braces match."""

    metric: str
    labels: tuple[str, ...] = ()


def asked(expression: str) -> list[Asked]:
    """The metrics of an expression. Raises AssertionError for one that is not well formed as far as this can tell."""
    plain = _STRING.sub('""', expression)
    for opening, closing in ("()", "{}", "[]"):
        assert plain.count(opening) == plain.count(closing), expression
    found = [Asked(name, tuple(_labels(inside, expression))) for name, inside in _SELECTOR.findall(plain)]
    rest = re.sub(r"\[[^\]]*\]", "", _GROUPING.sub("", _SELECTOR.sub("", plain)))
    for match in re.finditer(r"[A-Za-z_:][\w:]*", rest):
        called = rest[match.end() :].lstrip().startswith("(")
        if not called and match[0].lower() not in KEYWORDS:
            found.append(Asked(match[0]))
    assert found, f"asks for nothing: {expression}"
    return found


def groupings(expression: str) -> set[str]:
    """The labels of by(), on() and the like."""
    listed = (part.split(",") for _, part in _GROUPING.findall(_STRING.sub('""', expression)))
    return {label.strip() for labels in listed for label in labels if label.strip()}


def _labels(inside: str, expression: str) -> Iterator[str]:
    for part in inside.split(","):
        match = _MATCHER.match(part)
        assert match, f"{part!r} in {expression}"
        yield match[1]


def unknown(expression: str, scrapes: Sequence[Scrape], records: Mapping[str, str]) -> list[str]:
    """What an expression asks for that no node exposes: metrics, and labels where the metric has samples. `records` are
    the recording rules, by name."""
    missing = []
    known: set[str] = set(OWN_LABELS)
    for one in asked(expression):
        if one.metric == "up":
            continue
        if one.metric in records:
            known |= groupings(records[one.metric])
            continue
        if not any(one.metric in scrape.names for scrape in scrapes):
            missing.append(one.metric)
        own = {label for scrape in scrapes for labels, _ in scrape.samples.get(one.metric, []) for label in labels}
        known |= own
        missing += [f"{one.metric}{{{label}}}" for label in one.labels if own and label not in own | OWN_LABELS]
    return missing + [f"by ({label})" for label in sorted(groupings(expression) - known)]
