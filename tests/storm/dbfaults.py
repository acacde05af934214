"""The faults of databases, of the network before them, and of workers."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator

import redis
import sqlalchemy
from sqlalchemy.engine import Connection

from tests.storm import schema
from tests.storm.databases import Database
from tests.storm.proxy import Proxy
from tests.storm.topologies import Fault, Topology

#: A transaction locks so many rows, one after the other.
_ROWS = 4


class DatabaseFaults:
    """Faults of one database; ``changed``: a table was another one for a while."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.changed = False

    def faults(self) -> dict[str, Fault]:
        """Its faults by name, those that it can have."""
        found: dict[str, Fault] = {"table locked": self._lock}
        kinds = ("drop", "narrow", "add", "demand")
        for kind in kinds if self._database.server else kinds[:3]:
            found[f"schema {kind}"] = self._change(kind)
        if self._database.disk.small:
            found["full disk"] = self._fill
        if self._database.server is not None:
            found.update({"killed": self._kill, "frozen": self._freeze, "slow": self._slow})
            found.update({"connections": self._connections, "deadlocks": self._deadlocks})
        return found

    def network_faults(self) -> dict[str, Fault]:
        """Faults between the worker and the database."""
        proxy = self._database.proxy
        if proxy is None:
            return {}
        return {
            "database cut": _through(proxy, lambda dice: proxy.cut()),
            "database stalled": _through(proxy, lambda dice: proxy.stall()),
            "database delayed": _through(proxy, lambda dice: proxy.delay(dice.uniform(0.01, 0.3))),
            "database torn": _through(proxy, lambda dice: proxy.tear(0.05, dice.randrange(1 << 30))),
        }

    def _kill(self, seconds: float, dice: random.Random) -> None:
        server = self._database.server
        assert server is not None
        server.kill9()
        time.sleep(seconds if dice.random() < 0.5 else 0)
        server.start()

    def _freeze(self, seconds: float, _: random.Random) -> None:
        self._database.freeze()
        time.sleep(seconds)
        self._database.thaw()

    def _slow(self, seconds: float, dice: random.Random) -> None:
        deadline = time.monotonic() + seconds + 1
        while time.monotonic() < deadline:
            self._freeze(dice.uniform(0.05, 0.3), dice)
            time.sleep(0.02)

    def _fill(self, seconds: float, dice: random.Random) -> None:
        with self._database.disk.full(dice.choice([0, 4096, 65536])):
            time.sleep(seconds)
        self._database.heal()

    def _connections(self, seconds: float, _: random.Random) -> None:
        self._database.refuse_connections()
        try:
            time.sleep(seconds)
        finally:
            self._database.accept_connections()

    def _change(self, kind: str) -> Fault:
        def fault(seconds: float, dice: random.Random) -> None:
            table = dice.choice([schema.BEHIND, schema.THROUGH])
            self.changed = True
            self._patiently(lambda: schema.CHANGES[kind](self._database.direct, table))
            time.sleep(seconds)
            self._patiently(lambda: schema.put_back(self._database.direct, table))

        return fault

    def _patiently(self, act: Callable[[], None]) -> None:
        """A worker's transaction may be in the way, or lie there for some seconds."""
        deadline = time.monotonic() + 60
        while True:
            try:
                act()
                return
            except sqlalchemy.exc.OperationalError:
                if time.monotonic() > deadline:
                    raise
                self._database.revive()
                time.sleep(0.1)

    # -- Locks -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _session(self) -> Iterator[Connection]:
        """What another one does; it may fail as others do."""
        with contextlib.suppress(sqlalchemy.exc.DBAPIError), self._database.session() as connection:
            yield connection

    def _lock(self, seconds: float, dice: random.Random) -> None:
        with self._session() as connection:
            tables = [schema.BEHIND, schema.THROUGH, "gearsync_checkpoint"]
            self._database.lock(connection, dice.choice(tables))
            time.sleep(seconds)

    def _deadlocks(self, seconds: float, dice: random.Random) -> None:
        deadline = time.monotonic() + seconds + 1
        threads = [
            threading.Thread(target=self._lock_rows, args=(deadline, random.Random(dice.random())))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _lock_rows(self, deadline: float, dice: random.Random) -> None:
        while time.monotonic() < deadline:
            with self._session() as connection:
                table = dice.choice([schema.BEHIND, schema.THROUGH])
                for _ in range(_ROWS):
                    tag = f"{'i' if table == schema.BEHIND else 'a'}s{dice.randrange(4)}"
                    connection.exec_driver_sql(f"SELECT id FROM {table} WHERE tag = '{tag}' FOR UPDATE")
                    time.sleep(dice.uniform(0, 0.05))


def _through(proxy: Proxy, harm: Callable[[random.Random], None]) -> Fault:
    def fault(seconds: float, dice: random.Random) -> None:
        harm(dice)
        time.sleep(seconds)
        proxy.heal()

    return fault


class WorkerFaults:
    """Faults of the workers of a topology."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology

    def faults(self) -> dict[str, Fault]:
        return {"worker killed": self._kill, "worker frozen": self._freeze}

    def _some(self, dice: random.Random) -> list[int]:
        """Process ids of one or all workers of a primary."""
        pids: list[int] = []
        with contextlib.suppress(redis.RedisError, StopIteration, AssertionError):
            for node in self._topology.primaries():
                with node.asking() as client:
                    document = json.loads(client.execute_command("GEARSYNC.STATUS"))
                pids += [int(each["worker"]["pid"]) for each in document["deployments"]]
        pids = [pid for pid in pids if pid > 0]
        return pids if dice.random() < 0.3 else pids[:1] and [dice.choice(pids)]

    def _kill(self, _: float, dice: random.Random) -> None:
        for pid in self._some(dice):
            _signal(pid, signal.SIGKILL)

    def _freeze(self, seconds: float, dice: random.Random) -> None:
        pids = self._some(dice)
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        time.sleep(seconds)
        for pid in pids:
            _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
