"""A media worker without sound: the real process with its control protocol, orders, plans and reports, whose legs are
up as soon as they are opened and carry nothing. For loads that are about routing:
`python -m tests.helpers.mute_relay …` in place of `python -m server.media.relay …`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from server.media.relay import leg as legs
from server.media.relay.__main__ import main
from server.media.relay.aiortc_seam import Identity
from server.media.relay.link import Binding
from server.media.relay.session import RelaySession
from server.media.relay.udp_ports import PortRange
from server.media.sdp import Fingerprint, LocalMedia, Offer, build_answer

PRINT = Fingerprint("sha-256", ":".join(["00"] * 32))
UP_AFTER_S = 0.05  # ICE and DTLS take about as long on a quiet network


class MuteLink:
    """`SecureLink` without sockets: its peer is there and silent."""

    def __init__(self, user: legs.Anchor, offer: Offer, identity: Identity) -> None:
        self.connected = False
        self._user = user
        self._offer = offer
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, bindings: Sequence[Binding], ports: PortRange, ssrc: int) -> str:
        return build_answer(self._offer, LocalMedia("mute", "m" * 22, PRINT, [("127.0.0.1", 9)], ssrc))

    def start(self, parent: asyncio.TaskGroup) -> None:
        self._timer = asyncio.get_running_loop().call_later(UP_AFTER_S, self._up)

    def _up(self) -> None:
        self.connected = True
        self._user.on_connected()
        self._user.leg.anchor_up(self._user)

    def send_rtp(self, packet: bytes) -> None:
        """Nobody hears it."""

    def send_rtcp(self, packet: bytes) -> None:
        """Nor does anybody read it."""

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def silent(self: Any, now: float) -> None:
    """In place of the look once a second whether packets came, and of the music."""


if __name__ == "__main__":
    setattr(legs, "SecureLink", MuteLink)  # noqa: B010  # what this file is for
    legs.Anchor.check = silent  # type: ignore[method-assign]
    RelaySession.play = silent  # type: ignore[method-assign,assignment]
    main()
