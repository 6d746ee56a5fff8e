"""A phone's SDP, offer or answer, and ours (RFC 3264 over RTP/AVP, RTP/SAVP and their feedback kin). Pure.

- The answer names every codec of ours that was offered, G.711 first: a browser has that as well, so a bridged call
  needs
  no transcoding (docs/media.md). An offer of ours names what the order says, in its order.
- The address must be numeric: looking up a name would stall a call's set-up, and no phone sends one.
- It names a host that a phone may be at: not of one link, not of this machine itself (what listens there trusts who
  is here) unless the worker is there as well, as in tests. RTCP on a third host is not sent: nothing says that it
  wants any.
- `0.0.0.0` is how RFC 2543 put a call on hold; it is read as "send nothing".
- RTCP is on the next port (RFC 3550 section 11), where a=rtcp says (RFC 3605), or on the same one (RFC 5761).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from server.media import sdp_crypto
from server.media.sdp_crypto import Crypto
from server.media.sdp_lines import Codec, MediaSection, bad, direction, events_for, media_header, split
from server.media.sdp_lines import offered_codecs as codecs_of
from server.services.ports import MediaError

PLAIN = ("RTP/AVP", "RTP/AVPF")
SECURED = ("RTP/SAVP", "RTP/SAVPF")
PTIME_MS = 20  # what browsers send and our prompts are made of
MAXPTIME_MS = 120  # a packet of that length still fits libsrtp's buffer

# payload types of our own offers: static ones of RFC 3551, else from the dynamic range
_OURS = {
    "pcmu": Codec("pcmu", 0, 8000),
    "pcma": Codec("pcma", 8, 8000),
    "g722": Codec("g722", 9, 8000),
    "opus": Codec("opus", 111, 48000),
}
_EVENTS = {8000: Codec("telephone-event", 101, 8000), 48000: Codec("telephone-event", 110, 48000)}
_COMFORT_NOISE = Codec("cn", 13, 8000)
_G711 = ("pcmu", "pcma")
_OTHERS = ("g722", "opus")
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")  # RFC 1122 section 3.2.1.3: never a destination
_MILLISECONDS = re.compile(r"(\d{1,4})(?:\.\d{1,3})?\Z", re.ASCII)
_RTCP = re.compile(r"(\d{1,5})(?: (IN IP[46] \S{1,64}))?\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class PlainMedia:
    """One side's description, checked. `audio` is the index of the accepted m-line in `sections`."""

    sections: tuple[MediaSection, ...]
    audio: int
    direction: str  # ours
    codecs: tuple[Codec, ...]  # audio in the order of preference, then telephone-event, then cn
    address: tuple[str, int] | None  # where it wants RTP; None: on hold, or not known yet
    rtcp: tuple[str, int] | None
    rtcp_mux: bool
    cryptos: tuple[Crypto, ...]  # of which one is taken; empty: not encrypted
    ptime_ms: int | None = None
    maxptime_ms: int | None = None

    audio_level_id = None  # RFC 6464 is for browsers

    @property
    def profile(self) -> str:
        return self.sections[self.audio].profile

    @property
    def secured(self) -> bool:
        return self.profile in SECURED

    @property
    def sends(self) -> bool:
        """Whether we may send."""
        return self.address is not None and self.direction in ("sendrecv", "sendonly")

    @property
    def receives(self) -> bool:
        """Whether the peer will send. One that holds us does not, and is no less there."""
        return self.address is not None and self.direction in ("sendrecv", "recvonly")

    def within(self, offered: Sequence[Codec]) -> PlainMedia:
        """An answer without the codecs that were not offered (RFC 3264 section 6.1). Raises MediaError(no_audio)."""
        names = {(codec.name, codec.clock_rate) for codec in offered}
        return replace(self, codecs=_chosen([c for c in self.codecs if (c.name, c.clock_rate) in names]))


