"""Bad SDP, and ids of others, at a real system: a clear code, the place in the queue is kept, and nothing is told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from server.caller import Caller
from server.clock import MonotonicClock
from server.domain.session import derived_id
from server.ids import new_id
from server.media.peer import Peer
from server.services.auth import COOKIE
from server.services.tokens import CustomerTokens
from tests.helpers.raw_socket import RawSocket, raw_socket
from tests.helpers.scripted_agent import AgentRefused, ScriptedAgent
from tests.helpers.system import PASSWORD, System, system, until
from tests.unit.test_media_sdp import CHROMIUM

pytestmark = pytest.mark.asyncio(loop_scope="module")
CUSTOMER = "/customer"
SWEEPS, OFFERS_EACH = 24, 10
SDP_CODES = {"bad_sdp", "no_audio", "sdp_too_large"}
BAD_SDP: dict[str, tuple[str, str]] = {
    "not SDP": ("hello", "bad_sdp"),
    "NUL": (CHROMIUM.replace("s=-", "s=\0"), "bad_sdp"),
    "an answer's end": (CHROMIUM[len(CHROMIUM) // 2 :], "bad_sdp"),
    "no fingerprint": (CHROMIUM.replace("a=fingerprint", "a=x"), "bad_sdp"),
    "no encryption": (CHROMIUM.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"), "bad_sdp"),
    "a short password": (CHROMIUM.replace("a=ice-pwd:T0litspp6UVgvJm6wS7ovZew", "a=ice-pwd:x"), "bad_sdp"),
    "a role that is none": (CHROMIUM.replace("actpass", "holdconn"), "bad_sdp"),
    "video only": (CHROMIUM[: CHROMIUM.index("m=audio")] + CHROMIUM[CHROMIUM.index("m=video") :], "no_audio"),
    "codecs that nobody speaks": (
        CHROMIUM.replace("111 63 9 0 8 13 110 126", "63 9").replace("opus", "speex"), "no_audio",
    ),
    "too many bytes": (CHROMIUM + "a=x:" + "€" * 30_000, "sdp_too_large"),
    "too many m-lines": (CHROMIUM + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * 30, "sdp_too_large"),
    "too many candidates": (
        CHROMIUM + "".join(f"a=candidate:1 1 udp 1 192.0.2.1 {port} typ host\r\n" for port in range(2000, 2200)),
        "sdp_too_large",
    ),
}  # fmt: skip


class Line:
    """A customer's socket, and the session that its token names."""

    def __init__(self, socket: RawSocket, session_id: str) -> None:
        self.socket, self.session_id = socket, session_id
        self.leg_id = derived_id(session_id, "leg", 0)
        self.generation = 1
        self.place: int | None = None

    async def call(self, sdp: str | None = None) -> dict[str, Any]:
        return await self.socket.ask(CUSTOMER, "call.request", {"name": "Li Wei", "sdp": sdp})

    async def offer(self, sdp: str, **changed: Any) -> dict[str, Any]:
        """The offer of the next generation; its ack."""
        body = {"session_id": self.session_id, "leg_id": self.leg_id, "generation": self.generation + 1, "sdp": sdp}
        answer = await self.socket.ask(CUSTOMER, "leg.offer", body | changed)
        if answer["ok"]:
            self.generation += 1
        return answer

    async def outcome(self) -> str:
        """What became of the newest offer: `answered`, or the code of its refusal."""
        async with asyncio.timeout(10):
            while True:
                for body in list(self.socket.pushes):
                    self.socket.pushes.remove(body)
                    self._note(body)
                    if body["type"] in ("leg.answer", "leg.refused") and body["generation"] == self.generation:
                        self.answer = str(body.get("sdp"))
                        return "answered" if body["type"] == "leg.answer" else str(body["code"])
                await self.socket._skip()

    def _note(self, body: dict[str, Any]) -> None:
        if body["type"] == "queue.position":
            self.place = body["position"]

    async def placed(self, place: int) -> None:
        """Wait until the line was last told this place."""
        async with asyncio.timeout(10):
            while True:
                for body in list(self.socket.pushes):
                    self.socket.pushes.remove(body)
                    self._note(body)
                if self.place == place:
                    return
                await self.socket._skip()

    async def view(self) -> dict[str, Any]:
        view: dict[str, Any] = (await self.socket.ask(CUSTOMER, "sync", {}))["body"]["call"]
        return view


