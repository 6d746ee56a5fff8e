"""Structured logs: an event name and fields, one line each; JSON unless a terminal reads it."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_identity: dict[str, str] = {}


def configure(level: str = "info", json: bool | None = None) -> None:
    """Set up structlog and the standard library's logging for this process. `json` None: JSON off a terminal."""
    as_json = not sys.stderr.isatty() if json is None else json
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _identify,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries log prose, some of it per packet or with addresses in it: only their warnings are wanted.
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries()])


def identify(**fields: str) -> None:
    """Say on each line from now on who writes it. Not a context variable: what libraries call back has none of ours."""
    _identity.update(fields)


def _identify(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in _identity.items():
        event.setdefault(name, value)
    return event


class _Libraries(logging.Handler):
    """What the standard library's loggers say, as lines like ours."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            structlog.get_logger().log(
                record.levelno,
                "library_said",
                library=record.name,
                said=record.getMessage(),
                exc_info=record.exc_info or None,
            )
        except Exception:  # a line that can't be written must not end what wrote it
            self.handleError(record)
