"""What a media worker and its mixer say to each other over their socket pair (SOCK_SEQPACKET). Pure.

The first byte tells what a message is:

    J  worker → mixer   JSON: {"kind": "mix", "mix", "inputs": [[id, format]], "listeners": [[id, format, [inputs]]]},
                        always the whole of a mix; {"kind": "end", "mix"}
    j  worker → mixer   the beginning of an order that is longer than a message; more j may follow, a J ends it
    B  both ways        a number: the mixer says back what the worker said, once it obeys all orders before that
    P  worker → mixer   a received packet: input, format, sequence, timestamp, SSRC, arrival (ns, monotonic), payload
    F  mixer → worker   20 ms of a mix: listener, format, number, payload
    R  mixer → worker   the mixer is ready

Either side drops what does not fit into the socket's buffer, orders and beats excepted: they are said when it takes
them. Of beats only the newest counts, since it stands for all before it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from server.media.mixer.formats import BY_NAME, FORMATS
from server.media.mixer.jitter import Arrived
from server.media.mixer.setup import Listener, Setup

MAX_BYTES = 16 * 1024  # of a message; packets are far smaller, and a long order goes in pieces
READY = b"R"
BEAT = b"B"

_PACKET = struct.Struct("!cIBHIIQ")
_FRAME = struct.Struct("!cIBI")
_BEAT = struct.Struct("!cQ")
_NUMBERS = {form.name: number for number, form in enumerate(FORMATS)}


@dataclass(frozen=True, slots=True)
class End:
    mix_id: int


def setup_to_bytes(setup: Setup) -> bytes:
    body = {
        "kind": "mix",
        "mix": setup.mix_id,
        "inputs": [[name, form.name] for name, form in setup.inputs],
        "listeners": [[one.listener_id, one.form.name, sorted(one.hears)] for one in setup.listeners],
    }
    return b"J" + json.dumps(body, separators=(",", ":")).encode()


def end_to_bytes(mix_id: int) -> bytes:
    return b"J" + json.dumps({"kind": "end", "mix": mix_id}).encode()


def pieces(order: bytes) -> Iterator[bytes]:
    """The messages that an order is sent as. No other order may come between them; packets may."""
    body, most = order[1:], MAX_BYTES - 1
    last = max(0, len(body) - 1) // most * most
    for start in range(0, last, most):
        yield b"j" + body[start : start + most]
    yield b"J" + body[last:]


def order_from_bytes(message: bytes) -> Setup | End:
    """Raises ValueError."""
    try:
        body: dict[str, Any] = json.loads(message[1:])
        if body["kind"] == "end":
            return End(int(body["mix"]))
        inputs = tuple((int(name), BY_NAME[form]) for name, form in body["inputs"])
        listeners = tuple(Listener(int(one), BY_NAME[form], frozenset(heard)) for one, form, heard in body["listeners"])
        return Setup(int(body["mix"]), inputs, listeners)
    except (KeyError, TypeError) as error:
        raise ValueError(f"no setup: {error!r}") from error


def beat_to_bytes(number: int) -> bytes:
    return _BEAT.pack(BEAT, number)


def beat_from_bytes(message: bytes) -> int:
    """Raises ValueError."""
    try:
        return int(_BEAT.unpack(message)[1])
    except struct.error as error:
        raise ValueError(f"no beat: {error}") from error


def knows(codec_name: str) -> bool:
    """A received packet of this codec can be sent to the mixer."""
    return codec_name in _NUMBERS


def packet_to_bytes(
    input_id: int, codec_name: str, numbers: tuple[int, int, int], arrival_ns: int, payload: bytes
) -> bytes:
    """`numbers`: sequence, timestamp, SSRC."""
    return _PACKET.pack(b"P", input_id, _NUMBERS[codec_name], *numbers, arrival_ns) + payload


def packet_from_bytes(message: bytes) -> tuple[int, Arrived]:
    """Raises ValueError."""
    try:
        _, input_id, form, sequence, timestamp, ssrc, arrival_ns = _PACKET.unpack_from(message)
        packet = Arrived(FORMATS[form], sequence, timestamp, ssrc, message[_PACKET.size :], arrival_ns / 1e6)
    except (struct.error, IndexError) as error:
        raise ValueError(f"no packet: {error}") from error
    return input_id, packet


def frame_to_bytes(listener_id: int, codec_name: str, number: int, payload: bytes) -> bytes:
    return _FRAME.pack(b"F", listener_id, _NUMBERS[codec_name], number & 0xFFFFFFFF) + payload


def frame_from_bytes(message: bytes) -> tuple[int, str, int, bytes]:
    """Listener, format's name, number, payload. Raises ValueError."""
    try:
        _, listener_id, form, number = _FRAME.unpack_from(message)
        return listener_id, FORMATS[form].name, number, message[_FRAME.size :]
    except (struct.error, IndexError) as error:
        raise ValueError(f"no frame: {error}") from error
