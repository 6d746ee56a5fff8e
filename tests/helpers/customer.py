"""A caller for many rounds: it gets in by a token that is made here, since POST /sessions limits what one address may
ask for."""

from __future__ import annotations

from collections.abc import Callable

from server.caller import Caller
from server.clock import MonotonicClock
from server.domain.directory import DEFAULT_TENANT
from server.ids import new_id
from server.media.peer import Peer, Samples
from server.services.tokens import CustomerTokens
from tests.helpers.system import System


class Customer(Caller):
    """A `Caller` of the demo's queue."""

    def __init__(
        self,
        patchbay: System,
        queue: str = "Sales",
        tone_hz: float = 440.0,
        on_frame: Callable[[Samples], None] = lambda samples: None,
        make_peer: Callable[[], Peer] | None = None,
    ) -> None:
        """`make_peer`: in place of the peer that plays the tone."""
        super().__init__(patchbay.url, patchbay.widget_key(queue), tone_hz=tone_hz, name="Li Wei", on_frame=on_frame)
        self._patchbay = patchbay
        self._make_peer = make_peer or self._make_peer

    @property
    def session_id(self) -> str:
        return str(self.view["session_id"])

    async def ask_for_session(self) -> str:
        tokens = CustomerTokens(self._patchbay.token_key(), MonotonicClock())
        entries = "SELECT id FROM entry_point WHERE key = ?"
        token, _ = tokens.issue(DEFAULT_TENANT, new_id("ses"), self._patchbay.rows(entries, self._key)[0][0])
        return token
