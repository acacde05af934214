"""Read-through: a client that misses a key waits while its row is read; then it gets what it would have got.

RedisGears tells of the miss in a thread of its own, while it holds the client alone. What is read passes
nobody: not a change that still waits in a lane, nor one that was made since the row was asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from gears.declaring.deployment import Deployment
from gears.declaring.functions import Function
from gears.declaring.patterns import Reading
from gears.redisgears.api import (
    as_bytes,
    atomic,
    command_of_client,
    execute,
    future,
    resume,
)
from gears.redisgears.deadlines import Deadlines
from gears.redisgears.loader import Loader, Missing
from gears.redisgears.pausing import Pausing
from gears.redisgears.process import Sources
from gears.redisgears.replies import reply_of, send
from gears.redisgears.shard import Shard
from gears.redisgears.written import Written

FAILED = "READTHROUGH "


class Client:
    """A client that waits for ``left`` rows. ``reply`` is called in a step of RedisGears' execution."""

    def __init__(
        self, command: list[str] | None, wanted: dict[bytes, Function], over: Callable[[Any], None]
    ) -> None:
        self.command = command
        self.future = future()
        self._left = set(wanted)
        patterns = [each.pattern for each in wanted.values() if isinstance(each.pattern, Reading)]
        self.timeout_ms = min(each.timeout_ms for each in patterns)
        self._may_miss = all(each.on_failure == "miss" for each in patterns)
        self._error = ""
        self._lock = threading.Lock()
        self._over = over
        self._is_over = False

    @property
    def has_failed(self) -> bool:
        """Whether it got no row."""
        return bool(self._error)

    @property
    def is_over(self) -> bool:
        """Whether it waits no more."""
        return self._is_over

    def came(self, key: bytes, error: str) -> None:
        """A row is loaded, or there is none, or it can't be read."""
        with self._lock:
            self._left.discard(key)
            over = not self._is_over and (bool(error) or not self._left)
            if over:
                self._is_over = True
                self._error = error
        if over:
            self._over(self)
            resume(self.future, self.reply)

    def expire(self) -> None:
        """It has waited long enough."""
        key = next(iter(self._left), b"")[:200].decode("utf-8", "replace")
        said = f"the row of key {key} was not read within {self.timeout_ms} ms: "
        self.came(b"", said + "the database has not answered, or a change of it still waits to be in SQL")

    def reply(self) -> None:
        """Say what has come of it. Nothing said: the client gets the miss itself."""
        if not self._error:
            answer = reply_of(self.command)
            if answer is not None:
                send(answer)
        elif not self._may_miss:
            send("-" + FAILED + " ".join(self._error.split()))


class Reads:
    """What one deployment's read-through functions do in this process."""

    def __init__(
        self, sources: Sources, payload: str, deployment: Deployment, shard: Shard, pausing: Pausing
    ) -> None:
        self._functions = deployment.reading
        written = Written()
        self._missing = Missing(written)
        targets: dict[str, list[Function]] = {}
        for each in self._functions:
            targets.setdefault(each.target_name, []).append(each)
        self.loaders = {
            name: Loader(sources, payload, name, own, shard, written, self._missing, pausing)
            for name, own in targets.items()
        }
        self._deadlines = Deadlines()
        self._lock = threading.Lock()
        self._counts = {"misses": 0, "waiting": 0, "failed": 0}

    def close(self) -> None:
        """A newer version works here: end when nobody waits any more."""
        for loader in self.loaders.values():
            loader.close()
        self._deadlines.close()

    def on_miss(self, key: Any) -> Any:
        """Of KeysReader, in a thread of RedisGears: return a future, or None: nobody waits for a row."""
        try:
            command = command_of_client()
        except SystemError:
            command, keys = None, [as_bytes(key)]
        else:
            if command is None:
                return None
            keys = _missing_keys(command)
        wanted = {}
        for each in keys:
            function = self.function_of(each)
            if function is not None:
                wanted[each] = function
        if not wanted:
            return None
        self._count(misses=len(wanted), waiting=1)
        return self._wait(Client(command, wanted, self._over), wanted)

    @property
    def counts(self) -> dict[str, int]:
        """The part of the status that tells of reads."""
        found = dict(self._counts)
        found["loaded"] = sum(each.loaded for each in self.loaders.values())
        found["missing"] = sum(each.missing for each in self.loaders.values())
        return found

    def _over(self, client: Client) -> None:
        self._count(waiting=-1, failed=int(client.has_failed))

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, number in more.items():
                self._counts[name] += number

    def function_of(self, key: bytes) -> Function | None:
        """Return the function that may load the row of a key; None: none covers it, or there is no row."""
        return None if self._missing.knows(key) else self._covering(key)

    def load(self, key: bytes, function: Function, client: Any) -> None:
        """Load a row for one that is like ``Client``."""
        self.loaders[function.target_name].want(key, function, client)

    def _covering(self, key: bytes) -> Function | None:
        for function in self._functions:
            if function.mapping.keys.match(key) is not None:
                return function
        return None

    def _wait(self, client: Client, wanted: dict[bytes, Function]) -> Any:
        self._deadlines.add(client.timeout_ms, client)
        for key, function in wanted.items():
            self.loaders[function.target_name].want(key, function, client)
        return client.future


def _missing_keys(command: list[str]) -> list[bytes]:
    """Return the keys of a command that are not there; only EXISTS has several."""
    if len(command) == 2 or command[0].lower() != "exists":
        return [command[1].encode()]
    with atomic():
        return [each.encode() for each in dict.fromkeys(command[1:]) if not execute("EXISTS", each)]
