"""Credentials and the deployed configuration against a real coturn: who gets in, for how long, and what they reach."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aioice import stun
from aioice.turn import TurnTransport, create_turn_endpoint

from server.services.turn import CREDENTIALS_S, rest_credentials
from tests.helpers.certificates import make_certificate
from tests.helpers.coturn import LOOPBACK, RELAY_PORTS, SECRET, Coturn, coturn
from tests.helpers.system import until

SHORT_S = 3


class Datagrams(asyncio.DatagramProtocol):
    """Keeps what came, and from where."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, tuple[str, int]]] = []

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.got.append((data, addr))


@asynccontextmanager
async def allocation(
    server: Coturn, credentials: tuple[str, str], tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[TurnTransport, Datagrams]]:
    address = (server.host, server.tls_port if tls else server.port)
    transport = "tcp" if tls else "udp"
    relay, heard = await create_turn_endpoint(Datagrams, address, *credentials, ssl=tls, transport=transport)
    try:
        yield relay, heard
    finally:
        await client(relay).delete()


@asynccontextmanager
async def peer(host: str = LOOPBACK) -> AsyncIterator[tuple[asyncio.DatagramTransport, Datagrams]]:
    """In place of a media worker."""
    loop = asyncio.get_running_loop()
    transport, heard = await loop.create_datagram_endpoint(Datagrams, local_addr=(host, 0))
    try:
        yield transport, heard
    finally:
        transport.close()


def client(relay: TurnTransport) -> Any:
    """aioice's client of an allocation, for what the transport keeps to itself."""
    return relay._TurnTransport__inner_protocol  # type: ignore[attr-defined]


async def refresh(relay: TurnTransport) -> None:
    """What a browser does every nine minutes. Raises stun.TransactionFailed."""
    request = stun.Message(message_method=stun.Method.REFRESH, message_class=stun.Class.REQUEST)
    request.attributes["LIFETIME"] = 600
    await client(relay).request_with_retry(request)


def fresh(person: str = "ses_1", life_s: float = CREDENTIALS_S) -> tuple[str, str]:
    return rest_credentials(SECRET, person, round(time.time() + life_s))


async def test_relays_between_who_has_credentials_and_a_media_worker(tmp_path: Path) -> None:
    async with coturn(tmp_path) as server, peer() as (worker, at_worker), allocation(server, fresh()) as (relay, heard):
        relay.sendto(b"ping", worker.get_extra_info("sockname"))
        data, source = await until(_first(at_worker), 5, "a packet at the worker")
        assert data == b"ping"
        assert source == relay.get_extra_info("sockname")
        assert RELAY_PORTS[0] <= source[1] <= RELAY_PORTS[1]
        worker.sendto(b"pong", source)
        assert await until(_first(heard), 5, "the answer") == (b"pong", worker.get_extra_info("sockname"))


@pytest.mark.parametrize(
    "credentials",
    [
        fresh(life_s=-1),
        (fresh()[0], fresh("ses_2")[1]),
        rest_credentials("another secret of some length", "ses_1", round(time.time()) + 600),
        ("ses_1", fresh()[1]),
    ],
    ids=["expired", "of somebody else", "by another secret", "without an expiry"],
)
async def test_refuses_credentials(tmp_path: Path, credentials: tuple[str, str]) -> None:
    async with coturn(tmp_path) as server:
        with pytest.raises(stun.TransactionFailed) as refused:
            async with allocation(server, credentials):
                pass
        assert refused.value.response.attributes["ERROR-CODE"][0] == 401


async def test_a_call_outlasts_its_credentials(tmp_path: Path) -> None:
    """Also over a nonce that is renewed; a new allocation wants new credentials."""
    credentials = fresh(life_s=SHORT_S)
    async with (
        coturn(tmp_path, stale_nonce="1") as server,
        peer() as (worker, at_worker),
        allocation(server, credentials) as (relay, _),
    ):
        address = worker.get_extra_info("sockname")
        relay.sendto(b"0", address)
        await until(_first(at_worker), 5, "a packet at the worker")
        expired_at = time.time() + SHORT_S + 2

        async def expired() -> bool:
            return time.time() > expired_at

        await until(expired, SHORT_S + 5, "the expiry")
        with pytest.raises(stun.TransactionFailed):
            async with allocation(server, credentials):
                pass
        await refresh(relay)
        at_worker.got.clear()
        relay.sendto(b"1", address)
        assert (await until(_first(at_worker), 5, "a packet after the expiry"))[0] == b"1"
        async with peer() as (moved, at_moved):  # a worker elsewhere: a permission that is asked for after the expiry
            relay.sendto(b"2", moved.get_extra_info("sockname"))
            await until(_first(at_moved), 5, "a packet at another worker")


async def test_reaches_media_workers_only(tmp_path: Path) -> None:
    elsewhere = "127.0.0.2"
    async with (
        coturn(tmp_path, peers=(LOOPBACK,)) as server,
        peer() as (worker, at_worker),
        peer(elsewhere) as (other, at_other),
        allocation(server, fresh()) as (relay, _),
    ):
        for address in (other.get_extra_info("sockname"), ("192.0.2.99", 80), ("10.1.2.3", 22), ("8.8.8.8", 53)):
            with pytest.raises(stun.TransactionFailed) as refused:
                await client(relay).channel_bind(0x4100, address)
            assert refused.value.response.attributes["ERROR-CODE"][0] == 403, address
        relay.sendto(b"to the worker", worker.get_extra_info("sockname"))
        await until(_first(at_worker), 5, "a packet at the worker")
        assert at_other.got == []


async def test_one_person_takes_a_few_allocations_only(tmp_path: Path) -> None:
    """Whatever the expiry in the names."""
    async with (
        coturn(tmp_path, user_quota="2") as server,
        allocation(server, fresh()),
        allocation(server, fresh(life_s=500)),
    ):
        with pytest.raises(stun.TransactionFailed) as refused:
            async with allocation(server, fresh(life_s=400)):
                pass
        assert refused.value.response.attributes["ERROR-CODE"][0] == 486
        async with allocation(server, fresh("ses_2")):
            pass


async def test_over_tls(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "tls", LOOPBACK)
    trusted = ssl.create_default_context(cafile=str(certificate.ca))
    async with (
        coturn(tmp_path, certificate=certificate) as server,
        peer() as (worker, at_worker),
        allocation(server, fresh(), trusted) as (relay, _),
    ):
        relay.sendto(b"ping", worker.get_extra_info("sockname"))
        await until(_first(at_worker), 5, "a packet at the worker")


def _first(heard: Datagrams) -> Callable[[], Awaitable[tuple[bytes, tuple[str, int]] | None]]:
    async def first() -> tuple[bytes, tuple[str, int]] | None:
        return heard.got[0] if heard.got else None

    return first
