"""Archiving: lengths, alignment, gaps, pauses and parts, on made captures with real Opus."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import signal
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.media import archive as job
from server.media import capture, ogg
from server.media.archive import ArchiveError, ArchiveResult
from server.media.archive_audio import decode, render_stereo
from server.media.archive_files import JobKeys, open_sound
from server.media.archive_jobs import ArchiveJobs
from server.media.archive_timeline import lay_out
from server.media.capture import CaptureWriter, PartFiles
from server.media.mixer import opus
from server.media.peer import level_dbfs, sine, spectrum_peak
from server.media.vault import VaultError
from tests.helpers.fuzz import examples
from tests.helpers.recordings import decode as decode_stereo
from tests.helpers.sealing import RING, read_sound
from tests.helpers.system import until

MS = 1_000_000
RATE = 48_000


@functools.cache
def tone_packets(pitch_hz: int, count: int) -> tuple[bytes, ...]:
    encoder = av.AudioCodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.format, encoder.layout = RATE, "s16", "mono"
    packets: list[bytes] = []
    samples = sine(pitch_hz)
    for index in range(count + 1):
        part = np.take(samples, range(index * 960, index * 960 + 960), mode="wrap").reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(part, "s16", "mono")
        frame.sample_rate, frame.pts = RATE, index * 960
        packets += [bytes(p) for p in encoder.encode(frame)]
    return tuple(packets[:count])


class Side:
    """Writes one capture file; times in ms since the part's start."""

    def __init__(self, path: Path, start_ms: int = 0, at_ms: int | None = None) -> None:
        self.origin = 1_000_000 * MS + start_ms * MS
        header = {"side": "x", "wall_ns": 42, "mono_ns": self.origin} | ({} if at_ms is None else {"at_ms": at_ms})
        self.writer = CaptureWriter(capture.open_file(path), header)

    def tone(
        self, pitch_hz: int, at_ms: float, count: int, *, ssrc: int = 7, stamp: int = 0, codec: str = "opus",
        jitter_ms: tuple[int, ...] = (0,),
    ) -> None:  # fmt: skip
        clock = RATE if codec == "opus" else 8000
        for index, payload in enumerate(tone_packets(pitch_hz, count)):
            late = jitter_ms[index % len(jitter_ms)]
            at = self.origin + int((at_ms + 20 * index + late) * MS)
            self.writer.packet(at, (ssrc, clock, codec), index, (stamp + 960 * index) % (1 << 32), payload)

    def mark(self, kind: int, at_ms: float) -> None:
        self.writer.mark(kind, self.origin + int(at_ms * MS))

    def end(self, at_ms: float) -> None:
        self.writer.close(self.origin + int(at_ms * MS))


def files(folder: Path, part: int = 1) -> PartFiles:
    return capture.part_files(folder / "spool", "t", "s", "r", part)


def run(folder: Path, *parts: PartFiles, talk_ms: int | None = None) -> tuple[ArchiveResult, np.ndarray, np.ndarray]:
    try:
        result = job.archive(parts, folder / "c.opus", folder / "a.opus", talk_ms)
    except ArchiveError as error:
        if error.code == "no_capture":
            raise NothingThere(error.code, error.message) from error
        raise
    paths = [Path(one.path) for one in (result.customer, result.agent)]
    sound = [np.concatenate(list(decode(open_sound(path, None)))) for path in paths]
    return result, sound[0], sound[1]


class NothingThere(ArchiveError):
    """The code no_capture."""


def span(samples: np.ndarray, from_ms: int, to_ms: int) -> np.ndarray:
    return samples[from_ms * 48 : to_ms * 48]


def test_both_sides_are_as_long_as_the_part_and_aligned(tmp_path: Path) -> None:
    part = files(tmp_path)
    customer, agent = Side(part.customer), Side(part.agent)
    customer.tone(440, 500, 50, stamp=(1 << 32) - 9600)  # wraps
    agent.tone(880, 1500, 50, jitter_ms=(0, 35, 12))
    for side in (customer, agent):
        side.end(3000)
    result, left, right = run(tmp_path, part)
    assert result.duration_ms == 3000
    assert len(left) == len(right) == 3 * RATE
    assert abs(spectrum_peak(span(left, 600, 1400)) - 440) < 5
    assert abs(spectrum_peak(span(right, 1600, 2400)) - 880) < 5
    assert level_dbfs(span(left, 1700, 2900)) < -70
    assert level_dbfs(span(right, 100, 1400)) < -70
    onset = int(np.argmax(np.abs(right) > 500)) / 48
    assert abs(onset - 1500) < 40
    assert result.complete
    assert len(result.customer.peaks) == 800
    assert max(result.customer.peaks) > 20
    assert result.customer.peaks[700] == 0


