"""Whether a control node should get work: what load balancers and people ask at /readyz."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from server.services.nodes import Nodes
from server.services.ports import MediaEngine, StepStore

GRACE_S = 10.0  # a restart of the database or of the workers: turning the browsers away would mend nothing
ASK_S = 2.0


class NodeReadiness:
    """`Readiness`: the database answers, a media worker is connected, and the node does not drain.

    A node that was ready stays so for GRACE_S: what all nodes miss at once is no reason to turn people away."""

    def __init__(
        self,
        store: StepStore,
        engine: MediaEngine,
        nodes: Nodes,
        faults: Callable[[], Mapping[str, str]] = dict,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`faults` gives, by worker id, why the way to a media worker is closed."""
        self._store = store
        self._engine = engine
        self._nodes = nodes
        self._faults = faults
        self._monotonic = monotonic
        self._ready_at: float | None = None

    async def problems(self) -> list[str]:
        if self._nodes.draining:
            return ["this node is being stopped; others take over"]
        found = await self._missing()
        now = self._monotonic()
        if not found:
            self._ready_at = now
        elif self._ready_at is not None and now - self._ready_at < GRACE_S:
            return []
        return found

    async def _missing(self) -> list[str]:
        found = []
        try:
            async with asyncio.timeout(ASK_S):
                await self._store.next_deadline()
        except Exception as error:
            found.append(f"the database does not answer ({type(error).__name__})")
        if not self._engine.connected():
            found.append(
                "no media worker is connected; they are started by `patchbay serve`, or named in PATCHBAY_MEDIA_URLS"
            )
            found += [f"{worker_id}: {fault}" for worker_id, fault in sorted(self._faults().items())]
        return found
