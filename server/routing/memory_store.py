"""The router store in memory: the twin of Redis, and the whole of it on a laptop.

Single-threaded: each method is atomic because it does not await.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from server.domain.router_state import Claim, FreeAgent, RouterState, WaitingSession


@dataclass(slots=True)
class _Tenant:
    waiting: dict[str, WaitingSession] = field(default_factory=dict)
    free: dict[str, FreeAgent] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)  # by request id


class MemoryRouterStore:
    """`RouterStore` in this process."""

    def __init__(self) -> None:
        self._tenants: dict[str, _Tenant] = {}

    async def put_waiting(self, tenant: str, session: WaitingSession) -> None:
        self._of(tenant).waiting[session.session_id] = session

    async def drop_waiting(self, tenant: str, session_id: str) -> None:
        self._of(tenant).waiting.pop(session_id, None)

    async def put_free(self, tenant: str, agent: FreeAgent) -> None:
        self._of(tenant).free[agent.agent_id] = agent

    async def drop_free(self, tenant: str, agent_id: str) -> None:
        self._of(tenant).free.pop(agent_id, None)

    async def claim(self, tenant: str, claim: Claim, now: int) -> bool:
        of = self._of(tenant)
        _expire(of, now)
        held = of.claims.get(claim.request_id)
        if held is not None:
            return (held.session_id, held.agent_id) == (claim.session_id, claim.agent_id)
        session = of.waiting.get(claim.session_id)
        if session is None or session.held or claim.agent_id not in of.free:
            return False
        if any(c.session_id == claim.session_id or c.agent_id == claim.agent_id for c in of.claims.values()):
            return False
        of.claims[claim.request_id] = claim
        return True

    async def release(self, tenant: str, request_id: str) -> None:
        self._of(tenant).claims.pop(request_id, None)

    async def state(self, tenant: str, now: int) -> RouterState:
        of = self._of(tenant)
        _expire(of, now)
        waiting = sorted(of.waiting.values(), key=lambda w: w.order_key)
        return RouterState(tuple(waiting), tuple(of.free.values()), tuple(of.claims.values()))

    async def replace_all(self, tenant: str, waiting: Sequence[WaitingSession], free: Sequence[FreeAgent]) -> None:
        of = self._of(tenant)
        of.waiting = {w.session_id: w for w in waiting}
        of.free = {a.agent_id: a for a in free}

    def _of(self, tenant: str) -> _Tenant:
        return self._tenants.setdefault(tenant, _Tenant())


def _expire(of: _Tenant, now: int) -> None:
    for request_id in [key for key, claim in of.claims.items() if claim.expires_at <= now]:
        del of.claims[request_id]