@dataclass(frozen=True, slots=True)
class LocalPlain:
    """Our half. `origin`: the session's number, and its version, which rises with each offer (RFC 3264 section 8).
    `rtcp_port` None: on the RTP port."""

    origin: tuple[int, int]
    host: str
    port: int
    rtcp_port: int | None
    cryptos: tuple[Crypto, ...] = ()


def is_plain(text: str) -> bool:
    """Whether the first audio m-line that is not refused asks for no DTLS. Raises MediaError: bad_sdp,
    sdp_too_large."""
    _, sections = split(text)
    for section in sections:
        header = media_header(section)
        if header.kind == "audio" and header.port:
            return header.profile in PLAIN or (header.profile in SECURED and section.has("crypto"))
    return False


def parse_plain(text: str, *, loopback: bool = False) -> PlainMedia:
    """Read and check an offer or an answer. `loopback`: the peer may be on this machine. Raises MediaError: bad_sdp,
    sdp_too_large, no_audio."""
    session, sections = split(text)
    headers = [media_header(section) for section in sections]
    audio = next((i for i, header in enumerate(headers) if header.kind == "audio" and header.port), None)
    if audio is None:
        raise MediaError("no_audio", "there is no audio m-line, or it is refused")
    section, header = sections[audio], headers[audio]
    if header.profile not in PLAIN + SECURED:
        raise bad(f"the audio m-line's profile {header.profile!r} is not plain RTP")
    mux = section.has("rtcp-mux")
    cryptos = sdp_crypto.usable(section.all("crypto")) if header.profile in SECURED else ()
    if header.profile in SECURED and not cryptos:
        raise bad("RTP/SAVP without a crypto that we can use (RFC 4568 section 5.1.2)")
    host = _host(section.connection or session.connection)
    if host is not None and not loopback and ipaddress.IPv4Address(host).is_loopback:
        raise bad("c= names this machine itself")
    address = None if host is None else (host, _port(header.port))
    return PlainMedia(
        sections=tuple(headers),
        audio=audio,
        direction=direction(session, section),
        codecs=_chosen(codecs_of(section, header.formats, mux)),
        address=address,
        rtcp=_rtcp(section.first("rtcp"), address, mux),
        rtcp_mux=mux,
        cryptos=cryptos,
        ptime_ms=_milliseconds(section.first("ptime")),
        maxptime_ms=_milliseconds(section.first("maxptime")),
    )


def our_offer(codecs: Sequence[str], secure: bool) -> PlainMedia:
    """What an offer of ours holds before anybody has answered it. Raises MediaError(internal) on a codec of no name."""
    try:
        audio = [_OURS[name] for name in codecs]
    except KeyError as error:
        raise MediaError("internal", f"no codec is called {error}; there are {', '.join(_OURS)}") from None
    if not audio:
        raise MediaError("internal", "an offer without a codec")
    chosen = (*audio, *(_EVENTS[clock] for clock in dict.fromkeys(codec.clock_rate for codec in audio)))
    if any(codec.clock_rate == _COMFORT_NOISE.clock_rate for codec in audio):
        chosen = (*chosen, _COMFORT_NOISE)
    section = MediaSection("audio", SECURED[0] if secure else PLAIN[0], "", None)
    cryptos = tuple(
        sdp_crypto.new_crypto(tag, suite) for tag, suite in enumerate(sdp_crypto.SUITES if secure else (), start=1)
    )
    return PlainMedia((section,), 0, "sendrecv", chosen, None, None, True, cryptos)


def build_offer(media: PlainMedia, local: LocalPlain) -> str:
    """Our offer, of `our_offer`."""
    return _join(_head(local) + _audio(media, media.sections[0], local))


def build_plain_answer(offer: PlainMedia, local: LocalPlain) -> str:
    """Our answer: the accepted m-line, the others with port 0."""
    lines = _head(local)
    for index, section in enumerate(offer.sections):
        if index == offer.audio:
            lines += _audio(offer, section, local)
        else:
            lines.append(f"m={section.kind} 0 {section.profile} {section.formats}")
    return _join(lines)


