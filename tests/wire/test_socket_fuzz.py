"""Whatever a stranger puts on a socket: an ack with a stable code, or the connection ends; and nobody else notices."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from server.clock import MonotonicClock
from server.services.tokens import CustomerTokens
from server.signaling.socket_guard import BURST as FRAMES_AT_ONCE
from server.signaling.sockets import BURST, MAX_MESSAGE_BYTES
from tests.helpers.fuzz import examples
from tests.helpers.raw_socket import Ended, RawSocket, raw_socket
from tests.helpers.scripted_agent import ScriptedAgent
from tests.helpers.system import PASSWORD, System, system

pytestmark = pytest.mark.asyncio(loop_scope="module")
CUSTOMER, AGENT = "/customer", "/agent"
PROMPT_S = 1.0
HEALTHY = 12
NOT_TAKEN = {"bad_message", "unknown_type", "unknown_version", "sdp_too_large", "rate_limited"}
OUT_OF_STEP = {"unknown_leg", "not_your_session", "session_ended", "stale_generation"}
MANY = settings(
    max_examples=examples(80),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Served:
    """A system with a few healthy sockets (together they may ask as often as these tests do), and a test's own."""

    def __init__(self, patchbay: System, healthy: list[RawSocket]) -> None:
        self.url, self.patchbay, self._healthy = patchbay.url, patchbay, itertools.cycle(healthy)
        self.tokens = CustomerTokens(patchbay.token_key(), MonotonicClock())
        ((self._entry, self._tenant),) = patchbay.rows("SELECT id, tenant FROM entry_point LIMIT 1")

    def token(self) -> str:
        """For a session that does not exist yet."""
        return self.tokens.issue(self._tenant, f"ses_{uuid4().hex}", self._entry)[0]

    async def joined(self, socket: RawSocket) -> RawSocket:
        assert "sid" in await socket.connect(CUSTOMER, {"token": self.token()})
        return socket

    async def others_are_well(self) -> None:
        async with asyncio.timeout(PROMPT_S):
            assert (await next(self._healthy).ask(CUSTOMER, "sync", {}))["ok"]

    def log(self) -> str:
        return self.patchbay.log.read_text()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with system(tmp_path_factory.mktemp("fuzz"), workers=1) as patchbay, AsyncExitStack() as stack:
        healthy = [await stack.enter_async_context(raw_socket(patchbay.url)) for _ in range(HEALTHY)]
        found = Served(patchbay, healthy)
        for socket in healthy:
            await found.joined(socket)
        yield found
        await found.others_are_well()
        log = found.log()
        for trace in ("Traceback", "socket_handler_failed", "request_failed", "part_ended", "never retrieved"):
            assert trace not in log, log[max(0, log.index(trace) - 2000) :][:4000]


# --- frames ------------------------------------------------------------------------------------------

NO_FRAMES: dict[str, str | bytes] = {
    "empty": "",
    "binary": b"\x00\x01",
    "binary, empty": b"",
    "base64": "bAAAA",
    "engine: unknown": "9",
    "engine: not a digit": "x",
    "engine: another alphabet": "٣",
    "engine: open": "0{}",
    "engine: upgrade": "5",
    "engine: message without content": "4",
    "socket: unknown": "49/customer,",
    "socket: not a digit": "4x",
    "socket: superscript": "4²",
    "connect error": '44/customer,{"message":"x"}',
    "binary event": '451-/customer,["m",{"_placeholder":true,"num":0}]',
    "binary event, a milliard attachments": '45999999999-/customer,["m"]',
    "binary event, no attachment": '450-/customer,1["m",{}]',
    "binary ack": '461-/customer,1[{"_placeholder":true,"num":0}]',
    "event: not JSON": "42/customer,1{",
    "event: an object": '42/customer,1{"m":1}',
    "event: nothing": "42/customer,1",
    "event: no name": "42/customer,1[]",
    "event: name is a number": "42/customer,1[1]",
    "event: name is null": "42/customer,1[null,{}]",
    "event: name is a list": "42/customer,1[[],{}]",
    "event: a long id": "42/customer," + "1" * 120 + '["m",{}]',
    "event: an id past 2^53": "42/customer," + "9" * 30 + '["m",{}]',
    "event: a long number": '42/customer,1["m",' + "9" * 5000 + "]",
    "event: deeply nested": '42/customer,1["m",' + "[" * 100_000 + "]" * 100_000 + "]",
    "event: deeply nested and cut off": "42/customer,1" + "[" * 200_000,
    "engine: deeply nested": "4" + "[" * 200_000,
    "event: connect": '42/customer,1["connect",{"aiohttp.request":null},{}]',
    "event: disconnect": '42/customer,1["disconnect","client disconnect"]',
    "ack: not a list": '43/customer,1{"a":1}',
    "ack: no id": "43/customer,[{}]",
    "connect: a list": "40/customer,[1]",
    "connect: a string": '40/customer,"token"',
}


