"""A few of the packets and calls of `make strangers`."""

from __future__ import annotations

from pathlib import Path

from tests.strangers.handshakes import connect
from tests.strangers.inject import inject

PACKETS = 20_000
CALLS = 4


async def test_what_strangers_send_reaches_nobody(tmp_path: Path) -> None:
    found = await inject(tmp_path, PACKETS)
    assert found.sent == PACKETS
    assert found.arrived > PACKETS * 0.95, f"{found}: too few were read to prove anything"
    assert found.strange == 0, found
    assert found.heard > 50, "and those who talk were heard meanwhile"


async def test_a_spray_keeps_no_call_from_connecting(tmp_path: Path) -> None:
    found = await connect(tmp_path, CALLS)
    assert (len(found.took_s), found.failed) == (CALLS, [])
    assert found.sprayed > CALLS * 7
