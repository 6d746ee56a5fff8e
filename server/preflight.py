"""What must be as it should before anything runs. None of it needs the node's own modules, which take a second to
load: the supervisor and the commands do without."""

from __future__ import annotations

import fcntl
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.engine import make_url

from server.config import Config
from server.storage import migrate

STATIC_DIR = Path(__file__).parent / "static"  # the web apps, built


class CannotStart(Exception):
    """The node can't serve as things are; the text says what to do."""


@contextmanager
def only_node(config: Config) -> Iterator[None]:
    """On SQLite there is one control node: a second one refuses to start."""
    if config.postgres:
        yield
        return
    if str(sqlite_path(config)) in ("", ".", ":memory:"):
        raise CannotStart("database_url names no file; give sqlite+aiosqlite:///path/to/patchbay.db")
    descriptor = os.open(config.data_dir / "control.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise CannotStart(f"another Patchbay serves {config.data_dir}; stop it, or give PATCHBAY_DATA_DIR") from None
    try:
        yield
    finally:
        os.close(descriptor)


async def check_schema(config: Config) -> None:
    """Raises CannotStart when the database's schema is not one that this version works with."""
    try:
        await migrate.usable(config.database_url)
    except migrate.MigrationError as reason:
        raise CannotStart(str(reason)) from None


@contextmanager
def bound(config: Config) -> Iterator[socket.socket]:
    """A socket that holds the address and does not listen yet. Raises CannotStart."""
    with socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((config.host, config.port))
        except OSError as error:
            taken = f"{config.host}:{config.port} can't be listened on ({error.strerror or error})"
            raise CannotStart(f"{taken}; free it, or give PATCHBAY_HOST and PATCHBAY_PORT") from None
        yield listener


def tls_context(config: Config) -> ssl.SSLContext | None:
    """The certificate of the settings, None without one. Raises CannotStart."""
    if config.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or "no certificate and its key in them"
        raise CannotStart(f"PATCHBAY_TLS_CERT and PATCHBAY_TLS_KEY can't be used: {reason}") from None
    return context


def sqlite_path(config: Config) -> Path:
    """The SQLite file; the settings name one."""
    return Path(make_url(config.database_url).database or "")
