"""A Redis Cluster on loopback for tests: shards, replicas that take over, slots that move between nodes."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import redis
from redis.cluster import ClusterNode
from redis.crc import key_slot
from typing_extensions import Self

from tests.servers import RedisServer

SLOTS = 16384
OPTIONS = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")


class Cluster:
    """Primaries that share the slots evenly, each with ``replicas``; ``spare`` nodes join without a slot.

    ``make`` makes a node's server from its options. Nodes are told by their numbers: the primaries come
    first, then the spare ones, then the replicas, primary by primary. A number stays that node's, whatever
    its role.
    """

    def __init__(
        self, make: Callable[..., RedisServer], primaries: int = 3, spare: int = 0, replicas: int = 0
    ) -> None:
        self._make = make
        self._primaries = primaries
        self._first_replica = primaries + spare
        self._replicas = replicas
        self._count = primaries + spare + primaries * replicas
        self._away: set[int] = set()
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
            self._start_node()
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
        for replica in range(self._first_replica, self._count):
            primary = (replica - self._first_replica) // self._replicas
            self.clients[replica].execute_command("CLUSTER REPLICATE", self.node_id(primary))
        for replica in range(self._first_replica, self._count):
            self.wait_until_in_sync(replica)
        self.wait_until_whole()

    def _start_node(self) -> int:
        node = self._stack.enter_context(self._make(*OPTIONS))
        self.nodes.append(node)
        self.clients.append(self._stack.enter_context(node.client()))
        return len(self.nodes) - 1

    def wait_until_whole(self) -> None:
        """Wait until every node that lives sees all nodes and all slots."""
        clients = [self.clients[number] for number in self.living()]
        self._until(lambda: all(map(self._is_whole, clients)), "a whole cluster")

    @staticmethod
    def _until(true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 60
        while not true():
            assert time.monotonic() < deadline, f"there is not {what} in time"
            time.sleep(0.02)

    def _is_whole(self, client: redis.Redis) -> bool:
        found: Any = client.execute_command("CLUSTER INFO")
        whole = found["cluster_slots_assigned"] == str(SLOTS) and found["cluster_state"] == "ok"
        return whole and int(found["cluster_known_nodes"]) == self._count

    def living(self) -> list[int]:
        """Return the numbers of the nodes that belong to the cluster and are not down."""
        return [number for number in range(len(self.nodes)) if number not in self._away]

    def primaries(self) -> list[int]:
        """Return the numbers of the nodes that are primaries now, with slots or without."""
        return [number for number in self.living() if self._replication(number)["role"] == "master"]

    def _replication(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self.clients[number].info("replication")
        return found

    @property
    def url(self) -> str:
        """The URL of the first node that lives."""
        return self.nodes[self.living()[0]].url

    def client(self, **options: Any) -> redis.RedisCluster:
        """Return a client that follows the cluster."""
        known = [ClusterNode("127.0.0.1", self.nodes[number].port) for number in self.living()]
        return redis.RedisCluster(startup_nodes=known, **options)

    def node_id(self, number: int) -> str:
        """Return a node's id."""
        found: Any = self.clients[number].execute_command("CLUSTER MYID")
        return str(found.decode() if isinstance(found, bytes) else found)

    def owner(self, key: str | int) -> int:
        """Return the number of the node that owns a key's slot, or a slot, as the first node sees it."""
        slot = key if isinstance(key, int) else key_slot(key.encode())
        [owner] = [number for number, first, last in self._ranges() if first <= slot <= last]
        return owner

    def slots(self, number: int, client: redis.Redis | None = None) -> list[int]:
        """Return the slots that a node owns, as another one (the first) sees it."""
        found = [range(first, last + 1) for owner, first, last in self._ranges(client) if owner == number]
        return [slot for each in found for slot in each]

    def _ranges(self, client: redis.Redis | None = None) -> list[tuple[int, int, int]]:
        ranges: Any = (client or self.clients[self.living()[0]]).execute_command("CLUSTER SLOTS")
        ports = [node.port for node in self.nodes]
        return [(ports.index(int(node[1])), int(first), int(last)) for first, last, node, *_ in ranges]

    # -- Replicas and failovers ------------------------------------------------------------------------------

    def replica_of(self, primary: int) -> int:
        """Return the number of a replica that a node has now."""
        port = self.nodes[primary].port
        others = [number for number in self.living() if number != primary]
        return next(each for each in others if self._replication(each).get("master_port") == port)

    def wait_until_in_sync(self, replica: int) -> None:
        """Wait until a replica has what its primary has."""

        def is_in_sync() -> bool:
            found = self._replication(replica)
            return (found["role"], found.get("master_link_status")) == ("slave", "up")

        self._until(is_in_sync, f"a replica {replica} in sync")

    def fail_over(self, primary: int) -> int:
        """Have a replica take over by CLUSTER FAILOVER, which loses nothing; return its number."""
        replica = self.replica_of(primary)
        asked = -math.inf

        def is_promoted() -> bool:
            nonlocal asked
            if self._replication(replica)["role"] == "master":
                return True
            # The nodes give it up when it takes them more than five seconds, as on a loaded machine.
            if time.monotonic() - asked > 8:
                self.clients[replica].execute_command("CLUSTER FAILOVER")
                asked = time.monotonic()
            return False

        self._until(is_promoted, f"a promoted replica {replica}")
        self.wait_until_in_sync(primary)
        return replica

    def kill_primary(self, primary: int) -> int:
        """kill -9 a primary; return the number of the replica that the cluster has promoted then."""
        replica = self.replica_of(primary)
        self.nodes[primary].kill9()
        self._away.add(primary)
        self._wait_until_promoted(replica)
        self.wait_until_whole()
        return replica

    @contextlib.contextmanager
    def frozen(self, primary: int) -> Iterator[int]:
        """Cut a primary off: it hears and says nothing, and lives. Gives the number of who was promoted.

        In the end it is back, a replica in sync.
        """
        replica = self.replica_of(primary)
        pid = self.nodes[primary].pid
        os.kill(pid, signal.SIGSTOP)
        self._away.add(primary)
        try:
            self._wait_until_promoted(replica)
            self.wait_until_whole()
            yield replica
        finally:
            os.kill(pid, signal.SIGCONT)
            self._away.remove(primary)
        self.wait_until_in_sync(primary)

    @contextlib.contextmanager
    def forgetting(self, *primaries: int) -> Iterator[list[int]]:
        """Have replicas hear of nothing meanwhile; in the end their primaries are killed, and they take over.

        Gives the numbers of the replicas.
        """
        replicas = [self.replica_of(primary) for primary in primaries]
        for primary, replica in zip(primaries, replicas):
            os.kill(self.nodes[replica].pid, signal.SIGSTOP)
            self._away.add(replica)
            # Else it would read what comes in all the same, once it goes on.
            self.clients[primary].execute_command("CLIENT KILL", "TYPE", "replica")
        try:
            yield replicas
        finally:
            for primary, replica in zip(primaries, replicas):
                self.nodes[primary].kill9()
                os.kill(self.nodes[replica].pid, signal.SIGCONT)
                self._away.add(primary)
                self._away.remove(replica)
        for replica in replicas:
            self.clients[replica].execute_command("CLUSTER FAILOVER", "TAKEOVER")
            self._wait_until_promoted(replica)
        self.wait_until_whole()

    def _wait_until_promoted(self, replica: int) -> None:
        self._until(lambda: self._replication(replica)["role"] == "master", f"a promoted replica {replica}")

    def bring_back(self, number: int) -> None:
        """Start a node that was killed; wait until it is a replica in sync."""
        self.nodes[number].start()
        self._away.remove(number)
        self.wait_until_in_sync(number)

    # -- Shards that come and go -----------------------------------------------------------------------------

    def add_primary(self) -> int:
        """Have a new node join, without a slot; return its number."""
        number = self._start_node()
        self._count += 1
        self.clients[number].execute_command("CLUSTER MEET", "127.0.0.1", self.nodes[self.living()[0]].port)
        self.wait_until_whole()
        return number

    def remove(self, number: int) -> None:
        """Have all others forget a node that has no slot any more; it lives on by itself."""
        gone = self.node_id(number)
        self._away.add(number)
        self._count -= 1
        for each in self.living():
            self.clients[each].execute_command("CLUSTER FORGET", gone)
        self.clients[number].execute_command("CLUSTER RESET", "SOFT")
        self.wait_until_whole()

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
        for number in (target, *(each for each in self.primaries() if each != target)):
            try:
                self.clients[number].execute_command("CLUSTER SETSLOT", slot, "NODE", ids)
            except redis.ResponseError as error:
                # Who has lost the last slot becomes a replica of who has it.
                if "only with masters" not in str(error):
                    raise
        # Until all know the target's new config epoch, a slot that moves on at once could be claimed by two.
        clients = [self.clients[number] for number in self.living()]
        self._until(lambda: len({self._epoch(each, ids) for each in clients}) == 1, "one owner of the slot")

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

    def move_empty_slots(self, source: int, target: int, kept: set[int]) -> None:
        """Move all slots without keys, but those of ``kept``, at once.

        ``target`` must have taken a slot from ``source`` before, so that its config epoch is the higher one.
        """
        slots = [slot for slot in self.slots(source) if slot not in kept and self._is_empty(source, slot)]
        ids = self.node_id(target)
        for number in (target, source):
            with self.clients[number].pipeline(transaction=False) as pipe:
                for slot in slots:
                    pipe.execute_command("CLUSTER SETSLOT", slot, "NODE", ids)
                pipe.execute()
        clients = [self.clients[number] for number in self.living()]
        expected = set(self.slots(source)) - set(slots)
        self._until(lambda: all(set(self.slots(source, each)) == expected for each in clients), "agreement")

    def _is_empty(self, number: int, slot: int) -> bool:
        return not self.clients[number].execute_command("CLUSTER COUNTKEYSINSLOT", slot)
