"""Clients that wait for SQL, and know what became of each write: OK, an error, or a lost connection.

Each client has keys of its own, of which it keeps every state that is possible: one, as long as all its
writes were answered. All clients also write a few shared keys, of which Redis and SQL must agree at the end.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.chaos.world import World, until
from tests.servers import run_sql

State = tuple[tuple[str, str], ...]
"""The fields of a hash, sorted; empty: there is none."""

FUNCTIONS = """
from connectors import Target
from gears import WriteThrough

WriteThrough(
    keys="person:{person_id}",
    table="persons",
    columns=["version", "note", "age"],
    target=Target("env:CHAOS_DB_URL", name="chaos"),
    timeout_ms=TIMEOUT,
)
"""
FIELDS = ("age", "note", "version")
OWN_KEYS = 8
SHARED_KEYS = 4
SHARED_FROM = 100_000
#: A version that the table's constraint refuses.
REFUSED = 13


VICTIM, REACHED = "pid", "reached"
"""Files of a failpoint: who dies there, and that it was reached."""


def dying(directory: Path, failpoint: str, victim: str) -> dict[str, str]:
    """Return the environment in which ``redis``, ``database``, or who reaches the failpoint, dies there."""
    found = {"GEARSYNC_FAILPOINT": failpoint, "GEARSYNC_FAILPOINT_ONCE": str(directory / REACHED)}
    if victim in ("redis", "database"):
        found["GEARSYNC_FAILPOINT_VICTIM"] = str(directory / VICTIM)
    return found


class Client:
    """One client; ``states`` has the possible states of each of its own keys."""

    def __init__(self, world: WaitingWorld, number: int, seed: int) -> None:
        self._world = world
        self._dice = random.Random(seed)
        self._keys = [f"person:{number * OWN_KEYS + at}" for at in range(OWN_KEYS)]
        self.states: dict[str, set[State]] = {key: {()} for key in self._keys}
        self.counts = {"ok": 0, "error": 0, "lost": 0}
        self.sentences: set[str] = set()

    def write_until(self, end: threading.Event) -> None:
        """Write one command after another."""
        client = self._world.server.client(
            socket_timeout=20, retry=Retry(NoBackoff(), 0), decode_responses=True
        )
        while not end.is_set():
            key, words = self._next()
            try:
                client.execute_command(*words)
                self._note("ok", key, words)
            except redis.exceptions.BusyLoadingError:
                time.sleep(0.02)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                self._note("lost" if "refused" not in str(error) else "", key, words)
                time.sleep(0.02)
            except redis.ResponseError as error:
                self.sentences.add(str(error).split(":")[0][:60])
                # Both end the connection, and leave open what became of the write.
                lost = str(error).startswith("UNBLOCKED") or "not known" in str(error)
                self._note("lost" if lost else "error", key, words)

    def _next(self) -> tuple[str, tuple[Any, ...]]:
        dice, version = self._dice, next(self._world.versions)
        shared = dice.random() < 0.2
        key = f"person:{SHARED_FROM + dice.randrange(SHARED_KEYS)}" if shared else dice.choice(self._keys)
        kind = dice.random()
        if kind < 0.45:
            return key, ("HSET", key, "version", version, "note", f"n{version}")
        if kind < 0.70:
            return key, ("HINCRBY", key, "age", 1)
        if kind < 0.80:
            return key, ("HDEL", key, "note")
        if kind < 0.85:
            return key, ("HSETNX", key, "note", f"x{version}")
        if kind < 0.93:
            return key, ("DEL", key)
        return key, ("HSET", key, "version", REFUSED)

    def _note(self, outcome: str, key: str, words: tuple[Any, ...]) -> None:
        if outcome:
            self.counts[outcome] += 1
        if key not in self.states or outcome in ("error", ""):
            return
        before = self.states[key]
        after = {_after(state, words) for state in before}
        self.states[key] = after if outcome == "ok" else before | after


def _after(state: State, words: tuple[Any, ...]) -> State:
    fields = dict(state)
    name, arguments = words[0], [str(word) for word in words[2:]]
    if name == "HSET":
        fields.update(zip(arguments[::2], arguments[1::2]))
    elif name == "HINCRBY":
        fields[arguments[0]] = str(int(fields.get(arguments[0], "0")) + int(arguments[1]))
    elif name == "HDEL":
        fields.pop(arguments[0], None)
    elif name == "HSETNX":
        fields.setdefault(arguments[0], arguments[1])
    else:
        fields = {}
    return tuple(sorted(fields.items()))


class WaitingWorld(World):
    """A world whose clients wait. ``timeout_ms`` is the function's."""

    def __init__(self, url: str, directory: Path, seed: int, timeout_ms: int = 5000, **more: Any) -> None:
        super().__init__(url, directory, seed, **more)
        self.functions = FUNCTIONS.replace("TIMEOUT", str(timeout_ms))
        self._clients: list[Client] = []
        self._threads: list[threading.Thread] = []
        self._end = threading.Event()

    def start(self) -> None:
        """Start it; one version is refused by the table."""
        super().start()
        if "sqlite" in self.url:
            refuse = f"BEGIN SELECT RAISE(ABORT, 'an unlucky version') WHERE NEW.version = {REFUSED}; END"
            for event in ("INSERT", "UPDATE"):
                run_sql(self.url, f"CREATE TRIGGER unlucky_{event} BEFORE {event} ON persons {refuse}")
        else:
            run_sql(self.url, f"ALTER TABLE persons ADD CONSTRAINT unlucky CHECK (version <> {REFUSED})")

    def begin(self, clients: int = 6) -> None:
        """Start the clients."""
        for number in range(clients):
            client = Client(self, number, self.random.randrange(1 << 30))
            self._clients.append(client)
            thread = threading.Thread(target=self._guarded, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _guarded(self, client: Client) -> None:
        try:
            client.write_until(self._end)
        except BaseException as error:
            self.errors.append(error)

    def count(self, outcome: str) -> int:
        """Return how many writes ended so: ``ok``, ``error`` or ``lost``."""
        return sum(client.counts[outcome] for client in self._clients)

    def until_more(self, outcome: str = "ok", more: int = 20, timeout: float = 60) -> None:
        """Wait until so many more writes have ended so."""
        wanted = self.count(outcome) + more
        until(lambda: self.count(outcome) >= wanted or bool(self.errors), timeout, f"{more} more {outcome}")

    def end(self) -> None:
        """Stop the clients."""
        self._end.set()
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        """Stop the clients and the servers."""
        self.end()
        super().stop()

    def live_through_kills(self, kills: int, kill: Callable[[], object], database: Any) -> None:
        """Have Redis, the worker (``kill`` does that) or the database die at random moments, and check.

        ``database`` may be one that is not ours to kill.
        """
        self.begin()
        self.until_more()
        for _ in range(kills):
            time.sleep(self.random.uniform(0, 0.5))
            victim = self.random.random()
            if victim < 0.4:
                self.restart_server()
            elif victim < 0.8 or not hasattr(database, "restart"):
                kill()
            else:
                database.restart()
            if self.random.random() < 0.7:
                self.until_more()
        self.until_more()
        self.end()
        self.check_waiting()
        print({outcome: self.count(outcome) for outcome in ("ok", "error", "lost")})

    def live_through_death(self, victim: str, database: Any) -> None:
        """Write until the failpoint of ``dying`` is reached, and on; then check."""
        if victim in ("redis", "database"):
            pid = self.server.pid if victim == "redis" else database.pid
            (self.directory / VICTIM).write_text(str(pid))
        self.begin()
        until((self.directory / REACHED).exists, what="the failpoint")
        if victim == "redis":
            self.restart_server()
        elif victim == "database":
            database.restart()
        self.until_more(more=40)
        self.end()
        self.check_waiting()

    def check_waiting(self) -> None:
        """Redis and SQL agree on each key, and are where the answers of the clients say."""
        assert not self.errors, self.errors
        self.settle()
        until(lambda: not self._waiting(), what="the end of what waits")
        hashes, table = self._states(), self._table()
        assert hashes == table
        for client in self._clients:
            for key, possible in client.states.items():
                assert hashes.get(key, ()) in possible, (key, hashes.get(key), possible, client.counts)

    def _waiting(self) -> int:
        return int(self.status()["backlog"]["entries"])

    def _states(self) -> dict[str, State]:
        found = {}
        with self.server.client(decode_responses=True) as client:
            for key in client.scan_iter("person:*"):
                found[key] = tuple(sorted(client.hgetall(key).items()))
        return found

    def _table(self) -> dict[str, State]:
        rows = run_sql(self.url, "SELECT person_id, age, note, version FROM persons")
        return {
            f"person:{row[0]}": tuple(
                (name, str(value)) for name, value in zip(FIELDS, row[1:]) if value is not None
            )
            for row in rows
        }
