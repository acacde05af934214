"""Reach every shard's primary, whatever stands behind the URL: one server, a cluster, or sentinels.

Each primary is talked to directly, so that a caller never meets MOVED or CROSSSLOT.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from deploy import tls
from deploy.hosts.base import Host
from deploy.hosts.module import ModuleHost
from deploy.hosts.redisgears import RedisGearsHost
from deploy.output import CommandError

#: Seconds after which a server that does not answer counts as gone.
CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 30.0
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
SENTINEL_PORT = 26379
MAX_REDIRECTS = 5

_LOAD_HINT = (
    'load it: redis-server --loadmodule "$(gearsync module path)", or start one with gearsync server.'
)
_URL_HINT = (
    "write --redis redis://[user:password@]host:port, rediss://…, unix:///path or redis+sentinel://…/service."
)


class ShardError(CommandError):
    """A shard can't be reached or used. Its text holds addresses, never a password."""


@dataclass(frozen=True)
class Shard:
    """One primary. ``slots`` are the cluster's slot ranges that it owns, both ends included.

    ``url`` reaches this primary directly; it may hold a password, so nothing prints it.
    """

    address: str
    client: redis.Redis = field(repr=False)
    url: str = field(repr=False)
    slots: tuple[tuple[int, int], ...] = ()

    @cached_property
    def host(self) -> Host:
        """What the functions run on there. Raises ShardError when there is nothing."""
        with errors_of(self.address):
            for command, host in (
                ("GEARSYNC.DEPLOYMENTS", ModuleHost),
                ("RG.PYDUMPSESSIONS", RedisGearsHost),
            ):
                try:
                    self.client.execute_command(command)
                except redis.exceptions.ResponseError as error:
                    if "unknown command" not in str(error).lower():
                        raise
                else:
                    return host(self.client)
        raise ShardError(
            f"Redis at {self.address} has neither the gearsync module loaded nor RedisGears.", _LOAD_HINT
        )


class Shards:
    """The primaries behind one URL. ``kind`` is "standalone", "cluster" or "sentinel"."""

    def __init__(self, kind: str, shards: list[Shard], url: str) -> None:
        self.kind = kind
        self.shards = shards
        self._url = url

    @property
    def primaries(self) -> list[redis.Redis]:
        return [shard.client for shard in self.shards]

    @property
    def addresses(self) -> list[str]:
        """Return host:port or the socket's path of each primary, in the order of ``primaries``."""
        return [shard.address for shard in self.shards]

    def of_key(self, key: bytes) -> Shard:
        """Return the shard that owns a key now."""
        if self.kind != "cluster":
            return self.shards[0]
        slot = key_slot(key)
        for shard in self.shards:
            if any(first <= slot <= last for first, last in shard.slots):
                return shard
        raise ShardError(
            f"no node of the cluster owns slot {slot}.", "repair the cluster: redis-cli --cluster fix."
        )

    def on_key(self, client: redis.Redis, *command: Any) -> Any:
        """Run a command that has one key, on a shard that has it, also while its slot changes the shard."""
        if self.kind != "cluster":
            return client.execute_command(*command)
        place: tuple[str, int] | None = None
        for _ in range(MAX_REDIRECTS):
            node = contextlib.nullcontext(client) if place is None else _node_client(client, *place)
            try:
                with node as asked:
                    return _asking(asked, command)
            except redis.exceptions.AskError as error:
                place = error.host, error.port
        return client.execute_command(*command)

    def make_ready(self) -> None:
        """Have all shards meet, before one of them gets something for all. Raises ShardError."""
        for shard in self.shards:
            with errors_of(shard.address):
                shard.host.prepare()
        for shard in self.shards:
            with errors_of(shard.address):
                shard.host.require_ready(len(self.shards))

    def again(self, answer_timeout: float | None = ANSWER_TIMEOUT) -> Shards:
        """Find the primaries as they are now; a cluster's by any of those known, if the URL's is away.

        ``answer_timeout`` as for ``connect``. Raises ShardError.
        """
        others = [shard.url for shard in self.shards] if self.kind == "cluster" else []
        try:
            return connect(self._url, answer_timeout)
        except ShardError:
            for url in others:
                with contextlib.suppress(ShardError):
                    return connect(url, answer_timeout)
            raise

    def close(self) -> None:
        for shard in self.shards:
            shard.client.close()

    def __enter__(self) -> Shards:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def connect(url: str, answer_timeout: float | None = ANSWER_TIMEOUT, needs_host: bool = True) -> Shards:
    """Find all primaries behind ``url``, and see that each runs the module, or RedisGears.

    ``answer_timeout``: seconds that a command may take; None: for ever. ``needs_host`` False: it may be a
    Redis on which nothing runs. Raises ShardError.
    """
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        shown = f"{scheme}://" if scheme else "no scheme"
        raise ShardError(f"the Redis URL has {shown}, which is none of {', '.join(SCHEMES)}.", _URL_HINT)
    options: dict[str, Any] = {
        "db": 0,
        "decode_responses": False,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": answer_timeout,
    }
    if scheme.endswith("+sentinel"):
        shards = _by_sentinel(url, options)
    else:
        shards = _by_url(url, options)
    try:
        if needs_host:
            _require_hosts(shards.shards)
    except ShardError:
        shards.close()
        raise
    return shards