@pytest.mark.parametrize("name", NO_FRAMES)
async def test_a_frame_that_no_client_sends_ends_its_connection(served: Served, name: str) -> None:
    async with raw_socket(served.url) as socket:
        await served.joined(socket)
        await socket.send(NO_FRAMES[name])
        assert await socket.ended()
        assert socket.close_code == aiohttp.WSCloseCode.OK
    await served.others_are_well()


@pytest.mark.parametrize(
    "frame",
    [
        '43/customer,12345[{"seq":1}]',
        '43/nowhere,1[{"seq":1}]',
        "41/nowhere,",
        '42/nowhere,1["m",{}]',
        '42["m",{}]',
        '42/agent,1["m",{}]',
        "3",
    ],
)
async def test_what_nobody_waits_for_is_ignored(served: Served, frame: str) -> None:
    async with raw_socket(served.url) as socket:
        await served.joined(socket)
        await socket.send(frame)
        assert (await socket.ask(CUSTOMER, "sync", {}))["ok"]


async def test_an_oversized_frame_ends_its_connection(served: Served) -> None:
    async with raw_socket(served.url) as socket:
        await served.joined(socket)
        with suppress(Ended):
            await socket.send('42/customer,1["m","' + "x" * MAX_MESSAGE_BYTES + '"]')
        assert await socket.ended()
    await served.others_are_well()


FRAMES = st.one_of(
    st.text(max_size=40),
    st.binary(max_size=40),
    st.builds("4{}{}{}".format, st.integers(0, 9), st.sampled_from(["/customer,", "/agent,", "/", ""]), st.text()),
    st.builds("42/customer,{}{}".format, st.integers(), st.text(alphabet='[]{}",:0mtrue\\u\ud800', max_size=30)),
)


@MANY
@given(frames=st.lists(FRAMES, min_size=1, max_size=8))
async def test_any_frames(served: Served, frames: list[str | bytes]) -> None:
    async with raw_socket(served.url) as socket:
        await served.joined(socket)
        with suppress(Ended):
            for frame in frames:
                raw = frame.encode(errors="replace").decode() if isinstance(frame, str) else frame
                await socket.send(raw)
            with suppress(TimeoutError):  # a frame may have closed the namespace, and left the connection open
                async with asyncio.timeout(PROMPT_S):
                    await socket.ask(CUSTOMER, "sync", {})
    await served.others_are_well()


# --- messages ----------------------------------------------------------------------------------------

SYNC = {"v": 1, "type": "sync", "id": "r1", "body": {}}
BAD_MESSAGES: dict[str, tuple[object, str]] = {
    "null": (None, "bad_message"),
    "a list": ([SYNC], "bad_message"),
    "a string": (json.dumps(SYNC), "bad_message"),
    "empty": ({}, "unknown_version"),
    "no version": ({**SYNC, "v": None}, "unknown_version"),
    "an older version": ({**SYNC, "v": 0}, "unknown_version"),
    "a newer version": ({**SYNC, "v": 2}, "unknown_version"),
    "a version as text": ({**SYNC, "v": "1"}, "unknown_version"),
    "no type": ({"v": 1, "id": "r", "body": {}}, "unknown_type"),
    "an unknown type": ({**SYNC, "type": "call.transfer"}, "unknown_type"),
    "an agent's type": ({**SYNC, "type": "offer.accept"}, "unknown_type"),
    "a type that is a list": ({**SYNC, "type": ["sync"]}, "unknown_type"),
    "an extra field": ({**SYNC, "as": "admin"}, "bad_message"),
    "a long extra field": ({**SYNC, "x" * 100_000: 1}, "bad_message"),
    "an extra field in the body": ({**SYNC, "body": {"x": 1}}, "bad_message"),
    "no id": ({"v": 1, "type": "sync", "body": {}}, "bad_message"),
    "an empty id": ({**SYNC, "id": ""}, "bad_message"),
    "a long id": ({**SYNC, "id": "x" * 65}, "bad_message"),
    "an id with a path": ({**SYNC, "id": "../x"}, "bad_message"),
    "no body": ({"v": 1, "type": "sync", "id": "r"}, "bad_message"),
    "a body that is a list": ({**SYNC, "body": []}, "bad_message"),
    "nested": ({**SYNC, "body": json.loads("[" * 300 + "]" * 300)}, "bad_message"),
    "a negative seq": ({**SYNC, "type": "stream.fetch", "body": {"after": -1}}, "bad_message"),
    "a seq past what the database counts": ({**SYNC, "type": "stream.fetch", "body": {"after": 2**63}}, "bad_message"),
    "a half of a character": ({**SYNC, "type": "call.request", "body": {"name": "\ud800"}}, "bad_message"),
    "a long name": ({**SYNC, "type": "call.request", "body": {"name": "x" * 201}}, "bad_message"),
    "a large context": ({**SYNC, "type": "call.request", "body": {"context": {"x" * 101: ""}}}, "bad_message"),
    "a numeric context": ({**SYNC, "type": "call.request", "body": {"context": {"a": 1}}}, "bad_message"),
    "an oversized sdp": ({**SYNC, "type": "call.request", "body": {"sdp": "x" * 65_537}}, "sdp_too_large"),
    "an sdp that is a number": ({**SYNC, "type": "call.request", "body": {"sdp": 1}}, "bad_message"),
    "a leg before the call": (
        {**SYNC, "type": "leg.offer", "body": {"session_id": "s", "leg_id": "l", "generation": 1, "sdp": "x"}},
        "not_your_session",
    ),
}


