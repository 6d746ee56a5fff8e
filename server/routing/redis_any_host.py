"""A connection to any one of several Redis nodes: how the bus stands on a Redis Cluster.

What is published on one node of a cluster is heard on all of them, so the bus wants a node that lives and not a certain
one. redis-py's cluster client is no way to it: it refuses PUBLISH in a pipeline (redis/redis-py, ClusterPipeline), and
its subscription follows the slots of channels, which classic channels do not have.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import ConnectionError as Disconnected

Address = tuple[str, int]


class Hosts:
    """Where the nodes are, and which one is in use: all connections of a client go to the same one, so that notices
    keep their order. It is the next one's turn when a connection can't be made."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = tuple(addresses)
        self._at = random.randrange(len(addresses))  # clients spread over the nodes

    @property
    def now(self) -> Address:
        return self._addresses[self._at]

    def leave(self, address: Address) -> None:
        """Unless another one is in use already."""
        if address == self.now:
            self._at = (self._at + 1) % len(self._addresses)


class AnyHostConnection(Connection):
    """Each attempt to connect goes to the node in use. A node that is cut off from its cluster, or came back empty and
    belongs to none, would carry words to nobody: it is not taken."""

    def __init__(self, hosts: Hosts, **options: Any) -> None:
        self._hosts = hosts
        super().__init__(**options)

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        if self.is_connected:
            return
        self.host, self.port = address = self._hosts.now
        try:
            await super().connect_check_health(check_health, retry_socket_connect)
        except BaseException:  # a cancellation too: whoever waited for this node has given it up
            self._hosts.leave(address)
            raise

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        await super().on_connect_check_health(check_health)
        await self.send_command("CLUSTER INFO")
        if "cluster_state:ok" not in str(await self.read_response()):
            raise Disconnected(f"the cluster of {self.host}:{self.port} is down, or it is cut off from it")


class AnyHostTlsConnection(AnyHostConnection, SSLConnection):
    """The same over TLS."""
