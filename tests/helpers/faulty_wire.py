"""The Socket.IO connection of a page with faults in it: what the server sends is lost, doubled or out of order."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.async_api import Page, WebSocketRoute

Frame = str | bytes
Receive = Callable[[Frame], list[Frame]]  # what reaches the page of a frame from the server
_HEAD = re.compile(r'"head":\d+')


def is_push(frame: Frame, kind: str = "") -> bool:
    """A message of the person's stream, and not the answer to a request or a ping."""
    return isinstance(frame, str) and frame.startswith("42/agent,") and '["m"' in frame and f'"type":"{kind}' in frame


class First:
    """The first frame of a kind is lost."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.lost = 0

    def __call__(self, frame: Frame) -> list[Frame]:
        if self.lost or not is_push(frame, self._kind):
            return [frame]
        self.lost += 1
        return []


class Every:
    """Every frame of a kind is lost; `""` is every push, so that only pings tell of what there is."""

    def __init__(self, kind: str = "") -> None:
        self._kind = kind
        self.lost = 0

    def __call__(self, frame: Frame) -> list[Frame]:
        if not is_push(frame, self._kind):
            return [frame]
        self.lost += 1
        return []


class DoubledAndSwapped:
    """Every second push waits for the next frame, and then both come twice, the newer one first."""

    def __init__(self) -> None:
        self._held: Frame | None = None
        self.lost = 0  # out of its place, here

    def __call__(self, frame: Frame) -> list[Frame]:
        if self._held is not None:
            held, self._held = self._held, None
            self.lost += 1
            return [frame, held, frame, held] if is_push(frame) else [frame, held, held]
        if not is_push(frame):
            return [frame]
        self._held = frame
        return []


class Deaf:
    """Once `on`: no push arrives, and no ping tells that there were any. Answers still come."""

    def __init__(self) -> None:
        self.on = False

    def __call__(self, frame: Frame) -> list[Frame]:
        if not self.on or not isinstance(frame, str):
            return [frame]
        return [] if is_push(frame) else [_HEAD.sub('"head":0', frame) if '["p"' in frame else frame]


async def spoil(page: Page, receive: Receive) -> None:
    """From the next page load on, the page's connection goes through `receive`."""

    def connected(route: WebSocketRoute) -> None:
        server = route.connect_to_server()

        def from_server(frame: Frame) -> None:
            for one in receive(frame):
                route.send(one)

        server.on_message(from_server)
        route.on_message(server.send)

    await page.route_web_socket(re.compile(r"/socket\.io/"), connected)
