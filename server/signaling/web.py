"""The web application: API, pages and operations behind one set of middlewares.

`build_web` constructs no adapter; app.py hands everything in. It may add its socket server to the result: the routes
of /socket.io/ are declared here, and the middlewares check their origin."""

from __future__ import annotations

from aiohttp import web

from server.signaling import middleware, operations
from server.signaling.access import ACCESS, ANYBODY, declare
from server.signaling.pages import Pages
from server.signaling.rest import (
    account,
    agents,
    decisions,
    entry_points,
    labels,
    queues,
    recordings,
    reports,
    sessions,
    skills,
    transfer_targets,
    users,
    whatif,
    widget,
)
from server.signaling.rest.endpoint import MAX_BODY_BYTES, PREFIX, Endpoints, mount
from server.signaling.rest.openapi import openapi
from server.signaling.security_headers import set_security_headers
from server.signaling.web_deps import WebDeps, WebLimits

__all__ = ["WebDeps", "WebLimits", "all_endpoints", "build_web"]

SOCKET_PATH = "/socket.io/"


def all_endpoints(deps: WebDeps) -> Endpoints:
    """Every endpoint of the API, as data."""
    return (
        *account.ENDPOINTS,
        *users.ENDPOINTS,
        *agents.ENDPOINTS,
        *skills.ENDPOINTS,
        *queues.ENDPOINTS,
        *entry_points.ENDPOINTS,
        *labels.ENDPOINTS,
        *widget.endpoints(deps),
        *sessions.ENDPOINTS,
        *decisions.ENDPOINTS,
        *recordings.ENDPOINTS,
        *reports.ENDPOINTS,
        *transfer_targets.ENDPOINTS,
        *whatif.ENDPOINTS,
    )


def build_web(deps: WebDeps) -> web.Application:
    """The application, ready for a runner or for more routes."""
    app = web.Application(
        client_max_size=MAX_BODY_BYTES,
        middlewares=[
            middleware.measuring(deps),
            middleware.errors(),
            middleware.limits(deps),
            middleware.permissions(deps),
        ],
    )
    app[ACCESS] = {}
    app.on_response_prepare.append(set_security_headers)
    endpoints = all_endpoints(deps)
    mount(app, deps, endpoints)
    _mount_openapi(app, deps, endpoints)
    operations.mount(app, deps)
    Pages(deps).mount(app)
    for method in ("GET", "POST", "OPTIONS"):  # the socket server asks for a token or a login by itself
        declare(app, method, SOCKET_PATH, ANYBODY)
    return app


def _mount_openapi(app: web.Application, deps: WebDeps, endpoints: Endpoints) -> None:
    document = openapi(endpoints, deps.version)

    async def read_openapi(_request: web.Request) -> web.Response:
        return web.json_response(document)

    path = f"{PREFIX}/openapi.json"
    app.router.add_get(path, read_openapi)
    declare(app, "GET", path, ANYBODY)
