"""Origins, and the client behind proxies."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from server.signaling.origin import origin_allowed
from server.signaling.proxies import Client, client_of, is_loopback

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("::1/128"))


@pytest.mark.parametrize(
    ("origin", "scheme", "host", "allowed"),
    [
        (None, "https", "cc.example", True),
        ("https://cc.example", "https", "cc.example", True),
        ("https://cc.example", "https", "cc.example:443", True),
        ("https://CC.example:443", "https", "cc.example", True),
        ("http://127.0.0.1:8080", "http", "127.0.0.1:8080", True),
        ("http://[::1]:8080", "http", "[::1]:8080", True),
        ("https://cc.example", "http", "cc.example", True),  # an unknown proxy ends TLS
        ("http://cc.example", "https", "cc.example", False),
        ("https://cc.example:8443", "https", "cc.example", False),
        ("https://evil.example", "https", "cc.example", False),
        ("https://cc.example.evil.example", "https", "cc.example", False),
        ("null", "https", "cc.example", False),
        ("file://", "https", "cc.example", False),
        ("https://cc.example:99999", "https", "cc.example", False),
        ("https://[", "https", "cc.example", False),
    ],
)
def test_own_origin(origin: str | None, scheme: str, host: str, allowed: bool) -> None:
    assert origin_allowed(origin, Client("1.2.3.4", scheme, host), None) is allowed


def test_a_public_url_is_the_only_origin() -> None:
    client = Client("1.2.3.4", "http", "10.0.0.7:8080")
    assert origin_allowed("https://cc.example", client, "https://cc.example")
    assert not origin_allowed("http://10.0.0.7:8080", client, "https://cc.example")


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.1", ["198.51.100.7"], "203.0.113.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", ["6.6.6.6, junk"], "10.0.0.1"),
        ("::1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("", [], "local"),
    ],
)
def test_the_client_behind_proxies(peer: str, forwarded: list[str], address: str) -> None:
    headers = CIMultiDict([("X-Forwarded-For", value) for value in forwarded] + [("X-Forwarded-Proto", "https")])
    request = make_mocked_request("GET", "/", headers).clone(remote=peer)
    client = client_of(request, TRUSTED)
    assert client.address == address
    believed = peer not in ("203.0.113.1", "")
    assert client.secure is believed


def test_the_public_url_is_what_browsers_see() -> None:
    request = make_mocked_request("GET", "/", {"Host": "10.0.0.7:8080"})
    client = client_of(request, (), "https://cc.example:8443")
    assert (client.secure, client.url) == (True, "https://cc.example:8443")


@pytest.mark.parametrize("host", ["a; script-src *", "a b", "", "[::1"])
def test_a_host_that_is_none_goes_nowhere(host: str) -> None:
    assert client_of(make_mocked_request("GET", "/", {"Host": host}), ()).host == "localhost"


def test_loopback() -> None:
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert is_loopback("local")
    assert not is_loopback("10.0.0.1")
