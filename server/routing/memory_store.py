"""The router store in memory: the twin of Redis, and the whole of it on a laptop.

Single-threaded: each method is atomic because it does not await. A tenant's words (puts and drops) are numbered in
the order of their coming. Of each entry, present or dropped, the newest version and the number of its last word are
kept: the version turns away older words, the number tells a rebuild what it must leave alone. What a rebuild
wrote has the number of its mark, so an older rebuild that ends later leaves it alone, too. Dropped entries are
forgotten, oldest first, beyond `dropped_kept`: what a late word may then bring back goes with the next rebuild, and
a claim on it fails in the database.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

from server.domain.router_state import DROPPED_KEPT, Claim, FreeAgent, RouterState, WaitingSession, ordered

WAITING, FREE = "w:", "f:"  # how the keys of the two kinds of entries begin


@dataclass(slots=True)
class _Tenant:
    number: int  # of the last word
    built: bool = False
    present: dict[str, WaitingSession | FreeAgent] = field(default_factory=dict)
    heard: dict[str, tuple[int, int]] = field(default_factory=dict)  # key -> version, number; dropped ones, too
    dropped: list[tuple[int, str]] = field(default_factory=list)  # number and key, ascending
    claims: dict[str, Claim] = field(default_factory=dict)  # by request id
    answers: dict[str, tuple[Claim, bool]] = field(default_factory=dict)  # by request id, until the claim's end


class MemoryRouterStore:
    """`RouterStore` in this process."""

    def __init__(self, dropped_kept: int = DROPPED_KEPT) -> None:
        self._dropped_kept = dropped_kept
        self._tenants: dict[str, _Tenant] = {}
        self._start = 1  # numbers go on after a flush: an older mark, and 0 always, lies before all of them

    async def put_waiting(self, tenant: str, session: WaitingSession) -> None:
        self._put(tenant, WAITING + session.session_id, session)

    async def drop_waiting(self, tenant: str, session_id: str, version: int) -> None:
        self._drop(tenant, WAITING + session_id, version)

    async def put_free(self, tenant: str, agent: FreeAgent) -> None:
        self._put(tenant, FREE + agent.agent_id, agent)

    async def drop_free(self, tenant: str, agent_id: str, version: int) -> None:
        self._drop(tenant, FREE + agent_id, version)

    async def claim(self, tenant: str, claim: Claim, now: int) -> bool:
        of = self._of(tenant)
        for request_id in [key for key, (asked, _) in of.answers.items() if asked.expires_at <= now]:
            del of.answers[request_id]
            of.claims.pop(request_id, None)
        if claim.request_id in of.answers:
            asked, granted = of.answers[claim.request_id]
            return granted and (asked.session_id, asked.agent_id) == (claim.session_id, claim.agent_id)
        if claim.expires_at <= now:
            return False
        session = of.present.get(WAITING + claim.session_id)
        there = isinstance(session, WaitingSession) and not session.held and FREE + claim.agent_id in of.present
        taken = any(c.session_id == claim.session_id or c.agent_id == claim.agent_id for c in of.claims.values())
        granted = there and not taken
        of.answers[claim.request_id] = (claim, granted)
        if granted:
            of.claims[claim.request_id] = claim
        return granted

    async def release(self, tenant: str, request_id: str) -> None:
        self._of(tenant).claims.pop(request_id, None)

    async def state(self, tenant: str, now: int) -> RouterState:
        of = self._of(tenant)
        waiting = [entry for entry in of.present.values() if isinstance(entry, WaitingSession)]
        free = [entry for entry in of.present.values() if isinstance(entry, FreeAgent)]
        return ordered(waiting, free, of.claims.values(), now, built=of.built)

    async def mark(self, tenant: str) -> int:
        return self._of(tenant).number

    async def replace_all(
        self, tenant: str, mark: int, waiting: Sequence[WaitingSession], free: Sequence[FreeAgent]
    ) -> None:
        of = self._of(tenant)
        of.built = True
        if mark > of.number:
            mark = 0
        given: dict[str, WaitingSession | FreeAgent] = {WAITING + w.session_id: w for w in waiting}
        given |= {FREE + a.agent_id: a for a in free}
        for key in [key for key in of.present if key not in given and of.heard[key][1] <= mark]:
            del of.present[key]
            of.heard[key] = (of.heard[key][0], mark)
            insort(of.dropped, (mark, key))
        for key, entry in given.items():
            if key not in of.heard or of.heard[key][1] <= mark:
                _note(of, key, entry.version, mark)
                of.present[key] = entry
        self._prune(of)

    async def ping(self) -> None:
        """It is always there."""

    def flush(self) -> None:
        """Lose everything, as Redis may."""
        self._start = 1 + max((of.number for of in self._tenants.values()), default=self._start)
        self._tenants.clear()

    def _of(self, tenant: str) -> _Tenant:
        if tenant not in self._tenants:
            self._tenants[tenant] = _Tenant(self._start)
        return self._tenants[tenant]

    def _put(self, tenant: str, key: str, entry: WaitingSession | FreeAgent) -> None:
        of = self._of(tenant)
        if _hear(of, key, entry.version):
            of.present[key] = entry

    def _drop(self, tenant: str, key: str, version: int) -> None:
        of = self._of(tenant)
        if _hear(of, key, version):
            of.present.pop(key, None)
            insort(of.dropped, (of.number, key))
            self._prune(of)

    def _prune(self, of: _Tenant) -> None:
        surplus = max(0, len(of.dropped) - self._dropped_kept)
        for _, key in of.dropped[:surplus]:
            del of.heard[key]
        del of.dropped[:surplus]


def _hear(of: _Tenant, key: str, version: int) -> bool:
    """Number a word about an entry. False: it is older than what is known, and changes nothing."""
    if key in of.heard and version < of.heard[key][0]:
        return False
    of.number += 1
    _note(of, key, version, of.number)
    return True


def _note(of: _Tenant, key: str, version: int, number: int) -> None:
    """The newest word about an entry; if it was dropped, that is over."""
    if key in of.heard:
        before = (of.heard[key][1], key)
        at = bisect_left(of.dropped, before)
        if of.dropped[at : at + 1] == [before]:
            del of.dropped[at]
    of.heard[key] = (version, number)
