"""The small page that says why there is no page."""

from __future__ import annotations

from aiohttp import web
from markupsafe import Markup, escape

from server.signaling.security_headers import NO_SCRIPTS

_TEXTS = {
    "not_found": ("Page not found", "Nothing is at this address."),
    "forbidden": ("Not for you", "Your role does not include this page. Ask an admin."),
    "rate_limited": ("Too many requests", "Please wait a moment and load the page again."),
    "storage_unavailable": ("Please wait", "The database does not answer. Load the page again in a moment."),
    "internal": ("Something broke", "This is our fault. The server's log says more."),
    "not_built": ("The web apps are not built", "Run `make run` on the server: it builds them."),
    "unknown_key": ("Unknown widget", "No widget has this key. Copy the embed code again."),
}
# Where a person can go from here. None where the page may stand in a widget's frame, or where waiting is what helps.
_LINKS = {
    "not_found": (("/", "Home"),),
    "forbidden": (("/", "Home"), ("/login", "Sign in as somebody else")),
}
_PAGE = Markup(
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width">\n<meta name="color-scheme" content="light dark">\n'
    "<title>{title} · Patchbay</title>\n</head>\n<body>\n"
    "<main>\n<h1>{title}</h1>\n<p>{text}</p>\n</main>\n{links}</body>\n</html>\n"
)
_NAV = Markup('<nav aria-label="Ways on">\n<ul>\n{items}</ul>\n</nav>\n')
_ITEM = Markup('<li><a href="{href}">{label}</a></li>\n')


def error_page(status: int, code: str, retry_after_s: int | None = None, text: str | None = None) -> web.Response:
    """A page without scripts or styles, which no site may frame."""
    title, known = _TEXTS.get(code, ("This did not work", "Go back and try again."))
    items = Markup("").join(_ITEM.format(href=href, label=label) for href, label in _LINKS.get(code, ()))
    page = _PAGE.format(title=title, text=escape(text or known), links=_NAV.format(items=items) if items else "")
    response = web.Response(text=page, status=status, content_type="text/html")
    response.headers["Content-Security-Policy"] = NO_SCRIPTS
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    return response
