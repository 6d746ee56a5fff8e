"""Checks a browser's SDP offer and writes the worker's answer. Pure: text in, values out.

What WebRTC requires is in RFC 8829 section 5.8 and RFC 8842; sdp_lines.py says how faults are told apart.

The first usable audio m-line is accepted, every other m-line is answered with port 0. The offer may have
no candidate at all: the browser's connectivity checks teach the worker its address (RFC 8445, 7.3.1.3).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from server.media.sdp_lines import (
    MAX_MEDIA,
    NUMBER,
    Codec,
    MediaSection,
    Section,
    bad,
    direction,
    events_for,
    media_header,
    offered_codecs,
    split,
)
from server.services.ports import MediaError

__all__ = [
    "MAX_MEDIA",
    "Codec",
    "Fingerprint",
    "LocalMedia",
    "MediaSection",
    "Offer",
    "RemoteCandidate",
    "build_answer",
    "host_priority",
    "parse_offer",
]

MAX_CANDIDATES = 100

AUDIO_LEVEL_URI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"  # RFC 6464

_HASH_BYTES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
_ROLES = {"actpass": "active", "passive": "active", "active": "passive"}  # offered setup → ours, RFC 8842
_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}\Z")
_PWD = re.compile(r"[A-Za-z0-9+/]{22,256}\Z")
_FINGERPRINT = re.compile(r"(\S{1,16}) ((?:[0-9A-Fa-f]{2}:)*[0-9A-Fa-f]{2})\Z")
_EXTMAP = re.compile(r"(\d{1,3})(?:/(?:sendrecv|sendonly|recvonly|inactive))? (\S{1,256})")

_ANSWER_ORDER = ("opus", "pcmu", "pcma")  # the first is what the peer sends


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A certificate digest: `algorithm` is sha-256, sha-384 or sha-512, `value` upper-case hex with colons."""

    algorithm: str
    value: str


@dataclass(frozen=True, slots=True)
class RemoteCandidate:
    """A UDP candidate with a numeric address. mDNS names and TCP candidates are left out on purpose."""

    foundation: str
    priority: int
    host: str
    port: int
    kind: str  # host, srflx, relay


@dataclass(frozen=True, slots=True)
class Offer:
    """A checked offer. `audio` is the index of the accepted m-line in `sections`."""

    sections: tuple[MediaSection, ...]
    audio: int
    bundled: bool
    direction: str  # the answer's direction
    codecs: tuple[Codec, ...]  # in answer order, then telephone-event
    audio_level_id: int | None  # header extension id, 1..14
    ufrag: str
    password: str
    ice_lite: bool
    fingerprints: tuple[Fingerprint, ...]
    dtls_role: str  # ours: active (we are the DTLS client) or passive
    candidates: tuple[RemoteCandidate, ...]


@dataclass(frozen=True, slots=True)
class LocalMedia:
    """The worker's half of the answer. `addresses`: (ip, port) of each candidate, best first."""

    ufrag: str
    password: str
    fingerprint: Fingerprint
    addresses: Sequence[tuple[str, int]]
    ssrc: int


def parse_offer(text: str) -> Offer:
    """Read and check an offer. Raises MediaError: bad_sdp, sdp_too_large, no_audio."""
    session, sections = split(text)
    headers = [media_header(section) for section in sections]
    audio = _pick_audio(headers)
    chosen = sections[audio]

    if not chosen.has("rtcp-mux"):
        raise bad("the audio m-line has no rtcp-mux; WebRTC requires it (RFC 8834 section 4.5)")
    candidates = sum(len(s.all("candidate")) for s in sections)
    if candidates > MAX_CANDIDATES:
        raise MediaError("sdp_too_large", f"{candidates} candidates; at most {MAX_CANDIDATES}")
    ufrag = chosen.first("ice-ufrag") or session.first("ice-ufrag") or ""
    password = chosen.first("ice-pwd") or session.first("ice-pwd") or ""
    if not _UFRAG.match(ufrag) or not _PWD.match(password):
        raise bad("ice-ufrag or ice-pwd is missing or malformed (RFC 8839 section 5.4)")
    setup = chosen.first("setup") or session.first("setup") or ""
    if setup not in _ROLES:
        raise bad("setup must be actpass, active or passive (RFC 8842 section 5.2)")
    offered = offered_codecs(chosen, headers[audio].formats, mux=True)
    return Offer(
        sections=tuple(headers),
        audio=audio,
        bundled=any(_in_bundle(group, headers[audio].mid) for group in session.all("group")),
        direction=direction(session, chosen),
        codecs=_chosen(offered),
        audio_level_id=_audio_level_id(session, chosen),
        ufrag=ufrag,
        password=password,
        ice_lite=session.has("ice-lite"),
        fingerprints=_fingerprints(chosen.all("fingerprint") or session.all("fingerprint")),
        dtls_role=_ROLES[setup],
        candidates=tuple(c for value in chosen.all("candidate") if (c := _candidate(value)) is not None),
    )


def build_answer(offer: Offer, local: LocalMedia) -> str:
    """The worker's SDP answer: complete candidates, one accepted m-line, the others with port 0."""
    lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0"]
    accepted_mid = offer.sections[offer.audio].mid
    if offer.bundled and accepted_mid is not None:
        lines.append(f"a=group:BUNDLE {accepted_mid}")
    lines.append("a=msid-semantic: WMS *")
    for index, section in enumerate(offer.sections):
        if index == offer.audio:
            lines += _audio_answer(offer, section, local)
            continue
        lines += [f"m={section.kind} 0 {section.profile} {section.formats}", "c=IN IP4 0.0.0.0", "a=inactive"]
        if section.mid is not None:
            lines.append(f"a=mid:{section.mid}")
    return "\r\n".join(lines) + "\r\n"