class Served:
    def __init__(self, patchbay: System) -> None:
        self.url, self.patchbay = patchbay.url, patchbay
        self.tokens = CustomerTokens(patchbay.token_key(), MonotonicClock())
        ((self._entry, self._tenant),) = patchbay.rows("SELECT id, tenant FROM entry_point ORDER BY name LIMIT 1")

    async def line(self, socket: RawSocket) -> Line:
        session_id = new_id("ses")
        token, _ = self.tokens.issue(self._tenant, session_id, self._entry)
        assert "sid" in await socket.connect(CUSTOMER, {"token": token})
        return Line(socket, session_id)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with system(tmp_path_factory.mktemp("bad"), workers=1) as patchbay:
        parts = patchbay.pids()
        yield Served(patchbay)
        assert patchbay.pids() == parts, "a part has died"
        log = patchbay.log.read_text()
        for trace in ("Traceback", "socket_handler_failed", "request_failed", "dispatch_failed", '"code": "internal"'):
            assert trace not in log, log[max(0, log.index(trace) - 2000) :][:4000]


# --- SDP ---------------------------------------------------------------------------------------------


async def test_a_refused_offer_keeps_its_place_and_the_next_one_works(served: Served) -> None:
    async with raw_socket(served.url) as first, raw_socket(served.url) as second:
        line, behind = await served.line(first), await served.line(second)
        assert (await line.call("v=0\r\nnonsense"))["ok"]
        assert await line.outcome() == "bad_sdp"
        peer_behind = Peer()
        assert (await behind.call(await peer_behind.offer()))["ok"]
        assert await behind.outcome() == "answered"
        for name, (sdp, code) in BAD_SDP.items():
            assert (await line.offer(sdp))["ok"], name
            assert await line.outcome() == code, name
            view = await line.view()
            assert (view["state"], view["leg"]["state"]) == ("queued", "lost"), name
        too_large = await line.offer("v=0\r\n" + "x" * 65_536)
        assert too_large["error"]["code"] == "sdp_too_large"
        assert (await line.view())["leg"]["generation"] == line.generation, "it did not count"

        peer = Peer()
        assert (await line.offer(await peer.offer()))["ok"]
        assert await line.outcome() == "answered"
        await peer.answer(line.answer)

        async def up() -> bool:
            return bool((await line.view())["leg"]["state"] == "up")

        await until(up, 10, "the good offer's leg")
        await behind.placed(2)  # whoever came first is still first
        for one in (line, behind):
            assert (await one.socket.ask(CUSTOMER, "call.hang_up", {}))["ok"]
        await peer.close()
        await peer_behind.close()


async def test_offers_out_of_step_have_codes(served: Served) -> None:
    async with raw_socket(served.url) as socket, raw_socket(served.url) as other:
        line, stranger = await served.line(socket), await served.line(other)
        assert (await line.offer(CHROMIUM))["error"]["code"] == "unknown_leg"
        assert (await line.call(CHROMIUM))["ok"]
        assert await line.outcome() == "answered"
        assert (await stranger.call())["ok"]
        foreign = {"session_id": stranger.session_id, "leg_id": stranger.leg_id}
        for changed, code in (
            (foreign, "not_your_session"),
            ({"session_id": "ses_nobody"}, "not_your_session"),
            ({"leg_id": stranger.leg_id}, "unknown_leg"),
            ({"leg_id": derived_id(line.session_id, "leg", 1)}, "unknown_leg"),
            ({"generation": 0}, "bad_message"),
            ({"generation": 10**9}, "bad_message"),
        ):
            assert (await line.offer(CHROMIUM, **changed))["error"]["code"] == code, changed
        again = {"session_id": line.session_id, "leg_id": line.leg_id, "generation": 1, "sdp": CHROMIUM}
        assert (await socket.ask(CUSTOMER, "leg.offer", again))["ok"], "a repeated offer is no fault"
        assert (await line.offer(CHROMIUM))["ok"]
        assert (await socket.ask(CUSTOMER, "leg.offer", again))["error"]["code"] == "stale_generation"
        assert (await stranger.view())["leg"]["generation"] == 0, "the stranger's leg is untouched"
        for one in (line, stranger):
            await one.socket.ask(CUSTOMER, "call.hang_up", {})
        assert (await line.offer(CHROMIUM))["error"]["code"] == "session_ended"


