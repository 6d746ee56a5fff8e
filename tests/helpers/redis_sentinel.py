"""A Redis with a replica, and Sentinels that watch them."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from server.process import die_with_parent
from tests.helpers.redis_server import RedisServer, redis_server
from tests.helpers.system import free_port

SENTINELS = 3
QUORUM = 2
DOWN_MS = 500  # a master that is silent for so long is down
AGREED_S = 15.0


@dataclass
class Watched:
    """`url`: as in PATCHBAY_REDIS_URL. The master has been replaced once the URL's client reaches `replica`."""

    url: str
    master: RedisServer
    replica: RedisServer


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """A master, its replica, and three Sentinels that know both."""
    with ExitStack() as stack:
        servers = []
        for name in ("master", "replica"):
            (folder / name).mkdir()
            servers.append(stack.enter_context(redis_server(folder / name)))
        master, replica = servers
        replica.command("REPLICAOF", "127.0.0.1", str(master.port))
        _until(lambda: "master_link_status:up" in replica.command("INFO", "replication"), "the replica follows")
        ports = [free_port() for _ in range(SENTINELS)]
        for port in ports:
            stack.enter_context(_sentinel(folder, port, master.port))
        for port in ports:
            _until(lambda port=port: _knows_all(port), "the Sentinels know each other and the replica")
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        yield Watched(f"redis+sentinel://{hosts}/center/0", master, replica)


@contextmanager
def _sentinel(folder: Path, port: int, master_port: int) -> Iterator[None]:
    settings = folder / f"sentinel-{port}.conf"  # the Sentinel writes into it
    settings.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/sentinel-{port}.log\n"
        f"sentinel monitor center 127.0.0.1 {master_port} {QUORUM}\n"
        f"sentinel down-after-milliseconds center {DOWN_MS}\nsentinel failover-timeout center 3000\n"
    )
    process = subprocess.Popen(
        ["redis-server", str(settings), "--sentinel"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent,
    )  # fmt: skip
    try:
        _until(lambda: _answers(port), "a Sentinel")
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _knows_all(port: int) -> bool:
    told = _ask(port, "SENTINEL", "MASTER", "center").split("\r\n")
    facts = dict(zip(told[2::4], told[4::4], strict=False))  # $length, name, $length, value
    return (facts.get("num-other-sentinels"), facts.get("num-slaves")) == (str(SENTINELS - 1), "1")


def _answers(port: int) -> bool:
    try:
        return _ask(port, "PING") == "+PONG"
    except OSError:
        return False


def _ask(port: int, *words: str) -> str:
    server = RedisServer.__new__(RedisServer)  # only its way of asking
    server.port = port
    return server.command(*words)


def _until(condition: object, what: str) -> None:
    assert callable(condition)
    deadline = time.monotonic() + AGREED_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {AGREED_S} s: {what}"
        time.sleep(0.05)
