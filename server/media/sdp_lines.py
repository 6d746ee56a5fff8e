"""An SDP read as lines and m-sections, without what any profile makes of them (RFC 8866). Pure: text in, values out.

No SDP of a peer reaches aiortc (its parser raises bare asserts on bad input): sdp.py and sdp_plain.py read the few
attributes that a one-stream audio call needs, and refuse the rest with a `MediaError`:

- `sdp_too_large`: more than 64 KiB, 20 m-lines or 100 candidates
- `no_audio`: no usable audio m-line, or none of its codecs is one of ours
- `bad_sdp`: everything else that breaks RFC 8866 or what the profile requires
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from server.services.ports import MediaError

MAX_SDP_BYTES = 64 * 1024
MAX_MEDIA = 20

REVERSED = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}
NUMBER = re.compile(r"\d{1,10}\Z", re.ASCII)

_TOKEN = re.compile(r"[!#$%&'*+.^_`{|}~0-9A-Za-z-]{1,64}\Z")
_MEDIA = re.compile(r"(\S{1,32}) (\d{1,5})(?:/\d{1,5})? (\S{1,64}) (\S.*)\Z", re.ASCII)
_RTPMAP = re.compile(r"(\d{1,3}) ([A-Za-z0-9.-]{1,64})/(\d{1,6})(?:/(\d{1,3}))?\Z", re.ASCII)

# what a codec is called here, by its rtpmap: name in lower case, clock rate. G.722's clock is 8000 in RTP, though it
# samples at 16 kHz (RFC 3551 section 4.5.2)
_CODECS = {
    ("opus", 48000): "opus",
    ("pcmu", 8000): "pcmu",
    ("pcma", 8000): "pcma",
    ("g722", 8000): "g722",
    ("cn", 8000): "cn",
}
# RFC 3551 section 6: these need no rtpmap
_STATIC = {0: ("pcmu", 8000), 8: ("pcma", 8000), 9: ("g722", 8000), 13: ("cn", 8000)}


@dataclass(frozen=True, slots=True)
class Codec:
    """A negotiated format. `name`: opus, pcmu, pcma, g722, telephone-event or cn (comfort noise, RFC 3389)."""

    name: str
    payload_type: int
    clock_rate: int


@dataclass(frozen=True, slots=True)
class MediaSection:
    """What the answer must mirror of one offered m-line."""

    kind: str
    profile: str
    formats: str
    mid: str | None
    port: int = 0  # as offered; 0: the m-line is refused


class Section:
    """The lines of one m-section (or of the session part) as (attribute, value) pairs."""

    def __init__(self, media: str | None) -> None:
        self.media = media
        self.connection: str | None = None  # of its first c= line
        self.attributes: list[tuple[str, str]] = []

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]

    def first(self, name: str) -> str | None:
        return next((value for key, value in self.attributes if key == name), None)

    def has(self, name: str) -> bool:
        return any(key == name for key, _ in self.attributes)


def bad(message: str) -> MediaError:
    return MediaError("bad_sdp", message)


def split(text: str) -> tuple[Section, list[Section]]:
    """The session part and the m-sections. Raises MediaError: bad_sdp, sdp_too_large."""
    if len(text) > MAX_SDP_BYTES or len(text.encode("utf-8", "replace")) > MAX_SDP_BYTES:
        raise MediaError("sdp_too_large", f"more than {MAX_SDP_BYTES} bytes")
    if "\0" in text:
        raise bad("a NUL character")
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0] != "v=0":
        raise bad("does not begin with v=0 (RFC 8866 section 5.1)")
    session = Section(None)
    sections: list[Section] = []
    for line in lines[1:]:
        if not line:
            continue
        if len(line) < 2 or line[1] != "=" or any(ord(c) < 32 and c != "\t" for c in line):
            raise bad("a line is not <type>=<value> (RFC 8866 section 5)")
        if line[0] == "m":
            if len(sections) == MAX_MEDIA:
                raise MediaError("sdp_too_large", f"more than {MAX_MEDIA} m-lines")
            sections.append(Section(line[2:]))
        elif line[0] == "a":
            name, _, value = line[2:].partition(":")
            (sections[-1] if sections else session).attributes.append((name, value.strip()))
        elif line[0] == "c":
            scope = sections[-1] if sections else session
            scope.connection = scope.connection or line[2:]
    return session, sections


def media_header(section: Section) -> MediaSection:
    """A section's m-line. Raises MediaError(bad_sdp)."""
    match = _MEDIA.match(section.media or "")
    if match is None:
        raise bad("a malformed m-line (RFC 8866 section 5.14)")
    mid = section.first("mid")
    if mid is not None and not _TOKEN.match(mid):
        raise bad("a malformed mid (RFC 5888 section 4)")
    return MediaSection(match[1], match[3], match[4].strip(), mid, int(match[2]))


def offered_codecs(section: Section, formats: str, mux: bool) -> list[Codec]:
    """Those of the m-line that we know, in its order, each once. `mux`: RTCP comes on the same port and takes payload
    types 64 to 95 (RFC 5761 section 4), which are just left out without it. Raises MediaError(bad_sdp)."""
    offered: list[int] = []
    for item in formats.split():
        if not NUMBER.match(item) or int(item) > 127:
            raise bad(f"payload type {item[:16]!r} is not allowed (RFC 3551 section 6)")
        if 64 <= int(item) <= 95:
            if mux:
                raise bad(f"payload type {item[:16]!r} is not allowed (RFC 5761 section 4)")
            continue
        offered.append(int(item))
    maps: dict[int, tuple[str, int]] = {}
    for value in section.all("rtpmap"):
        match = _RTPMAP.match(value)
        if match is None:
            raise bad("a malformed rtpmap (RFC 8866 section 6.6)")
        maps[int(match[1])] = (match[2].lower(), int(match[3]))
    found: dict[tuple[str, int], Codec] = {}
    for payload_type in offered:
        entry = maps.get(payload_type) or _STATIC.get(payload_type)
        if entry is None:
            continue
        name = entry[0] if entry[0] == "telephone-event" else _CODECS.get(entry)
        if name is not None:
            found.setdefault((name, entry[1]), Codec(name, payload_type, entry[1]))
    return list(found.values())


def events_for(codecs: Sequence[Codec], audio: Sequence[Codec]) -> tuple[Codec, ...]:
    """The telephone-events whose clock is that of a chosen audio codec (RFC 4733 section 2.1)."""
    clocks = {codec.clock_rate for codec in audio}
    return tuple(c for c in codecs if c.name == "telephone-event" and c.clock_rate in clocks)


def direction(session: Section, section: Section) -> str:
    """Ours, when the offer has this one (RFC 3264 section 6.1)."""
    for scope in (section, session):
        for name, reverse in REVERSED.items():
            if scope.has(name):
                return reverse
    return "sendrecv"