async def test_places_and_callbacks_out_of_step_have_codes(served: Served) -> None:
    """The demo's queues keep no places, and there is no phone line."""
    async with raw_socket(served.url) as socket:
        line = await served.line(socket)
        call_me = {"number": "+493012345678"}
        for kind, body in (("place.keep", {}), ("place.take", {}), ("callback.ask", call_me)):
            answer = await socket.ask(CUSTOMER, kind, body)
            assert answer["error"]["code"] == "not_waiting", (kind, answer)
        assert (await line.call(CHROMIUM))["ok"]
        assert await line.outcome() == "answered"
        assert (await socket.ask(CUSTOMER, "place.keep", {}))["error"]["code"] == "place_not_offered"
        assert (await socket.ask(CUSTOMER, "callback.ask", call_me))["error"]["code"] == "callback_not_offered"
        assert (await socket.ask(CUSTOMER, "place.take", {}))["ok"], "nothing to take, and nothing lost"
        for number in ("", "0301234", "+0301234567", "+49 30 1234567", "+" + "9" * 16, 7):
            answer = await socket.ask(CUSTOMER, "callback.ask", {"number": number})
            assert answer["error"]["code"] == "bad_message", number
        assert (await socket.ask(CUSTOMER, "place.keep", {"for": 60}))["error"]["code"] == "bad_message"
        assert (await line.view())["state"] == "queued"
        await socket.ask(CUSTOMER, "call.hang_up", {})
        assert (await socket.ask(CUSTOMER, "place.keep", {}))["error"]["code"] == "session_ended"


async def test_a_sweep_of_mutated_offers_kills_nothing(served: Served) -> None:
    peer = Peer()
    seeds = (CHROMIUM, await peer.offer(candidates=True))
    outcomes: dict[str, int] = {}

    async def sweep(number: int) -> None:
        chance = random.Random(number)
        async with raw_socket(served.url) as socket:
            line = await served.line(socket)
            assert (await line.call())["ok"]
            line.generation = 0
            for _ in range(OFFERS_EACH):
                sdp = mutated(chance.choice(seeds), chance)
                assert (await line.offer(sdp))["ok"], sdp
                outcome = await line.outcome()
                assert outcome in SDP_CODES | {"answered"}, sdp
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
            await socket.ask(CUSTOMER, "call.hang_up", {})

    await asyncio.gather(*(sweep(number) for number in range(SWEEPS)))
    assert sum(outcomes.values()) >= 200
    assert outcomes["bad_sdp"] > 20
    assert outcomes["answered"] > 20, "else the sweep does not reach what lies behind the check"
    async with raw_socket(served.url) as socket:
        line = await served.line(socket)
        assert (await line.call(await peer.offer()))["ok"]
        assert await line.outcome() == "answered"
        await peer.answer(line.answer)
        await peer.wait_for(lambda heard: heard.level_dbfs > -60)  # the music
        await socket.ask(CUSTOMER, "call.hang_up", {})
    await peer.close()


def mutated(sdp: str, chance: random.Random) -> str:
    """One to three changes, as fuzzers make them."""
    lines = sdp.split("\r\n")
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(lines))
        match chance.randrange(8):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, lines[at])
            case 2:
                lines.insert(chance.randrange(len(lines)), lines.pop(at))
            case 3:
                lines[at] = lines[at][: chance.randrange(len(lines[at]) + 1)]
            case 4:
                lines[at] = "".join(str(chance.randrange(10**12)) if c.isdigit() else c for c in lines[at])
            case 5:
                where = chance.randrange(len(lines[at]) + 1)
                lines[at] = lines[at][:where] + chance.choice("\x01\t é陈:/=; \u2028" + "😀") + lines[at][where:]
            case 6:
                lines[at] = lines[at].replace(" ", chance.choice(["", "  ", " -1 ", " 65536 "]), 1)
            case 7:
                lines[at] += chance.choice([" ", ":", "x" * 300, "\r", "0"])
        lines = lines or ["v=0"]
    return "\r\n".join(lines) or "v"


# --- somebody else's ---------------------------------------------------------------------------------


