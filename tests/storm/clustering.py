"""A cluster of a storm: three shards with a replica each, of which slots move."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import redis
from redis.crc import key_slot

from tests.cluster import Cluster
from tests.storm.nodes import Node
from tests.storm.topologies import Fault, Topology


class Shards(Topology):
    """Clients go to the nodes directly: a proxy could not stand for what nodes tell of each other."""

    kind = "cluster"
    lossy = True
    #: Nodes time each other out by it.
    clock_step = 1

    def start(self) -> None:
        self._cluster = self.stack.enter_context(Cluster(self._make, primaries=3, replicas=1))
        self._slots: dict[int, int] = {}
        self.look_again()

    def _make(self, *options: str) -> Node:
        node = Node(self.folder, self.variables, "--appendfsync", "everysec", *options)
        self.nodes.append(node)
        return node

    @property
    def url(self) -> str:
        return self._cluster.url

    def primaries(self) -> list[Node]:
        return [self.nodes[number] for number in self._cluster.primaries()]

    def port_for(self, key: str) -> int:
        return self._slots[key_slot(key.encode())]

    def look_again(self) -> None:
        for number in self._cluster.living():
            try:
                with self.nodes[number].asking() as client:
                    ranges = client.execute_command("CLUSTER SLOTS")
            except redis.RedisError:
                continue
            found: dict[int, int] = {}
            for first, last, node, *_ in ranges:
                found.update(dict.fromkeys(range(first, last + 1), int(node[1])))
            if found:
                self._slots = {**self._slots, **found}
                return

    def heal(self) -> None:
        super().heal()
        self._cluster.wait_until_whole()

    def faults(self) -> dict[str, Fault]:
        return {
            **super().faults(),
            "failover": self._fail_over,
            "primary killed": self._kill,
            "primary frozen": self._freeze,
            "reshard": self._reshard,
        }

    def _some(self, dice: random.Random) -> int:
        return dice.choice([each for each in self._cluster.primaries() if self._cluster.slots(each)])

    def _fail_over(self, seconds: float, dice: random.Random) -> None:
        self._cluster.fail_over(self._some(dice))
        time.sleep(seconds)

    def _kill(self, seconds: float, dice: random.Random) -> None:
        number = self._some(dice)
        self._cluster.kill_primary(number)
        time.sleep(seconds)
        self._cluster.bring_back(number)

    def _freeze(self, seconds: float, dice: random.Random) -> None:
        with self._cluster.frozen(self._some(dice)):
            time.sleep(seconds)

    def _reshard(self, seconds: float, dice: random.Random) -> None:
        """Slots move, one after the other, most of them with keys that are written just then."""
        deadline = time.monotonic() + 2 + seconds
        while time.monotonic() < deadline:
            source = self._some(dice)
            target = dice.choice([each for each in self._cluster.primaries() if each != source])
            self._move(self._busy_slot(source, dice), source, target)

    def _busy_slot(self, number: int, dice: random.Random) -> int:
        """The slot of some key, which may be a lane, or one without keys."""
        key: Any = self._cluster.clients[number].randomkey()
        return dice.choice(self._cluster.slots(number)) if key is None else key_slot(key)

    def _move(self, slot: int, source: int, target: int) -> None:
        steps = (
            lambda: self._cluster.open_slot(slot, source, target),
            lambda: self._cluster.move_keys(slot, source, target),
            lambda: self._cluster.close_slot(slot, target),
        )
        for step in steps:
            self._patiently(step, (source, target))

    def _patiently(self, step: Callable[[], object], numbers: tuple[int, int]) -> None:
        """Take a step of a move, again while a write of the slot or of one of its keys waits for SQL."""
        # Its worker is killed and frozen as well, and has to wait for others that are.
        deadline = time.monotonic() + 180
        while True:
            try:
                step()
            except redis.ResponseError as error:
                if "THROUGH" not in str(error) or time.monotonic() > deadline:
                    raise AssertionError("\n".join([str(error), *map(self._state, numbers)])) from error
                time.sleep(0.05)
            else:
                return

    def _state(self, number: int) -> str:
        """What a node says of itself, for whoever looks for a fault."""
        status: Any = self._cluster.clients[number].execute_command("GEARSYNC.STATUS")
        return f"node {number}: {status.decode()}\n{self._cluster.nodes[number].log_text()[-3000:]}"
