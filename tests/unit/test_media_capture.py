"""Capture files: what was written is read, and a cut or damaged file keeps what came before."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from server.domain.media import RecordingOrder
from server.media import capture
from server.media.capture import CaptureWriter, part_files, read_capture
from server.media.relay.recorder import PartContext, PartRecorder
from server.media.relay.rtp import Packet
from server.media.sdp import Codec

HEADER: dict[str, Any] = {"side": "customer", "wall_ns": 1_000, "mono_ns": 5_000_000}
OPUS = (77, 48_000, "opus")
MS = 1_000_000


class Memory:
    def __init__(self, room: int | None = None) -> None:
        self.data = bytearray()
        self.room = room

    def write(self, data: bytes, /) -> int:
        if self.room is not None:
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            data = data[: self.room]
            self.room -= len(data)
        self.data += data
        return len(data)

    def close(self) -> None:
        return None


def written(packets: int = 5) -> bytes:
    sink = Memory()
    writer = CaptureWriter(sink, HEADER)
    at = HEADER["mono_ns"]
    for index in range(packets):
        writer.packet(at + index * 20 * MS, OPUS, index, index * 960, bytes([index]) * 10)
    writer.mark(capture.PAUSE, at + 200 * MS)
    writer.mark(capture.RESUME, at + 300 * MS)
    writer.packet(at + 320 * MS, (78, 48_000, "opus"), 1, 1, b"re-anchored")
    writer.close(at + 400 * MS)
    return bytes(sink.data)


def test_what_is_written_is_read() -> None:
    (segment,) = read_capture(written())
    assert [p.payload for p in segment.packets[:-1]] == [bytes([i]) * 10 for i in range(5)]
    assert [p.at_ns for p in segment.packets[:2]] == [0, 20 * MS]
    assert (segment.packets[-1].ssrc, segment.packets[-1].payload) == (78, b"re-anchored")
    assert segment.pauses == [(200 * MS, 300 * MS)]
    assert (segment.end_ns, segment.complete) == (400 * MS, True)


def test_a_file_cut_at_any_byte_keeps_its_beginning() -> None:
    data = written()
    whole = read_capture(data)[0].packets
    seen = 0
    for length in range(len(data)):
        segments = read_capture(data[:length])
        packets = segments[0].packets if segments else []
        assert packets == whole[: len(packets)]
        assert len(packets) >= seen
        seen = len(packets)
    assert seen == len(whole)


@given(st.integers(0, len(written()) - 1), st.integers(1, 255))
def test_a_damaged_byte_never_gives_a_wrong_payload(at: int, change: int) -> None:
    data = bytearray(written())
    data[at] ^= change
    good = {p.payload for p in read_capture(written())[0].packets}
    for segment in read_capture(bytes(data)):
        assert {p.payload for p in segment.packets} <= good


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    read_capture(data)
    read_capture(capture.MAGIC + data)


def test_a_part_begun_again_is_a_second_segment() -> None:
    torn = written()[:-10]
    segments = read_capture(torn + written(packets=2))
    assert [len(s.packets) for s in segments] == [6, 3]
    assert [s.complete for s in segments] == [False, True]


def record(folder: Path, opener: capture.Opener, failures: list[str]) -> PartRecorder:
    order = RecordingOrder("rec", 1, "customer", "agent")
    context = PartContext("s1", 1, part_files(folder, "default", "s1", "rec", 1))
    return PartRecorder(order, context, opener, failures.append)


def test_the_header_tells_how_far_into_the_talk_a_part_begins(tmp_path: Path) -> None:
    for at_ms, told in ((None, None), (335, 335_000_000)):
        files = part_files(tmp_path / str(at_ms), "default", "s1", "rec", 1)
        order = RecordingOrder("rec", 1, "customer", "agent", at_ms=at_ms)
        PartRecorder(order, PartContext("s1", 1, files), capture.open_file, lambda code: None).close()
        for path in (files.customer, files.agent):
            (segment,) = read_capture(path.read_bytes())
            assert segment.at_ns == told


def packet(payload: bytes = b"sound" * 20) -> Packet:
    return Packet(Codec("opus", 111, 48_000), 0, 1, 960, 77, payload, None)


def test_a_full_disk_is_told_once_and_what_was_written_stays(tmp_path: Path) -> None:
    failures: list[str] = []
    sinks: list[Memory] = []

    def opener(path: Path) -> Memory:
        sinks.append(Memory(room=600))
        return sinks[-1]

    recorder = record(tmp_path, opener, failures)
    recorder.take("customer", packet(), 1)
    recorder.flush()
    assert failures == []
    for _ in range(10):
        recorder.take("customer", packet(), 1)
    recorder.flush()
    recorder.take("agent", packet(), 1)
    recorder.close()
    assert failures == ["disk_full"]
    (segment,) = read_capture(bytes(sinks[0].data))
    assert 1 < len(segment.packets) < 11


def test_a_real_full_device(tmp_path: Path) -> None:
    failures: list[str] = []
    record(tmp_path, lambda path: capture.open_file(Path("/dev/full")), failures)
    assert failures == ["disk_full"]


def test_no_folder(tmp_path: Path) -> None:
    failures: list[str] = []
    (tmp_path / "default").write_text("a file is in the way")
    record(tmp_path, capture.open_file, failures)
    assert failures == ["io_error"]


def test_keys_and_pauses_leave_nothing_in_the_file(tmp_path: Path) -> None:
    recorder = record(tmp_path, capture.open_file, [])
    recorder.take("customer", Packet(Codec("telephone-event", 110, 48_000), 0, 1, 1, 7, b"KEYS", None), 1)
    recorder.follow(replace(recorder.order, paused=True))
    recorder.take("customer", packet(b"SECRET"), 1)
    recorder.follow(replace(recorder.order, paused=False))
    recorder.take("customer", packet(b"OPEN"), 1)
    recorder.close()
    data = part_files(tmp_path, "default", "s1", "rec", 1).customer.read_bytes()
    assert b"SECRET" not in data
    assert b"KEYS" not in data
    (segment,) = read_capture(data)
    assert [p.payload for p in segment.packets] == [b"OPEN"]
    assert len(segment.pauses) == 1


def test_what_an_agent_says_apart_is_left_out(tmp_path: Path) -> None:
    recorder = record(tmp_path, capture.open_file, [])
    recorder.follow(replace(recorder.order, without_agent=True))
    for side in ("customer", "agent"):
        recorder.take(side, packet(b"APART"), 1)
    recorder.follow(replace(recorder.order, without_agent=False))
    recorder.take("agent", packet(b"BACK"), 1)
    recorder.close()
    files = part_files(tmp_path, "default", "s1", "rec", 1)
    ((customer,), (agent,)) = (read_capture(path.read_bytes()) for path in (files.customer, files.agent))
    assert [p.payload for p in customer.packets] == [b"APART"]
    assert [p.payload for p in agent.packets] == [b"BACK"]
    assert agent.pauses == [], "it is silence, and no time is cut out"
