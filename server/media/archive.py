"""From a worker's capture files to an archived recording; runs in a process of its own, never in an event loop.

    python -m server.media.archive

takes a job a line on its standard input, {"arguments": […], "keys": {…}} (archive_files.py), until that ends:

    archive --customer-out C --agent-out A --part CUSTOMER AGENT [--part …] [--talk-ms N]
    stereo  --customer C --agent A --out FILE

Each is answered with one line: {"ok": true, …} or {"ok": false, "code", "message"}.
Codes: no_capture (nothing readable, or no time), codec_unsupported (packets, but none in a codec that we know),
bad_audio, not_sealed, unknown_version, unknown_key, damaged (server/media/vault.py), disk_full, io_error, internal.
Keys never come by the command line, which others may read. Control nodes use `server.media.archive_jobs.ArchiveJobs`.

Theory of operation. A part's length is the time from its header to its END record (for a killed worker: to
the last record of either side); paused spans are cut out. Within a stream, packets are spaced by their RTP
timestamps, which are exact; the stream as a whole is placed by arrival. It is placed anew when the SSRC
changes and when timestamps and arrival drift apart by more than 200 ms. Gaps are filled with packets of
silence, and both sides come out equally long. A side that is G.711 of one kind all through is a WAV file of those
bytes (archive_wave.py); all others are Opus in Ogg, where Opus is not transcoded, and G.711 and G.722 are
(archive_recode.py).

The recording is as long as the talk. While a worker was dead, or an order to record was late, nobody wrote: that time
is silence, too (archive_timeline.py). `missing_ms` tells how much of it there is. A recording that lacks more than
MISSING_MS is not `complete`; one that holds nothing at all of a longer talk is no recording (no_capture), since a file
of silence would say that nobody spoke. Of a talk that was shorter than that there is a file in any case.

Packets of any other codec are left out, and the recording is then not `complete`. Captures are mapped and read
as they are written out, so that memory does not grow with the length of a call.
"""

from __future__ import annotations

import argparse
import errno
import heapq
import json
import sys
import traceback
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from server.media.archive_files import WAVE_SUFFIX, JobKeys, Output, keys_from_json
from server.media.archive_recode import as_opus
from server.media.archive_timeline import Pair, Span, Timeline, lay_out, longer, samples, spans_of
from server.media.archive_wave import STREAMS, WaveWriter
from server.media.capture import CapturedPacket, PartFiles, Segment, map_file, read_capture
from server.media.ogg import RATE, SILENCE_STEP, OggOpusWriter
from server.media.vault import Seal, VaultError

DRIFT_SAMPLES = RATE // 5  # 200 ms: more than network jitter, less than an ear notices between two speakers
PEAKS = 800
MISSING_MS = 200  # as exact as a recording's length is promised to be


class ArchiveError(Exception):
    """The job can't be done; `code` is stable (see above)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """One side. `codec`: opus (in Ogg), or pcmu or pcma (in WAV). Sum and size are those of its sound, sealed or not.
    `peaks`: the loudest sample of each of 800 equal spans, 0..255."""

    path: str
    codec: str
    sha256: str
    size_bytes: int
    peaks: list[int]


@dataclass(frozen=True, slots=True)
class ArchiveResult:
    """A finished recording. `parts`: how many part files were readable; `complete`: all of them were, each was
    closed in good order, no packet was left out and no more than MISSING_MS are missing; `skipped`: packets left out,
    for they are malformed or of no codec that we know; `missing_ms`: silence that stands for what nobody wrote."""

    duration_ms: int
    parts: int
    complete: bool
    skipped: int
    missing_ms: int
    started_wall_ns: int
    customer: ArchivedFile
    agent: ArchivedFile


# --- one side -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """Packets of one side."""

    placed: int = 0
    skipped: int = 0  # of another codec


class _Placed(NamedTuple):
    at: int
    order: int  # of arrival: no two are alike, so nothing behind it is compared
    end: int  # of its span
    payload: bytes


class SideWriter(Protocol):
    """Takes one side's packets in their order. All lengths are samples at 48 kHz from the start of the recording."""

    @property
    def codec(self) -> str: ...

    @property
    def clock_rate(self) -> int:
        """Of the RTP timestamps."""
        ...

    @property
    def samples(self) -> int:
        """How much is written so far."""
        ...

    def measure(self, payload: bytes) -> int:
        """How long it sounds; 0 for one that can't be taken."""
        ...

    def add(self, payload: bytes) -> None: ...

    def fill(self, until: int) -> None:
        """Silence up to there."""
        ...


