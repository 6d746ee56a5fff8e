"""Calls through a TURN server, in real browsers: where no other path works, and where no other is wanted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Frame, Page

from tests.helpers.browser import (
    AGENT_HZ,
    CUSTOMER_HZ,
    PEAK,
    agent_page,
    chromium,
    hears,
    keeps_hearing,
    shop_page,
    start_call,
)
from tests.helpers.closed_network import closed_network
from tests.helpers.coturn import RELAY_PORTS, coturn
from tests.helpers.system import PASSWORD, system, until

pytestmark = pytest.mark.browser
NO_SOUND_S = 40.0  # a customer whose sound never comes is told after 30 s, or 15 s after an agent's accept
TALK_S = 5.0
FEWEST_PACKETS = 100  # of the 50 a second that each side sends for TALK_S

# Remember the peer connections that the page makes from now on.
WATCH = """() => {
  window.__peers = [];
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(configuration) { super(configuration); window.__peers.push(this); }
  };
}"""
# Of the newest one: the types of all own candidates, and the pair in use.
PATH = """async () => {
  const all = [...(await window.__peers.at(-1).getStats()).values()];
  const of = (id) => all.find((entry) => entry.id === id);
  const pair = of(all.find((entry) => entry.type === 'transport').selectedCandidatePairId);
  const own = of(pair.localCandidateId);
  return {
    types: [...new Set(all.filter((entry) => entry.type === 'local-candidate').map((entry) => entry.candidateType))],
    used: own.candidateType, port: own.port, over: own.relayProtocol ?? null,
  };
}"""


async def path_of(page: Page | Frame) -> dict[str, Any]:
    found: dict[str, Any] = await page.evaluate(PATH)
    return found


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


async def test_without_a_relay_a_closed_network_gets_no_sound_and_is_told(tmp_path: Path) -> None:
    async with (
        closed_network(tmp_path) as network,
        system(tmp_path, media_bind=f"127.0.0.1,{network.host}") as patchbay,
        network.tunnel(port_of(patchbay.url)),
        chromium(tmp_path, CUSTOMER_HZ, network.browser) as customers,
        chromium(tmp_path, AGENT_HZ) as agents,
    ):
        await agent_page(agents, patchbay.url, "ana", PASSWORD)
        _, widget = await shop_page(customers, patchbay.url)
        await start_call(widget, "Li Wei")
        ended = widget.get_by_test_id("call-ended")
        await ended.wait_for(timeout=NO_SOUND_S * 1000)
        assert await ended.get_attribute("data-reason") == "no_media"
        assert await widget.evaluate(PEAK) is None
        assert await network.refused() > 0, "the browser had a direct path to try"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_where_only_the_relay_path_works_both_hear_each_other(tmp_path: Path, transport: str) -> None:
    async with (
        closed_network(tmp_path) as network,
        coturn(tmp_path, host=network.host, peers=[network.host]) as relay,
        system(tmp_path, media_bind=f"127.0.0.1,{network.host}", **relay.settings()) as patchbay,
        network.tunnel(port_of(patchbay.url)),
        chromium(tmp_path, CUSTOMER_HZ, network.browser) as customers,
        chromium(tmp_path, AGENT_HZ) as agents,
    ):
        await network.allow(transport, relay.port)
        agent = await agent_page(agents, patchbay.url, "ana", PASSWORD)
        _, widget = await shop_page(customers, patchbay.url)
        await widget.evaluate(WATCH)
        await start_call(widget, "Li Wei")
        await agent.get_by_test_id("offer-accept").click()
        await asyncio.gather(hears(agent, CUSTOMER_HZ), hears(widget, AGENT_HZ))
        await asyncio.gather(keeps_hearing(agent, CUSTOMER_HZ, TALK_S), keeps_hearing(widget, AGENT_HZ, TALK_S))
        path = await path_of(widget)
        assert (path["used"], path["over"]) == ("relay", transport)
        assert await network.refused() > 0, "the browser had a direct path to try"


async def test_relay_only_leaves_no_direct_path(tmp_path: Path) -> None:
    """On one machine, where every path works."""
    async with (
        coturn(tmp_path) as relay,
        system(tmp_path, **relay.settings("udp", relay_only=True)) as patchbay,
        chromium(tmp_path, CUSTOMER_HZ) as customers,
        chromium(tmp_path, AGENT_HZ) as agents,
    ):
        agent = await agent_page(agents, patchbay.url, "ana", PASSWORD)
        _, widget = await shop_page(customers, patchbay.url)
        for side in (agent, widget):
            await side.evaluate(WATCH)
        await start_call(widget, "Li Wei")
        await agent.get_by_test_id("offer-accept").click()
        await asyncio.gather(hears(agent, CUSTOMER_HZ), hears(widget, AGENT_HZ))
        await asyncio.gather(keeps_hearing(agent, CUSTOMER_HZ, TALK_S), keeps_hearing(widget, AGENT_HZ, TALK_S))
        for path in (await path_of(agent), await path_of(widget)):
            assert (path["types"], path["used"]) == (["relay"], "relay")
            assert RELAY_PORTS[0] <= path["port"] <= RELAY_PORTS[1]
        await widget.get_by_test_id("hang-up").click()
        await agent.get_by_test_id("wrap-up").wait_for()
        ((session_id, agent_id),) = patchbay.rows("SELECT session_id, agent_id FROM segment")

        async def over() -> bool:
            """Both ways between the relay and the worker, under the name that each side's credentials carry. The
            console's media check has allocations of its own, which carry nothing."""
            relayed = relay.relayed()
            return all(min(relayed.get(person, (0, 0))) >= FEWEST_PACKETS for person in (session_id, agent_id))

        await until(over, 10, "the ends of both allocations, with the call's packets in them")
