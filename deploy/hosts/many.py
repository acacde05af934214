"""Commands of thousands of words, without what redis-py does for each word of a command."""

from __future__ import annotations

from typing import Any

import hiredis
import redis


def execute(client: redis.Redis, *words: bytes | str | int) -> Any:
    """Run a command that only reads, and return its reply as the parser gives it.

    A connection that breaks is no failure yet: then the client does it, with as many tries as it has.
    """
    pool = client.connection_pool
    connection: Any = pool.get_connection()
    packed: Any = words
    try:
        connection.send_packed_command([hiredis.pack_command(packed)])
        return connection.read_response()
    except (redis.ConnectionError, redis.TimeoutError):
        connection.disconnect()
    except BaseException as error:
        if not isinstance(error, redis.ResponseError):
            # A reply may be on its way that is nobody's.
            connection.disconnect()
        raise
    finally:
        pool.release(connection)
    return client.execute_command(*words)