def _audio_answer(offer: Offer, section: MediaSection, local: LocalMedia) -> list[str]:
    host, port = local.addresses[0]
    payload_types = " ".join(str(codec.payload_type) for codec in offer.codecs)
    lines = [f"m=audio {port} {section.profile} {payload_types}", f"c=IN IP{_version(host)} {host}"]
    if section.mid is not None:
        lines.append(f"a=mid:{section.mid}")
    lines += [f"a={offer.direction}", "a=rtcp-mux", "a=rtcp-rsize", "a=msid:patchbay audio"]
    if offer.audio_level_id is not None:
        lines.append(f"a=extmap:{offer.audio_level_id} {AUDIO_LEVEL_URI}")
    for codec in offer.codecs:
        channels = "/2" if codec.name == "opus" else ""  # RFC 7587 section 7: always announced as two
        name = codec.name if codec.name in ("opus", "telephone-event") else codec.name.upper()
        lines.append(f"a=rtpmap:{codec.payload_type} {name}/{codec.clock_rate}{channels}")
        if codec.name == "opus":
            lines.append(f"a=fmtp:{codec.payload_type} minptime=10;useinbandfec=1")
        elif codec.name == "telephone-event":
            lines.append(f"a=fmtp:{codec.payload_type} 0-15")
    lines += ["a=ptime:20", f"a=ssrc:{local.ssrc} cname:patchbay", f"a=ssrc:{local.ssrc} msid:patchbay audio"]
    lines += [f"a=ice-ufrag:{local.ufrag}", f"a=ice-pwd:{local.password}", "a=ice-options:ice2"]
    lines += [f"a=fingerprint:{local.fingerprint.algorithm} {local.fingerprint.value}"]
    lines.append(f"a=setup:{offer.dtls_role}")
    for rank, (ip, candidate_port) in enumerate(local.addresses):
        priority = host_priority(rank)
        lines.append(f"a=candidate:{rank + 1} 1 udp {priority} {ip} {candidate_port} typ host")
    lines.append("a=end-of-candidates")
    return lines


def host_priority(rank: int) -> int:
    """Priority of the rank-th host candidate (RFC 8445 section 5.1.2.1; local preference falls with rank)."""
    return (126 << 24) + ((65535 - rank) << 8) + 255


def _pick_audio(headers: Sequence[MediaSection]) -> int:
    for index, header in enumerate(headers):
        if header.kind != "audio" or header.port == 0:
            continue
        if header.profile not in ("UDP/TLS/RTP/SAVPF", "RTP/SAVPF", "UDP/TLS/RTP/SAVP"):
            raise bad(f"the audio m-line's profile {header.profile!r} is not DTLS-SRTP (RFC 5764)")
        return index
    raise MediaError("no_audio", "the offer has no audio m-line")


def _chosen(offered: Sequence[Codec]) -> tuple[Codec, ...]:
    by_name = {codec.name: codec for codec in offered}
    audio = [by_name[name] for name in _ANSWER_ORDER if name in by_name]
    if not audio:
        raise MediaError("no_audio", "none of opus, PCMU and PCMA is offered")
    return (*audio, *events_for(offered, audio))


def _audio_level_id(session: Section, section: Section) -> int | None:
    for value in section.all("extmap") + session.all("extmap"):
        match = _EXTMAP.match(value)
        if match is not None and match[2] == AUDIO_LEVEL_URI and 1 <= int(match[1]) <= 14:
            return int(match[1])
    return None


def _fingerprints(values: Sequence[str]) -> tuple[Fingerprint, ...]:
    found: list[Fingerprint] = []
    for value in values:
        match = _FINGERPRINT.match(value)
        if match is None:
            raise bad("a malformed fingerprint (RFC 8122 section 5)")
        algorithm, digest = match[1].lower(), match[2].upper()
        size = _HASH_BYTES.get(algorithm)
        if size is None:
            continue  # sha-1 and md5 prove nothing
        if len(digest) != size * 3 - 1:
            raise bad(f"a {algorithm} fingerprint of the wrong length")
        found.append(Fingerprint(algorithm, digest))
    if not found:
        raise bad("no fingerprint of sha-256 or better (RFC 8122 section 5)")
    return tuple(found)


def _candidate(value: str) -> RemoteCandidate | None:
    """One candidate-attribute (RFC 8839 section 5.1), or None when the worker can't use it: TCP, an mDNS
    name (resolving it would stall the call; the peer's checks reveal the address anyway), RTCP component."""
    parts = value.split()
    if len(parts) < 8 or parts[6] != "typ":
        raise bad("a malformed candidate (RFC 8839 section 5.1)")
    foundation, component, transport, priority, host, port, kind = *parts[:6], parts[7]
    if not (NUMBER.match(component) and NUMBER.match(priority) and NUMBER.match(port)):
        raise bad("a malformed candidate (RFC 8839 section 5.1)")
    if transport.lower() != "udp" or component != "1" or kind not in ("host", "srflx", "relay"):
        return None
    if not (0 < int(port) < 65536) or len(foundation) > 32 or int(priority) >= 1 << 32:
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.version != 4 or address.is_multicast or address.is_unspecified:
        return None
    return RemoteCandidate(foundation, int(priority), str(address), int(port), kind)


def _in_bundle(group: str, mid: str | None) -> bool:
    tokens = group.split()
    return len(tokens) > 1 and tokens[0] == "BUNDLE" and mid in tokens[1:]


def _version(host: str) -> int:
    return ipaddress.ip_address(host).version
