"""A Redis Cluster on loopback for tests: shards with the module, and slots that move between them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import redis
from redis.crc import key_slot
from typing_extensions import Self

from tests.servers import RedisServer

SLOTS = 16384
OPTIONS = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")


class Cluster:
    """Primaries that share the slots evenly; ``spare`` more nodes join without a slot.

    ``make`` makes a node's server from its options.
    """

    def __init__(self, make: Callable[..., RedisServer], primaries: int = 3, spare: int = 0) -> None:
        self._make = make
        self._primaries = primaries
        self._count = primaries + spare
        self._stack = contextlib.ExitStack()
        self.nodes: list[RedisServer] = []
        self.clients: list[redis.Redis] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        for _ in range(self._count):
            node = self._stack.enter_context(self._make(*OPTIONS))
            self.nodes.append(node)
            self.clients.append(self._stack.enter_context(node.client()))
        share = SLOTS // self._primaries
        for number in range(self._primaries):
            last = SLOTS if number == self._primaries - 1 else (number + 1) * share
            self.clients[number].execute_command("CLUSTER ADDSLOTS", *range(number * share, last))
        for number, client in enumerate(self.clients, 1):
            # Two nodes of one config epoch would quarrel about every slot that moves.
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number)
        for client in self.clients[1:]:
            client.execute_command("CLUSTER MEET", "127.0.0.1", self.nodes[0].port)
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        """Wait until every node sees all nodes and all slots."""
        deadline = time.monotonic() + 60
        while not all(self._is_whole(client) for client in self.clients):
            assert time.monotonic() < deadline, "the cluster does not come together"
            time.sleep(0.05)

    def _is_whole(self, client: redis.Redis) -> bool:
        found: Any = client.execute_command("CLUSTER INFO")
        whole = found["cluster_slots_assigned"] == str(SLOTS) and found["cluster_state"] == "ok"
        return whole and int(found["cluster_known_nodes"]) == self._count

    @property
    def url(self) -> str:
        """The URL of the first node."""
        return self.nodes[0].url

    def client(self) -> redis.RedisCluster:
        """Return a client that follows the cluster."""
        return redis.RedisCluster(host="127.0.0.1", port=self.nodes[0].port)

    def node_id(self, number: int) -> str:
        """Return a node's id."""
        found: Any = self.clients[number].execute_command("CLUSTER MYID")
        return str(found.decode() if isinstance(found, bytes) else found)

    def owner(self, key: str | int) -> int:
        """Return the number of the node that owns a key's slot, or a slot, as the first node sees it."""
        slot = key if isinstance(key, int) else key_slot(key.encode())
        ranges: Any = self.clients[0].execute_command("CLUSTER SLOTS")
        ports = [int(node[1]) for first, last, node, *_ in ranges if first <= slot <= last]
        return [node.port for node in self.nodes].index(ports[0])

    # -- Moving slots, as redis-cli --cluster reshard does it ------------------------------------------------

    def open_slot(self, slot: int, source: int, target: int) -> None:
        """Begin to move a slot."""
        self.clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", self.node_id(source))
        self.clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", self.node_id(target))

    def move_keys(self, slot: int, source: int, target: int, at_once: int = 10) -> int:
        """Move the keys of an open slot; return how many they were."""
        moved = 0
        while True:
            keys: Any = self.clients[source].execute_command("CLUSTER GETKEYSINSLOT", slot, at_once)
            if not keys:
                return moved
            self.clients[source].execute_command(
                "MIGRATE", "127.0.0.1", self.nodes[target].port, "", 0, 10_000, "REPLACE", "KEYS", *keys
            )
            moved += len(keys)

    def close_slot(self, slot: int, target: int) -> None:
        """End the move: the slot is the target's."""
        ids = self.node_id(target)
        for number in (target, *(each for each in range(self._count) if each != target)):
            self.clients[number].execute_command("CLUSTER SETSLOT", slot, "NODE", ids)
        # Until all know the target's new config epoch, a slot that moves on at once could be claimed by two.
        deadline = time.monotonic() + 30
        while len({self._epoch(client, ids) for client in self.clients}) > 1:
            assert time.monotonic() < deadline, "the nodes do not agree on the slot's owner"
            time.sleep(0.01)

    @staticmethod
    def _epoch(client: redis.Redis, node: str) -> str:
        """Return the config epoch of a node as ``client`` knows it."""
        reader = redis.Redis(connection_pool=client.connection_pool)
        reader.set_response_callback("CLUSTER NODES", lambda reply, **_: reply)
        lines: Any = reader.execute_command("CLUSTER NODES")
        text = lines.decode() if isinstance(lines, bytes) else str(lines)
        return next(line.split()[6] for line in text.splitlines() if line.startswith(node))

    def move_slot(self, slot: int, target: int) -> int:
        """Move one slot with its keys; return how many keys it had."""
        source = self.owner(slot)
        if source == target:
            return 0
        self.open_slot(slot, source, target)
        moved = self.move_keys(slot, source, target)
        self.close_slot(slot, target)
        return moved
