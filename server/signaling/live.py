"""Passing values for people: the customer's place in the queue, the agents' strip of queues."""

from __future__ import annotations

import asyncio

from server.domain.router_state import QueueLook, RoutingView, places
from server.domain.told_wait import ShownWait
from server.services.waits import WaitTimes
from server.signaling import protocol as wire
from server.signaling.hub import Hub

TELL_S = 0.4  # at most so often: a thousand agents who come at once make a thousand looks


class LiveViews:
    """Told after each look of the router, which looks once a second at least; sends what changed for somebody."""

    def __init__(self, hub: Hub, waits: WaitTimes) -> None:
        self._hub = hub
        self._waits = waits
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
        queues = view.queues()
        for look in queues.values():
            waits = self._waits.tell(view, look, here)
            for position, waiting in places(look.waiting):
                if waiting.session_id in here:
                    body = queue_position(waiting.session_id, position, waits.get(waiting.session_id))
                    self._hub.send_live(waiting.session_id, body.model_dump(mode="json"))
        lines = {queue_id: queue_line(look) for queue_id, look in queues.items()}
        for person_id in here:
            served = [lines[queue_id] for queue_id in view.queues_of(person_id) if queue_id in lines]
            if served or view.knows(person_id):
                body_queues = wire.QueuesChanged(queues=served, paused=self._paused)
                self._hub.send_live(person_id, body_queues.model_dump(mode="json"))


def queue_position(session_id: str, position: int, wait: ShownWait | None) -> wire.QueuePosition:
    """A customer's place, and the wait from here where it is known."""
    low_s, high_s = (None, None) if wait is None else (wait.low_s, wait.high_s)
    return wire.QueuePosition(session_id=session_id, position=position, wait_low_s=low_s, wait_high_s=high_s)


def queue_line(look: QueueLook) -> wire.QueueLine:
    """Who waits, since when, and how many agents are free."""
    return wire.QueueLine(
        queue_id=look.queue.queue_id,
        name=look.queue.name,
        waiting=len(look.waiting),
        longest_wait_since=min((waiting.arrived_at for waiting in look.waiting), default=None),
        agents_ready=look.ready,
    )
