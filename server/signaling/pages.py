"""The pages: shells that load one built app each, the widget's frame, and the demo shop.

A shell holds no script of its own. What the app must know at once is in a JSON data block, which browsers do not
execute, so the content security policy needs no exception for it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from server.domain.directory import AuthedUser, Role
from server.services.auth import COOKIE
from server.services.rate_limits import RateLimit, address_key
from server.services.refusals import Refused
from server.services.seed import DEMO_KEYS
from server.signaling.access import (
    ANYBODY,
    ANYBODY_PAGE,
    STAFF_PAGE,
    SUPERVISORS_PAGE,
    USER,
    Access,
    declare,
)
from server.signaling.assets import Assets, NotBuilt, serve_file, serve_loader
from server.signaling.error_page import error_page
from server.signaling.locales import choose_locale
from server.signaling.proxies import CLIENT
from server.signaling.rest.account import me
from server.signaling.rest.widget import open_entry
from server.signaling.security_headers import app_policy
from server.signaling.web_deps import WebDeps

TEMPLATES = Path(__file__).parent / "templates"
SHORT_CACHE = "public, max-age=300"
# A small shop's own policy: scripts and frames from the contact center, nothing else from anywhere.
SHOP_POLICY = (
    "default-src 'none'; script-src 'self'; frame-src 'self'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Pages:
    """The handlers; `mount` puts them on the router."""

    def __init__(self, deps: WebDeps) -> None:
        self._deps = deps
        self._assets = Assets(deps.static_dir)
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._widget_views = RateLimit(deps.limits.widget_views, deps.clock)

    def mount(self, app: web.Application) -> None:
        routes: tuple[tuple[str, Any, Access], ...] = (
            ("/", self.home, ANYBODY_PAGE),
            ("/login", self.login, ANYBODY_PAGE),
            ("/agent", self.agent, STAFF_PAGE),
            ("/agent/{rest:.*}", self.agent, STAFF_PAGE),
            ("/admin", self.admin, SUPERVISORS_PAGE),
            ("/admin/{rest:.*}", self.admin, SUPERVISORS_PAGE),
            ("/widget.js", self.loader, ANYBODY),
            ("/widget/frame", self.widget, ANYBODY_PAGE),
            ("/widget/call", self.widget, ANYBODY_PAGE),
            ("/demo/shop", self.shop, ANYBODY_PAGE),
            ("/demo/shop.css", self.shop_css, ANYBODY),
            ("/icon.svg", self.icon, ANYBODY),
            ("/static/{path:.+}", self.static, ANYBODY),
        )
        for path, handler, access in routes:
            resource = app.router.add_get(path, handler).resource
            assert resource is not None
            declare(app, "GET", resource.canonical, access)

    async def home(self, request: web.Request) -> web.StreamResponse:
        user = await self._deps.auth.user_for_token(request.cookies.get(COOKIE))
        raise web.HTTPFound("/login" if user is None else _start_page(user))

    async def login(self, request: web.Request) -> web.StreamResponse:
        return self._shell(request, "login/main.ts", "Patchbay", None)

    async def agent(self, request: web.Request) -> web.StreamResponse:
        return self._shell(request, "agent/main.ts", "Patchbay · Agent", request[USER])

    async def admin(self, request: web.Request) -> web.StreamResponse:
        return self._shell(request, "admin/main.ts", "Patchbay · Admin", request[USER])

    async def loader(self, _request: web.Request) -> web.StreamResponse:
        return await serve_loader(self._assets)

    async def static(self, request: web.Request) -> web.StreamResponse:
        return await serve_file(self._assets, request)

    async def widget(self, request: web.Request) -> web.StreamResponse:
        """The frame, and the same app as a window. Who may frame it is the business of the entry point."""
        wait_s = self._widget_views.take(address_key(request[CLIENT].address))
        if wait_s:
            raise Refused("rate_limited", "too many views", retry_after_s=wait_s)
        entry_point, queue = await open_entry(self._deps, request.query.get("key", "")[:64])
        framed = request.path == "/widget/frame"
        ancestors = " ".join(("'self'", *entry_point.allowed_sites)) if framed else "'none'"
        response = self._shell(request, "customer-widget/frame/main.ts", queue.name, None, ancestors)
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response

    async def shop(self, request: web.Request) -> web.StreamResponse:
        """Only where the demo was seeded: its keys exist."""
        for name, key in DEMO_KEYS.items():
            if request.query.get("queue", "Sales") == name:
                await open_entry(self._deps, key)
                page = self._templates.get_template("shop.html").render(key=key, queue=name)
                response = web.Response(text=page, content_type="text/html")
                response.headers["Content-Security-Policy"] = SHOP_POLICY
                return response
        raise Refused("not_found", "no such shop")

    async def shop_css(self, _request: web.Request) -> web.StreamResponse:
        return web.FileResponse(TEMPLATES / "shop.css", headers={"Cache-Control": SHORT_CACHE})

    async def icon(self, _request: web.Request) -> web.StreamResponse:
        return web.FileResponse(TEMPLATES / "icon.svg", headers={"Cache-Control": SHORT_CACHE})

    def _shell(
        self,
        request: web.Request,
        entry: str,
        title: str,
        user: AuthedUser | None,
        frame_ancestors: str = "'none'",
    ) -> web.Response:
        try:
            assets = self._assets.entry(entry)
        except NotBuilt:
            return error_page(503, "not_built")
        token = request.cookies.get(COOKIE)
        csrf = self._deps.auth.csrf(token) if user is not None and token is not None else None
        locale = choose_locale(user.locale if user else None, request)
        boot = {
            "locale": locale,
            "me": me(user, csrf, request).model_dump(mode="json") if user and csrf else None,
            "csrf": csrf,
            "version": self._deps.version,
        }
        page = self._templates.get_template("shell.html").render(
            locale=locale, title=title, assets=assets, boot=data_block(boot)
        )
        client = request[CLIENT]
        response = web.Response(text=page, content_type="text/html")
        response.headers["Content-Security-Policy"] = app_policy(client.host, client.secure, frame_ancestors)
        return response


def data_block(data: object) -> Markup:
    """JSON that is safe inside a script element: no `<`, so nothing in it can end the element or open a comment."""
    return Markup(json.dumps(data, ensure_ascii=False).replace("<", "\\u003c").replace("&", "\\u0026"))


def _start_page(user: AuthedUser) -> str:
    return "/agent" if user.role is Role.AGENT else "/admin"
