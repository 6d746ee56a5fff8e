"""What a media worker really holds, asked over its own control socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from server.media import worker_protocol as wire
from server.services.ports import WorkerLeg
from tests.helpers.system import System

ANSWER_S = 5.0


def socket_path(patchbay: System, worker_id: str) -> Path:
    arguments = Path(f"/proc/{patchbay.pids()[worker_id]}/cmdline").read_bytes().decode().split("\0")
    return Path(arguments[arguments.index("--socket") + 1])


@asynccontextmanager
async def _connected(path: Path) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    connector = aiohttp.UnixConnector(path=str(path))
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.ws_connect("http://worker" + wire.CONTROL_PATH, max_msg_size=wire.MAX_MESSAGE_BYTES) as socket,
    ):
        yield socket


async def ask(patchbay: System, worker_id: str, kind: str, **fields: object) -> dict[str, Any]:
    """One request beside the control node's own; the answer."""
    async with asyncio.timeout(ANSWER_S), _connected(socket_path(patchbay, worker_id)) as socket:
        await socket.send_str(wire.encode(kind, id="from-the-test", **fields))
        while True:
            _, message = wire.decode(await socket.receive_str())
            if message.get("id") == "from-the-test":
                return message


async def legs(patchbay: System) -> list[WorkerLeg]:
    """The legs of all workers."""
    found: list[WorkerLeg] = []
    for worker_id in sorted(patchbay.pids()):
        if worker_id != "control":
            found += wire.legs_from_json(await ask(patchbay, worker_id, "list_legs"))
    return found
