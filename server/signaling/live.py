"""Passing values for people: the customer's place in the queue, the agents' strip of queues."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from server.domain.router_state import RoutingView, WaitingSession
from server.signaling import protocol as wire
from server.signaling.hub import Hub

TELL_S = 0.4  # at most so often: a thousand agents who come at once make a thousand looks


class LiveViews:
    """Told after each look of the router, which looks once a second at least; sends what changed for somebody."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._newest: dict[str, RoutingView] = {}
        self._paused = False
        self._told_at: dict[str, float] = {}  # tenant -> loop time

    @property
    def paused(self) -> bool:
        return self._paused

    def on_look(self, view: RoutingView) -> None:
        self._newest[view.tenant] = view
        now = asyncio.get_running_loop().time()
        if now - self._told_at.get(view.tenant, 0.0) >= TELL_S:
            self._told_at[view.tenant] = now
            self._tell(view)

    def on_pause(self, paused: bool) -> None:
        """Routing stands still, or goes on: what agents see of their queues is as old as the last look."""
        self._paused = paused
        for view in self._newest.values():
            self._tell(view)

    def _tell(self, view: RoutingView) -> None:
        here = set(self._hub.persons(view.tenant))
        if not here:
            return
        for session_id, position in positions(view).items():
            if session_id in here:
                body = wire.QueuePosition(session_id=session_id, position=position)
                self._hub.send_live(session_id, body.model_dump(mode="json"))
        lines = queue_lines(view)
        for profile in view.profiles:
            if profile.user_id in here:
                served = [lines[q.queue_id] for q in view.queues if q.active and q.serves(profile)]
                body_queues = wire.QueuesChanged(queues=served, paused=self._paused)
                self._hub.send_live(profile.user_id, body_queues.model_dump(mode="json"))


def positions(view: RoutingView) -> dict[str, int]:
    """The 1-based place of each waiting session within its queue."""
    found: dict[str, int] = {}
    counts: dict[str, int] = defaultdict(int)
    for waiting in view.state.waiting:
        counts[waiting.queue_id] += 1
        found[waiting.session_id] = counts[waiting.queue_id]
    return found


def queue_lines(view: RoutingView) -> dict[str, wire.QueueLine]:
    """One line a queue: who waits, since when, and how many agents are free for it."""
    by_queue: dict[str, list[WaitingSession]] = defaultdict(list)
    for waiting in view.state.waiting:
        by_queue[waiting.queue_id].append(waiting)
    profiles = {p.user_id: p for p in view.profiles}
    free = [profiles[a.agent_id] for a in view.state.free if a.agent_id in profiles]
    return {
        queue.queue_id: wire.QueueLine(
            queue_id=queue.queue_id,
            name=queue.name,
            waiting=len(by_queue[queue.queue_id]),
            longest_wait_since=min((w.order_key[1] for w in by_queue[queue.queue_id]), default=None),
            agents_ready=sum(1 for profile in free if queue.serves(profile)),
        )
        for queue in view.queues
    }
