"""The two ways in which a transition is not made."""

from __future__ import annotations

from collections.abc import Mapping


class IllegalTransition(Exception):
    """A pair of state and event that no table holds: a bug of ours, never a peer's doing."""


class Stale(Exception):
    """A late, repeated or overtaken event of a peer. The state stays; `code` is what the sender reads.

    Codes: offer_expired, offer_taken (params: agent), offer_withdrawn, customer_left, contact_over,
    stale_generation, stale_epoch, stale_deadline, session_ended, no_change."""

    def __init__(self, code: str, params: Mapping[str, str] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.params = dict(params or {})


class Refused(Exception):
    """A well-formed event that the rules do not allow now; `code` is what the sender reads.

    Codes: disposition_required, agent_unavailable, not_your_contact, not_in_call."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
