"""How a control node reaches a media worker: over the UNIX socket of a sibling, or over TLS with a token.

What keeps a worker from being used is said in words for the operator (`fault_of`): /readyz and `patchbay doctor`
show them, and the log repeats them."""

from __future__ import annotations

import asyncio
import errno
import ssl
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from server.media import worker_protocol as wire

TOKEN_ENV = "PATCHBAY_MEDIA_TOKEN"  # where a worker that is started finds it: never on a command line
CONNECT_TIMEOUT_S = 2.0
PROBE_TIMEOUT_S = 3.0
GONE = frozenset({errno.ENOENT, errno.ECONNREFUSED})  # nobody listens there: the process is not running


class WorkerMismatch(Exception):
    """Another worker answers than the settings name; the text says which (`worker_id_mismatch`)."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(
            f"worker_id_mismatch: the worker there calls itself {found!r}; give it PATCHBAY_MEDIA_NAME={expected}, "
            "or correct PATCHBAY_MEDIA_URLS"
        )


@dataclass(frozen=True, slots=True)
class WorkerAddress:
    """`path` is a sibling's UNIX socket; else `url` (http or https) is where a worker of any machine listens."""

    url: str
    path: Path | None = None
    token: str | None = None
    tls: ssl.SSLContext | None = None

    @classmethod
    def local(cls, path: Path) -> WorkerAddress:
        return cls("http://worker", path)

    @classmethod
    def remote(cls, url: str, token: str, ca: Path | None = None) -> WorkerAddress:
        """`url`: wss://host:port, ws:// on this machine. `ca`: the only certificates to trust; None: the system's.

        Raises OSError and ssl.SSLError when `ca` can't be used."""
        if url.startswith("ws://"):
            return cls("http" + url.removeprefix("ws"), token=token)
        tls = ssl.create_default_context(cafile=str(ca) if ca is not None else None)
        return cls("https" + url.removeprefix("wss"), token=token, tls=tls)

    @property
    def is_remote(self) -> bool:
        return self.path is None

    def open(self) -> aiohttp.ClientSession:
        """A client whose requests show the token. To be closed by the caller."""
        connector: aiohttp.BaseConnector
        if self.path is not None:
            return aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(self.path)))
        connector = aiohttp.TCPConnector(ssl=self.tls or True, ttl_dns_cache=10)
        return aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {self.token}"})


def is_gone(error: BaseException) -> bool:
    """The connection was refused: the process is not running."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.errno in GONE
    return isinstance(error, OSError) and error.errno in GONE


def fault_of(error: BaseException, address: WorkerAddress) -> str:
    """Why a connection failed, and what to do about it."""
    where = str(address.path) if address.path is not None else address.url
    match error:
        case WorkerMismatch():
            return str(error)
        case aiohttp.ClientResponseError(status=401):
            return f"{where} refuses the token (bad_token); give both sides the same PATCHBAY_MEDIA_TOKEN"
        case aiohttp.ClientResponseError(status=status):
            return f"{where} answers {status} and no hello; is it a media worker?"
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
            remedy = "let PATCHBAY_MEDIA_CA name the certificate's issuer, and the certificate the host of the URL"
            return f"{where} shows a certificate that is not trusted ({reason}); {remedy}"
        case aiohttp.ClientConnectorSSLError():
            return f"{where} speaks no TLS that fits; give the worker PATCHBAY_TLS_CERT and PATCHBAY_TLS_KEY"
        case aiohttp.ClientConnectorDNSError():
            return f"{where}: its name is not known; correct PATCHBAY_MEDIA_URLS or the name service"
        case wire.ProtocolError():
            return f"{where} speaks another protocol ({error}); run the same version on all machines"
        case TimeoutError():
            return f"{where} is silent; look at its machine, the network and the firewall"
        case _ if is_gone(error):
            return f"{where} refuses connections: no worker runs there"
        case aiohttp.ServerDisconnectedError() if address.is_remote and address.tls is None:
            return f"{where} hangs up at once; if it expects TLS, write wss:// in PATCHBAY_MEDIA_URLS"
        case _:
            return f"{where}: {type(error).__name__}: {error}".rstrip(": ")


async def probe(worker_id: str, address: WorkerAddress) -> str | None:
    """What is wrong with the way to a worker; None when it answers under its name."""
    try:
        async with (
            asyncio.timeout(PROBE_TIMEOUT_S),
            address.open() as http,
            http.get(address.url + wire.INFO_PATH, allow_redirects=False, raise_for_status=True) as response,
        ):
            _, message = wire.decode(await response.text())
        found = wire.info_from_json(message).worker_id
        if found != worker_id:
            raise WorkerMismatch(worker_id, found)
    except (OSError, aiohttp.ClientError, TimeoutError, wire.ProtocolError, WorkerMismatch) as error:
        return fault_of(error, address)
    return None
