"""All keys that Redis has of a function, in small steps."""

from __future__ import annotations

import redis

from gears.declaring.functions import Function

COUNT = 1000


class Sweep:
    """A way through the keyspace of one server: a key that is there all the while is found once or more."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.done = False
        self.keys = 0
        self._cursor = 0

    def step(self, client: redis.Redis) -> list[bytes]:
        """Return some keys that the function covers; ``done`` tells whether they were the last. The client
        has one connection: a cursor means nothing to another server.
        """
        template = self.function.mapping.keys
        client.execute_command("SELECT", self.function.mapping.db)
        words = ("SCAN", self._cursor, "MATCH", template.glob(), "COUNT", COUNT)
        self._cursor, found = client.execute_command(*words)
        # The database that its URL names.
        client.execute_command("SELECT", 0)
        self.done = self._cursor == 0
        keys = [key for key in found if template.match(key) is not None]
        self.keys += len(keys)
        return keys
