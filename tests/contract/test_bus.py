"""What every bus promises: the twin within one process, Redis, and a Redis Cluster."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from server.routing import redis_bus
from server.routing.memory_bus import MemoryBus, MemoryExchange
from server.routing.redis_bus import CHANNEL, MAX_BYTES, QUEUE, RedisBus
from server.routing.redis_connection import connect_bus
from server.services.ports import Connection, Notice, RouterStoreUnavailable, StreamMessage
from tests.helpers.redis_server import RedisServer, redis_server
from tests.helpers.system import until

HEARD_S = 5.0


@dataclass
class Node:
    bus: MemoryBus | RedisBus
    heard: list[Notice] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        return [word for notice in self.heard for word in notice.routing]

    async def hears(self, word: str) -> None:
        async def heard() -> bool:
            return word in self.words

        await until(heard, HEARD_S, f"{word} among {self.words[-5:]}", every_s=0.005)

    async def subscribed(self) -> None:
        async def there() -> bool:
            try:
                await self.bus.ping()
            except RouterStoreUnavailable:
                return False
            return True

        await until(there, HEARD_S, "the bus hears", every_s=0.01)


Nodes = Callable[[int], Awaitable[list[Node]]]


@asynccontextmanager
async def redis_nodes(url: str) -> AsyncIterator[Nodes]:
    """Each node with its own way to Redis, subscribed."""
    async with AsyncExitStack() as stack:

        async def make(number: int) -> list[Node]:
            nodes = []
            for _ in range(number):
                redis = connect_bus(url)
                stack.push_async_callback(redis.aclose)
                node = Node(RedisBus(redis))
                stack.push_async_callback(node.bus.stop)
                await node.bus.start(node.heard.append)
                await node.subscribed()
                nodes.append(node)
            return nodes

        yield make


@pytest.fixture(params=["memory", "redis", "cluster"])
async def nodes(request: pytest.FixtureRequest) -> AsyncIterator[Nodes]:
    if request.param != "memory":
        server = request.getfixturevalue("redis_server" if request.param == "redis" else "redis_cluster")
        async with redis_nodes(server.url) as make:
            yield make
        return
    exchange = MemoryExchange()

    async def make_twins(number: int) -> list[Node]:
        made = [Node(exchange.bus()) for _ in range(number)]
        for node in made:
            await node.bus.start(node.heard.append)
        return made

    yield make_twins


def word(text: str) -> Notice:
    return Notice(routing=(text,))


def message(seq: int, text: str = "") -> StreamMessage:
    return StreamMessage("usr_a", seq, 1_700_000_000_000, {"type": "note", "text": text})


async def test_all_others_hear_a_notice_and_oneself_does_not(nodes: Nodes) -> None:
    a, b, c = await nodes(3)
    a.bus.publish(word("from a"))
    await b.hears("from a")
    await c.hears("from a")
    b.bus.publish(word("from b"))
    await a.hears("from b")
    await c.hears("from b")
    assert (a.words, b.words, c.words) == (["from b"], ["from a"], ["from a", "from b"])


async def test_a_notice_arrives_as_it_was(nodes: Nodes) -> None:
    a, b = await nodes(2)
    notice = Notice(
        messages=(
            StreamMessage("usr_a", 7, 1_700_000_000_000, {"type": "offer", "who": "Zoë 张\ud83d", "n": [1, None]}),
        ),
        connected=(("usr_a", Connection("node_1", "tab_1")), ("ses_1", Connection("node_2", "tab_2"))),
        routing=("default",),
        directory=("default", "other"),
    )
    a.bus.publish(notice)
    await b.hears("default")
    assert b.heard == [notice]


async def test_notices_of_one_node_keep_their_order(nodes: Nodes) -> None:
    a, b = await nodes(2)
    for number in range(500):
        a.bus.publish(word(str(number)))
        if number % 100 == 0:
            await asyncio.sleep(0)
    await b.hears("499")
    assert b.words == [str(number) for number in range(500)]


async def test_a_large_notice_arrives_whole_perhaps_in_parts(nodes: Nodes) -> None:
    a, b = await nodes(2)
    messages = tuple(message(seq, "x" * (MAX_BYTES // 3)) for seq in range(8))
    people = tuple((f"usr_{n}", Connection("node_1", f"tab_{n}")) for n in range(3))
    a.bus.publish(Notice(messages=messages, connected=people, routing=("large",), directory=("default",)))
    a.bus.publish(word("next"))
    await b.hears("next")
    assert tuple(m for notice in b.heard for m in notice.messages) == messages, "and in their order"
    assert tuple(person for notice in b.heard for person in notice.connected) == people
    assert b.words == ["large", "next"]
    assert [tenant for notice in b.heard for tenant in notice.directory] == ["default"]


async def test_a_listener_that_fails_hears_the_next_notice(nodes: Nodes) -> None:
    a, b = await nodes(2)
    await b.bus.stop()
    heard: list[Notice] = []

    def fail(notice: Notice) -> None:
        heard.append(notice)
        raise RuntimeError("as a bug would")

    await b.bus.start(fail)
    await b.subscribed()
    with capture_logs() as logs:
        a.bus.publish(word("one"))
        a.bus.publish(word("two"))

        async def both() -> bool:
            return len(heard) == 2

        await until(both, HEARD_S, "two notices")
    assert [entry["event"] for entry in logs] == ["notice_failed", "notice_failed"]


async def test_a_bus_that_has_stopped_hears_nothing(nodes: Nodes) -> None:
    a, b, c = await nodes(3)
    await b.bus.stop()
    await b.bus.stop()
    b.bus.publish(word("lost, perhaps"))
    a.bus.publish(word("one"))
    await c.hears("one")
    assert b.words == []


async def test_a_node_that_is_alone_tells_nobody(nodes: Nodes) -> None:
    (a,) = await nodes(1)
    a.bus.publish(word("hello?"))
    await a.bus.ping()
    assert a.heard == []


async def test_a_bus_stops_whatever_it_is_doing(nodes: Nodes) -> None:
    (a,) = await nodes(1)
    for ticks in range(40):
        for _ in range(ticks % 3):
            a.bus.publish(word("hello?"))
        for _ in range(ticks):
            await asyncio.sleep(0)
        async with asyncio.timeout(HEARD_S):
            await a.bus.stop()
        await a.bus.start(a.heard.append)


# --- what only Redis does ------------------------------------------------------------------------------


async def test_notices_are_heard_again_after_a_restart_and_a_flush(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with redis_nodes(server.url) as make:
            a, b = await make(2)
            for number, fault in enumerate((server.restart, server.flush, server.restart)):
                fault()
                await gets_through(a, b, f"after fault {number}")
                await gets_through(b, a, f"back after fault {number}")


async def test_publishing_neither_blocks_nor_raises_while_redis_is_away(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with redis_nodes(server.url) as make:
            a, b = await make(2)
            server.stop()
            began = asyncio.get_running_loop().time()
            for number in range(QUEUE * 3):
                a.bus.publish(word(f"lost {number}"))
            assert asyncio.get_running_loop().time() - began < 0.5
            with pytest.raises(RouterStoreUnavailable):
                await a.bus.ping()
            server.start()
            await gets_through(a, b, "found")


async def test_of_too_many_notices_the_oldest_are_dropped(redis_server: RedisServer) -> None:
    async with redis_nodes(redis_server.url) as make:
        a, b = await make(2)
        for number in range(QUEUE + 10):  # the speaker has no turn in between
            a.bus.publish(word(str(number)))
        await b.hears(str(QUEUE + 9))
        assert b.words == [str(number) for number in range(10, QUEUE + 10)]


async def test_a_message_that_is_too_large_alone_is_dropped(redis_server: RedisServer) -> None:
    async with redis_nodes(redis_server.url) as make:
        a, b = await make(2)
        with capture_logs() as logs:
            a.bus.publish(Notice(messages=(message(1), message(2, "x" * MAX_BYTES), message(3)), routing=("rest",)))
            a.bus.publish(word("next"))
            await b.hears("next")
        assert [m.seq for notice in b.heard for m in notice.messages] == [1, 3]
        assert b.words == ["rest", "next"]
        assert [entry["event"] for entry in logs] == ["notice_too_large"]


async def test_what_is_no_json_is_not_sent(redis_server: RedisServer) -> None:
    async with redis_nodes(redis_server.url) as make:
        a, b = await make(2)
        a.bus.publish(Notice(messages=(StreamMessage("usr_a", 1, 0, {"type": object()}),)))
        a.bus.publish(word("next"))
        await b.hears("next")
        assert len(b.heard) == 1


GOOD = {"v": 1, "from": "somebody", "messages": [], "connected": [], "routing": ["foreign"], "directory": []}
GARBLED = [
    "", "{", "[]", "7", "null", '"v"', "{}", "[" * 5000, "\udcff", json.dumps(GOOD | {"v": 2}),
    json.dumps(GOOD | {"messages": [["usr_a", 1, 2]]}), json.dumps(GOOD | {"messages": [["usr_a", "x", 2, {}]]}),
    json.dumps(GOOD | {"messages": [["usr_a", 1, 2, 3]]}), json.dumps(GOOD | {"connected": [["usr_a", "node_1"]]}),
    json.dumps(GOOD | {"routing": None}), json.dumps({k: v for k, v in GOOD.items() if k != "directory"}),
]  # fmt: skip


async def test_garbled_messages_are_left_out(redis_server: RedisServer) -> None:
    async with redis_nodes(redis_server.url) as make:
        (a,) = await make(1)
        with capture_logs() as logs:
            for text in GARBLED:
                assert redis_server.command("PUBLISH", CHANNEL, text) == ":1"
            redis_server.command("PUBLISH", CHANNEL, json.dumps(GOOD | {"new": "field"}))
            await a.hears("foreign")
        assert a.words == ["foreign"]
        assert [entry["event"] for entry in logs] == ["bus_message_garbled"] * len(GARBLED)


async def test_a_subscription_that_falls_silent_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_bus, "SILENT_S", 0.2)
    with redis_server(tmp_path) as server:
        async with redis_nodes(server.url) as make:
            a, b = await make(2)
            with capture_logs() as logs:
                server.pause()

                async def lost() -> bool:
                    return [entry["event"] for entry in logs].count("bus_lost") == 2

                await until(lost, HEARD_S, "both see that it hangs")
            server.resume()
            await gets_through(a, b, "resumed")


async def test_a_quiet_subscription_is_kept(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_bus, "SILENT_S", 0.5)  # a machine that stalls for so long is another test's matter
    async with redis_nodes(redis_server.url) as make:
        a, b = await make(2)
        before = server_connections(redis_server)

        async def pinged() -> bool:
            return all("cmd=ping" in line for line in subscribers(redis_server))

        with capture_logs() as logs:
            await until(pinged, HEARD_S, "both ask whether Redis is there")
            a.bus.publish(word("after silence"))
            await b.hears("after silence")
        assert logs == []
        assert server_connections(redis_server) == before


def subscribers(server: RedisServer) -> list[str]:
    return [line for line in server.command("CLIENT", "LIST").splitlines() if " sub=1 " in line]


def server_connections(server: RedisServer) -> list[str]:
    return [line.split()[0] for line in subscribers(server)]


async def gets_through(sender: Node, hearer: Node, text: str) -> None:
    """A notice is lost while a side is away: say it until it is heard, as the product's hints are said again."""

    async def heard() -> bool:
        sender.bus.publish(word(text))
        return text in hearer.words

    await until(heard, 2 * HEARD_S, text)
