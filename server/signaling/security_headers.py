"""Headers that tell the browser what our pages may do, set on every answer as it is about to be sent."""

from __future__ import annotations

from aiohttp import web

from server.signaling.proxies import CLIENT

# The microphone is for our own pages (also framed: the host page's allow="microphone" hands it on), nothing else is.
PERMISSIONS = (
    "microphone=(self), autoplay=(self), speaker-selection=(self), camera=(), geolocation=(), payment=(), "
    "usb=(), serial=(), midi=(), display-capture=()"
)
HSTS_S = 31_536_000  # a year, as browsers' preload lists ask
NO_SCRIPTS = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


def app_policy(host: str, secure: bool, frame_ancestors: str) -> str:
    """The content security policy of our app pages.

    - The sockets are named, because Safari before 15.4 did not count them as 'self'.
    - Inline style attributes are allowed (components position pop-ups with them); style elements are not.
    - Trusted Types: only Svelte's own policy may turn text into markup.
    """
    socket = f"{'wss' if secure else 'ws'}://{host}"
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "style-src-attr 'unsafe-inline'",
            "img-src 'self'",
            "font-src 'self'",
            "media-src 'self' blob:",
            f"connect-src 'self' {socket}",
            "worker-src 'self'",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            f"frame-ancestors {frame_ancestors}",
            "require-trusted-types-for 'script'",
            "trusted-types svelte-trusted-html",
        )
    )


async def set_security_headers(request: web.Request, response: web.StreamResponse) -> None:
    """`on_response_prepare` signal. A handler's own policy stands."""
    headers = response.headers
    headers.setdefault("Content-Security-Policy", NO_SCRIPTS)
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "strict-origin-when-cross-origin")
    headers.setdefault("Permissions-Policy", PERMISSIONS)
    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    headers.setdefault("Cache-Control", "no-store")
    client = request.get(CLIENT)
    if client is not None and client.secure:
        headers.setdefault("Strict-Transport-Security", f"max-age={HSTS_S}")
