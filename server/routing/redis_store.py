"""The router store in Redis: an index that all nodes share.

Each change is one Lua script (scripts/, which describe the keys), so it is atomic, and one that the client repeats
after a lost answer does no harm: words carry versions, claims a request id whose answer is remembered. The
rules are those of the twin, memory_store.py; both pass tests/contract/test_router_store.py on the same histories.

Redis may lose what it acknowledged, or everything. Then `state` says that nothing is built, and the router makes
the index anew. Evicting keys one by one would leave half an index until the next rebuild: maxmemory-policy
noeviction is right for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import structlog
from pydantic_core import to_json as json_bytes
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoScriptError

from server.domain.requirements import Requirement, from_json, to_json
from server.domain.router_state import (
    DROPPED_KEPT,
    LOG_KEPT,
    Changes,
    Claim,
    Entry,
    Gone,
    PresentAgent,
    RouterState,
    WaitingSession,
    Word,
    ordered,
)
from server.routing.memory_store import AGENT, WAITING, key_of
from server.routing.redis_connection import answer, ping
from server.services.ports import RouterStoreUnavailable

log = structlog.get_logger()
SCRIPTS = Path(__file__).parent / "scripts"
FORMAT = 4  # of entries and keys; another one is another index
KEYS = ("meta", "entries", "heard", "dropped", "log", "claims", "holders", "answers", "ends")
V = TypeVar("V")
PORTION = 1_000  # entries that are read or rebuilt at once: some milliseconds of Redis
READ_TRIES = 5
REBUILD_TRIES = 5
DECODED_KEPT = 20_000  # entries that change little are read many times


class RedisRouterStore:
    """`RouterStore` in Redis. The client is the caller's, who closes it."""

    def __init__(self, redis: Redis | RedisCluster, dropped_kept: int = DROPPED_KEPT, log_kept: int = LOG_KEPT) -> None:
        self._redis = redis
        self._kept = (dropped_kept, log_kept)
        common = (SCRIPTS / "common.lua").read_text()
        names = [path.stem for path in SCRIPTS.glob("*.lua") if path.stem != "common"]
        self._scripts = {name: common + (SCRIPTS / f"{name}.lua").read_text() for name in names}
        self._hashes = {name: hashlib.sha1(text.encode()).hexdigest() for name, text in self._scripts.items()}

    async def write(self, tenant: str, words: Sequence[Word]) -> None:
        if words:
            await self._run("write", tenant, *self._kept, *_encoded(words))

    async def changes(self, tenant: str, after: int, proof: str) -> Changes:
        position, lost, lines, newest = await self._run("changes", tenant, after, proof)
        if lost:
            return Changes(int(position), (), lost=True)
        words = (_word(key, int(version), body) for key, version, body, _ in json.loads(lines))
        return Changes(int(position), tuple(word for word in words if word is not None), proof=newest)

    async def claim(self, tenant: str, claims: Sequence[Claim], now: int) -> tuple[bool, ...]:
        asked = [part for c in claims for part in (c.request_id, c.session_id, c.agent_id, c.expires_at)]
        return tuple(map(bool, await self._run("claim", tenant, now, *asked)))

    async def release(self, tenant: str, request_ids: Sequence[str]) -> None:
        if request_ids:
            await self._run("release", tenant, *request_ids)

    async def state(self, tenant: str, now: int) -> RouterState:
        """In portions, so that nobody else waits for long, brought up to date by what changed meanwhile."""
        for _ in range(READ_TRIES):
            state = await self._state(tenant, now)
            if state is not None:
                return state
        raise RouterStoreUnavailable(f"the index was lost or overtaken {READ_TRIES} times while it was read")

    async def _state(self, tenant: str, now: int) -> RouterState | None:
        built, position, proof, held = await self._run("state", tenant)
        whole: dict[str, Entry] = {}
        cursor = "0"
        while True:
            cursor, entries = await self._run("state_part", tenant, cursor, PORTION)
            found = ((key, _entry(key, body)) for key, body in _pairs(entries))
            whole |= {key: entry for key, entry in found if entry is not None}
            if cursor == "0":
                break
        changes = Changes(int(position), (), proof=proof)
        if built == "1":
            changes = await self.changes(tenant, int(position), proof)
            if changes.lost:
                return None
            for word in changes.words:
                if isinstance(word, Gone):
                    whole.pop(key_of(word), None)
                else:
                    whole[key_of(word)] = word
        claims = [claim for claim in (_claim(key, body) for key, body in _pairs(held)) if claim is not None]
        end, stands = changes.position, changes.proof
        return ordered(whole.values(), claims, now, built=built == "1", position=end, proof=stands)

    async def mark(self, tenant: str) -> int:
        return int(await self._run("mark", tenant))

    async def replace_all(self, tenant: str, mark: int, entries: Sequence[Entry]) -> None:
        """In portions, so that nobody else waits for long; a flush in between begins it anew."""
        for _ in range(REBUILD_TRIES):
            if await self._replace_all(tenant, mark, entries):
                return
        raise RouterStoreUnavailable(f"Redis was flushed {REBUILD_TRIES} times while the index was made")

    async def _replace_all(self, tenant: str, mark: int, entries: Sequence[Entry]) -> bool:
        start, present = await self._run("rebuild_begin", tenant)
        surplus = sorted(set(json.loads(present) or ()) - {key_of(entry) for entry in entries})
        whole = True
        for keys in _portions(surplus):
            whole = whole and bool(await self._run("rebuild_drop", tenant, start, mark, self._kept[1], *keys))
        for some in _portions(entries):
            words = _encoded(some)
            whole = whole and bool(await self._run("rebuild_put", tenant, start, mark, self._kept[1], *words))
        return whole and bool(await self._run("rebuild_end", tenant, start, self._kept[0]))

    async def ping(self) -> None:
        """Raises RouterStoreUnavailable."""
        await ping(self._redis)

    async def _run(self, script: str, tenant: str, *arguments: str | int) -> Any:
        return await answer(self._redis, self._evaluate(script, *(_key(tenant, name) for name in KEYS), *arguments))

    async def _evaluate(self, script: str, *words: str | int) -> Any:
        try:
            return await self._redis.evalsha(self._hashes[script], len(KEYS), *words)
        except NoScriptError:  # a new server, or its scripts were flushed: this runs and keeps it, in one
            return await self._redis.eval(self._scripts[script], len(KEYS), *words)