def _join(lines: Sequence[str]) -> str:
    return "\r\n".join(lines) + "\r\n"


def _head(local: LocalPlain) -> list[str]:
    number, version = local.origin
    origin = f"o=- {number} {version} IN IP4 {local.host}"
    return ["v=0", origin, "s=-", f"c=IN IP4 {local.host}", "t=0 0"]


def _audio(media: PlainMedia, section: MediaSection, local: LocalPlain) -> list[str]:
    payload_types = " ".join(str(codec.payload_type) for codec in media.codecs)
    lines = [f"m=audio {local.port} {section.profile} {payload_types}"]
    if section.mid is not None:
        lines.append(f"a=mid:{section.mid}")
    for codec in media.codecs:
        channels = "/2" if codec.name == "opus" else ""  # RFC 7587 section 7: always announced as two
        name = codec.name if codec.name in ("opus", "telephone-event") else codec.name.upper()
        lines.append(f"a=rtpmap:{codec.payload_type} {name}/{codec.clock_rate}{channels}")
        if codec.name == "opus":
            lines.append(f"a=fmtp:{codec.payload_type} minptime=10;useinbandfec=1")
        elif codec.name == "telephone-event":
            lines.append(f"a=fmtp:{codec.payload_type} 0-15")
    lines += [f"a=ptime:{PTIME_MS}", f"a=maxptime:{MAXPTIME_MS}", f"a={media.direction}"]
    if local.rtcp_port is not None and local.rtcp_port != local.port + 1:
        lines.append(f"a=rtcp:{local.rtcp_port}")
    if media.rtcp_mux:
        lines.append("a=rtcp-mux")
    return lines + [crypto.line() for crypto in local.cryptos]


def _chosen(offered: Sequence[Codec]) -> tuple[Codec, ...]:
    audio = [codec for codec in offered if codec.name in _G711]
    audio += [codec for name in _OTHERS for codec in offered if codec.name == name]
    if not audio:
        raise MediaError("no_audio", "none of PCMU, PCMA, G722 and opus is offered")
    noise = [codec for codec in offered if codec.name == "cn" and any(c.clock_rate == codec.clock_rate for c in audio)]
    return (*audio, *events_for(offered, audio), *noise)


def _host(connection: str | None) -> str | None:
    """The address of a c= line; None: 0.0.0.0."""
    parts = (connection or "").split()
    if len(parts) != 3 or parts[:2] != ["IN", "IP4"]:
        raise bad("c= must be there and be IN IP4 (RFC 8866 section 5.7); the workers have no IPv6")
    try:
        address = ipaddress.IPv4Address(parts[2])
    except ValueError:
        raise bad("c= must name a numeric address of one host (RFC 8866 section 5.7)") from None
    if address.is_unspecified:
        return None
    if address.is_multicast or address.is_reserved or address.is_link_local or address in _THIS_NETWORK:
        raise bad("c= names no host that could be sent to")
    return str(address)


def _port(port: int) -> int:
    if not 0 < port < 65536:
        raise bad("a port above 65535")
    return port


def _rtcp(value: str | None, address: tuple[str, int] | None, mux: bool) -> tuple[str, int] | None:
    if value is not None:
        match = _RTCP.match(value)
        if match is None:
            raise bad("a malformed rtcp (RFC 3605 section 2.1)")
        host = _host(match[2]) if match[2] else (address[0] if address is not None else None)
        there = address is not None and host == address[0]
        named = (address[0], _port(int(match[1]))) if address is not None and there and match[1] != "0" else None
    else:
        named = None if address is None or address[1] == 65535 else (address[0], address[1] + 1)
    return address if mux else named


def _milliseconds(value: str | None) -> int | None:
    match = _MILLISECONDS.match(value or "")
    return int(match[1]) if match is not None else None
