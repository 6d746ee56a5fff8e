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
silence, Opus is not transcoded, and both sides come out equally long. G.711 and G.722 become Opus
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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

from server.media.archive_files import JobKeys, Output, keys_from_json
from server.media.archive_recode import as_opus
from server.media.archive_timeline import Laid, Pair, Span, lay_out, longer, samples, spans_of
from server.media.capture import CapturedPacket, PartFiles, Segment, map_file, read_capture
from server.media.ogg import RATE, SILENCE_STEP, OggOpusWriter, packet_samples, silence, well_formed
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
    """One side. Sum and size are those of its sound, sealed or not. `peaks`: the loudest sample of each of 800 equal
    spans, 0..255."""

    path: str
    sha256: str
    size_bytes: int
    peaks: list[int]


@dataclass(frozen=True, slots=True)
class ArchiveResult:
    """A finished recording. `parts`: how many part files were readable; `complete`: all of them were, each was
    closed in good order, no packet was left out and no more than MISSING_MS are missing; `skipped`: packets left out,
    for they are malformed or of no codec that we know; `missing_ms`: silence that stands for what nobody wrote."""

    duration_ms: int
    codec: str
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


@dataclass(order=True, slots=True)
class _Placed:
    at: int
    order: int  # of arrival
    end: int = field(compare=False)  # of its span
    payload: bytes = field(compare=False)


def place(packets: Iterable[CapturedPacket], spans: Iterable[Span], tally: Tally) -> Iterator[_Placed]:
    """Where each packet sounds, in samples from the start of the recording, and in this order within a span."""
    ahead = iter(spans)
    span = next(ahead, None)
    waiting: list[_Placed] = []  # a heap; a packet sounds at most DRIFT_SAMPLES before the newest arrival
    ssrc: int | None = None
    newest = anchor = 0
    for packet in packets:
        while span is not None and packet.at_ns >= span.to_ns:
            while waiting:
                yield heapq.heappop(waiting)
            span, ssrc, newest = next(ahead, None), None, 0
        if span is None:
            return
        if packet.at_ns < span.from_ns:
            continue
        if packet.codec != "opus" or packet.clock_rate != RATE:
            tally.skipped += 1
            continue
        arrival = span.at + samples(packet.at_ns - span.from_ns)
        step = (packet.timestamp - newest + (1 << 31)) % (1 << 32) - (1 << 31)  # unwrap
        stamp = newest + step
        if packet.ssrc != ssrc or abs(anchor + stamp - arrival) > DRIFT_SAMPLES:
            ssrc, stamp = packet.ssrc, packet.timestamp
            anchor = arrival - stamp
            newest = stamp
        newest = max(newest, stamp)
        tally.placed += 1
        heapq.heappush(waiting, _Placed(anchor + stamp, tally.placed, span.end, packet.payload))
        while waiting[0].at < arrival - DRIFT_SAMPLES:
            yield heapq.heappop(waiting)
    while waiting:
        yield heapq.heappop(waiting)


def _fill(writer: OggOpusWriter, until: int) -> None:
    for packet in silence(until - writer.samples):
        writer.add(packet)


def write_side(writer: OggOpusWriter, spans: Sequence[Span], packets: Iterable[CapturedPacket], tally: Tally) -> None:
    """Lay one side's packets on the timeline, silence in between."""
    for item in place(packets, spans, tally):
        if not well_formed(item.payload):
            tally.skipped += 1
            continue
        behind = writer.samples - item.at
        if behind >= packet_samples(item.payload) or item.at >= item.end:
            continue  # a duplicate, or a whole packet too late
        _fill(writer, item.at)
        writer.add(item.payload)
    if spans:
        _fill(writer, spans[-1].end)


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


def archive(
    parts: Sequence[PartFiles],
    customer_out: Path,
    agent_out: Path,
    talk_ms: int | None = None,
    seal: Seal | None = None,
) -> ArchiveResult:
    """Join the parts of a recording into one Ogg Opus file a side. `talk_ms`: how long the talk was; None for a
    recording that ended before it, or of which nobody knows. `seal`: what the files are sealed with. Raises
    ArchiveError and OSError."""
    found = [_pairs(_read_part(files)) for files in parts]
    pairs = [pair for part in found for pair in part]
    if not pairs:
        raise ArchiveError("no_capture", "none of the capture files holds anything readable")
    serial = zlib.crc32(str(customer_out.name).encode())
    timeline = lay_out(pairs, None if talk_ms is None else talk_ms * 1_000_000)
    missing_ms = timeline.unwritten_ns // 1_000_000
    tallies = Tally(), Tally()
    with Output(customer_out, seal) as left, Output(agent_out, seal) as right:
        writers = OggOpusWriter(serial, left.write), OggOpusWriter(serial ^ 1, right.write)
        recorded, end = _write(timeline.laid, writers, tallies)
        end += samples(timeline.tail_ns)
        skipped = sum(tally.skipped for tally in tallies)
        if skipped and not any(tally.placed for tally in tallies):
            raise ArchiveError("codec_unsupported", f"none of {skipped} packets can be decoded")
        moment = timeline.bounded and talk_ms is not None and talk_ms <= MISSING_MS
        if recorded < SILENCE_STEP and not moment:
            raise ArchiveError("no_capture", "the capture files hold no recorded time")
        end = max(end, SILENCE_STEP)  # a file of no length is none
        for writer in writers:
            _fill(writer, end + SILENCE_STEP - 1)  # at least the length; the last page trims to it
            writer.finish(end)
        peaks = [_complete(output) for output in (left, right)]
        files = [_finish(*each) for each in zip((left, right), (customer_out, agent_out), peaks, strict=True)]
    closed = all(found) and all(c.complete and a.complete for c, a in pairs)
    return ArchiveResult(
        duration_ms=round(end * 1000 / RATE),
        codec="opus",
        parts=sum(1 for part in found if part),
        complete=closed and not skipped and missing_ms <= MISSING_MS,
        skipped=skipped,
        missing_ms=missing_ms,
        started_wall_ns=int(pairs[0][0].header["wall_ns"]),
        customer=files[0],
        agent=files[1],
    )


def _write(laid: Iterable[Laid], writers: Sequence[OggOpusWriter], tallies: Sequence[Tally]) -> tuple[int, int]:
    """Lay all segments on the timeline; returns how much of it was recorded, and where it ends, in samples."""
    recorded = end = 0
    for one in laid:
        end += samples(one.silence_ns)
        spans = spans_of(longer(one.pair), one.until_ns, end)
        for writer, segment, tally in zip(writers, one.pair, tallies, strict=True):
            write_side(writer, spans, as_opus(segment.stream()), tally)
        if spans:
            recorded += spans[-1].end - end
            end = spans[-1].end
    return recorded, end


def _complete(output: Output) -> list[int]:
    """Neither side shows before both are whole."""
    with output.complete() as sound:
        return peaks_of(sound)


def _finish(output: Output, path: Path, peaks: list[int]) -> ArchivedFile:
    output.finish()
    return ArchivedFile(str(path), output.sha256, output.size_bytes, peaks)


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
