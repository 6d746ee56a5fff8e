"""What machines ask: alive, ready, figures."""

from __future__ import annotations

import asyncio
import hmac

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from server.services.refusals import Refused
from server.signaling.access import ANYBODY, declare
from server.signaling.proxies import CLIENT, is_loopback, within
from server.signaling.web_deps import WebDeps

READY_TIMEOUT_S = 5  # a load balancer gives up about then


def mount(app: web.Application, deps: WebDeps) -> None:
    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"alive": True, "version": deps.version})

    async def readyz(_request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                problems = await deps.readiness.problems()
        except TimeoutError:
            problems = ["the readiness check itself takes too long"]
        return web.json_response({"ready": not problems, "missing": problems}, status=503 if problems else 200)

    async def metrics(request: web.Request) -> web.Response:
        _may_read_metrics(request, deps)
        await deps.refresh_metrics()
        return web.Response(body=generate_latest(deps.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    for path, handler in (("/healthz", healthz), ("/readyz", readyz), ("/metrics", metrics)):
        app.router.add_get(path, handler)
        declare(app, "GET", path, ANYBODY)


def _may_read_metrics(request: web.Request, deps: WebDeps) -> None:
    """With a token set, only who shows it; without one, this machine and the trusted networks. Raises Refused."""
    if deps.metrics_token is not None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if hmac.compare_digest(given.encode(errors="replace"), deps.metrics_token.encode()):
            return
    else:
        address = request[CLIENT].address
        direct = "X-Forwarded-For" not in request.headers  # else a proxy here hides who asks
        if (direct and is_loopback(address)) or within(address, deps.trusted_proxies):
            return
    raise Refused("forbidden", "metrics are for this machine, trusted networks, or a bearer token")
