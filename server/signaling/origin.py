"""Which web origins may talk to us with what a browser adds by itself: our own.

Browsers send `Origin` with every WebSocket handshake and every request that changes something, and other sites can't
forge it. A client that sends none is no browser, so it carries nobody's cookies by accident: it is let through to the
checks of tokens and logins. The widget's frame is a page of ours, hence same-origin as well; which sites may embed it
is the business of its `frame-ancestors`.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from server.signaling.proxies import Client

_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_allowed(origin: str | None, client: Client, public_url: str | None) -> bool:
    """True for our own origin: `public_url` when it is set, else the host that the browser asked for. An https page
    of the same host may talk to what looks like plain http here: a proxy that we do not know ends its TLS."""
    if origin is None:
        return True
    given = _parts(origin)
    if given is None:
        return False
    if public_url is not None:
        return given == _parts(public_url)
    scheme, host, port = given
    own = _parts(f"{scheme}://{client.host}")
    return own == (scheme, host, port) and (scheme == "https" or not client.secure)


def _parts(origin: str) -> tuple[str, str, int] | None:
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme]
