"""Where the captured segments lie in the talk: PURE. `archive.py` writes what is laid out here.

Theory of operation. Times are nanoseconds since the talk began. The first segment begins where its header says
(`at_ms`), each next one as long after the one before as the machine's monotonic clock tells; on another machine, where
its own header says; in captures of before that field, by the machines' wall clocks.

What nobody wrote is silence, unless it was paused: before a first order that came late, between two parts, from a
worker's death until the talk's end. What was written too long is cut: a part that went on while the next had begun, and
whatever came after the talk. Silence or a cut of more than LONGEST_GAP_NS is never made: then a clock has jumped, and
the sound is kept as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from server.media.capture import Segment
from server.media.ogg import RATE

LONGEST_GAP_NS = 120 * 1_000_000_000  # a call waits 60 s for a worker

Pair = tuple[Segment, Segment]  # both sides of what was written together


@dataclass(frozen=True, slots=True)
class Span:
    """A run of recorded (unpaused) time: `from_ns`..`to_ns` of a segment begins at sample `at`."""

    from_ns: int
    to_ns: int
    at: int

    @property
    def end(self) -> int:
        return self.at + samples(self.to_ns - self.from_ns)


@dataclass(frozen=True, slots=True)
class Laid:
    """Both sides of a segment: after so much silence, up to `until_ns` of its own time."""

    pair: Pair
    silence_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """`tail_ns`: the silence after the last segment. `bounded`: the talk's beginning and end are known."""

    laid: tuple[Laid, ...]
    tail_ns: int
    bounded: bool

    @property
    def unwritten_ns(self) -> int:
        """All silence that stands for what nobody wrote."""
        return self.tail_ns + sum(one.silence_ns for one in self.laid)


def samples(ns: int) -> int:
    return ns * RATE // 1_000_000_000


def spans_of(segment: Segment, end_ns: int, at: int) -> list[Span]:
    """The unpaused spans of a segment, laid end to end from sample `at`."""
    spans: list[Span] = []
    begin = 0
    for paused, resumed in [*segment.pauses, (end_ns, end_ns)]:
        stop = min(paused, end_ns)
        if stop > begin:
            spans.append(Span(begin, stop, at))
            at = spans[-1].end
        begin = end_ns if resumed is None else resumed
    return spans


def longer(pair: Pair) -> Segment:
    """The side of which more is left: both began and ended together."""
    return max(pair, key=lambda segment: segment.end_ns)


def lay_out(pairs: Sequence[Pair], talk_ns: int | None) -> Timeline:
    """`talk_ns`: how long the talk was, None where that says nothing of the recording's length. At least one pair."""
    segments = [longer(pair) for pair in pairs]
    first = segments[0].at_ns
    anchored = first is not None and first <= LONGEST_GAP_NS
    now = first if anchored and first is not None else 0
    begins, silences, untils = [now], [now], [segment.end_ns for segment in segments]
    for index, (before, after) in enumerate(itertools.pairwise(segments)):
        now += before.end_ns
        gap_ns = max(-before.end_ns, _gap_ns(before, after, now if anchored else None))
        untils[index] += min(0, gap_ns)
        silences.append(0 if before.ends_paused else max(0, gap_ns))
        now += gap_ns
        begins.append(now)
    now += segments[-1].end_ns
    tail_ns, bounded = 0, False
    if anchored and talk_ns is not None and abs(talk_ns - now) <= LONGEST_GAP_NS:
        bounded = True
        tail_ns = 0 if segments[-1].ends_paused else max(0, talk_ns - now)
        silences = [max(0, min(quiet, talk_ns - at + quiet)) for quiet, at in zip(silences, begins, strict=True)]
        untils = [max(0, min(until, talk_ns - at)) for until, at in zip(untils, begins, strict=True)]
    return Timeline(tuple(map(Laid, pairs, silences, untils)), tail_ns, bounded)


def _gap_ns(before: Segment, after: Segment, now: int | None) -> int:
    """From a segment's end until the next one's beginning; negative when they overlap. `now`: that end in the talk,
    where it is known."""
    boots = [segment.header.get("boot") for segment in (before, after)]
    gap_ns = int(after.header["mono_ns"]) - int(before.header["mono_ns"]) - before.end_ns
    if boots[0] != boots[1] or (not boots[0] and gap_ns < 0):
        if now is not None and after.at_ns is not None:
            gap_ns = after.at_ns - now
        else:  # no sound is cut on the word of two wall clocks
            gap_ns = max(0, int(after.header["wall_ns"]) - int(before.header["wall_ns"]) - before.end_ns)
    return gap_ns if abs(gap_ns) <= LONGEST_GAP_NS else 0
