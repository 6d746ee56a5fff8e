"""What every request passes, outermost first: errors, measuring, who is there, limits, and who may do what.

Denied by default: a route that declared no access is refused, whatever it does. A browser's request that changes
something must come from our own origin, and under a login it must carry the login's CSRF token.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import quote

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import Histogram

from server.probes import Work, is_session_id
from server.services.auth import COOKIE
from server.services.rate_limits import RateLimit, address_key
from server.services.refusals import Refused
from server.signaling.access import USER, Access, access_of
from server.signaling.api_errors import STATUS, error_response, refusal_of
from server.signaling.error_page import error_page
from server.signaling.origin import origin_allowed
from server.signaling.proxies import CLIENT, client_of, from_untrusted_proxy
from server.signaling.web_deps import WebDeps

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SOCKET_PATH = "/socket.io/"
UNTRACED = frozenset({"/healthz", "/readyz", "/metrics"})  # asked once a second by machines
log = structlog.get_logger()


def errors() -> Middleware:
    """Turn exceptions into answers: JSON under /api, a small page elsewhere. A fault of ours is logged once."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if isinstance(error, web.HTTPException) and error.status < 400:
                raise
            refused = refusal_of(error)
            if refused is None:
                log.exception("request_failed", method=request.method, route=_route(request))
                refused = Refused("internal", "a fault of this server; its log says more")
            if _wants_page(request):
                return error_page(STATUS[refused.code], refused.code, refused.retry_after_s)
            response = error_response(refused)
            if isinstance(error, web.HTTPMethodNotAllowed):
                response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
            return response

    return middleware


def measuring(deps: WebDeps) -> Middleware:
    """Count and time requests by route, never by path: ids would make a series each. Each is a piece of work, but for
    sockets, which stay for hours."""
    seconds = Histogram(
        "patchbay_http_request_seconds",
        "Time to answer a request, by route; sockets left out",
        ("method", "route", "status"),
        buckets=(0.005, 0.02, 0.1, 0.5, 2, 10),
        registry=deps.registry,
    )

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(SOCKET_PATH):
            return await handler(request)
        began = time.perf_counter()
        moved: web.HTTPException | None = None
        session_id = request.match_info.get("session_id")
        known = session_id if is_session_id(session_id) else None
        with Work("http", method=request.method, route=_route(request), session_id=known) as work:
            try:
                response = await handler(request)
            except web.HTTPException as answer:
                response = moved = answer
            work.result = str(response.status)
            work.worth = request.path not in UNTRACED
        if not isinstance(response, web.WebSocketResponse):
            labels = (request.method, _route(request), str(response.status))
            seconds.labels(*labels).observe(time.perf_counter() - began)
        if moved is not None:
            raise moved
        return response

    return middleware


def limits(deps: WebDeps) -> Middleware:
    """Find out who is there, and refuse those who ask too much."""
    limit = RateLimit(deps.limits.all_requests, deps.clock)
    warned: set[str] = set()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        client = client_of(request, deps.trusted_proxies, deps.public_url)
        request[CLIENT] = client
        if not warned and from_untrusted_proxy(request, deps.trusted_proxies):
            warned.add(client.address)  # once is enough: a stranger can send the header too
            log.warning("untrusted_proxy", address=client.address, remedy="is it in PATCHBAY_TRUSTED_PROXIES?")
        wait_s = limit.take(address_key(client.address))
        if wait_s:
            raise Refused("rate_limited", "too many requests from this address", retry_after_s=wait_s)
        return await handler(request)

    return middleware


def permissions(deps: WebDeps) -> Middleware:
    """Role × route, origin and CSRF."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.http_exception is not None:
            raise request.match_info.http_exception  # no such path, or not with this method
        access = access_of(request)
        if access is None:
            raise Refused("forbidden", "this route declares no access")
        changes = request.method not in SAFE_METHODS
        upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
        if (changes or upgrade) and not origin_allowed(request.headers.get("Origin"), request[CLIENT], deps.public_url):
            raise Refused("csrf", "this origin is not ours; is PATCHBAY_PUBLIC_URL right?")
        if access.roles is not None:
            await _authorise(deps, request, access, changes)
        return await handler(request)

    return middleware


async def _authorise(deps: WebDeps, request: web.Request, access: Access, changes: bool) -> None:
    token = request.cookies.get(COOKIE)
    user = await deps.auth.user_for_token(token)
    if user is None or token is None:
        if access.page:
            raise web.HTTPFound(f"/login?next={quote(request.path_qs, safe='/')}")
        raise Refused("not_logged_in", "log in first")
    if not access.allows(user):
        raise Refused("forbidden", f"not for the role {user.role}")
    if changes and not deps.auth.csrf_matches(token, request.headers.get("X-CSRF-Token", "")):
        raise Refused("csrf", "the X-CSRF-Token header is missing or not this login's")
    request[USER] = user


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "none"


def _wants_page(request: web.Request) -> bool:
    access: Any = access_of(request)
    if access is not None:
        return bool(access.page)
    return not request.path.startswith(("/api/", "/socket.io/")) and "html" in request.headers.get("Accept", "html")
