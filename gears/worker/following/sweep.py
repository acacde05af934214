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
        """Return some keys that the function covers; ``done`` tells whether they were the last."""
        template = self.function.mapping.keys
        with client.pipeline(transaction=False) as pipe:
            # The connection goes back to the database that its URL names.
            pipe.select(self.function.mapping.db)
            pipe.scan(self._cursor, match=template.glob(), count=COUNT)
            pipe.select(0)
            _, (self._cursor, found), _ = pipe.execute()
        self.done = self._cursor == 0
        keys = [key for key in found if template.match(key) is not None]
        self.keys += len(keys)
        return keys
