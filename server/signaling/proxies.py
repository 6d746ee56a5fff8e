"""Who is at the other end: the client's address and scheme, seen through proxies that we trust.

`X-Forwarded-For` is written by everybody on the way, the client included; only the part that trusted proxies added,
read from the right, says anything (RFC 7239 section 8.1 gives the same warning)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from aiohttp import web

Network = IPv4Network | IPv6Network
_HOST = re.compile(r"[A-Za-z0-9.\-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")
UNKNOWN_ADDRESS = "local"  # a UNIX socket has no address


@dataclass(frozen=True, slots=True)
class Client:
    """`scheme` and `host` are what the browser sees: those of the public URL when it is set."""

    address: str
    scheme: str
    host: str

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"


CLIENT: web.RequestKey[Client] = web.RequestKey("client", Client)


def client_of(request: web.Request, trusted: tuple[Network, ...], public_url: str | None = None) -> Client:
    """The client, past as many trusted proxies as there are."""
    address, scheme = _forwarded(request, trusted)
    if public_url is not None:
        scheme, _, host = public_url.partition("://")
        return Client(address, scheme, host)
    # The host goes into headers and embed codes: what can't be one does not.
    return Client(address, scheme, request.host if _HOST.fullmatch(request.host) else "localhost")


def from_untrusted_proxy(request: web.Request, trusted: tuple[Network, ...]) -> bool:
    """True when somebody forwards for others whom we were not told to trust: then all of those are one client."""
    peer = _parse(request.remote or "")
    return "X-Forwarded-For" in request.headers and peer is not None and not _within(peer, trusted)


def _forwarded(request: web.Request, trusted: tuple[Network, ...]) -> tuple[str, str]:
    peer = _parse(request.remote or "")
    scheme, address = request.scheme, str(peer) if peer is not None else UNKNOWN_ADDRESS
    if peer is None or not _within(peer, trusted):
        return address, scheme
    for part in reversed(",".join(request.headers.getall("X-Forwarded-For", [])).split(",")):
        hop = _parse(part.strip())
        if hop is None:
            break
        address = str(hop)
        if not _within(hop, trusted):
            break
    forwarded = request.headers.get("X-Forwarded-Proto", "").split(",")[-1].strip().lower()
    if forwarded in ("http", "https"):
        scheme = forwarded
    return address, scheme


def is_loopback(address: str) -> bool:
    """True on this machine, a UNIX socket included."""
    parsed = _parse(address)
    return address == UNKNOWN_ADDRESS or (parsed is not None and parsed.is_loopback)


def within(address: str, networks: tuple[Network, ...]) -> bool:
    parsed = _parse(address)
    return parsed is not None and _within(parsed, networks)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.split("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _within(address: IPv4Address | IPv6Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)