def test_pauses_are_cut_out_of_both_sides(tmp_path: Path) -> None:
    part = files(tmp_path)
    for path, pitch in ((part.customer, 440), (part.agent, 880)):
        side = Side(path)
        side.tone(pitch, 0, 50)
        side.mark(capture.PAUSE, 1000)
        side.mark(capture.RESUME, 3000)
        side.tone(pitch, 3000, 50, stamp=3 * RATE)
        side.end(4000)
    result, left, right = run(tmp_path, part)
    assert result.duration_ms == 2000
    assert len(left) == len(right) == 2 * RATE
    assert level_dbfs(span(left, 1100, 1900)) > -30


def test_a_new_stream_is_placed_by_its_arrival(tmp_path: Path) -> None:
    part = files(tmp_path)
    customer, agent = Side(part.customer), Side(part.agent)
    customer.tone(440, 0, 50, ssrc=1, stamp=123)
    customer.tone(600, 2000, 50, ssrc=2, stamp=4_000_000_000)
    agent.end(3000)
    customer.end(3000)
    _, left, _ = run(tmp_path, part)
    assert level_dbfs(span(left, 1100, 1900)) < -70
    assert abs(spectrum_peak(span(left, 2100, 2900)) - 600) < 5


def test_the_time_between_parts_is_silence_and_a_killed_one_counts_to_its_last_record(tmp_path: Path) -> None:
    first, second = files(tmp_path, 1), files(tmp_path, 2)
    killed, lost = Side(first.customer), Side(first.agent)
    killed.tone(440, 0, 50)
    killed.mark(capture.TICK, 1500)
    killed.writer.flush()
    lost.writer.flush()
    third, fourth = Side(second.customer, 4000), Side(second.agent, 4000)
    fourth.tone(880, 0, 50)
    for side in (third, fourth):
        side.end(1000)
    result, left, right = run(tmp_path, first, second)
    assert (result.duration_ms, result.parts, result.complete) == (5000, 2, False)
    assert len(left) == len(right)
    assert level_dbfs(span(left, 1600, 3900)) < -70
    assert level_dbfs(span(right, 1600, 3900)) < -70
    assert abs(spectrum_peak(span(right, 4100, 4900)) - 880) < 5


@pytest.mark.parametrize(("start_ms", "paused", "duration_ms"), [(4000, True, 2000), (900_000_000, False, 2000)])
def test_time_between_parts_that_does_not_count(tmp_path: Path, start_ms: int, paused: bool, duration_ms: int) -> None:
    """Paused when the worker died; or so long that no call can have been waiting for a worker."""
    for number, start in ((1, 0), (2, start_ms)):
        part = files(tmp_path, number)
        for path in (part.customer, part.agent):
            side = Side(path, start)
            side.tone(440, 0, 50)
            if paused and number == 1:
                side.mark(capture.PAUSE, 1000)
                side.mark(capture.TICK, 1500)
                side.writer.flush()
            else:
                side.end(1000)
    result, _, _ = run(tmp_path, files(tmp_path, 1), files(tmp_path, 2))
    assert result.duration_ms == duration_ms


