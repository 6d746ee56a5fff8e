"""Sender and receiver reports (RFC 3550 section 6.4). Of our own: browsers take round-trip time and loss from
them, one compound packet a peer connection every few seconds. Of the peer's: the time of its sender report, and what
it says of the stream that we send."""

from __future__ import annotations

import struct
import time

from server.media.relay.rtp import InStream, OutStream, PeerReport

REPORT_EVERY_S = 2.5
_NTP_OFFSET_S = 2208988800  # 1900 to 1970
_CNAME = b"patchbay"

_SR, _RR, _SDES = 200, 201, 202
_BLOCK = 24  # bytes


def compound(out: OutStream, incoming: InStream | None, now_ns: int) -> bytes:
    """SR (or RR, when nothing was sent) with one report block, and the SDES that section 6.1 asks for."""
    block = _block(incoming, now_ns) if incoming is not None else b""
    count = 1 if block else 0
    if out.packets:
        ntp_s = time.time() + _NTP_OFFSET_S
        seconds = int(ntp_s)
        fraction = int((ntp_s - seconds) * (1 << 32)) & 0xFFFFFFFF
        out.told.append(((seconds & 0xFFFF) << 16 | fraction >> 16, now_ns))
        passed = int((now_ns - out.last_ns) * out.last_clock / 1e9)
        body = struct.pack(
            "!IIIIII",
            out.ssrc,
            seconds & 0xFFFFFFFF,
            fraction,
            (out.last_timestamp + passed) & 0xFFFFFFFF,
            out.packets & 0xFFFFFFFF,
            out.octets & 0xFFFFFFFF,
        )
        report = _packet(_SR, count, body + block)
    else:
        report = _packet(_RR, count, struct.pack("!I", out.ssrc) + block)
    item = struct.pack("!IBB", out.ssrc, 1, len(_CNAME)) + _CNAME
    item += bytes(4 - len(item) % 4)  # the list ends with at least one zero byte
    return report + _packet(_SDES, 1, item)


def _packet(kind: int, count: int, body: bytes) -> bytes:
    return struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body


def _block(stream: InStream, now_ns: int) -> bytes:
    expected = stream.highest - stream.base + 1
    expected_now = expected - stream.prior[0]
    lost_now = expected_now - (stream.received - stream.prior[1])
    stream.prior = (expected, stream.received)
    fraction = min(255, max(0, (lost_now << 8) // expected_now)) if expected_now > 0 else 0
    delay = int((now_ns - stream.lsr_ns) * 65536 / 1e9) & 0xFFFFFFFF if stream.lsr else 0
    lost = min(stream.lost, 0x7FFFFF)
    return struct.pack(
        "!IIIIII",
        stream.ssrc,
        fraction << 24 | lost,
        stream.highest & 0xFFFFFFFF,
        int(stream.jitter) & 0xFFFFFFFF,
        stream.lsr,
        delay,
    )


def note(data: bytes, stream: InStream | None, out: OutStream, now_ns: int) -> None:
    """Remember the time of a sender report for the next receiver report, and what the peer hears of `out`. Malformed
    input is ignored."""
    at = 0
    while at + 4 <= len(data):
        first, kind, words = struct.unpack_from("!BBH", data, at)
        end = min(len(data), at + 4 * (words + 1))
        if kind == _SR and at + 28 <= end and stream is not None:
            ssrc, high, low = struct.unpack_from("!III", data, at + 4)
            if ssrc == stream.ssrc:
                stream.lsr = (high & 0xFFFF) << 16 | low >> 16
                stream.lsr_ns = now_ns
        if kind in (_SR, _RR):
            block = at + (28 if kind == _SR else 8)
            for _ in range(first & 0x1F):
                if block + _BLOCK > end:
                    break
                _note_block(data, block, out, now_ns)
                block += _BLOCK
        at = at + 4 * (words + 1)


def _note_block(data: bytes, at: int, out: OutStream, now_ns: int) -> None:
    ssrc, losses, _, jitter, lsr, delay = struct.unpack_from("!IIIIII", data, at)
    if ssrc != out.ssrc:
        return
    lost = losses & 0xFFFFFF
    # A round trip is told only of a sender report that we sent: neither a made-up time nor a clock that jumps counts.
    sent_ns = next((sent_ns for time_sent, sent_ns in out.told if lsr and time_sent == lsr), None)
    rtt_ms = out.heard.rtt_ms
    if sent_ns is not None:
        rtt_ms = max(0.0, (now_ns - sent_ns) / 1e6 - delay * 1000 / 65536)
    out.heard = PeerReport(
        loss=(losses >> 24) / 256,
        lost=lost - (1 << 24) if lost & 0x800000 else lost,
        jitter_ms=jitter * 1000 / out.last_clock,
        rtt_ms=rtt_ms,
    )
