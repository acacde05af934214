"""One connection of a client, which tells what became of each write: nothing is ever sent twice."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.storm.model import LOST, OK, REFUSED, Act, Command
from tests.storm.topologies import Topology

#: What ends a client's waiting, and leaves open what became of its write.
_OPEN = ("UNBLOCKED", "not known", "is given up")
SECONDS = 8.0


class Sender:
    """Sends the writes of one client to where their keys are."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._connections: dict[int, redis.Connection] = {}
        self.sentences: dict[str, int] = {}

    def send(self, act: Act) -> str:
        """Do a write; return ``ok``, ``refused`` or ``lost``."""
        key = str(next(word for word in act.commands[0][1:] if "{" in str(word) and " " not in str(word)))
        try:
            connection = self._connect(self._topology.port_for(key))
        except (redis.RedisError, OSError) as error:
            self._note(error)
            self._go_elsewhere()
            return REFUSED
        try:
            return self._run(connection, act.commands)
        except redis.exceptions.AskError as error:
            return self._ask(error, act.commands)
        except (redis.RedisError, OSError) as error:
            return self._failed(error)

    def close(self) -> None:
        for connection in self._connections.values():
            connection.disconnect()
        self._connections.clear()

    def _connect(self, port: int) -> redis.Connection:
        connection = self._connections.get(port)
        if connection is None:
            retry = Retry(NoBackoff(), 0)
            connection = redis.Connection(host="127.0.0.1", port=port, socket_timeout=SECONDS, retry=retry)
            connection.connect()
            self._connections[port] = connection
        return connection

    def _run(self, connection: redis.Connection, commands: tuple[Command, ...], asking: bool = False) -> str:
        if asking:
            self._one(connection, ("ASKING",))
        if len(commands) == 1:
            self._one(connection, commands[0])
            return OK
        self._one(connection, ("MULTI",))
        connection.send_packed_command(connection.pack_commands([*commands, ("EXEC",)]))
        errors = []
        replies: Any = None
        for _ in range(len(commands) + 1):
            try:
                replies = connection.read_response()
            except redis.ResponseError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        failed = [each for each in replies if isinstance(each, Exception)]
        assert len(failed) in (0, len(replies)), (commands, failed)
        if failed:
            raise failed[0]
        return OK

    @staticmethod
    def _one(connection: redis.Connection, command: Command) -> None:
        connection.send_command(*command)
        connection.read_response()

    def _ask(self, asked: redis.exceptions.AskError, commands: tuple[Command, ...]) -> str:
        """The key is where its slot goes to, or will be made there."""
        try:
            return self._run(self._connect(asked.port), commands, asking=True)
        except (redis.RedisError, OSError) as error:
            return self._failed(error)

    def _failed(self, error: Exception) -> str:
        """Return what became of a write that failed."""
        self._note(error)
        if not str(error).startswith("THROUGH"):
            self._go_elsewhere()
        # A server that loads says so to MULTI alone, in front of a transaction.
        answered = isinstance(error, (redis.ResponseError, redis.exceptions.BusyLoadingError))
        return LOST if not answered or any(word in str(error) for word in _OPEN) else REFUSED

    def _note(self, error: Exception) -> None:
        sentence = f"{type(error).__name__} {error}".split(":")[0][:70]
        self.sentences[sentence] = self.sentences.get(sentence, 0) + 1

    def _go_elsewhere(self) -> None:
        self.close()
        try:
            self._topology.look_again()
        except redis.RedisError as error:
            self._note(error)