def place(
    packets: Iterable[CapturedPacket], spans: Iterable[Span], tally: Tally, codec: str = "opus", clock_rate: int = RATE
) -> Iterator[_Placed]:
    """Where each packet sounds, in samples from the start of the recording, and in this order within a span. Packets of
    another codec are counted as skipped."""
    scale, push, pop = RATE // clock_rate, heapq.heappush, heapq.heappop
    ahead = iter(spans)
    span = next(ahead, None)
    waiting: list[_Placed] = []  # a heap; a packet sounds at most DRIFT_SAMPLES before the newest arrival
    ssrc: int | None = None
    newest = anchor = 0
    end = span.end if span is not None else 0
    for packet in packets:
        while span is not None and packet.at_ns >= span.to_ns:
            while waiting:
                yield pop(waiting)
            span, ssrc, newest = next(ahead, None), None, 0
            end = span.end if span is not None else 0
        if span is None:
            return
        if packet.at_ns < span.from_ns:
            continue
        if packet.codec != codec or packet.clock_rate != clock_rate:
            tally.skipped += 1
            continue
        arrival = span.at + samples(packet.at_ns - span.from_ns)
        step = (packet.timestamp - newest + (1 << 31)) % (1 << 32) - (1 << 31)  # unwrap
        stamp = newest + step
        if packet.ssrc != ssrc or abs(anchor + stamp * scale - arrival) > DRIFT_SAMPLES:
            ssrc, stamp = packet.ssrc, packet.timestamp
            anchor = arrival - stamp * scale
            newest = stamp
        newest = max(newest, stamp)
        tally.placed += 1
        push(waiting, _Placed(anchor + stamp * scale, tally.placed, end, packet.payload))
        while waiting[0].at < arrival - DRIFT_SAMPLES:
            yield pop(waiting)
    while waiting:
        yield pop(waiting)


def write_side(writer: SideWriter, spans: Sequence[Span], packets: Iterable[CapturedPacket], tally: Tally) -> None:
    """Lay one side's packets on the timeline, silence in between."""
    for item in place(packets, spans, tally, writer.codec, writer.clock_rate):
        length = writer.measure(item.payload)
        if not length:
            tally.skipped += 1
            continue
        behind = writer.samples - item.at
        if behind >= length or item.at >= item.end:
            continue  # a duplicate, or a whole packet too late
        if behind < 0:
            writer.fill(item.at)
        writer.add(item.payload)
    if spans:
        writer.fill(spans[-1].end)


# --- the job -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Part:
    customer: list[Segment]
    agent: list[Segment]


def _read_part(files: PartFiles) -> _Part:
    sides: list[list[Segment]] = []
    for path in (files.customer, files.agent):
        try:
            sides.append(read_capture(map_file(path)))
        except FileNotFoundError:
            sides.append([])
    return _Part(*sides)


def _pairs(part: _Part) -> list[Pair]:
    """The segments of both sides that began together; one that has no partner gets an empty one."""
    customer = {segment.header["mono_ns"]: segment for segment in part.customer}
    agent = {segment.header["mono_ns"]: segment for segment in part.agent}
    starts = sorted({**customer, **agent}, key=lambda key: int(key))
    return [
        (customer.get(start) or _empty(agent[start]), agent.get(start) or _empty(customer[start])) for start in starts
    ]


def _empty(partner: Segment) -> Segment:
    return Segment(partner.header, list(partner.pauses), partner.end_ns)


class _Side:
    """One side while it is written: WAV where all that was said is G.711 of one kind, else Ogg Opus. A context that
    leaves nothing behind unless it was finished."""

    def __init__(self, path: Path, serial: int, streams: set[tuple[int, str]], samples: int, seal: Seal | None) -> None:
        wave = next(iter(streams))[1] if len(streams) == 1 and streams <= STREAMS else None
        self._path = path if wave is None else path.with_suffix(WAVE_SUFFIX)
        self._output = Output(self._path, seal)
        self._samples = samples
        self._writer: OggOpusWriter | WaveWriter = (
            OggOpusWriter(serial, self._output.write) if wave is None else WaveWriter(wave, samples, self._output.write)
        )
        self._peaks: list[int] = []
        self.tally = Tally()

    def __enter__(self) -> _Side:
        return self

    def __exit__(self, *error: object) -> None:
        self._output.__exit__(*error)

    def write(self, segment: Segment, spans: Sequence[Span]) -> None:
        packets = segment.stream()
        write_side(self._writer, spans, packets if self._writer.codec != "opus" else as_opus(packets), self.tally)

    def complete(self) -> None:
        """Nothing more is written, and nothing shows yet."""
        if isinstance(self._writer, WaveWriter):
            self._writer.finish()
            self._output.complete().close()
            self._peaks = self._writer.peaks(PEAKS)
            return
        self._writer.fill(self._samples + SILENCE_STEP - 1)  # at least the length; the last page trims to it
        self._writer.finish(self._samples)
        with self._output.complete() as sound:
            self._peaks = peaks_of(sound)

    def finish(self) -> ArchivedFile:
        self._output.finish()
        output, codec = self._output, self._writer.codec
        return ArchivedFile(str(self._path), codec, output.sha256, output.size_bytes, self._peaks)


