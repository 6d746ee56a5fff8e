"""From a worker's capture files to an archived recording; runs as a job of its own, never in an event loop.

    python -m server.media.archive archive --customer-out C --agent-out A --part CUSTOMER AGENT [--part …]
    python -m server.media.archive stereo  --customer C --agent A --out FILE(.opus or .wav)

Either prints one JSON object: {"ok": true, …} or {"ok": false, "code", "message"}, exit status 0 or 1.
Codes: no_capture (nothing readable, or no time), codec_unsupported (not Opus), bad_audio, disk_full,
io_error, internal.
Control nodes use `server.media.archive_jobs.ArchiveJobs`.

Theory of operation. A part's length is the time from its header to its END record (for a killed worker: to
the last record of either side); paused spans are cut out. Within a stream, packets are spaced by their RTP
timestamps, which are exact; the stream as a whole is placed by arrival. It is placed anew when the SSRC
changes and when timestamps and arrival drift apart by more than 200 ms. Gaps are filled with packets of
silence, nothing is transcoded, and both sides come out equally long. So is the time between two parts, when the
worker had died and nobody could write: the talk went on, and the recording is as long as the talk.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import os
import sys
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from server.media.capture import CapturedPacket, PartFiles, Segment, read_capture
from server.media.ogg import RATE, SILENCE_STEP, OggOpusWriter, packet_samples, silence

DRIFT_SAMPLES = RATE // 5  # 200 ms: more than network jitter, less than an ear notices between two speakers
PEAKS = 800
LONGEST_GAP_NS = 120 * 1_000_000_000  # a call waits 60 s for a worker; more is a clock that lies


class ArchiveError(Exception):
    """The job can't be done; `code` is stable (see above)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """One side. `peaks`: the loudest sample of each of 800 equal spans, 0..255."""

    path: str
    sha256: str
    size_bytes: int
    peaks: list[int]


@dataclass(frozen=True, slots=True)
class ArchiveResult:
    """A finished recording. `parts`: how many part files were readable; `complete`: all of them were, and
    each was closed in good order."""

    duration_ms: int
    codec: str
    parts: int
    complete: bool
    started_wall_ns: int
    customer: ArchivedFile
    agent: ArchivedFile


# --- the timeline ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Span:
    """A run of recorded (unpaused) time: `from_ns`..`to_ns` of a segment begins at sample `at`."""

    from_ns: int
    to_ns: int
    at: int

    @property
    def end(self) -> int:
        return self.at + _samples(self.to_ns - self.from_ns)


def _samples(ns: int) -> int:
    return ns * RATE // 1_000_000_000


def spans_of(segment: Segment, end_ns: int, at: int) -> list[_Span]:
    """The unpaused spans of a segment, laid end to end from sample `at`."""
    spans: list[_Span] = []
    begin = 0
    for paused, resumed in [*segment.pauses, (end_ns, end_ns)]:
        stop = min(paused, end_ns)
        if stop > begin:
            spans.append(_Span(begin, stop, at))
            at = spans[-1].end
        begin = end_ns if resumed is None else resumed
    return spans


def unwritten_ns(before: Segment, after: Segment) -> int:
    """The time between two segments, when the talk went on unrecorded; 0 when it was paused.

    By the monotonic clock that the processes of one machine share; after a restart of the machine, or on another one,
    by the wall clock."""
    if before.pauses and before.pauses[-1][1] is None:
        return 0
    gap_ns = int(after.header["mono_ns"]) - int(before.header["mono_ns"]) - before.end_ns
    if gap_ns < 0:
        gap_ns = int(after.header["wall_ns"]) - int(before.header["wall_ns"]) - before.end_ns
    return gap_ns if 0 < gap_ns <= LONGEST_GAP_NS else 0


@dataclass(frozen=True, slots=True)
class _Placed:
    at: int
    payload: bytes


def place(packets: Iterable[CapturedPacket], span: _Span) -> list[_Placed]:
    """Where each packet of a span sounds, in samples from the start of the recording.

    Raises ArchiveError(codec_unsupported)."""
    placed: list[_Placed] = []
    ssrc: int | None = None
    newest = anchor = 0
    for packet in packets:
        if not span.from_ns <= packet.at_ns < span.to_ns:
            continue
        if packet.codec != "opus" or packet.clock_rate != RATE:
            raise ArchiveError("codec_unsupported", f"the recording holds {packet.codec!r}; only Opus is archived")
        arrival = span.at + _samples(packet.at_ns - span.from_ns)
        step = (packet.timestamp - newest + (1 << 31)) % (1 << 32) - (1 << 31)  # unwrap
        stamp = newest + step
        if packet.ssrc != ssrc or abs(anchor + stamp - arrival) > DRIFT_SAMPLES:
            ssrc, stamp = packet.ssrc, packet.timestamp
            anchor = arrival - stamp
            newest = stamp
        newest = max(newest, stamp)
        placed.append(_Placed(anchor + stamp, packet.payload))
    placed.sort(key=lambda item: item.at)
    return placed


def _fill(writer: OggOpusWriter, until: int) -> None:
    for packet in silence(until - writer.samples):
        writer.add(packet)


