"""What the services need of SIP workers, as Protocols. Real: server/sip/client.py and the worker behind it. Twin:
server/sip/memory.py, under the same contract test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from server.domain.sip import SipOrder, SipReport


class SipError(Exception):
    """An order failed. `code` is stable: unknown_call, wrong_state (the call is not where such an order makes sense),
    bad_target, worker_gone, worker_timeout, worker_busy, internal."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class SipCall:
    """A call as its worker knows it. `inbound`: it came to us; `up`: answered. `sdp`: the newest offer of theirs, so
    that a node that takes the call over can have it answered anew."""

    call_id: str
    inbound: bool
    up: bool
    age_s: float
    sdp: str = ""


class SipListener(Protocol):
    """Wired by app.py. A report is acknowledged to the worker only after `on_sip` returns without an exception; until
    then it comes again, here or to another node, in the call's order."""

    async def on_sip(self, worker_id: str, report: SipReport) -> None: ...

    async def on_sip_up(self, worker_id: str, incarnation: str, calls: Sequence[SipCall]) -> None:
        """A worker connected, with what it holds now. Every call of an earlier incarnation is lost."""
        ...


class SipEngine(Protocol):
    """Drives SIP workers."""

    def workers(self) -> Sequence[str]:
        """The ids of the connected ones that take calls."""
        ...

    async def order(self, worker_id: str, order: SipOrder) -> None:
        """Carry out one order; repeated, it changes nothing. Raises SipError."""
        ...

    async def calls(self, worker_id: str) -> Sequence[SipCall]:
        """Raises SipError."""
        ...

    async def start(self, listener: SipListener) -> None: ...

    async def stop(self) -> None: ...