@pytest.mark.parametrize("name", BAD_MESSAGES)
async def test_a_bad_message_is_answered_with_its_code(served: Served, name: str) -> None:
    message, code = BAD_MESSAGES[name]
    async with raw_socket(served.url) as socket:
        await served.joined(socket)
        answer = await socket.emit(CUSTOMER, message)
        assert (answer["ok"], answer["error"]["code"]) == (False, code)
        assert len(answer["error"]["message"]) < 500
        assert (await socket.ask(CUSTOMER, "sync", {}))["ok"], "the socket goes on"


async def test_other_events_and_numbers_of_arguments(served: Served) -> None:
    async with raw_socket(served.url) as socket:
        await served.joined(socket)
        assert (await socket.emit(CUSTOMER, SYNC, event="n"))["error"]["code"] == "unknown_type"
        assert (await socket.emit(CUSTOMER, SYNC, event="_handle"))["error"]["code"] == "unknown_type"
        assert (await socket.emit(CUSTOMER))["error"]["code"] == "bad_message"
        assert (await socket.emit(CUSTOMER, SYNC, SYNC))["error"]["code"] == "bad_message"


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["sync", "r1", "ses_x", "en", "v=0\r\n", "\x00", "\ud800", "x" * 300])
)
VALUES = st.recursive(
    SCALARS, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=8), x, max_size=3), max_leaves=8
)
FIELDS = ("sdp", "name", "locale", "context", "page_url", "session_id", "leg_id", "generation", "after")
ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "v": st.just(1) | VALUES,
        "id": st.just("r1") | VALUES,
        "type": st.sampled_from(["call.request", "call.hang_up", "leg.offer", "stream.fetch", "sync"]) | VALUES,
        "body": st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), VALUES, max_size=6) | VALUES,
        "more": VALUES,
    },
)


@MANY
@example(messages=[{"v": True, "type": "sync", "id": "r1", "body": {}}])
@given(messages=st.lists(ENVELOPES | VALUES, min_size=1, max_size=8))
async def test_any_messages(served: Served, messages: list[Any]) -> None:
    async with raw_socket(served.url) as socket:
        await served.joined(socket)
        for message in messages:
            answer = await socket.emit(CUSTOMER, message)
            assert answer["ok"] or answer["error"]["code"] in NOT_TAKEN | OUT_OF_STEP, (message, answer)
    await served.others_are_well()


# --- too much ----------------------------------------------------------------------------------------


async def test_a_flood_is_refused_and_then_ended(served: Served) -> None:
    async with raw_socket(served.url) as socket:
        await served.joined(socket)
        within = int(FRAMES_AT_ONCE * 0.8)
        for number in range(within):
            await socket.send(f"42/customer,{1000 + number}" + json.dumps(["m", SYNC]))
        await served.others_are_well()
        answers = [await socket.ack(1000 + number) for number in range(within)]
        refused = [answer for answer in answers if not answer["ok"]]
        assert within - len(refused) >= BURST
        assert {answer["error"]["code"] for answer in refused} == {"rate_limited"}
        with suppress(Ended):
            for number in range(int(FRAMES_AT_ONCE) * 2):
                await socket.send(f"42/customer,{9000 + number}" + json.dumps(["m", SYNC]))
                if number % 100 == 0:
                    await served.others_are_well()
        assert await socket.ended()
    await served.others_are_well()


async def test_a_socket_that_joins_again_and_again_gets_no_second_seat(served: Served) -> None:
    async with raw_socket(served.url) as socket:
        await served.joined(socket)
        assert (await socket.connect(CUSTOMER, {"token": served.token()}))["message"] == "Unable to connect"
        with suppress(Ended):
            for _ in range(40):
                await socket.send("40/agent,")
        assert await socket.ended()
    await served.others_are_well()