def write_side(writer: OggOpusWriter, spans: Sequence[_Span], packets: Sequence[CapturedPacket]) -> None:
    """Lay one side's packets on the timeline, silence in between."""
    for span in spans:
        for item in place(packets, span):
            length = packet_samples(item.payload)
            behind = writer.samples - item.at
            if not length or behind >= length or item.at >= span.end:
                continue  # malformed, a duplicate, or a whole packet too late
            _fill(writer, item.at)
            writer.add(item.payload)
        _fill(writer, span.end)


# --- the job -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Part:
    customer: list[Segment]
    agent: list[Segment]


def _read_part(files: PartFiles) -> _Part:
    sides: list[list[Segment]] = []
    for path in (files.customer, files.agent):
        try:
            sides.append(read_capture(path.read_bytes()))
        except FileNotFoundError:
            sides.append([])
    return _Part(*sides)


def _pairs(part: _Part) -> list[tuple[Segment, Segment]]:
    """The segments of both sides that began together; one that has no partner gets an empty one."""
    customer = {segment.header["mono_ns"]: segment for segment in part.customer}
    agent = {segment.header["mono_ns"]: segment for segment in part.agent}
    starts = sorted({**customer, **agent}, key=lambda key: int(key))
    return [
        (customer.get(start) or _empty(agent[start]), agent.get(start) or _empty(customer[start])) for start in starts
    ]


def _empty(partner: Segment) -> Segment:
    return Segment(partner.header, [], list(partner.pauses), partner.end_ns, False)


def archive(parts: Sequence[PartFiles], customer_out: Path, agent_out: Path) -> ArchiveResult:
    """Join the parts of a recording into one Ogg Opus file a side. Raises ArchiveError and OSError."""
    found = [_pairs(_read_part(files)) for files in parts]
    pairs = [pair for part in found for pair in part]
    if not pairs:
        raise ArchiveError("no_capture", "none of the capture files holds anything readable")
    serial = zlib.crc32(str(customer_out.name).encode())
    writers = OggOpusWriter(serial), OggOpusWriter(serial ^ 1)
    end = 0
    before: Segment | None = None
    for customer, agent in pairs:
        longer = max(customer, agent, key=lambda s: s.end_ns)
        if before is not None:
            end += _samples(unwritten_ns(before, longer))
        spans = spans_of(longer, longer.end_ns, end)
        before = longer
        for writer, segment in zip(writers, (customer, agent), strict=True):
            write_side(writer, spans, segment.packets)
        end = spans[-1].end if spans else end
    if end < SILENCE_STEP:
        raise ArchiveError("no_capture", "the capture files hold no recorded time")
    files = []
    for writer, path in zip(writers, (customer_out, agent_out), strict=True):
        _fill(writer, end + SILENCE_STEP - 1)  # at least the length; the last page trims to it
        data = writer.finish(end)
        write_atomically(path, data)
        files.append(ArchivedFile(str(path), hashlib.sha256(data).hexdigest(), len(data), peaks_of(path)))
    complete = all(found) and all(c.complete and a.complete for c, a in pairs)
    return ArchiveResult(
        duration_ms=round(end * 1000 / RATE),
        codec="opus",
        parts=sum(1 for part in found if part),
        complete=complete,
        started_wall_ns=int(pairs[0][0].header["wall_ns"]),
        customer=files[0],
        agent=files[1],
    )


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside the target, sync, rename: the path never shows half a file."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def peaks_of(path: Path) -> list[int]:
    from server.media.archive_audio import peaks  # PyAV and numpy load slowly: only the job pays

    return peaks(path, PEAKS)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m server.media.archive")
    jobs = parser.add_subparsers(dest="job", required=True)
    joining = jobs.add_parser("archive")
    joining.add_argument("--customer-out", type=Path, required=True)
    joining.add_argument("--agent-out", type=Path, required=True)
    joining.add_argument("--part", type=Path, nargs=2, action="append", required=True)
    rendering = jobs.add_parser("stereo")
    for name in ("--customer", "--agent", "--out"):
        rendering.add_argument(name, type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        if given.job == "archive":
            parts = [PartFiles(customer, agent) for customer, agent in given.part]
            result = asdict(archive(parts, given.customer_out, given.agent_out))
        else:
            from server.media.archive_audio import render_stereo

            result = render_stereo(given.customer, given.agent, given.out)
    except ArchiveError as error:
        answer, status = {"ok": False, "code": error.code, "message": error.message}, 1
    except OSError as error:
        code = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "io_error"
        answer, status = {"ok": False, "code": code, "message": str(error)}, 1
    except Exception as error:  # the job's boundary: the caller gets a code, the log the trace
        import traceback

        traceback.print_exc()
        answer, status = {"ok": False, "code": "internal", "message": f"{type(error).__name__}: {error}"}, 1
    else:
        answer, status = {"ok": True, **result}, 0
    print(json.dumps(answer))
    return status


if __name__ == "__main__":
    # by its own name: archive_audio raises that module's ArchiveError, not __main__'s
    from server.media import archive as module

    sys.exit(module.main(sys.argv[1:]))
