"""The router store in memory: the twin of Redis, and the whole of it on a laptop.

Single-threaded: each method is atomic because it does not await. A tenant's words (puts and drops) are numbered in
the order of their coming. Of each entry, present or dropped, the newest version and the number of its last word are
kept: the version turns away older words, the number tells a rebuild what it must leave alone. What a rebuild
wrote has the number of its mark, so an older rebuild that ends later leaves it alone, too. Dropped entries are
forgotten, oldest first, beyond `dropped_kept`: what a late word may then bring back goes with the next rebuild, and
a claim on it fails in the database.

What took effect, a word or what a rebuild changed, stands in the log, under positions that count up by one. A flush
begins positions and numbers beyond all that were before, so an older position or mark is known to be void. A line's
proof is a digest of all lines up to it: in a store that has gone back in time, and heard other words since, no position
looks like the one of before, even where the same word came again at the same place.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice

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

WAITING, AGENT = "w:", "a:"  # how the keys of the two kinds of entries begin


@dataclass(slots=True)
class _Tenant:
    number: int  # of the last word
    position: int  # of the last change
    built: bool = False
    present: dict[str, Entry] = field(default_factory=dict)
    heard: dict[str, tuple[int, int]] = field(default_factory=dict)  # key -> version, number; dropped ones, too
    dropped: list[tuple[int, str]] = field(default_factory=list)  # number and key, ascending
    log: deque[tuple[Word, str]] = field(default_factory=deque)  # with their proofs; the last one has `position`
    claims: dict[str, Claim] = field(default_factory=dict)  # by request id
    answers: dict[str, tuple[Claim, bool]] = field(default_factory=dict)  # by request id, until the claim's end


class MemoryRouterStore:
    """`RouterStore` in this process."""

    def __init__(self, dropped_kept: int = DROPPED_KEPT, log_kept: int = LOG_KEPT) -> None:
        self._dropped_kept = dropped_kept
        self._log_kept = log_kept
        self._tenants: dict[str, _Tenant] = {}
        self._start = 1  # numbers go on after a flush: an older mark, and 0 always, lies before all of them

    async def write(self, tenant: str, words: Sequence[Word]) -> None:
        of = self._of(tenant)
        for word in words:
            key, version = key_of(word), word.version
            if not _hear(of, key, version):
                continue
            if isinstance(word, Gone):
                gone = of.present.pop(key, None)
                insort(of.dropped, (of.number, key))
                self._prune(of)
                if gone is not None:
                    self._log(of, word)
            else:
                of.present[key] = word
                self._log(of, word)

    async def changes(self, tenant: str, after: int, proof: str) -> Changes:
        of = self._of(tenant)
        behind = of.position - after
        if not of.built or not 0 <= behind <= len(of.log) or _proof(of, behind) != proof:
            return Changes(of.position, (), lost=True)
        words = tuple(word for word, _ in islice(of.log, len(of.log) - behind, None))
        return Changes(of.position, words, proof=_proof(of))

    async def claim(self, tenant: str, claims: Sequence[Claim], now: int) -> tuple[bool, ...]:
        of = self._of(tenant)
        for request_id in [key for key, (asked, _) in of.answers.items() if asked.expires_at <= now]:
            del of.answers[request_id]
            of.claims.pop(request_id, None)
        return tuple(self._claim(of, claim, now) for claim in claims)

    def _claim(self, of: _Tenant, claim: Claim, now: int) -> bool:
        if claim.request_id in of.answers:
            asked, granted = of.answers[claim.request_id]
            return granted and (asked.session_id, asked.agent_id) == (claim.session_id, claim.agent_id)
        if claim.expires_at <= now:
            return False
        session, agent = of.present.get(WAITING + claim.session_id), of.present.get(AGENT + claim.agent_id)
        fit = (
            isinstance(session, WaitingSession)
            and isinstance(agent, PresentAgent)
            and not session.held
            and session.channel in agent.channels
        )
        taken = any(c.session_id == claim.session_id or c.agent_id == claim.agent_id for c in of.claims.values())
        granted = fit and not taken
        of.answers[claim.request_id] = (claim, granted)
        if granted:
            of.claims[claim.request_id] = claim
        return granted

    async def release(self, tenant: str, request_ids: Sequence[str]) -> None:
        for request_id in request_ids:
            self._of(tenant).claims.pop(request_id, None)

    async def state(self, tenant: str, now: int) -> RouterState:
        of = self._of(tenant)
        return ordered(
            of.present.values(), of.claims.values(), now, built=of.built, position=of.position, proof=_proof(of)
        )

    async def mark(self, tenant: str) -> int:
        return self._of(tenant).number

    async def replace_all(self, tenant: str, mark: int, entries: Sequence[Entry]) -> None:
        of = self._of(tenant)
        of.built = True
        if mark > of.number:
            mark = 0
        given = {key_of(entry): entry for entry in entries}
        for key in sorted(key for key in of.present if key not in given and of.heard[key][1] <= mark):
            gone = of.present.pop(key)
            version = of.heard[key][0]
            of.heard[key] = (version, mark)
            insort(of.dropped, (mark, key))
            self._log(of, Gone(type(gone), key[2:], version))
        for key, entry in given.items():
            if key not in of.heard or of.heard[key][1] <= mark:
                _note(of, key, entry.version, mark)
                if of.present.get(key) != entry:
                    of.present[key] = entry
                    self._log(of, entry)
        self._prune(of)

    async def ping(self) -> None:
        """It is always there."""

    def flush(self) -> None:
        """Lose everything, as Redis may."""
        highest = [max(of.number, of.position) for of in self._tenants.values()]
        self._start = 1 + max(highest, default=self._start)
        self._tenants.clear()

    def _of(self, tenant: str) -> _Tenant:
        if tenant not in self._tenants:
            self._tenants[tenant] = _Tenant(self._start, self._start)
        return self._tenants[tenant]

    def _log(self, of: _Tenant, word: Word) -> None:
        line = f"{_proof(of)} {key_of(word)} {word.version} {'gone' if isinstance(word, Gone) else 'here'}"
        of.log.append((word, blake2b(line.encode(), digest_size=10).hexdigest()))
        of.position += 1
        if len(of.log) > self._log_kept:
            of.log.popleft()

    def _prune(self, of: _Tenant) -> None:
        surplus = max(0, len(of.dropped) - self._dropped_kept)
        for _, key in of.dropped[:surplus]:
            del of.heard[key]
        del of.dropped[:surplus]


def _proof(of: _Tenant, behind: int = 0) -> str:
    """Of the line so far from the end of the log; before its first one, where that is."""
    return of.log[-behind - 1][1] if behind < len(of.log) else f"start {of.position - behind}"


def key_of(word: Word) -> str:
    """The key of the entry that a word is about."""
    match word:
        case WaitingSession():
            return WAITING + word.session_id
        case PresentAgent():
            return AGENT + word.agent_id
        case Gone(kind, gone_id):
            return (WAITING if kind is WaitingSession else AGENT) + gone_id


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
