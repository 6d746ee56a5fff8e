"""Calls through a real worker process: two aiortc peers, driven by the client."""

from __future__ import annotations

from pathlib import Path

from server.domain.media import LegUp, Source
from tests.helpers.rtc_peer import running


async def test_two_peers_hear_each_other(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        _, customer, agent = await rig.call()
        await customer.wait_tone(880)
        await agent.wait_tone(440)
