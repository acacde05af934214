"""What goes wrong between us and a Redis server, as sentences."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import redis

from deploy.output import CommandError
from deploy.reaching import tls
from gears.declaring.errors import PayloadError


class ShardError(CommandError):
    """A shard can't be reached or used. Its text holds addresses, never a password."""


@contextlib.contextmanager
def errors_of(address: str) -> Iterator[None]:
    """Turn redis-py's errors, and a payload that can't be read, into sentences about the server at
    ``address``.
    """
    try:
        yield
    except redis.exceptions.AuthenticationError as error:
        raise _refused_login(address, error) from error
    except redis.exceptions.BusyLoadingError as error:
        raise ShardError(
            f"Redis at {address} is still loading its data.", "wait until it has, then try again."
        ) from error
    except redis.exceptions.TimeoutError as error:
        raise ShardError(
            f"Redis at {address} did not answer in time.",
            "see whether it runs and whether the network lets you through.",
        ) from error
    except redis.exceptions.ConnectionError as error:
        trouble = tls.trouble(error, address)
        if trouble is not None:
            raise ShardError(f"Redis at {address} {trouble.what}.", trouble.hint) from error
        cause = _cause(error)
        if "max number of clients" in cause:
            raise ShardError(
                f"Redis at {address} takes no more connections: {cause}.",
                "see who holds them (CLIENT LIST), or raise maxclients there.",
            ) from error
        raise ShardError(
            f"Redis at {address} can't be reached: {cause}.",
            "start it (gearsync server), or correct --redis"
            + (" (a port of TLS needs rediss://)." if "reset" in cause or "closed" in cause else "."),
        ) from error
    except redis.exceptions.NoPermissionError as error:
        raise ShardError(
            f"Redis at {address} does not permit this: {error}.",
            "give the user the rights for it: docs/operations.md, Users of Redis, has them.",
        ) from error
    except (redis.exceptions.AskError, redis.exceptions.TryAgainError) as error:
        raise ShardError(
            f"Redis at {address} is giving a slot to another shard, or taking one.",
            "wait until the slot has moved, then run the command again.",
        ) from error
    except redis.exceptions.ResponseError as error:
        raise _answered(address, error) from error
    except redis.exceptions.RedisError as error:
        # The reply is none of Redis' protocol.
        raise ShardError(
            f"what answers at {address} is no Redis.", "see whether host and port are those of Redis."
        ) from error
    except PayloadError as error:
        raise ShardError(f"what is deployed on {address} can't be read here: {error}.") from error


def _refused_login(address: str, error: Exception) -> ShardError:
    return ShardError(
        f"Redis at {address} refused the login: {error}",
        "put user and password into the URL, redis://user:password@host:port, best in GEARSYNC_REDIS.",
    )


def is_busy(error: Exception) -> bool:
    """Whether a server refused a command because a script or a function runs for long."""
    return str(error).startswith("BUSY ")


def _answered(address: str, error: Exception) -> ShardError:
    text = str(error)
    if text.startswith(("NOAUTH", "WRONGPASS", "Authentication required")):
        return _refused_login(address, error)
    if is_busy(error):
        return ShardError(
            f"Redis at {address} runs a script or a function, and answers nothing else meanwhile.",
            "wait until it ends, or end it: SCRIPT KILL, FUNCTION KILL.",
        )
    return ShardError(f"Redis at {address} answered: {text}")


def _cause(error: BaseException) -> str:
    """Return the operating system's own words for a failed connection, which hold no URL."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror.rstrip(".")
        seen = seen.__cause__ or seen.__context__
    return str(error).rstrip(".")
