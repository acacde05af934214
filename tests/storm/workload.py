"""The clients of a storm."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

from tests.storm.acts import BehindWrites, ThroughWrites, Writes
from tests.storm.model import OK, REFUSED, Model
from tests.storm.sending import Sender
from tests.storm.topologies import Topology

BEHIND, THROUGH = "item", "account"
#: Seconds between two writes of a client.
PAUSE = 0.01
#: Seconds after a refusal, as of a client that does not hammer.
AFTER_REFUSAL = 0.03


class Client:
    """One client, with keys of its own behind one function."""

    def __init__(self, topology: Topology, prefix: str, number: int, seed: int) -> None:
        self.prefix = prefix
        self.model = Model(topology.lossy)
        kind: type[Writes] = BehindWrites if prefix == BEHIND else ThroughWrites
        self._writes = kind(prefix, number, self.model, random.Random(f"{seed} {prefix} {number}"))
        self._sender = Sender(topology)
        self.kinds: dict[str, int] = {}
        self.never: list[str] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"{prefix} {number}", daemon=True)
        self._end = threading.Event()

    @property
    def sentences(self) -> dict[str, int]:
        """The errors that came, with their counts."""
        return self._sender.sentences

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Stop after the write of now."""
        self._end.set()
        self._thread.join()
        self._sender.close()

    def _run(self) -> None:
        try:
            while not self._end.is_set():
                self._write()
        except BaseException as error:
            self.error = error

    def _write(self) -> None:
        act = self._writes.next()
        outcome = self._sender.send(act)
        self.model.note(act, outcome)
        if outcome == OK:
            self.kinds[act.kind] = self.kinds.get(act.kind, 0) + 1
            if act.kind == "refused":
                self.never.append(repr(act.commands))
        time.sleep(AFTER_REFUSAL if outcome == REFUSED and act.kind != "refused" else PAUSE)


class Flusher:
    """A client of database 1 that writes hashes there and flushes them now and then; nobody else does."""

    def __init__(self, topology: Topology, seed: int) -> None:
        self._topology = topology
        self._dice = random.Random(f"{seed} flush")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flusher", daemon=True)
        self.flushes = 0
        self.error: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        import redis

        version = 0
        try:
            while not self._end.wait(0.03):
                version += 1
                try:
                    with self._topology.primaries()[0].asking(db=1) as client:
                        if self._dice.random() < 0.02:
                            client.flushdb(asynchronous=self._dice.random() < 0.5)
                            self.flushes += 1
                        else:
                            name = f"page:{{f}}:{self._dice.randrange(60)}"
                            client.hset(name, mapping={"version": version, "note": f"n{version}"})
                except (redis.RedisError, OSError):
                    continue
        except BaseException as error:
            self.error = error


class Clients:
    """All of them."""

    def __init__(self, topology: Topology, seed: int, count: int = 6) -> None:
        self.all = [
            Client(topology, BEHIND if number % 2 else THROUGH, number, seed) for number in range(count)
        ]
        self.flusher = Flusher(topology, seed) if topology.kind != "cluster" else None

    def start(self) -> None:
        for client in self.all:
            client.start()
        if self.flusher is not None:
            self.flusher.start()

    def end(self) -> None:
        for client in self.all:
            client.end()
        if self.flusher is not None:
            self.flusher.end()

    def of(self, prefix: str) -> list[Client]:
        """Those behind one function."""
        return [client for client in self.all if client.prefix == prefix]

    def errors(self) -> list[BaseException]:
        """What must never happen to a client."""
        found = [client.error for client in self.all]
        if self.flusher is not None:
            found.append(self.flusher.error)
        return [error for error in found if error is not None]

    def count(self, outcome: str) -> int:
        """How many writes ended so."""
        return sum(client.model.counted[outcome] for client in self.all)

    def kinds(self) -> dict[str, int]:
        """How often each kind of write was acknowledged."""
        found: dict[str, int] = {}
        for client in self.all:
            for kind, number in client.kinds.items():
                found[f"{client.prefix} {kind}"] = found.get(f"{client.prefix} {kind}", 0) + number
        return dict(sorted(found.items()))

    def sentences(self) -> dict[str, int]:
        """How often which error came."""
        found: Counter[str] = Counter()
        for client in self.all:
            found.update(client.sentences)
        return dict(sorted(found.items()))