@contextlib.contextmanager
def errors_of(address: str) -> Iterator[None]:
    """Turn redis-py's errors into sentences about the server at ``address``."""
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
        raise ShardError(
            f"Redis at {address} can't be reached: {cause}.",
            "start it (gearsync server), or correct --redis"
            + (" (a port of TLS needs rediss://)." if "reset" in cause or "closed" in cause else "."),
        ) from error
    except redis.exceptions.NoPermissionError as error:
        raise ShardError(
            f"Redis at {address} does not permit this: {error}",
            "give the user the rights: ACL SETUSER … ~* +@all.",
        ) from error
    except (redis.exceptions.AskError, redis.exceptions.TryAgainError) as error:
        raise ShardError(
            f"Redis at {address} is giving a slot to another shard, or taking one.",
            "wait until the slot has moved, then run the command again.",
        ) from error
    except redis.exceptions.ResponseError as error:
        raise _answered(address, error) from error


def same_server(client: redis.Redis, **changes: Any) -> redis.Redis:
    """Return a new client to the server of ``client``, with other connection options, such as ``db``."""
    pool = client.connection_pool
    return _client(pool.connection_class, {**pool.connection_kwargs, **changes})


def _client(connection_class: type[redis.Connection], options: dict[str, Any]) -> redis.Redis:
    # A client that owns its pool, so that closing the one closes the other.
    return redis.Redis.from_pool(redis.ConnectionPool(connection_class=connection_class, **options))


# -- One server, or a cluster that it belongs to -----------------------------------------------------------


def _by_url(url: str, options: dict[str, Any]) -> Shards:
    client = redis.Redis.from_pool(_pool(url, options))
    address = _address(client)
    with errors_of(address):
        info = client.execute_command("INFO", "cluster")
    if int(info.get("cluster_enabled", 0)) == 0:
        return Shards("standalone", [Shard(address, client, url)], url)
    try:
        return Shards("cluster", _of_cluster(client, address, url), url)
    finally:
        client.close()


def _pool(url: str, options: dict[str, Any]) -> redis.ConnectionPool:
    try:
        pool = redis.ConnectionPool.from_url(url, **options)
        # Options that are none of redis-py's are refused when a connection is made.
        pool.make_connection()
    except (ValueError, TypeError, redis.exceptions.RedisError) as error:
        # The error's own text may quote the URL, and with it a password.
        raise ShardError("the Redis URL can't be read.", _URL_HINT) from error.with_traceback(None)
    # from_url lets what stands in the URL win; gearsync's own keys are always in database 0.
    pool.connection_kwargs["db"] = 0
    return pool


def _of_cluster(client: redis.Redis, address: str, url: str) -> list[Shard]:
    with errors_of(address):
        # CLUSTER SHARDS is 7.0's; every version, Valkey's too, still answers SLOTS.
        ranges: Any = client.execute_command("CLUSTER SLOTS")
    nodes: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for first, last, (host, port, *_), *_ in ranges:
        nodes.setdefault((_text(host), int(port)), []).append((int(first), int(last)))
    if not nodes:
        raise ShardError(
            f"the cluster that {address} belongs to has no slots assigned.",
            "create it: redis-cli --cluster create …",
        )
    with errors_of(address):
        lines = client.execute_command("CLUSTER NODES")
    shards = []
    for place in _without_slots(lines):
        nodes.setdefault(place, [])
    given_host = client.connection_pool.connection_kwargs.get("host", "127.0.0.1")
    for (name, number), slots in sorted(nodes.items()):
        # A node that knows no name for itself sends an empty one: it is the one that was asked.
        primary = _node_client(client, name or given_host, number)
        if not slots and not _takes_deployments(primary):
            primary.close()
            continue
        shards.append(Shard(_address(primary), primary, _direct_url(url, _address(primary)), tuple(slots)))
    return shards


