"""An event loop without sockets: its clock jumps to the next timer, and a seed picks among what is ready.

Each task belongs to whoever started it (`OWNER`), so that a node's crash ends all that the node had begun, what it had
shielded, too.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from itertools import count
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

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []  # tuples compare faster than handles do
        self._timer_numbers = count()
        self.steps = 0
        self.set_task_factory(_make_task)

    def time(self) -> float:
        return self._now

    def call_at(  # type: ignore[override]  # typeshed's type variables add nothing here
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._timer_numbers), timer))
        return timer

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """No other thread wakes this loop."""

    def _run_once(self) -> None:
        timers, ready = self._timers, self._ready
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not ready:
            if not timers:
                raise RuntimeError("nothing is left to happen")
            self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            ready.append(heapq.heappop(timers)[2])
        if len(ready) > 1:
            ready.rotate(-int(self._random.random() * len(ready)))
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