def captured(folder: Path, number: int, length_ms: int, *, at_ms: int | None, start_ms: int = 0) -> PartFiles:
    """A part in good order: the customer at 440 Hz, the agent at 880 Hz."""
    part = files(folder, number)
    for path, pitch in ((part.customer, 440), (part.agent, 880)):
        side = Side(path, start_ms, at_ms)
        side.tone(pitch, 0, length_ms // 20)
        side.end(length_ms)
    return part


@pytest.mark.parametrize(("at_ms", "complete"), [(150, True), (335, False)])
def test_an_order_that_came_late_leaves_silence_in_front(tmp_path: Path, at_ms: int, complete: bool) -> None:
    part = captured(tmp_path, 1, 3000, at_ms=at_ms)
    result, left, right = run(tmp_path, part, talk_ms=3000 + at_ms)
    assert (result.duration_ms, result.missing_ms, result.complete) == (3000 + at_ms, at_ms, complete)
    assert len(left) == len(right) == (3000 + at_ms) * 48
    assert level_dbfs(span(left, 0, at_ms - 20)) < -70
    assert abs(spectrum_peak(span(left, at_ms + 50, 3000)) - 440) < 5
    assert abs(spectrum_peak(span(right, at_ms + 50, 3000)) - 880) < 5


def test_what_came_after_the_talk_is_cut_and_what_is_missing_at_its_end_is_silence(tmp_path: Path) -> None:
    part = captured(tmp_path, 1, 3000, at_ms=0)
    result, left, _ = run(tmp_path, part, talk_ms=2000)
    assert (result.duration_ms, result.missing_ms, result.complete) == (2000, 0, True)
    assert len(left) == 2 * RATE
    result, left, _ = run(tmp_path, part, talk_ms=3400)
    assert (result.duration_ms, result.missing_ms, result.complete) == (3400, 400, False)
    assert level_dbfs(span(left, 3050, 3400)) < -70


@pytest.mark.parametrize("at_ms", [None, -5, True, "soon", 900_000_000])
def test_a_part_whose_place_nobody_knows_is_kept_as_it_is(tmp_path: Path, at_ms: int | None) -> None:
    result, _, _ = run(tmp_path, captured(tmp_path, 1, 1000, at_ms=at_ms), talk_ms=3000)
    assert (result.duration_ms, result.missing_ms, result.complete) == (1000, 0, True)


@pytest.mark.parametrize("talk_ms", [200_000, 0])
def test_a_clock_that_jumped_makes_no_silence(tmp_path: Path, talk_ms: int) -> None:
    length_ms = 1000 if talk_ms else 130_000
    result, _, _ = run(tmp_path, captured(tmp_path, 1, length_ms, at_ms=0), talk_ms=talk_ms)
    assert (result.duration_ms, result.complete) == (length_ms, True)


def test_a_moment_of_talk_has_a_file_and_a_longer_one_of_which_nothing_is_there_has_none(tmp_path: Path) -> None:
    part = captured(tmp_path, 1, 40, at_ms=250)
    result, left, _ = run(tmp_path, part, talk_ms=180)
    assert (result.duration_ms, result.missing_ms, result.complete, len(left)) == (180, 180, True, 180 * 48)
    assert level_dbfs(left) < -70
    result, left, _ = run(tmp_path, part, talk_ms=0)
    assert len(left) == 120, "2.5 ms: the shortest sound there is"
    with pytest.raises(NothingThere):
        run(tmp_path, part, talk_ms=240)


def segment(length_ms: int, mono_ms: int, wall_ms: int, boot: str | None, at_ms: int | None = None) -> capture.Segment:
    told = {"boot": boot, "at_ms": at_ms}
    header = {"mono_ns": mono_ms * MS, "wall_ns": wall_ms * MS} | {k: v for k, v in told.items() if v is not None}
    return capture.Segment(header, end_ns=length_ms * MS)


@pytest.mark.parametrize(
    ("boots", "mono_ms", "wall_ms", "at_ms", "gap_ms"),
    [
        (("a", "a"), 300, 90_000, 5000, 300),  # one machine: a jump of its wall clock tells nothing
        (("a", "a"), -40, 90_000, 5000, -40),  # the next one began before this was closed, as in a move
        (("a", "b"), 50_000, 9000, 2330, 300),  # two machines: by the place in the talk
        (("a", "b"), 50_000, 9000, 1950, -80),
        (("a", "b"), 50_000, 300, None, 300),  # nobody told it: their wall clocks
        (("a", "b"), 50_000, -20, None, 0),  # which may well be 20 ms apart: no sound is cut for it
        ((None, None), -5, 300, None, 300),  # of before the header told the boot: a restart in between
        ((None, "a"), 50_000, 300, None, 300),
    ],
)
def test_the_time_between_parts(
    boots: tuple[str | None, str | None], mono_ms: int, wall_ms: int, at_ms: int | None, gap_ms: int
) -> None:
    """The first part: 2 s, 30 ms into the talk."""
    before = segment(2000, 10_000, 70_000, boots[0], 30)
    after = segment(1000, 12_000 + mono_ms, 72_000 + wall_ms, boots[1], at_ms)
    timeline = lay_out([(before, before), (after, after)], None)
    first, second = timeline.laid
    assert (first.silence_ns, first.until_ns) == (30 * MS, (2000 + min(0, gap_ms)) * MS)
    assert (second.silence_ns, second.until_ns) == (max(0, gap_ms) * MS, 1000 * MS)
    bounded = lay_out([(before, before), (after, after)], (30 + 2000 + gap_ms + 1000 - 600) * MS)
    assert bounded.laid[1].until_ns == 400 * MS, "the talk's end is counted from its beginning"
    assert bounded.bounded
    assert not timeline.bounded


def test_a_talk_that_was_over_before_the_second_part_began() -> None:
    parts = [segment(2000, 0, 0, "a", 0), segment(1000, 4000, 0, "a", 4000)]
    timeline = lay_out([(part, part) for part in parts], 3000 * MS)
    assert [(one.silence_ns, one.until_ns) for one in timeline.laid] == [(0, 2000 * MS), (1000 * MS, 0)]
    assert (timeline.tail_ns, timeline.unwritten_ns) == (0, 1000 * MS)


some_ms = st.integers(0, 20_000)


@given(
    st.lists(st.tuples(some_ms, some_ms, st.none() | some_ms, st.sampled_from("ab")), min_size=1, max_size=4),
    st.none() | st.integers(0, 30_000),
)
def test_any_parts_make_a_timeline_that_is_as_long_as_the_talk(
    parts: list[tuple[int, int, int | None, str]], talk_ms: int | None
) -> None:
    segments = [segment(length, mono, mono, boot, at) for length, mono, at, boot in parts]
    timeline = lay_out([(one, one) for one in segments], None if talk_ms is None else talk_ms * MS)
    for one in timeline.laid:
        assert one.silence_ns >= 0
        assert 0 <= one.until_ns <= one.pair[0].end_ns
    if timeline.bounded:
        assert talk_ms is not None
        assert timeline.unwritten_ns + sum(one.until_ns for one in timeline.laid) == talk_ms * MS


def test_a_missing_side_is_silence(tmp_path: Path) -> None:
    part = files(tmp_path)
    customer = Side(part.customer)
    customer.tone(440, 0, 50)
    customer.end(1000)
    result, _, right = run(tmp_path, part)
    assert result.duration_ms == 1000
    assert level_dbfs(right) < -70


def test_nothing_readable(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError) as caught:
        run(tmp_path, files(tmp_path))
    assert caught.value.code == "no_capture"
    assert not list(tmp_path.glob("*.opus"))


def test_packets_of_another_codec_are_left_out(tmp_path: Path) -> None:
    part = files(tmp_path)
    customer, agent = Side(part.customer), Side(part.agent)
    customer.tone(440, 0, 50)
    customer.tone(440, 1000, 5, ssrc=8, codec="speex")
    customer.tone(600, 2000, 50, ssrc=9)
    agent.tone(880, 0, 150)
    for side in (customer, agent):
        side.end(3000)
    result, left, right = run(tmp_path, part)
    assert (result.duration_ms, result.skipped, result.complete) == (3000, 5, False)
    assert abs(spectrum_peak(span(left, 100, 900)) - 440) < 5
    assert level_dbfs(span(left, 1100, 1900)) < -70
    assert abs(spectrum_peak(span(left, 2100, 2900)) - 600) < 5
    assert abs(spectrum_peak(span(right, 100, 2900)) - 880) < 5


def test_a_side_in_no_known_codec_is_silence(tmp_path: Path) -> None:
    part = files(tmp_path)
    customer, agent = Side(part.customer), Side(part.agent)
    customer.tone(440, 0, 50, codec="speex")
    agent.tone(880, 0, 50)
    for side in (customer, agent):
        side.end(1000)
    result, left, right = run(tmp_path, part)
    assert (result.skipped, result.complete) == (50, False)
    assert level_dbfs(left) < -70
    assert abs(spectrum_peak(right) - 880) < 5


def test_no_known_codec_at_all_gives_a_clear_error(tmp_path: Path) -> None:
    part = files(tmp_path)
    for path in (part.customer, part.agent):
        side = Side(path)
        side.tone(440, 0, 5, codec="speex")
        side.end(1000)
    with pytest.raises(ArchiveError) as caught:
        run(tmp_path, part)
    assert caught.value.code == "codec_unsupported"
    assert not list(tmp_path.glob("**/*.opus*")), "nothing is left behind"


def test_memory_does_not_grow_with_the_call(tmp_path: Path) -> None:
    part = files(tmp_path)
    for path in (part.customer, part.agent):
        side = Side(path)
        for second in range(200):
            side.tone(440, 1000 * second, 50, stamp=RATE * second)
        side.end(200_000)
    captured = part.customer.stat().st_size
    job.archive([part], tmp_path / "warm.opus", tmp_path / "up.opus")
    tracemalloc.start()
    result = job.archive([part], tmp_path / "c.opus", tmp_path / "a.opus")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (result.duration_ms, result.complete) == (200_000, True)
    print(f"{captured} bytes a side, {peak} bytes at most in memory")
    assert peak < captured


@settings(deadline=None, max_examples=examples(60))
@given(st.integers(0, 4000), st.integers(0, 4000))
def test_cut_captures_never_raise(tmp_path_factory: pytest.TempPathFactory, cut_c: int, cut_a: int) -> None:
    folder = tmp_path_factory.mktemp("cut")
    part = files(folder)
    for path, pitch, cut in ((part.customer, 440, cut_c), (part.agent, 880, cut_a)):
        side = Side(path)
        side.tone(pitch, 0, 20)
        side.mark(capture.PAUSE, 400)
        side.mark(capture.RESUME, 500)
        side.tone(pitch, 500, 5, stamp=24_000)
        side.end(600)
        path.write_bytes(path.read_bytes()[:cut])
    with contextlib.suppress(NothingThere):
        result, left, right = run(folder, part)
        assert len(left) == len(right)
        assert abs(len(left) / 48 - result.duration_ms) < 1


@given(st.binary(min_size=1, max_size=10))
def test_packet_length(packet: bytes) -> None:
    assert 0 <= ogg.packet_samples(packet) <= 5760


def test_the_checksum_is_oggs() -> None:
    crc = 0
    data = b"OggS" + bytes(range(256))
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    assert ogg.checksum(data) == crc


def test_stereo_has_the_customer_left(tmp_path: Path) -> None:
    part = files(tmp_path)
    for path, pitch in ((part.customer, 440), (part.agent, 880)):
        side = Side(path)
        side.tone(pitch, 0, 100)
        side.end(2000)
    run(tmp_path, part)
    out = tmp_path / "stereo.opus"
    facts = render_stereo(tmp_path / "c.opus", tmp_path / "a.opus", out, JobKeys())
    assert facts["duration_ms"] == 2000
    with av.open(str(out)) as container:
        resampler = av.AudioResampler("s16", "stereo", RATE)
        frames = [f.to_ndarray()[0] for x in container.decode(audio=0) for f in resampler.resample(x)]
    both = np.concatenate(frames).reshape(-1, 2)
    assert abs(len(both) - 2 * RATE) < 960
    assert abs(spectrum_peak(both[9600:67200, 0]) - 440) < 5
    assert abs(spectrum_peak(both[9600:67200, 1]) - 880) < 5


def test_sealed_files_hold_the_same_sound(tmp_path: Path) -> None:
    part = files(tmp_path)
    for path, pitch in ((part.customer, 440), (part.agent, 880)):
        side = Side(path)
        side.tone(pitch, 0, 100)
        side.end(2000)
    plain, _, _ = run(tmp_path, part)
    sides = tmp_path / "t" / "s" / "c.opus", tmp_path / "t" / "s" / "a.opus"
    seal = RING.new_seal()
    result = job.archive([part], *sides, seal=seal)
    for sealed, open_one in ((result.customer, plain.customer), (result.agent, plain.agent)):
        assert len(read_sound(Path(sealed.path))) == sealed.size_bytes
        assert sealed.peaks == open_one.peaks
        assert b"OggS" not in Path(sealed.path).read_bytes()
        assert hashlib.sha256(read_sound(Path(sealed.path))).hexdigest() == sealed.sha256
    with pytest.raises(VaultError, match="unknown_key"):
        render_stereo(*sides, tmp_path / "t" / "s" / "x.opus", JobKeys(seal))
    keys = JobKeys(seal, dict.fromkeys(sides, seal.data_key))
    facts = render_stereo(*sides, tmp_path / "t" / "s" / "x.opus", keys)
    assert facts["duration_ms"] == 2000
    data = read_sound(Path(facts["path"]))
    assert hashlib.sha256(data).hexdigest() == facts["sha256"]
    left, right = decode_stereo(data)
    assert abs(spectrum_peak(left[9600:67200]) - 440) < 5
    assert abs(spectrum_peak(right[9600:67200]) - 880) < 5
    assert not list(tmp_path.glob("**/.*")), "nothing temporary stays"


async def test_the_job_process(tmp_path: Path) -> None:
    part = files(tmp_path)
    for path in (part.customer, part.agent):
        side = Side(path, at_ms=300)
        side.tone(440, 0, 50)
        side.end(1000)
    jobs = ArchiveJobs()
    result = await jobs.archive([part], tmp_path / "c.opus", tmp_path / "a.opus", talk_ms=1300)
    assert (result.duration_ms, result.customer.codec) == (1300, "opus")
    assert result.customer.size_bytes == (tmp_path / "c.opus").stat().st_size
    stereo = await jobs.stereo(tmp_path / "c.opus", tmp_path / "a.opus", tmp_path / "s.opus")
    assert stereo.duration_ms == 1300
    (tmp_path / "bad.opus").write_bytes(b"no sound")
    with pytest.raises(ArchiveError) as caught:
        await jobs.stereo(tmp_path / "bad.opus", tmp_path / "a.opus", tmp_path / "t.opus")
    assert caught.value.code == "bad_audio"
    assert not (tmp_path / "t.opus").exists()
    with pytest.raises(ArchiveError) as caught:
        await ArchiveJobs(timeout_s=0.01).archive([part], tmp_path / "x.opus", tmp_path / "y.opus")
    assert caught.value.code == "timeout"


async def test_the_process_is_kept_for_the_next_job_and_goes_when_it_is_idle(tmp_path: Path) -> None:
    part = files(tmp_path)
    for path in (part.customer, part.agent):
        side = Side(path, at_ms=300)
        side.tone(440, 0, 50)
        side.end(1000)
    out = tmp_path / "c.opus", tmp_path / "a.opus"
    async with ArchiveJobs(idle_s=60) as jobs:
        await jobs.archive([part], *out)
        first = job_process()
        await jobs.archive([part], *out)
        assert job_process() == first is not None
        os.kill(first, signal.SIGKILL)  # as the kernel does when memory is short
        await until(no_job_process, 5, "its end")
        await jobs.archive([part], *out)
        assert job_process() not in (first, None)
    assert job_process() is None
    async with ArchiveJobs(idle_s=0.05) as jobs:
        await jobs.archive([part], *out)
        await until(no_job_process, 10, "its end")


async def test_a_process_that_hangs_is_killed_and_the_next_job_gets_another(tmp_path: Path) -> None:
    part = files(tmp_path)
    for path in (part.customer, part.agent):
        side = Side(path, at_ms=300)
        side.tone(440, 0, 50)
        side.end(1000)
    out = tmp_path / "c.opus", tmp_path / "a.opus"
    async with ArchiveJobs(timeout_s=5, idle_s=60) as jobs:
        await jobs.archive([part], *out)
        first = job_process()
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        with pytest.raises(ArchiveError) as caught:
            await jobs.archive([part], *out)
        assert caught.value.code == "timeout"
        await jobs.archive([part], *out)
        assert job_process() not in (first, None)


def job_process() -> int | None:
    """The id of this process's only child that makes archives."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            ours = int(parent) == os.getpid() and state != "Z"
            if ours and b"server.media.archive" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    assert len(found) <= 1
    return found[0] if found else None


async def no_job_process() -> bool:
    return job_process() is None


@pytest.mark.parametrize("payload", ["f9010203", "faff", "fb030102030405", "f8", "fb815001", "fbc1ff", "00", "ff"])
def test_one_packet_that_a_peer_made_up_takes_nothing_else_along(tmp_path: Path, payload: str) -> None:
    part = files(tmp_path)
    customer, agent = Side(part.customer), Side(part.agent)
    customer.tone(440, 0, 50)
    customer.writer.packet(customer.origin + 1000 * MS, (7, RATE, "opus"), 50, 960 * 50, bytes.fromhex(payload))
    customer.tone(440, 1020, 49, stamp=960 * 51)
    agent.tone(880, 0, 100)
    for side in (customer, agent):
        side.end(2000)
    result, left, right = run(tmp_path, part)
    assert result.duration_ms == 2000
    assert abs(spectrum_peak(span(left, 1100, 1900)) - 440) < 5
    assert abs(spectrum_peak(span(right, 100, 1900)) - 880) < 5


@given(st.binary(min_size=1, max_size=40))
def test_what_counts_as_well_formed_is_what_libopus_takes(packet: bytes) -> None:
    decoder = opus.Decoder(RATE)
    try:
        decoder.decode(packet)
        taken = True
    except opus.OpusError:
        taken = False
    assert ogg.well_formed(packet) == taken
