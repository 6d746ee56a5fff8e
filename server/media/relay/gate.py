"""Who may speak to a worker that listens on the network: whoever shows the token. The rest learns nothing more."""

from __future__ import annotations

import hmac
import time

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

log = structlog.get_logger(__name__)

LOG_EVERY_S = 60.0
ADDRESSES_KEPT = 1_000  # of those that were refused; when there are more, each is logged once more


class TokenGate:
    """Answers 401 `bad_token` to a request without `Authorization: Bearer <token>`; logged once a minute an address."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()
        self._logged: dict[str, float] = {}

    def middleware(self) -> Middleware:
        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            shown = request.headers.get("Authorization", "").encode(errors="surrogateescape")
            if hmac.compare_digest(shown, self._expected):
                return await handler(request)
            self._note(request.remote or "")
            return web.json_response({"error": {"code": "bad_token"}}, status=401)

        return check

    def _note(self, address: str) -> None:
        now = time.monotonic()
        if now - self._logged.get(address, -LOG_EVERY_S) < LOG_EVERY_S:
            return
        if len(self._logged) >= ADDRESSES_KEPT:
            self._logged.clear()
        self._logged[address] = now
        remedy = "give the control nodes and this worker the same PATCHBAY_MEDIA_TOKEN"
        log.warning("control_refused", code="bad_token", address=address, remedy=remedy)
