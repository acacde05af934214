"""How tests drive read-through without a worker: clients that wait, and a worker that the test plays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Optional

import redis

from tests.integration.module.driving import Read, connect, deploy, deployment_status, wait_for
from tests.servers import RedisServer

Fields = Optional[Mapping[str, Any]]
Rows = Mapping[str, Fields]
ADA = {"first": "Ada", "age": "36"}


class Client:
    """A client that sends one command in a thread of its own; ``result`` is the reply or the error's text."""

    def __init__(self, server: RedisServer, *words: Any, **options: Any) -> None:
        self.redis = connect(server, single_connection_client=True, socket_timeout=None, **options)
        self.id = self.redis.client_id()
        self._reply: Any = None
        self._thread = threading.Thread(target=self._run, args=words, daemon=True)
        self._thread.start()

    def _run(self, *words: Any) -> None:
        try:
            self._reply = self.redis.execute_command(*words)
        except redis.RedisError as error:
            self._reply = str(error)

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()

    def result(self, seconds: float = 15) -> Any:
        self._thread.join(seconds)
        assert not self.waits, "no answer"
        self.redis.close()
        return self._reply


class Worker:
    """The worker of a target, played by the test."""

    def __init__(self, server: RedisServer, version: int = 1) -> None:
        self.redis = connect(server)
        self.words = ("GEARSYNC.MISSES", "people", version, "t1")

    def take(self, wait_ms: int = 15_000, most: int = 1000) -> dict[str, int]:
        """Return what is taken: key → token."""
        found = self.redis.execute_command(*self.words, most, wait_ms)
        return {key.decode(): token for token, _, key in found}

    def bring(self, taken: Mapping[str, int], rows: Rows, ttl: int = 0) -> int:
        words: list[Any] = []
        for key, token in taken.items():
            fields = rows.get(key)
            words += [token, ttl, -1] if fields is None else [token, ttl, len(fields)]
            words += [word for pair in (fields or {}).items() for word in pair]
        return int(self.redis.execute_command("GEARSYNC.LOADED", "people", "t1", len(taken), *words))

    def serve(self, rows: Rows, ttl: int = 0) -> list[str]:
        """Take what is there, bring the rows, and return the keys."""
        taken = self.take()
        self.bring(taken, rows, ttl)
        return sorted(taken)

    def fail(self, taken: Mapping[str, int], sentence: str) -> int:
        words = ("GEARSYNC.UNREAD", "people", "t1", sentence, *taken.values())
        return int(self.redis.execute_command(*words))


def deploy_reads(client: redis.Redis, *reads: Read, **settings: Any) -> None:
    """Deploy functions that read, by default one on person:{id}, beside one that writes the same keys."""
    deploy(client, reads=reads or (Read(),), **settings)


def deploy_reads_alone(client: redis.Redis, *reads: Read, **settings: Any) -> None:
    deploy(client, functions=(), reads=reads or (Read(),), **settings)


def counts(client: redis.Redis, name: str = "people") -> dict[str, int]:
    found: dict[str, int] = deployment_status(client, name)["reads"]
    return found


def hash_of(client: redis.Redis, key: str) -> Any:
    """Return a hash; a module of Redis 6.2 knows RESP2 alone, where it is a flat list."""
    found: Any = client.hgetall(key)
    return found if isinstance(found, dict) else dict(zip(found[::2], found[1::2]))


def until_waiting(client: redis.Redis, number: int = 1) -> None:
    wait_for(lambda: counts(client)["waiting"] == number, f"{number} clients wait")


#: Makes a client that sends the words given.
Start = Callable[..., Client]


def blocked(client: redis.Redis) -> int:
    """Return how many clients the server holds."""
    return int(client.info("clients")["blocked_clients"])