def archive(
    parts: Sequence[PartFiles],
    customer_out: Path,
    agent_out: Path,
    talk_ms: int | None = None,
    seal: Seal | None = None,
) -> ArchiveResult:
    """Join the parts of a recording into one file a side; one in WAV is called .wav, whatever the path given ends in.
    `talk_ms`: how long the talk was; None for a recording that ended before it, or of which nobody knows. `seal`: what
    the files are sealed with. Raises ArchiveError and OSError."""
    found = [_pairs(_read_part(files)) for files in parts]
    pairs = [pair for part in found for pair in part]
    if not pairs:
        raise ArchiveError("no_capture", "none of the capture files holds anything readable")
    timeline = lay_out(pairs, None if talk_ms is None else talk_ms * 1_000_000)
    missing_ms = timeline.unwritten_ns // 1_000_000
    laid, recorded, end = _laid(timeline)
    moment = timeline.bounded and talk_ms is not None and talk_ms <= MISSING_MS
    if recorded < SILENCE_STEP and not moment:
        raise ArchiveError("no_capture", "the capture files hold no recorded time")
    end = max(end, SILENCE_STEP)  # a file of no length is none
    with ExitStack() as stack:
        sides = [
            stack.enter_context(_Side(path, zlib.crc32(path.name.encode()), _streams(segments), end, seal))
            for path, segments in zip((customer_out, agent_out), zip(*pairs, strict=True), strict=True)
        ]
        for pair, spans in laid:
            for side, segment in zip(sides, pair, strict=True):
                side.write(segment, spans)
        skipped = sum(side.tally.skipped for side in sides)
        if skipped and not any(side.tally.placed for side in sides):
            raise ArchiveError("codec_unsupported", f"none of {skipped} packets can be decoded")
        for side in sides:  # neither shows before both are whole
            side.complete()
        files = [side.finish() for side in sides]
    closed = all(found) and all(c.complete and a.complete for c, a in pairs)
    return ArchiveResult(
        duration_ms=round(end * 1000 / RATE),
        parts=sum(1 for part in found if part),
        complete=closed and not skipped and missing_ms <= MISSING_MS,
        skipped=skipped,
        missing_ms=missing_ms,
        started_wall_ns=int(pairs[0][0].header["wall_ns"]),
        customer=files[0],
        agent=files[1],
    )


def _streams(segments: Iterable[Segment]) -> set[tuple[int, str]]:
    return {stream for segment in segments for stream in segment.streams}


def _laid(timeline: Timeline) -> tuple[list[tuple[Pair, list[Span]]], int, int]:
    """The recorded spans of each segment; how much that is in all, and where the recording ends, in samples."""
    laid: list[tuple[Pair, list[Span]]] = []
    recorded = end = 0
    for one in timeline.laid:
        end += samples(one.silence_ns)
        spans = spans_of(longer(one.pair), one.until_ns, end)
        laid.append((one.pair, spans))
        if spans:
            recorded += spans[-1].end - end
            end = spans[-1].end
    return laid, recorded, end + samples(timeline.tail_ns)


def peaks_of(sound: BinaryIO) -> list[int]:
    from server.media.archive_audio import peaks  # PyAV and numpy load slowly: only the job pays

    return peaks(sound, PEAKS)


def run(arguments: Sequence[str], keys: JobKeys) -> dict[str, object]:
    """The answer to one job; never raises."""
    try:
        given = _parser().parse_args(arguments)
        if given.job == "archive":
            parts = [PartFiles(customer, agent) for customer, agent in given.part]
            result = asdict(archive(parts, given.customer_out, given.agent_out, given.talk_ms, keys.seal))
        else:
            from server.media.archive_audio import render_stereo

            result = render_stereo(given.customer, given.agent, given.out, keys)
    except ArchiveError as error:
        return {"ok": False, "code": error.code, "message": error.message}
    except VaultError as error:
        return {"ok": False, "code": error.code, "message": str(error)}
    except OSError as error:
        code = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "io_error"
        return {"ok": False, "code": code, "message": str(error)}
    except Exception as error:  # the job's boundary: the caller gets a code, the log the trace
        traceback.print_exc()
        return {"ok": False, "code": "internal", "message": f"{type(error).__name__}: {error}"}
    return {"ok": True, **result}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m server.media.archive", exit_on_error=False)
    jobs = parser.add_subparsers(dest="job", required=True)
    joining = jobs.add_parser("archive", exit_on_error=False)
    joining.add_argument("--customer-out", type=Path, required=True)
    joining.add_argument("--agent-out", type=Path, required=True)
    joining.add_argument("--part", type=Path, nargs=2, action="append", required=True)
    joining.add_argument("--talk-ms", type=int)
    rendering = jobs.add_parser("stereo", exit_on_error=False)
    for name in ("--customer", "--agent", "--out"):
        rendering.add_argument(name, type=Path, required=True)
    return parser


def main() -> None:
    for line in sys.stdin.buffer:
        job = json.loads(line)
        print(json.dumps(run(job["arguments"], keys_from_json(job["keys"]))), flush=True)


if __name__ == "__main__":
    # by its own name: archive_audio raises that module's ArchiveError, not __main__'s
    from server.media import archive as module

    module.main()
