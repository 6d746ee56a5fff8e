"""Keys for SRTP that travel in the SDP (SDES, RFC 4568; the AEAD suites are RFC 7714 section 14.2). Pure.

Whoever reads the SDP can listen, so this is for phones over TLS signalling; browsers use DTLS. Left out, line by line,
is what libsrtp's Python binding can't do: an MKI, several keys in one line, and session parameters that change the
protection (RFC 4568 section 6.3), which an answerer must not ignore."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from server.media.sdp_lines import bad

# bytes of master key and master salt
SUITES = {
    "AES_CM_128_HMAC_SHA1_80": 16 + 14,
    "AES_CM_128_HMAC_SHA1_32": 16 + 14,
    "AEAD_AES_128_GCM": 16 + 12,
    "AEAD_AES_256_GCM": 32 + 12,
}
MAX_LINES = 16

_LINE = re.compile(r"(\d{1,9})[ \t]+(\w{1,64})[ \t]+(\S{1,512})((?:[ \t]+\S{1,64}){0,8})\Z", re.ASCII)
_LIFETIME = re.compile(r"(?:2\^)?\d{1,15}\Z", re.ASCII)  # in packets; ours end long before 2^31


@dataclass(frozen=True, slots=True)
class Crypto:
    """One a=crypto line. `key`: master key, then master salt, of whoever wrote the line; never logged."""

    tag: int
    suite: str
    key: bytes = field(repr=False)

    def line(self) -> str:
        return f"a=crypto:{self.tag} {self.suite} inline:{base64.b64encode(self.key).decode()}"


def new_crypto(tag: int, suite: str) -> Crypto:
    return Crypto(tag, suite, secrets.token_bytes(SUITES[suite]))


def usable(values: Iterable[str]) -> tuple[Crypto, ...]:
    """The lines that we can use, in the offerer's order. Raises MediaError(bad_sdp) on a malformed one."""
    found: list[Crypto] = []
    for count, value in enumerate(values):
        match = _LINE.match(value)
        if match is None or count == MAX_LINES:
            raise bad("a malformed crypto, or too many of them (RFC 4568 section 9.1)")
        suite, parameters = match[2], match[4].split()
        key = _key(match[3], SUITES.get(suite))
        if key is not None and all(_may_be_ignored(parameter) for parameter in parameters):
            found.append(Crypto(int(match[1]), suite, key))
    return tuple(found)


def _key(text: str, size: int | None) -> bytes | None:
    """The key of `inline:<key||salt>["|" lifetime]["|" MKI ":" length]`; None where we can't use it."""
    method, _, info = text.partition(":")
    if method != "inline" or size is None or ";" in info:
        return None
    encoded, *rest = info.split("|")
    if any(not _LIFETIME.match(part) for part in rest):
        return None  # an MKI
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise bad("a crypto's key is not base64 (RFC 4568 section 9.2)") from None
    if len(key) != size:
        raise bad("a crypto's key is not as long as its suite wants (RFC 4568 section 6.2)")
    return key


def _may_be_ignored(parameter: str) -> bool:
    return parameter.startswith(("-", "WSH="))  # section 6.3.7 and 6.3.6: a hint of the replay window
