"""A Redis of the tests' own: its process, on a free port of the loopback, in an empty folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from server.process import die_with_parent

START_S = 10.0
PROBE_S = 0.02


class RedisServer:
    """`url` stays the same over a restart; `socket_url` is the same server's UNIX socket. Without `appendonly` a stop
    loses everything. `tls` (certificate and key) adds `tls_url`. `arguments` are further options of redis-server."""

    def __init__(
        self,
        folder: Path,
        *,
        appendonly: bool = False,
        tls: tuple[Path, Path] | None = None,
        arguments: Sequence[str] = (),
        port: int | None = None,
    ) -> None:
        self.port = port or _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.socket_url = f"unix://{folder / 'redis.sock'}"
        self.log = folder / "redis.log"
        self._command = [
            program(), "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(folder / "redis.sock"),
            "--dir", str(folder), "--save", "", "--logfile", str(self.log),
            "--appendonly", "yes" if appendonly else "no", "--appendfsync", "always", *arguments,
        ]  # fmt: skip
        if tls is not None:
            port = _free_port()
            self.tls_url = f"rediss://127.0.0.1:{port}/0"
            files = ("--tls-cert-file", str(tls[0]), "--tls-key-file", str(tls[1]))
            self._command += ["--tls-port", str(port), *files, "--tls-auth-clients", "no"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers, its data loaded."""
        assert self._process is None, "it runs"
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent
        )  # fmt: skip
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"redis-server did not start\n{self.log.read_text()[-2000:]}")
            time.sleep(PROBE_S)

    def stop(self, number: int = signal.SIGKILL) -> None:
        """It is gone, with all its connections."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait()
            self._process = None

    @property
    def runs(self) -> bool:
        return self._process is not None

    def restart(self) -> None:
        self.stop()
        self.start()

    def flush(self) -> None:
        """Lose all data and all scripts."""
        self.command("FLUSHALL")
        self.command("SCRIPT", "FLUSH")

    def pause(self) -> None:
        """It takes connections and bytes, and answers nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def command(self, *words: str) -> str:
        """What the server says to a command, raw; for what the product's client has no business with."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=START_S) as connection:
            connection.sendall(f"*{len(words)}\r\n".encode() + b"".join(_bulk(word) for word in words))
            return connection.recv(65536).decode().strip()

    def _answers(self) -> bool:
        with suppress(OSError):
            return self.command("PING") == "+PONG"
        return False


def program() -> str:
    found = shutil.which("redis-server")
    assert found, "redis-server is missing: tools/test-packages installs it, or says how"
    return found


def _free_port() -> int:
    """As in tests.helpers.system, which the settings of all tests had better not load."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _bulk(word: str) -> bytes:
    encoded = word.encode(errors="surrogateescape")
    return b"$%d\r\n%s\r\n" % (len(encoded), encoded)


@contextmanager
def redis_server(
    folder: Path,
    *,
    appendonly: bool = False,
    tls: tuple[Path, Path] | None = None,
    arguments: Sequence[str] = (),
    port: int | None = None,
) -> Iterator[RedisServer]:
    """Started, and gone afterwards."""
    server = RedisServer(folder, appendonly=appendonly, tls=tls, arguments=arguments, port=port)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session", name="redis_server")
def shared_redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One for all tests of a run. Who uses it flushes it first, and leaves it running."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server
