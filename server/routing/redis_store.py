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
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from server.domain.router_state import DROPPED_KEPT, Claim, FreeAgent, RouterState, WaitingSession, ordered
from server.routing.memory_store import FREE, WAITING
from server.routing.redis_connection import answer, ping

log = structlog.get_logger()
SCRIPTS = Path(__file__).parent / "scripts"
KEYS = ("meta", "entries", "heard", "dropped", "claims", "answers", "ends")
V = TypeVar("V")
DECODED_KEPT = 20_000  # entries that change little are read many times


class RedisRouterStore:
    """`RouterStore` in Redis. The client is the caller's, who closes it."""

    def __init__(self, redis: Redis, dropped_kept: int = DROPPED_KEPT) -> None:
        self._redis = redis
        self._dropped_kept = dropped_kept
        common = (SCRIPTS / "common.lua").read_text()
        names = [path.stem for path in SCRIPTS.glob("*.lua") if path.stem != "common"]
        self._scripts = {name: common + (SCRIPTS / f"{name}.lua").read_text() for name in names}
        self._hashes = {name: hashlib.sha1(text.encode()).hexdigest() for name, text in self._scripts.items()}

    async def put_waiting(self, tenant: str, session: WaitingSession) -> None:
        await self._run("put", tenant, *_waiting_words(session))

    async def drop_waiting(self, tenant: str, session_id: str, version: int) -> None:
        await self._run("drop", tenant, WAITING + session_id, version, self._dropped_kept)

    async def put_free(self, tenant: str, agent: FreeAgent) -> None:
        await self._run("put", tenant, *_free_words(agent))

    async def drop_free(self, tenant: str, agent_id: str, version: int) -> None:
        await self._run("drop", tenant, FREE + agent_id, version, self._dropped_kept)

    async def claim(self, tenant: str, claim: Claim, now: int) -> bool:
        words = (claim.request_id, claim.session_id, claim.agent_id, claim.expires_at, now)
        return bool(await self._run("claim", tenant, *words))

    async def release(self, tenant: str, request_id: str) -> None:
        await answer(self._redis, self._redis.hdel(_key(tenant, "claims"), request_id))

    async def state(self, tenant: str, now: int) -> RouterState:
        built, entries, claims = await self._run("state", tenant)
        found = [_entry(key, body) for key, body in _pairs(entries)]
        waiting = [entry for entry in found if isinstance(entry, WaitingSession)]
        free = [entry for entry in found if isinstance(entry, FreeAgent)]
        held = [claim for claim in (_claim(key, body) for key, body in _pairs(claims)) if claim is not None]
        return ordered(waiting, free, held, now, built=built == "1")

    async def mark(self, tenant: str) -> int:
        return int(await self._run("mark", tenant))

    async def replace_all(
        self, tenant: str, mark: int, waiting: Sequence[WaitingSession], free: Sequence[FreeAgent]
    ) -> None:
        words: list[str | int] = [mark, self._dropped_kept]
        for session in waiting:
            words += _waiting_words(session)
        for agent in free:
            words += _free_words(agent)
        await self._run("replace_all", tenant, *words)

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
    return f"patchbay:{{{tenant}}}:{name}"  # the hash tag: one tenant's keys lie in one slot of a Redis Cluster


def _pairs(encoded: str) -> Iterable[tuple[str, str]]:
    flat = json.loads(encoded) or []  # Lua can't tell an empty list from an empty object
    return zip(flat[::2], flat[1::2], strict=True)


def _waiting_words(s: WaitingSession) -> tuple[str, int, str]:
    """Key, version, body. The scripts read the fifth part of the body."""
    body = [s.version, s.queue_id, s.order_key, s.rejected_by, int(s.held)]
    return WAITING + s.session_id, s.version, json.dumps(body, separators=(",", ":"))


def _free_words(a: FreeAgent) -> tuple[str, int, str]:
    return FREE + a.agent_id, a.version, json.dumps([a.version, a.idle_since], separators=(",", ":"))


@lru_cache(maxsize=DECODED_KEPT)  # so a garbled one is logged once, too
def _entry(key: str, body: str) -> WaitingSession | FreeAgent | None:
    """What an entry says; None when it is garbled."""
    try:
        match key[: len(WAITING)], json.loads(body):
            case "w:", [
                int(version),
                str(queue_id),
                [int(priority), int(at), str(last)],
                list(rejected),
                0 | 1 as held,
            ]:
                by = tuple((_is(str, agent), _is(int, when)) for agent, when in rejected)
                order_key = (priority, at, last)
                return WaitingSession(key[len(WAITING) :], queue_id, order_key, by, bool(held), version)
            case "f:", [int(version), int(idle_since)]:
                return FreeAgent(key[len(FREE) :], idle_since, version)
    except (ValueError, TypeError, RecursionError):
        pass
    log.error("router_entry_garbled", key=key, body=body[:200])
    return None


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
