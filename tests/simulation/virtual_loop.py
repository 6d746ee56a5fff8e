"""An event loop without sockets: its clock jumps to the next timer, and a seed picks among what is ready.

Each task belongs to whoever started it (`OWNER`), so that a node's crash ends all that the node had begun, what it had
shielded, too.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Coroutine
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")
STEP_S = 1e-6  # what a callback takes: a wait that rounding ends a little early must not go on for ever
PRUNE_AT = 256  # tasks kept until the finished ones are looked for


class Owner:
    """Somebody whose tasks can be ended all at once."""

    def __init__(self) -> None:
        self.context: Context = copy_context()
        self.context.run(OWNER.set, self)
        self._tasks: list[asyncio.Task[Any]] = []
        self._prune_at = PRUNE_AT

    def own(self, task: asyncio.Task[Any]) -> None:
        self._tasks.append(task)
        if len(self._tasks) >= self._prune_at:
            self._tasks = [task for task in self._tasks if not task.done()]
            self._prune_at = 2 * len(self._tasks) + PRUNE_AT

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return asyncio.get_running_loop().create_task(work, context=self.context)

    def end(self) -> None:
        """Cancel everything, in the order in which it was begun."""
        for task in self._tasks:
            task.cancel()


OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)


class VirtualLoop(asyncio.BaseEventLoop):
    """Seconds of loop time pass only when nothing is ready. Raises RuntimeError when nothing can ever happen again."""

    _ready: Any  # a deque; typeshed keeps silent about what a subclass needs
    _scheduled: Any

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._now = 0.0
        self.steps = 0
        self.set_task_factory(_make_task)

    def time(self) -> float:
        return self._now

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """No other thread wakes this loop."""

    def _run_once(self) -> None:
        scheduled, ready = self._scheduled, self._ready
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready:
            if not scheduled:
                raise RuntimeError("nothing is left to happen")
            self._now = max(self._now, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                ready.append(handle)
        if len(ready) > 1:
            ready.rotate(-int(self._random.random() * len(ready)))
        if ready:
            handle = ready.popleft()
            if not handle._cancelled:
                self.steps += 1
                self._now += STEP_S
                handle._run()


def _make_task(loop: asyncio.AbstractEventLoop, coro: Any, *, context: Context | None = None) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, context=context)
    owner = OWNER.get() if context is None else context.get(OWNER)
    if owner is not None:
        owner.own(task)
    return task
