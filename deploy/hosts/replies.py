"""What a shard answers, and a client that has the patience for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis


def text(value: Any) -> str:
    """Return a reply's text."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def typed(given: str) -> bytes:
    """Return what somebody typed as the bytes that it was: of what is no UTF-8 Python makes surrogates."""
    return given.encode("utf-8", "surrogateescape")


def as_dict(pairs: Any) -> dict[str, Any]:
    """Return a reply of names and values in turn."""
    return dict(zip(map(text, pairs[::2]), pairs[1::2]))


@contextmanager
def patient(client: redis.Redis, seconds: float) -> Iterator[redis.Redis]:
    """Yield a client to the same server that waits so long for an answer."""
    pool = client.connection_pool
    options = {**pool.connection_kwargs, "socket_timeout": seconds}
    made = redis.Redis.from_pool(redis.ConnectionPool(pool.connection_class, **options))
    try:
        yield made
    finally:
        made.close()


@contextmanager
def short_errors() -> Iterator[None]:
    """Cut the trace from an error of Python inside RedisGears, and leave what it says."""
    try:
        yield
    except redis.ResponseError as error:
        raise redis.ResponseError(last_line(str(error))) from error


def last_line(said: str) -> str:
    """Return the last line of a trace that RedisGears gives as the text of a Python list."""
    try:
        lines = ast.literal_eval(said)
    except (SyntaxError, ValueError):
        return said
    return str(lines[-1]).strip() if isinstance(lines, list) and lines else said
