"""Whom Patchbay hands which credentials; and a caller without a browser that calls through the relay."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp

from server.caller import Caller
from server.services.turn import CREDENTIALS_S, rest_credentials
from tests.helpers.coturn import SECRET, coturn
from tests.helpers.raw_socket import raw_socket
from tests.helpers.scripted_agent import ScriptedAgent
from tests.helpers.system import PASSWORD, system, until

CUSTOMER, AGENT = "/customer", "/agent"
FEWEST_PACKETS = 20  # what a tone is told by, 0.4 s, one way
STUN, TURN = "stun:turn.example.com:3478", "turn:turn.example.com:3478"


def checked(ice: dict[str, Any], person_id: str) -> str:
    """The user name, once everything about these servers is right."""
    assert ice["relay_only"] is False
    stun, turn = ice["ice_servers"]
    assert stun == {"urls": [STUN], "username": None, "credential": None}
    assert turn["urls"] == [TURN]
    expires_s = ice["ice_expires_at"] // 1000
    assert 0 < expires_s - time.time() <= CREDENTIALS_S + 1
    assert (turn["username"], turn["credential"]) == rest_credentials(SECRET, person_id, expires_s)
    return str(turn["username"])


async def test_each_person_gets_credentials_of_their_own_with_what_they_ask_anyway(tmp_path: Path) -> None:
    async with system(tmp_path, workers=1, turn_urls=f"{STUN},{TURN}", turn_secret=SECRET) as patchbay:
        async with aiohttp.ClientSession() as http:
            asked = {"key": patchbay.widget_key()}
            async with http.post(f"{patchbay.url}/api/v1/sessions", json=asked) as response:
                created = await response.json()
                assert response.headers["Cache-Control"] == "no-store"
        session_id = created["session_id"]
        first = checked(created, session_id)

        async with raw_socket(patchbay.url) as socket:
            await socket.connect(CUSTOMER, {"token": created["token"]})
            checked((await socket.ask(CUSTOMER, "sync", {}))["body"]["ice"], session_id)
            checked((await socket.ask(CUSTOMER, "ice.servers", {}))["body"], session_id)
            refused = await socket.ask(CUSTOMER, "ice.servers", {"session_id": "ses_of_somebody_else"})
            assert refused["error"]["code"] == "bad_message", "there is no asking for somebody else"

            async def later() -> bool:
                body = (await socket.ask(CUSTOMER, "ice.servers", {}))["body"]
                return checked(body, session_id) != first

            await until(later, 5, "credentials of a later second")
        async with raw_socket(patchbay.url) as socket:
            assert (await socket.connect(CUSTOMER, {"token": "nobody's"}))["message"] == "token_invalid"
            assert (await socket.connect(AGENT))["message"] == "not_logged_in"

        async with ScriptedAgent(patchbay.url, "ana", PASSWORD) as agent:
            ((user_id,),) = patchbay.rows("SELECT id FROM \"user\" WHERE login = 'ana'")
            checked((await agent.send("sync", {}))["ice"], user_id)
            checked(await agent.send("ice.servers", {}), user_id)
        assert SECRET not in patchbay.log.read_text()


async def both_hear(caller: Caller, agent: ScriptedAgent) -> None:
    assert caller.peer is not None
    assert agent.peer is not None
    await asyncio.gather(caller.peer.wait_tone(880), agent.peer.wait_tone(440))


async def test_a_test_call_takes_the_relay(tmp_path: Path) -> None:
    """`patchbay testcall` where no direct path is wanted; and once more after its leg moved."""
    async with (
        coturn(tmp_path) as relay,
        system(tmp_path, workers=1, **relay.settings("udp", relay_only=True)) as patchbay,
        ScriptedAgent(patchbay.url, "ana", PASSWORD, auto_accept=True) as agent,
    ):
        await agent.set_state("ready")
        caller = Caller(patchbay.url, patchbay.widget_key())
        try:
            await caller.begin()
            await agent.contact("talking")
            await both_hear(caller, agent)
            await caller.reanchor()
            await both_hear(caller, agent)
            await caller.hang_up()
        finally:
            await caller.close()
        session_id = caller.view["session_id"]

        async def relayed() -> bool:
            return min(relay.relayed().get(session_id, (0, 0))) >= 2 * FEWEST_PACKETS

        await until(relayed, 10, "both of the caller's allocations are over, with its sound in them")
