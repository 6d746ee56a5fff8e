"""Which node takes a thing first: the same answer on every node that knows the same nodes.

Rendezvous hashing (Thaler and Ravishankar, 1996): when a node goes, only what was its own moves."""

from __future__ import annotations

import hashlib
from collections.abc import Collection


def owner(key: str, node_ids: Collection[str]) -> str | None:
    """The node with the highest hash for `key`; None without nodes."""
    return max(node_ids, key=lambda node_id: (_hash(key, node_id), node_id), default=None)


def _hash(key: str, node_id: str) -> bytes:
    return hashlib.blake2b(f"{node_id}\0{key}".encode(), digest_size=8).digest()
