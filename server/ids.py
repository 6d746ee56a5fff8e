"""Ids: a prefix that names the kind, then a ULID (time-ordered, 26 characters, no secret)."""

from __future__ import annotations

import secrets
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32


def new_id(prefix: str) -> str:
    """A fresh id such as `ses_01JD3…`: 48 bits of UTC milliseconds, 80 random bits.

    Prefixes: ses session, seg segment, vis queue visit, leg, rec recording, usr user, que queue, skl skill,
    ept entry point, dsp disposition, brk break reason."""
    value = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    return prefix + "_" + "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))
