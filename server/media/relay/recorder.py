"""One running recording part: two capture files that grow together (see server/media/capture.py)."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from server.domain.media import RecordingOrder
from server.media import capture
from server.media.capture import CaptureWriter, Opener, PartFiles
from server.media.relay.rtp import Packet


def _boot_id() -> str:
    """Which monotonic clock this is: that of one start of one machine; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


BOOT_ID = _boot_id()
NOT_SPEECH = frozenset({"telephone-event", "cn"})
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # EFBIG: a limit on the size of files


@dataclass(frozen=True, slots=True)
class PartContext:
    """Where a part belongs, for the files' headers."""

    session_id: str
    epoch: int
    files: PartFiles


class PartRecorder:
    """Writes both sides of a part. The first failed write ends it: `on_failed(code)` is called once, what
    was written is closed, and the call goes on."""

    def __init__(
        self, order: RecordingOrder, context: PartContext, opener: Opener, on_failed: Callable[[str], None]
    ) -> None:
        self.order = order
        self.failed = False
        self._on_failed = on_failed
        self._paused = False
        self._writers: dict[str, CaptureWriter] = {}
        self._taken: dict[str, CaptureWriter] = {}
        now_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        header = {
            "recording_id": order.recording_id,
            "part": order.part,
            "session_id": context.session_id,
            "epoch": context.epoch,
            "wall_ns": wall_ns,
            "mono_ns": now_ns,
            "boot": BOOT_ID,
        } | ({} if order.at_ms is None else {"at_ms": order.at_ms})
        sides = ((order.customer_leg, "customer", context.files.customer),
                 (order.agent_leg, "agent", context.files.agent))  # fmt: skip
        try:
            for leg_id, side, path in sides:
                self._writers[leg_id] = CaptureWriter(opener(path), {"side": side, **header})
            self.flush()
        except OSError as error:
            self._fail(error)
        self._set_paused(order.paused)
        self._choose()

    def take(self, leg_id: str, packet: Packet, now_ns: int) -> None:
        """A packet that came in from a leg. Key presses are left out: they may be card numbers. So is comfort noise:
        it is no speech, and silence is what a gap becomes."""
        writer, codec = self._taken.get(leg_id), packet.codec
        if writer is None or codec.name in NOT_SPEECH:
            return
        stream = (packet.ssrc, codec.clock_rate, codec.name)
        try:
            writer.packet(now_ns, stream, packet.sequence, packet.timestamp, packet.payload)
        except OSError as error:
            self._fail(error)

    def writer(self, leg_id: str, packet: Packet) -> CaptureWriter | None:
        """Where packets like this one, which was taken, go; None: nowhere."""
        return None if packet.codec.name in NOT_SPEECH else self._taken.get(leg_id)

    def follow(self, order: RecordingOrder) -> None:
        """A newer order for the same part."""
        self.order = order
        self._set_paused(order.paused)
        self._choose()

    def _choose(self) -> None:
        """Whose packets are taken."""
        for writer in self._writers.values():
            writer.let_go()
        apart = self.order.agent_leg if self.order.without_agent else None
        self._taken = {} if self._paused else {leg: one for leg, one in self._writers.items() if leg != apart}

    def _set_paused(self, paused: bool) -> None:
        if paused != self._paused:
            self._paused = paused
            self._mark(capture.PAUSE if paused else capture.RESUME)
            self._write_out()  # the order's answer promises it

    def flush(self) -> None:
        """Once a second: note that the part is alive, and hand the records to the system."""
        self._mark(capture.TICK)
        self._write_out()

    def _write_out(self) -> None:
        try:
            for writer in self._writers.values():
                writer.flush()
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        now_ns = time.monotonic_ns()
        try:
            for writer in self._writers.values():
                writer.close(now_ns)
        except OSError as error:
            self._fail(error)
        self._writers, self._taken = {}, {}

    def _mark(self, kind: int) -> None:
        now_ns = time.monotonic_ns()
        for writer in self._writers.values():
            writer.mark(kind, now_ns)

    def _fail(self, error: OSError) -> None:
        if self.failed:
            return
        self.failed = True
        for writer in self._writers.values():
            writer.abandon()
        self._writers, self._taken = {}, {}
        self._on_failed("disk_full" if error.errno in _FULL else "io_error")