def _without_slots(nodes: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Return the primaries that have no slot: new shards, which should be ready before their first one."""
    for place, node in nodes.items():
        flags = str(node["flags"]).split(",")
        is_away = any(flag in flags for flag in ("fail", "fail?", "handshake", "noaddr"))
        if "master" in flags and not is_away and not node["slots"]:
            host, _, port = place.rpartition(":")
            yield host, int(port)


def _takes_deployments(client: redis.Redis) -> bool:
    """Whether a node without slots is one of gearsync's; one that only votes, say, is left alone."""
    try:
        is_primary = _text(client.execute_command("ROLE")[0]) == "master"
        client.execute_command("GEARSYNC.DEPLOYMENTS")
    except redis.exceptions.RedisError:
        return False
    return is_primary


def _asking(client: redis.Redis, command: tuple[Any, ...]) -> Any:
    # Without ASKING, who takes a slot refuses its keys; elsewhere it changes nothing.
    with client.pipeline(transaction=False) as pipe:
        pipe.execute_command("ASKING")
        pipe.execute_command(*command)
        return pipe.execute()[1]


def _node_client(client: redis.Redis, host: str, port: int) -> redis.Redis:
    pool = client.connection_pool
    options = {**pool.connection_kwargs, "host": host, "port": port}
    if options.pop("path", None) is None:
        return _client(pool.connection_class, options)
    return _client(redis.Connection, options)


# -- Sentinels ---------------------------------------------------------------------------------------------


def _by_sentinel(url: str, options: dict[str, Any]) -> Shards:
    parts = urlsplit(url)
    service = unquote(parts.path.strip("/").split("/")[0])
    places = parts.netloc.rpartition("@")[2]
    if not service or not places:
        raise ShardError("the Redis URL names no sentinel or no service.", _URL_HINT)
    sentinels = [_host_and_port(place) for place in places.split(",")]
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    # Of one sentinel, for the options of TLS alone: its login is apart.
    pool = _pool(_direct_url(url, places.split(",")[0]), options)
    by_tls = {name: value for name, value in pool.connection_kwargs.items() if name.startswith("ssl_")}
    sentinel_options = {
        **options,
        **by_tls,
        "ssl": parts.scheme.startswith("rediss"),
        "username": query.get("sentinel_username"),
        "password": query.get("sentinel_password"),
    }
    try:
        host, port = Sentinel(sentinels, sentinel_kwargs=sentinel_options).discover_master(service)
    except MasterNotFoundError as error:
        if parts.scheme.startswith("rediss"):
            # Where no session comes about, that is the reason, and not the name.
            for place in places.split(","):
                with errors_of(f"sentinel {place}"):
                    _pool(_direct_url(url, place), options).get_connection().disconnect()
        raise ShardError(
            f"none of the sentinels {places} knows a reachable primary called {service}.",
            "see redis-cli -p 26379 SENTINEL MASTERS for the names they watch.",
        ) from error
    direct = _direct_url(url, f"[{_text(host)}]:{port}" if ":" in _text(host) else f"{_text(host)}:{port}")
    client = redis.Redis.from_pool(_pool(direct, options))
    shard = Shard(_address(client), client, direct)
    return Shards("sentinel", [shard], url)


def _host_and_port(place: str) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    try:
        return parts.hostname or "127.0.0.1", parts.port or SENTINEL_PORT
    except ValueError as error:
        raise ShardError(f"{place} is no host:port of a sentinel.", _URL_HINT) from error


def _direct_url(url: str, address: str) -> str:
    """Return ``url`` with its credentials and options, but for the server at ``address``."""
    parts = urlsplit(url)
    scheme = "rediss" if parts.scheme.startswith("rediss") else "redis"
    credentials = parts.netloc.rpartition("@")[0]
    query = [each for each in parts.query.split("&") if each and not each.startswith(("sentinel_", "db="))]
    return urlunsplit(
        (scheme, f"{credentials}@{address}" if credentials else address, "", "&".join(query), "")
    )


# -- What a server must be, and how it fails ---------------------------------------------------------------


def _require_hosts(shards: Sequence[Shard]) -> None:
    for shard in shards:
        with errors_of(shard.address):
            role = shard.client.execute_command("ROLE")[0]
        if _text(role) != "master":
            raise ShardError(
                f"Redis at {shard.address} is a replica.", "give the address of its primary, or a sentinel's."
            )
    titles = {shard.host.title for shard in shards}
    if len(titles) > 1:
        raise ShardError(
            f"some shards have {' and others '.join(sorted(titles))}.", "bring all of them to the same."
        )


def _refused_login(address: str, error: Exception) -> ShardError:
    return ShardError(
        f"Redis at {address} refused the login: {error}",
        "put user and password into the URL, redis://user:password@host:port, best in GEARSYNC_REDIS.",
    )


def _answered(address: str, error: Exception) -> ShardError:
    text = str(error)
    if text.startswith(("NOAUTH", "WRONGPASS", "Authentication required")):
        return _refused_login(address, error)
    return ShardError(f"Redis at {address} answered: {text}")


def _cause(error: BaseException) -> str:
    """Return the operating system's own words for a failed connection, which hold no URL."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror.rstrip(".")
        seen = seen.__cause__ or seen.__context__
    return str(error).rstrip(".")


def _address(client: redis.Redis) -> str:
    options = client.connection_pool.connection_kwargs
    if "path" in options:
        return str(options["path"])
    host = str(options.get("host", "localhost"))
    return f"[{host}]:{options.get('port', 6379)}" if ":" in host else f"{host}:{options.get('port', 6379)}"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