def _key(tenant: str, name: str) -> str:
    """The hash tag keeps one tenant's keys in one slot of a Redis Cluster; FORMAT keeps nodes of two versions apart."""
    return f"patchbay:{{{tenant}}}:{FORMAT}:{name}"


def _portions(whole: Sequence[V]) -> Iterator[Sequence[V]]:
    for at in range(0, len(whole), PORTION):
        yield whole[at : at + PORTION]


def _pairs(encoded: str) -> Iterable[tuple[str, str]]:
    flat = json.loads(encoded) or []  # Lua can't tell an empty list from an empty object
    return zip(flat[::2], flat[1::2], strict=True)


def _encoded(words: Sequence[Word]) -> list[str | int]:
    return [part for word in words for part in (key_of(word), word.version, _body(word))]


def _body(word: Word) -> str:
    """The scripts read the first three parts of a session's body and the first two of an agent's."""
    body: list[object]
    match word:
        case WaitingSession() as s:
            asks = None if s.asks is None else to_json(s.asks)
            who = (s.rejected_by, asks, s.preferred, s.excluded, s.sticky_agent, s.ringing, int(s.away))
            body = [s.version, int(s.held), s.channel, s.queue_id, s.arrived_at, s.entered_at, s.priority, *who]
        case PresentAgent() as a:
            body = [a.version, a.channels, a.state, a.idle_since, a.offered_at, a.busy_ms, a.ready_ms, a.handled]
        case Gone():
            return ""
    return json_bytes(body).decode()  # json.dumps with separators builds an encoder each time


def _word(key: str, version: int, body: str) -> Word | None:
    if body:
        return _entry(key, body)
    return Gone(WaitingSession if key.startswith(WAITING) else PresentAgent, key[len(WAITING) :], version)


@lru_cache(maxsize=DECODED_KEPT)  # so a garbled one is logged once, too
def _entry(key: str, body: str) -> Entry | None:
    """What an entry says; None when it is garbled."""
    try:
        match key[: len(WAITING)], json.loads(body):
            case "w:", [
                int(version),
                0 | 1 as held,
                str(channel),
                str(queue_id),
                int(arrived_at),
                int(entered_at),
                int(priority),
                list(rejected),
                asks,
                list(preferred),
                list(excluded),
                sticky_agent,
                list(ringing),
                0 | 1 as away,
            ]:
                return WaitingSession(
                    key[len(WAITING) :],
                    queue_id,
                    arrived_at,
                    entered_at,
                    priority,
                    channel,
                    bool(held),
                    tuple((_is(str, agent), _is(int, when)) for agent, when in rejected),
                    _asked(asks),
                    tuple(_is(str, agent) for agent in preferred),
                    tuple(_is(str, agent) for agent in excluded),
                    None if sticky_agent is None else _is(str, sticky_agent),
                    tuple(_is(str, agent) for agent in ringing),
                    bool(away),
                    version,
                )
            case "a:", [
                int(version),
                list(channels),
                str(state),
                int(idle_since),
                int(offered_at),
                int(busy_ms),
                int(ready_ms),
                list(handled),
            ]:
                return PresentAgent(
                    key[len(AGENT) :],
                    state,
                    tuple(_is(str, channel) for channel in channels),
                    idle_since,
                    offered_at,
                    busy_ms,
                    ready_ms,
                    tuple((_is(int, hour), _is(int, count)) for hour, count in handled),
                    version,
                )
    except (ValueError, TypeError, RecursionError):
        pass
    log.error("router_entry_garbled", key=key, body=body[:200])
    return None


def _asked(value: object) -> Requirement | None:
    return None if value is None else from_json(value)


@lru_cache(maxsize=1_000)
def _claim(request_id: str, body: str) -> Claim | None:
    """What a claim says; None when it is garbled."""
    try:
        session_id, agent_id, expires_at = json.loads(body)
        return Claim(_is(str, session_id), _is(str, agent_id), request_id, int(_is(str, expires_at)))
    except (ValueError, TypeError, RecursionError):
        log.error("router_claim_garbled", request_id=request_id, body=body[:200])
        return None


def _is(kind: type[V], value: object) -> V:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
