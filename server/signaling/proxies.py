"""Who is at the other end: the client's address and scheme, seen through proxies that we trust.

`X-Forwarded-For` is written by everybody on the way, the client included; only the part that trusted proxies added,
read from the right, says anything (RFC 7239 section 8.1 gives the same warning)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from aiohttp import web

Network = IPv4Network | IPv6Network
UNKNOWN_ADDRESS = "local"  # a UNIX socket has no address


@dataclass(frozen=True, slots=True)
class Client:
    """`host` is the Host header, as the browser sent it."""

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


def client_of(request: web.Request, trusted: tuple[Network, ...]) -> Client:
    """The client, past as many trusted proxies as there are."""
    peer = _parse(request.remote or "")
    scheme, address = request.scheme, str(peer) if peer is not None else UNKNOWN_ADDRESS
    if peer is None or not _within(peer, trusted):
        return Client(address, scheme, request.host)
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
    return Client(address, scheme, request.host)


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
