"""The bus over Redis: what a node publishes on the one channel, all others hear.

Redis keeps no message for those who are away, and neither do we: notices are hints, and what they hint at is in the
database. One task holds the subscription, one publishes. Both go on by themselves after any fault; a fault and its
end are a log line each.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from server.probes import note
from server.routing.redis_connection import CALL_S, ping
from server.services.ports import Connection, Notice, RouterStoreUnavailable, StreamMessage

log = structlog.get_logger()
CHANNEL = "patchbay:bus"
VERSION = 1
MAX_BYTES = 512 * 1024  # of one message; Redis drops a subscriber whose output grows beyond 32 MB
QUEUE = 1_000  # notices that wait to be sent; the oldest is dropped: its hint is overtaken first
BATCH = 50
SILENT_S = 5.0  # a subscription that says nothing for so long is asked; one that stays silent is given up
PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0  # before the next attempt


class RedisBus:
    """`Bus` over Redis. The client is the caller's, who closes it after `stop`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._id = secrets.token_hex(8)
        self._queue: deque[Notice] = deque(maxlen=QUEUE)
        self._queued = asyncio.Event()
        self._dropped = 0  # since the last message that was sent
        self._hearing = False
        self._tasks: list[asyncio.Task[None]] = []

    def publish(self, notice: Notice) -> None:
        if len(self._queue) == QUEUE:
            self._drop(1)
        self._queue.append(notice)
        self._queued.set()

    async def start(self, on_notice: Callable[[Notice], None]) -> None:
        self._tasks = [
            asyncio.create_task(self._listen(on_notice), name="bus listener"),
            asyncio.create_task(self._speak(), name="bus speaker"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []

    async def ping(self) -> None:
        """Raises RouterStoreUnavailable unless others are heard and Redis answers."""
        if not self._hearing:
            raise RouterStoreUnavailable("the bus is not subscribed")
        await ping(self._redis)

    # --- hearing ---

    async def _listen(self, on_notice: Callable[[Notice], None]) -> None:
        """Hear the others for ever."""
        pause, told = PAUSE_S, False
        while True:
            try:
                async with self._redis.pubsub() as channel:
                    async with asyncio.timeout(CALL_S):
                        await channel.subscribe(CHANNEL)
                    await self._hear(channel, on_notice)
            except (RedisError, OSError, TimeoutError) as error:
                if self._hearing or not told:
                    log.warning("bus_lost", error=str(error) or type(error).__name__)
            except Exception:
                log.exception("bus_failed")
            pause = PAUSE_S if self._hearing else min(2 * pause, LONGEST_PAUSE_S)
            told, self._hearing = True, False
            await asyncio.sleep(random.uniform(pause / 2, pause))

    async def _hear(self, channel: PubSub, on_notice: Callable[[Notice], None]) -> None:
        """Until the connection fails. Raises RedisError, OSError, TimeoutError."""
        asked = False
        while True:
            async with asyncio.timeout(SILENT_S + CALL_S):  # it may connect anew, too
                message = await channel.get_message(timeout=SILENT_S)
            if message is None:
                if asked:
                    raise TimeoutError(f"Redis was silent for {2 * SILENT_S} s")
                await channel.ping()
            elif message["type"] == "subscribe":
                self._hearing = True
                log.info("bus_heard")
            elif message["type"] == "message":
                self._take(message["data"], on_notice)
            asked = message is None

    def _take(self, text: str, on_notice: Callable[[Notice], None]) -> None:
        try:
            notice = self._decode(text)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            log.warning("bus_message_garbled", size=len(text), error=type(error).__name__)  # bodies name people
            return
        if notice is None:
            return
        note("bus", "heard")
        try:
            on_notice(notice)
        except Exception:
            log.exception("notice_failed")

    def _decode(self, text: str) -> Notice | None:
        """None when it is one's own. Raises ValueError, TypeError, KeyError, RecursionError."""
        body = json.loads(text)
        if body["v"] != VERSION:
            raise ValueError(f"version {body['v']!r}")
        if body["from"] == self._id:
            return None
        messages = [(str(person), int(seq), int(at), dict(said)) for person, seq, at, said in body["messages"]]
        connected = [(str(person), Connection(str(node), str(tab))) for person, node, tab in body["connected"]]
        return Notice(
            messages=tuple(StreamMessage(*parts) for parts in messages),
            connected=tuple(connected),
            routing=tuple(map(str, body["routing"])),
            directory=tuple(map(str, body["directory"])),
        )

    # --- speaking ---

    async def _speak(self) -> None:
        """Send what is queued for ever. What fails is dropped."""
        away = False
        while True:
            await self._queued.wait()
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            if not self._queue:
                self._queued.clear()
            texts = [text for notice in batch for text in self._encode(notice)]
            try:
                await self._send(texts)
            except Exception as error:
                self._drop(len(batch))
                if not isinstance(error, RedisError | OSError | TimeoutError):
                    log.exception("bus_failed")
                elif not away:
                    log.warning("bus_away", error=str(error) or type(error).__name__)
                away = True
                await asyncio.sleep(PAUSE_S)
            else:
                if self._dropped:
                    log.warning("bus_back", dropped=self._dropped)
                away, self._dropped = False, 0
                note("bus", "sent", count=len(batch))

    def _drop(self, notices: int) -> None:
        self._dropped += notices
        note("bus", "dropped", count=notices)

    async def _send(self, texts: list[str]) -> None:
        async with asyncio.timeout(CALL_S), self._redis.pipeline(transaction=False) as pipeline:
            for text in texts:
                pipeline.publish(CHANNEL, text)
            await pipeline.execute()

    def _encode(self, notice: Notice) -> Iterator[str]:
        """Messages within MAX_BYTES, in the notice's order."""
        try:
            text = json.dumps(self._body(notice), separators=(",", ":"))
        except (TypeError, ValueError, RecursionError):
            log.exception("notice_not_sent")
            return
        if len(text) <= MAX_BYTES:  # ASCII
            yield text
        elif halves := _halves(notice):
            for half in halves:
                yield from self._encode(half)
        else:
            log.warning("notice_too_large", size=len(text))

    def _body(self, notice: Notice) -> dict[str, Any]:
        return {
            "v": VERSION,
            "from": self._id,
            "messages": [(m.person_id, m.seq, m.at, m.body) for m in notice.messages],
            "connected": [(person, c.node_id, c.tab_id) for person, c in notice.connected],
            "routing": notice.routing,
            "directory": notice.directory,
        }


def _halves(notice: Notice) -> tuple[Notice, Notice] | None:
    """The notice in two, each part of it in its order; None when there is nothing to part."""
    n = {name: len(getattr(notice, name)) for name in ("messages", "connected", "routing", "directory")}
    if sum(n.values()) < 2:
        return None
    name = max(n, key=lambda part: n[part])  # parting the longest ends soonest
    parts, half = getattr(notice, name), n[name] // 2
    if half == 0:  # one of each
        return Notice(**{name: parts}), replace(notice, **{name: ()})
    return replace(notice, **{name: parts[:half]}), Notice(**{name: parts[half:]})
