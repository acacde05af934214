"""One server, or a pair with a Sentinel, of a storm, and the faults of each; the cluster is beside it."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import redis

from tests.chaos.pair import SentinelServer
from tests.chaos.world import until
from tests.storm.clock import Clock
from tests.storm.nodes import Node, role
from tests.storm.proxy import Proxy

Fault = Callable[[float, random.Random], None]
"""Does harm for so many seconds, then mends it."""


#: Seconds after which nobody but an operator gets two servers out of their roles.
_STUCK_SECONDS = 40


class Topology:
    """Where clients write; ``lossy``: a promotion may lose what was answered, as in any Redis."""

    kind = ""
    lossy = False
    #: Seconds by which clocks may step at most.
    clock_step = 300

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.stack = contextlib.ExitStack()
        self.folder = folder
        self.clock = Clock(folder)
        self.variables = {**variables, **self.clock.variables}
        self.nodes: list[Node] = []
        self.proxies: dict[int, Proxy] = {}

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        self.stack.close()

    @property
    def url(self) -> str:
        """What the command line is given."""
        raise NotImplementedError

    def primaries(self) -> list[Node]:
        """The primaries of now that answer."""
        raise NotImplementedError

    def port_for(self, key: str) -> int:
        """The port at which a client writes this key."""
        raise NotImplementedError

    def look_again(self) -> None:
        """What a client does when it was sent away."""

    def heal(self) -> None:
        """Have all run; the last thing that a storm does."""
        for proxy in self.proxies.values():
            proxy.heal()
        for node in self.nodes:
            node.heal()
        self.clock.settle()

    def faults(self) -> dict[str, Fault]:
        """The faults of Redis, by name."""
        found: dict[str, Fault] = {"clock": self._step}
        # Redis 7.0 can be left with an AOF that it does not load, if it was a replica before.
        if not self.lossy and all(node.disk.small for node in self.nodes):
            found["full disk"] = self._fill
        return found

    def network_faults(self) -> dict[str, Fault]:
        """The faults between clients and Redis."""
        if not self.proxies:
            return {}
        return {
            "clients cut": self._each(Proxy.cut),
            "clients stalled": self._each(Proxy.stall),
            "clients delayed": self._each(lambda proxy: proxy.delay(0.05)),
            "clients torn": self._each(lambda proxy: proxy.tear(0.02, 1)),
        }

    # -- Parts -------------------------------------------------------------------------------------------

    def _add(self, *options: str) -> Node:
        node = Node(self.folder, self.variables, *options)
        self.nodes.append(node)
        self.stack.enter_context(node)
        self.proxies[node.port] = self.stack.enter_context(Proxy(node.port))
        return node

    def _each(self, harm: Callable[[Proxy], None]) -> Fault:
        def fault(seconds: float, _: random.Random) -> None:
            for proxy in self.proxies.values():
                harm(proxy)
            time.sleep(seconds)
            for proxy in self.proxies.values():
                proxy.heal()

        return fault

    def _step(self, seconds: float, dice: random.Random) -> None:
        self.clock.set(dice.randrange(-self.clock_step, self.clock_step + 1))
        time.sleep(seconds)

    def _fill(self, seconds: float, dice: random.Random) -> None:
        for node in self.primaries()[:1]:
            with node.disk.full(dice.choice([0, 4096, 65536])):
                time.sleep(seconds)
            node.heal()


class Standalone(Topology):
    """One server, which loses nothing that it answered."""

    kind = "standalone"

    def start(self) -> None:
        self._add("--appendfsync", "always")

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def primaries(self) -> list[Node]:
        return self.nodes

    def port_for(self, key: str) -> int:
        return self.proxies[self.nodes[0].port].port

    def faults(self) -> dict[str, Fault]:
        return {**super().faults(), "redis killed": self._kill, "redis frozen": self._freeze}

    def _kill(self, seconds: float, dice: random.Random) -> None:
        self.nodes[0].kill9()
        time.sleep(seconds if dice.random() < 0.5 else 0)
        self.nodes[0].heal()

    def _freeze(self, seconds: float, _: random.Random) -> None:
        self.nodes[0].freeze()
        time.sleep(seconds)
        self.nodes[0].thaw()


class Pair(Topology):
    """A primary and its replica, and a Sentinel."""

    kind = "sentinel"
    lossy = True

    def start(self) -> None:
        first = self._add("--appendfsync", "everysec")
        self._add("--appendfsync", "everysec", "--replicaof", "127.0.0.1", str(first.port))
        self._until_in_sync()
        self._sentinel = self.stack.enter_context(SentinelServer(first))
        with redis.Redis(port=self._sentinel.port) as knows:
            until(lambda: len(knows.sentinel_slaves("shard")) == 1, what="Sentinel's knowledge")
        self._port = first.port

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self._sentinel.port}/shard"

    def _primary(self) -> Node:
        port = self._sentinel.primary_port()
        return next(node for node in self.nodes if node.port == port)

    def _other(self, node: Node) -> Node:
        return next(each for each in self.nodes if each is not node)

    def primaries(self) -> list[Node]:
        return [self._primary()]

    def port_for(self, key: str) -> int:
        return self.proxies[self._port].port

    def look_again(self) -> None:
        self._port = self._sentinel.primary_port()

    def heal(self) -> None:
        super().heal()
        self._until_in_sync()

    def faults(self) -> dict[str, Fault]:
        own = {"primary killed": self._kill, "primary frozen": self._freeze, "failover": self._fail_over}
        return {**super().faults(), **own}

    def _kill(self, seconds: float, dice: random.Random) -> None:
        """The old primary comes back as one, until Sentinel has told it."""
        before = self._primary()
        before.kill9()
        if dice.random() < 0.7:
            until(lambda: self._primary() is not before, 60, "a promotion")
        before.heal()
        time.sleep(seconds)
        self._until_in_sync()

    def _freeze(self, seconds: float, dice: random.Random) -> None:
        before = self._primary()
        before.freeze()
        try:
            if dice.random() < 0.7:
                until(lambda: self._primary() is not before, 60, "a promotion")
            time.sleep(seconds)
        finally:
            before.thaw()
        self._until_in_sync()

    def _fail_over(self, seconds: float, _: random.Random) -> None:
        before = self._primary()
        with redis.Redis(port=self._sentinel.port) as client, contextlib.suppress(redis.ResponseError):
            client.execute_command("SENTINEL", "FAILOVER", "shard")
            until(lambda: self._primary() is not before, 60, "a failover")
        time.sleep(seconds)
        self._until_in_sync()

    def _until_in_sync(self) -> None:
        """One is the primary, and the other its replica, which has all."""
        since = time.monotonic()

        def in_sync() -> bool:
            if time.monotonic() > since + _STUCK_SECONDS:
                self._part()
            return all(map(role, self.nodes)) and self._is_in_sync()

        until(in_sync, 90, "a replica in sync")

    def _part(self) -> None:
        """One Sentinel can leave two replicas of each other, when faults come fast; an operator helps."""
        roles = [role(node) for node in self.nodes]
        if [found.get("role") for found in roles] == ["slave", "slave"]:
            with self._primary().client() as client:
                client.replicaof("NO", "ONE")

    def _is_in_sync(self) -> bool:
        roles = {found.get("role"): found for found in map(role, self.nodes)}
        if set(roles) != {"master", "slave"} or roles["slave"]["master_link_status"] != "up":
            return False
        behind: int = roles["master"]["master_repl_offset"] - roles["slave"]["slave_repl_offset"]
        return roles["master"]["connected_slaves"] == 1 and behind < 100_000
