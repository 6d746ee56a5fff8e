"""Many agents' desks in one light process: real WebSockets that speak the console's wire messages, and come back as the
console does. `python -m tests.bench.desks URL COOKIES_FILE [RAMP_S]`; prints a JSON line whenever something changed:
{"at": monotonic seconds, "ok": desks with a snapshot that says ready, "opened": connections so far, "refused": {…}}.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from server.services.auth import COOKIE
from tests.helpers.raw_socket import PATH

NAMESPACE = "/agent"
FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 2.5  # web/core/src/signalling.ts
SILENCE_S = 5.0
TELL_S = 0.05


class Desks:
    def __init__(self, url: str) -> None:
        self.url = url.replace("http", "ws", 1) + PATH
        self.ok: set[str] = set()
        self.opened = 0
        self.refused: Counter[str] = Counter()
        self.ok_at = 0.0

    def status(self) -> dict[str, Any]:
        return {"at": self.ok_at, "ok": len(self.ok), "opened": self.opened, "refused": dict(self.refused)}

    async def sit(self, http: aiohttp.ClientSession, token: str, wait_s: float) -> None:
        """One desk, for ever."""
        await asyncio.sleep(wait_s)
        attempt = 0
        while True:
            try:
                async with http.ws_connect(
                    self.url, headers={"Cookie": f"{COOKIE}={token}"}, timeout=aiohttp.ClientWSTimeout(ws_close=0.1)
                ) as socket:
                    self.opened += 1
                    if await self._serve(socket, token):
                        attempt = 0
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self.refused[f"{type(error).__name__} {getattr(error, 'status', '')}".strip()] += 1
            self.ok.discard(token)
            longest = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2**attempt)
            drawn = random.random()
            await asyncio.sleep(FIRST_RETRY_S * drawn if attempt == 0 else longest * (0.5 + drawn / 2))
            attempt += 1

    async def _serve(self, socket: aiohttp.ClientWebSocketResponse, token: str) -> bool:
        """Join, take the snapshot, be ready, and answer pings until the end. Whether it got so far."""
        was_ok = False
        async with asyncio.timeout(SILENCE_S) as silence:
            async for frame in socket:
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    break
                silence.reschedule(asyncio.get_running_loop().time() + SILENCE_S)
                text = str(frame.data)
                if text[0] == "0":
                    await socket.send_str(f"40{NAMESPACE},")
                elif text == "2":
                    await socket.send_str("3")
                elif text == "1" or text.startswith("41"):
                    break
                elif text.startswith("44"):
                    self.refused[text] += 1
                    break
                elif text.startswith(f"40{NAMESPACE}"):
                    await self._ask(socket, 1, "sync", {})
                elif text.startswith(f"43{NAMESPACE},"):
                    number, _, body = text[len(NAMESPACE) + 3 :].partition("[")
                    answer = json.loads("[" + body)[0]
                    if not answer["ok"]:
                        self.refused[answer["error"]["code"]] += 1
                        break
                    if number == "1" and answer["body"]["agent"]["state"] != "ready":
                        await self._ask(socket, 2, "agent.set_state", {"state": "ready", "reason_id": None})
                        continue
                    self.ok.add(token)
                    self.ok_at = time.monotonic()
                    was_ok = True
                elif text.startswith(f"42{NAMESPACE},") and (at := text.find('["p",')) > 0:
                    await socket.send_str(f'43{NAMESPACE},{text[len(NAMESPACE) + 3 : at]}[{{"seq":0}}]')
        return was_ok

    async def _ask(self, socket: aiohttp.ClientWebSocketResponse, number: int, kind: str, body: object) -> None:
        message = {"v": 1, "type": kind, "id": f"d{number}", "body": body}
        await socket.send_str(f"42{NAMESPACE},{number}" + json.dumps(["m", message]))


async def main(url: str, cookies: Path, ramp_s: float) -> None:
    desks, tokens = Desks(url), json.loads(cookies.read_text())
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as group:
        for number, token in enumerate(tokens):
            group.create_task(desks.sit(http, token, ramp_s * number / len(tokens)))
        told: dict[str, Any] = {}
        while True:
            if (status := desks.status()) != told:
                told = status
                print(json.dumps(told), flush=True)
            await asyncio.sleep(TELL_S)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 10.0))