# --- who may join ------------------------------------------------------------------------------------


async def test_why_a_socket_is_refused_reaches_the_client(served: Served) -> None:
    token = served.token()
    past = CustomerTokens(served.tokens._key, _Yesterday())
    head, payload, signature = token.split(".")
    other_payload = served.token().split(".")[1]
    cases: list[tuple[str, object, str]] = [
        (CUSTOMER, None, "token_invalid"),
        (CUSTOMER, {}, "token_invalid"),
        (CUSTOMER, {"token": None}, "token_invalid"),
        (CUSTOMER, {"token": {"a": 1}}, "token_invalid"),
        (CUSTOMER, {"token": ""}, "token_invalid"),
        (CUSTOMER, {"token": "x" * 100_000}, "token_invalid"),
        (CUSTOMER, {"token": "é.ü.\ud800"}, "token_invalid"),
        (CUSTOMER, {"token": f"{head}.{other_payload}.{signature}"}, "token_invalid"),
        (CUSTOMER, {"token": f"c2.{payload}.{signature}"}, "token_invalid"),
        (CUSTOMER, {"token": token[:-2] + ("AA" if not token.endswith("AA") else "BB")}, "token_invalid"),
        (CUSTOMER, {"token": _elsewhere("default", "ses_x")}, "token_invalid"),
        (CUSTOMER, {"token": past.issue("default", "ses_old", "ent_x")[0]}, "token_expired"),
        (AGENT, None, "not_logged_in"),
        (AGENT, {"token": token}, "not_logged_in"),
    ]
    for namespace, auth, code in cases:
        async with raw_socket(served.url) as socket:
            assert (await socket.connect(namespace, auth))["message"] == code, auth
    for cookie in ("patchbay_session=x", "patchbay_session=" + "x" * 5000, "=;;;,", 'a=b; patchbay_session="\\'):
        async with raw_socket(served.url, {"Cookie": cookie}) as socket:
            assert (await socket.connect(AGENT))["message"] == "not_logged_in", cookie
    async with raw_socket(served.url) as socket:
        assert (await socket.connect("/nowhere"))["message"] == "Unable to connect"


async def test_a_socket_of_another_origin_is_refused(served: Served) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", served.url.replace("http", "file")):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with raw_socket(served.url, {"Origin": origin}):
                pass
        assert refused.value.status == 403
    async with raw_socket(served.url, {"Origin": served.url}) as socket:
        await served.joined(socket)


async def test_a_handshake_in_any_other_shape_is_no_fault_of_ours(served: Served) -> None:
    base = served.url + "/socket.io/"
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    async with aiohttp.ClientSession() as http:
        for query in ("", "?EIO=4", "?EIO=3&transport=websocket", "?EIO=4&transport=polling", "?EIO=x&transport=x",
                      "?EIO=4&transport=websocket", "?EIO=4&transport=websocket&sid=nobody", "?EIO=4&sid=%00",
                      "?EIO=4&transport=websocket&j=x", "?" + "a=b&" * 500):  # fmt: skip
            for method in ("GET", "POST", "OPTIONS", "PUT"):
                for headers in ({}, upgrade):
                    async with http.request(method, base + query, headers=headers, data=b"x") as answer:
                        assert answer.status < 500, (method, query, headers)


async def test_an_agents_socket_takes_no_nonsense_either(served: Served) -> None:
    async with ScriptedAgent(served.url, "ana", PASSWORD, media=False) as agent:
        cookie = {"Cookie": f"patchbay_session={agent._cookie}"}
        await agent.close()
        async with raw_socket(served.url, cookie) as socket:
            if "sid" not in await socket.connect(AGENT):
                pytest.fail("the cookie's name has changed")
            for kind in ("call.request", "leg.offer", "offer.accept", "contact.wrap_up", "agent.set_state", "x"):
                answer = await socket.ask(AGENT, kind, {"session_id": "s", "segment_id": 1})
                assert answer["error"]["code"] in NOT_TAKEN
            answer = await socket.ask(AGENT, "agent.set_state", {"state": "break", "reason_id": "none"})
            assert answer["error"]["code"] == "unknown_reason"
            assert (await socket.ask(AGENT, "agent.set_state", {"state": "break"}))["error"][
                "code"
            ] == "reason_required"
            assert (await socket.ask(AGENT, "sync", {}))["body"]["agent"]["state"] == "offline"
    await served.others_are_well()


class _Yesterday(MonotonicClock):
    def now_ms(self) -> int:
        return super().now_ms() - 24 * 3_600_000


def _elsewhere(tenant: str, session_id: str) -> str:
    """A token of another installation."""
    return CustomerTokens(b"e" * 32, MonotonicClock()).issue(tenant, session_id, "ent_x")[0]
