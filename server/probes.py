"""What the parts of a node say of their work, for metrics and traces: a leaf that anything may import.

`Work` marks what takes time, `note` what happens. Who listens is set once, by app.py; while nobody does both cost two
microseconds. A process holds one node, so the listeners are the process's.

    with Work("step", session_id=session_id, event="AgentAccepted") as work:
        ...
        work.result = "unchanged"

Attributes are ids and words of ours, never what people typed: they go into traces. A `session_id` among them is also
bound to every log line that is written meanwhile.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextvars import Token
from types import TracebackType
from typing import Any, Protocol, Self, TypeGuard

import structlog

log = structlog.get_logger()
_SESSION_ID = re.compile(r"ses_[0-9A-Za-z]{8,40}")


class Work:
    """One piece of work, from `with` to its end. `result` is what the listeners are told of one that raised nothing;
    `worth` False: it turned out to be nothing that a trace should show."""

    __slots__ = ("_began", "_bound", "_told", "about", "error", "kind", "mark", "result", "seconds", "worth")

    def __init__(self, kind: str, **about: str | int | None) -> None:
        self.kind = kind
        self.about = {name: value for name, value in about.items() if value is not None}
        self.result = "ok"
        self.worth = True
        self.error: BaseException | None = None
        self.seconds = 0.0
        self.mark: object = None  # the tracer's own
        self._told: tuple[Listener, ...] = ()
        self._bound: Mapping[str, Token[Any]] = {}

    def learn(self, **about: str | int) -> None:
        """Attributes that showed on the way."""
        self.about |= about
        if "session_id" in about and not self._bound:
            self._bound = structlog.contextvars.bind_contextvars(session_id=about["session_id"])

    def __enter__(self) -> Self:
        session_id = self.about.get("session_id")
        self._bound = structlog.contextvars.bind_contextvars(session_id=session_id) if session_id else {}
        self._told = _listeners
        self._began = time.perf_counter()
        for listener in self._told:
            _safely(listener.began, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds, self.error = time.perf_counter() - self._began, error
        for listener in reversed(self._told):
            _safely(listener.ended, self)
        structlog.contextvars.reset_contextvars(**self._bound)


class Listener(Protocol):
    """Told on the loop, within the work's own task: must neither block nor raise."""

    def began(self, work: Work) -> None: ...

    def ended(self, work: Work) -> None: ...

    def noted(self, what: str, labels: tuple[str, ...], count: int) -> None: ...


def note(what: str, *labels: str, count: int = 1) -> None:
    """Something happened. `labels` are words of ours, of few values."""
    for listener in _listeners:
        _safely(listener.noted, what, labels, count)


def is_session_id(value: object) -> TypeGuard[str]:
    """What a browser sends as an id goes into logs and traces only when it looks like one."""
    return isinstance(value, str) and _SESSION_ID.fullmatch(value) is not None


def listen(*listeners: Listener) -> None:
    """From now on these listen, and nobody else."""
    global _listeners
    _listeners = listeners


_listeners: tuple[Listener, ...] = ()


def _safely(tell: Callable[..., None], *arguments: object) -> None:
    """A call must not fail because it is watched."""
    try:
        tell(*arguments)
    except Exception:
        log.exception("probe_failed")
