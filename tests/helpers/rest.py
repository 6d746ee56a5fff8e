"""The REST API as a logged-in user, for tests that set something up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

API = "/api/v1"


class Api:
    def __init__(self, http: aiohttp.ClientSession, url: str, csrf: str) -> None:
        self._http = http
        self._url = url + API
        self._csrf = csrf

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, JSON body)."""
        headers = {"X-CSRF-Token": self._csrf}
        async with self._http.request(method, self._url + path, json=body, headers=headers) as response:
            return response.status, await response.json() if response.status != 204 else None

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = await self.call(method, path, body)
        assert status < 300, (method, path, status, answer)
        return answer

    async def change_queue(self, name: str, **settings: Any) -> None:
        """Change a queue of the demo."""
        queues = (await self.ok("GET", "/queues"))["items"]
        queue = next(q for q in queues if q["name"] == name)
        await self.ok("PATCH", f"/queues/{queue['queue_id']}", {**settings, "version": queue["version"]})


@asynccontextmanager
async def api(url: str, login: str, password: str) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        async with http.post(url + API + "/login", json={"login": login, "password": password}) as response:
            assert response.status == 200, await response.text()
            csrf = (await response.json())["csrf"]
        yield Api(http, url, csrf)
