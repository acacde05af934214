"""Clients of one Redis server, by a URL or beside one that is there; making one asks the server nothing."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis

from deploy.reaching.server_errors import ShardError

URL_HINT = (
    "write --redis redis://[user:password@]host:port, rediss://…, unix:///path or redis+sentinel://…/service."
)


def same_server(client: redis.Redis, **changes: Any) -> redis.Redis:
    """Return a new client to the server of ``client``, with other connection options, such as ``db``."""
    pool = client.connection_pool
    return _client(pool.connection_class, {**pool.connection_kwargs, **changes})


def _client(connection_class: type[redis.Connection], options: dict[str, Any]) -> redis.Redis:
    # A client that owns its pool, so that closing the one closes the other.
    return redis.Redis.from_pool(redis.ConnectionPool(connection_class=connection_class, **options))


def pool_of(url: str, options: dict[str, Any]) -> redis.ConnectionPool:
    """Return the connections by a URL. Raises ShardError when it is none, without quoting it."""
    try:
        pool = redis.ConnectionPool.from_url(url, **options)
        # Options that are none of this redis-py's are refused when a connection is made.
        pool.make_connection()
    except (ValueError, TypeError, redis.exceptions.RedisError) as error:
        # The error's own text may quote the URL, and with it a password.
        raise ShardError("the Redis URL can't be read.", URL_HINT) from error.with_traceback(None)
    return pool


def node_client(client: redis.Redis, host: str, port: int) -> redis.Redis:
    """Return a new client to another node, with the login and the options of ``client``."""
    pool = client.connection_pool
    options = {**pool.connection_kwargs, "host": host, "port": port}
    if options.pop("path", None) is None:
        return _client(pool.connection_class, options)
    return _client(redis.Connection, options)


def direct_url(url: str, address: str) -> str:
    """Return ``url`` with its credentials and options, but for the server at ``address``."""
    parts = urlsplit(url)
    scheme = "rediss" if parts.scheme.startswith("rediss") else "redis"
    credentials = parts.netloc.rpartition("@")[0]
    query = [each for each in parts.query.split("&") if each and not each.startswith(("sentinel_", "db="))]
    return urlunsplit(
        (scheme, f"{credentials}@{address}" if credentials else address, "", "&".join(query), "")
    )


def address_of(client: redis.Redis) -> str:
    """Return host:port, or the socket's path."""
    options = client.connection_pool.connection_kwargs
    if "path" in options:
        return str(options["path"])
    host = str(options.get("host", "localhost"))
    return f"[{host}]:{options.get('port', 6379)}" if ":" in host else f"{host}:{options.get('port', 6379)}"