async def test_what_is_another_agents_answers_like_what_is_not_there(served: Served) -> None:
    """Every message and every REST path, with ids of Ana's contact and with ids of nothing: the same answers."""
    url = served.url
    async with (
        ScriptedAgent(url, "ana", PASSWORD, auto_accept=True) as ana,
        ScriptedAgent(url, "bo", PASSWORD, media=False) as bo,
    ):
        await ana.set_state("ready")
        caller = Caller(url, served.patchbay.widget_key())
        await caller.begin()
        contact = await ana.contact("talking")
        hers = {"session_id": contact["session_id"], "segment_id": contact["segment_id"]}
        nobodys = {"session_id": "ses_nothing", "segment_id": "seg_nothing"}
        leg = {"leg_id": contact["leg"]["leg_id"], "generation": contact["leg"]["generation"] + 1, "sdp": CHROMIUM}
        for kind, more in (
            ("offer.ack", {}),
            ("offer.accept", {}),
            ("offer.accept", {"sdp": CHROMIUM}),
            ("offer.reject", {}),
            ("contact.hold", {"on": True}),
            ("contact.park", {}),
            ("contact.hang_up", {}),
            ("contact.notes", {"notes": "mine now"}),
            ("contact.wrap_up", {"notes": "mine now", "disposition_id": None}),
        ):
            assert await _outcome(bo, kind, hers | more) == await _outcome(bo, kind, nobodys | more), kind
            if kind != "offer.ack":
                assert (await _outcome(bo, kind, hers | more))["code"] == "not_your_contact"
        mine, nothing = {"session_id": hers["session_id"]}, {"session_id": "ses_nothing"}
        for fetched in (nothing, {"session_id": None}, {"session_id": "x" * 500}, {}, mine | {"by": "bo"}):
            assert (await _outcome(bo, "contact.fetch", fetched))["code"] in ("not_parked", "bad_message"), fetched
        assert await _outcome(bo, "leg.offer", mine | leg) == await _outcome(bo, "leg.offer", nothing | leg)
        customers = {**leg, "leg_id": derived_id(hers["session_id"], "leg", 0)}
        assert (await _outcome(bo, "leg.offer", mine | customers))["code"] == "not_your_contact"
        assert (await _outcome(ana, "leg.offer", mine | customers))["code"] == "not_your_contact", "an agent's own only"
        assert (await bo.send("sync", {}))["contacts"] == []
        assert ana.current["state"] == "talking"
        assert ana.current["notes"] == ""

        await caller.hang_up()
        await ana.contact("wrap_up")

        async def archived() -> bool:
            return served.patchbay.rows("SELECT state FROM recording") == [("ready",)]

        await until(archived, 30, "the archive")
        ((recording_id,),) = served.patchbay.rows("SELECT id FROM recording")
        for path in (
            "/sessions/{}",
            "/recordings/{}",
            "/recordings/{}/audio",
            "/recordings/{}/audio?side=customer",
            "/recordings/{}/audio?side=agent",
            "/recordings/{}/audio?side=stereo",
        ):
            real = hers["session_id"] if "sessions" in path else recording_id
            assert await _get(url, bo, path.format(real)) == await _get(url, bo, path.format("rec_nothing")), path
            assert (await _get(url, bo, path.format(real)))[0] == 404
            assert (await _get(url, ana, path.format(real)))[0] in (200, 202), path
        for path in ("..%2f..%2fpatchbay.db", "%00", "rec_" + "x" * 200, "陈"):
            assert (await _get(url, ana, f"/recordings/{path}/audio"))[0] == 404, path
        assert (await _get(url, bo, f"/sessions?q={hers['session_id']}"))[1]["items"] == []
        await ana.wrap_up(await _disposition(ana))
        await caller.close()


async def _outcome(agent: ScriptedAgent, kind: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        return await agent.send(kind, body)
    except AgentRefused as refusal:
        return {"code": refusal.code, "params": refusal.params}


async def _get(url: str, agent: ScriptedAgent, path: str) -> tuple[int, Any]:
    """(status, JSON body if it is JSON) for this agent's login."""
    async with (
        aiohttp.ClientSession(cookies={COOKIE: agent._cookie}) as http,
        http.get(f"{url}/api/v1{path}") as answer,
    ):
        return answer.status, await answer.json() if answer.content_type == "application/json" else None


async def _disposition(agent: ScriptedAgent) -> str:
    return str((await agent.rest("GET", "/dispositions"))["items"][0]["disposition_id"])
