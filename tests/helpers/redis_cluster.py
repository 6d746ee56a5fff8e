"""A Redis Cluster of the tests' own: three masters that share the slots, each with a replica where one is asked for."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.redis_server import RedisServer, redis_server

MASTERS = 3
SLOTS = 16_384
BUS = 10_000  # a node speaks to the others on a port that is so much higher than the one for clients
HIGHEST_PORT = 65_535
AGREED_S = 30.0


@dataclass(frozen=True)
class RedisNodes:
    """`url` as in PATCHBAY_REDIS_URL: it names all. `replicas[n]` follows `masters[n]`, as long as nothing fails."""

    url: str
    masters: tuple[RedisServer, ...]
    replicas: tuple[RedisServer, ...]

    @property
    def all(self) -> tuple[RedisServer, ...]:
        return (*self.masters, *self.replicas)

    def flush(self) -> None:
        """Lose all data and all scripts."""
        for master in self.masters:
            master.flush()

    def flush_all(self) -> None:
        """The same where replicas have taken over: whoever is a master now loses all."""
        for server in self.all:
            if server.runs and "role:master" in server.command("INFO", "replication"):
                server.flush()

    def restart(self) -> None:
        """All at once, those that had died too: all is lost but who has which slots. Returns when the cluster stands
        again."""
        for server in self.all:
            server.stop()
        for server in self.all:
            server.start()
        self.stands()

    def stands(self) -> None:
        """Wait until each node says that each slot has a living master."""
        for server in self.all:
            until(lambda server=server: "cluster_state:ok" in info(server), f"the cluster stands, by {server.port}")

    def owner(self, key: str) -> int:
        """Which of the masters had the key's slot in the beginning."""
        return int(self.masters[0].command("CLUSTER", "KEYSLOT", key)[1:]) * MASTERS // SLOTS


@contextmanager
def redis_nodes(folder: Path, *, replicas: bool = False, node_timeout_ms: int = 15_000) -> Iterator[RedisNodes]:
    """Started and agreed. `node_timeout_ms`: who is silent for so long has failed."""
    with ExitStack() as stack:
        servers = []
        for number in range(MASTERS * (2 if replicas else 1)):
            (home := folder / f"redis-{number}").mkdir()
            options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout_ms),
                       "--repl-diskless-sync-delay", "0")  # fmt: skip
            servers.append(stack.enter_context(redis_server(home, arguments=options, port=port_pair())))
        masters, followers = tuple(servers[:MASTERS]), tuple(servers[MASTERS:])
        for number, server in enumerate(masters):
            first, beyond = (-(-SLOTS * n // MASTERS) for n in (number, number + 1))
            _does(server, "CLUSTER", "ADDSLOTS", *map(str, range(first, beyond)))
        for server in servers[1:]:
            _does(server, "CLUSTER", "MEET", "127.0.0.1", str(masters[0].port))
        for server in servers:
            until(lambda server=server: _acquainted(server, len(servers)), "the nodes know each other")
        for master, replica in zip(masters, followers, strict=False):
            _does(replica, "CLUSTER", "REPLICATE", master.command("CLUSTER", "MYID").splitlines()[1])
        for replica in followers:
            until(lambda replica=replica: _follows(replica), "a replica follows")
        nodes = RedisNodes("redis+cluster://" + ",".join(f"127.0.0.1:{s.port}" for s in servers), masters, followers)
        nodes.stands()
        yield nodes


def info(server: RedisServer) -> str:
    return server.command("CLUSTER", "INFO")


def until(condition: object, what: str, timeout_s: float = AGREED_S) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


def _acquainted(server: RedisServer, nodes: int) -> bool:
    told = server.command("CLUSTER", "NODES")
    return told.count(" connected") == nodes and "handshake" not in told


def _follows(replica: RedisServer) -> bool:
    return "master_link_status:up" in replica.command("INFO", "replication")


def _does(server: RedisServer, *words: str) -> None:
    said = server.command(*words)
    assert said == "+OK", said


def port_pair() -> int:
    """A free port whose partner for the nodes' own talk is free too."""
    while True:
        with socket.socket() as probe, socket.socket() as partner:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            if port + BUS > HIGHEST_PORT:
                continue
            try:
                partner.bind(("127.0.0.1", port + BUS))
            except OSError:
                continue
            return port


@pytest.fixture(scope="session", name="redis_cluster")
def shared_redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisNodes]:
    """One for all tests of a run, without replicas. Who uses it flushes it first, and leaves it running."""
    with redis_nodes(tmp_path_factory.mktemp("redis-cluster")) as nodes:
        yield nodes
