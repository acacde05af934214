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
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from deploy.hosts.base import Host
from deploy.hosts.module import ModuleHost
from deploy.hosts.redisgears import RedisGearsHost
from deploy.reaching.connections import (
    URL_HINT,
    address_of,
    direct_url,
    node_client,
    pool_of,
)
from deploy.reaching.server_errors import ShardError, errors_of
from gears.worker.address import AddressError, OptionError, plain, require_host

#: Seconds after which a server that does not answer counts as gone.
CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 30.0
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
SENTINEL_PORT = 26379
MAX_REDIRECTS = 5

_LOAD_HINT = (
    'load it: redis-server --loadmodule "$(gearsync module path)", or start one with gearsync server.'
)


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
        """A client of each primary."""
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
            node = contextlib.nullcontext(client) if place is None else node_client(client, *place)
            try:
                with node as asked:
                    return _asking(asked, command)
            except redis.exceptions.AskError as error:
                place = error.host, error.port
        return client.execute_command(*command)

    def require_hosts(self) -> None:
        """See that each is a primary, and that all have the module, or all RedisGears. Raises ShardError."""
        for shard in self.shards:
            with errors_of(shard.address):
                role = shard.client.execute_command("ROLE")[0]
            if _text(role) != "master":
                raise ShardError(
                    f"Redis at {shard.address} is a replica.",
                    "give the address of its primary, or a sentinel's.",
                )
        titles = {shard.host.title for shard in self.shards}
        if len(titles) > 1:
            raise ShardError(
                f"some shards have {' and others '.join(sorted(titles))}.", "bring all of them to the same."
            )

    def make_ready(self) -> None:
        """Have all shards meet, before one of them gets something for all. Raises ShardError."""
        for shard in self.shards:
            with errors_of(shard.address):
                shard.host.prepare()
        for shard in self.shards:
            with errors_of(shard.address):
                shard.host.require_ready(len(self.shards))

    def again(self, answer_timeout: float | None = ANSWER_TIMEOUT, needs_host: bool = True) -> Shards:
        """Find the primaries as they are now; a cluster's by any of those known, if the URL's is away.

        ``answer_timeout`` and ``needs_host`` as for ``connect``. Raises ShardError.
        """
        others = [shard.url for shard in self.shards] if self.kind == "cluster" else []
        try:
            return connect(self._url, answer_timeout, needs_host)
        except ShardError:
            for url in others:
                with contextlib.suppress(ShardError):
                    return connect(url, answer_timeout, needs_host)
            raise

    def close(self) -> None:
        """Close the connections to all primaries."""
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
    try:
        url = plain(url)
    except AddressError as error:
        raise ShardError(f"{error}.", "" if isinstance(error, OptionError) else URL_HINT) from None
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        shown = f"{scheme}://" if scheme else "no scheme"
        raise ShardError(f"the Redis URL has {shown}, which is none of {', '.join(SCHEMES)}.", URL_HINT)
    options: dict[str, Any] = {
        "db": 0,
        "decode_responses": False,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": min(CONNECT_TIMEOUT, answer_timeout or CONNECT_TIMEOUT),
        "socket_timeout": answer_timeout,
    }
    if scheme.endswith("+sentinel"):
        shards = _by_sentinel(url, options)
    else:
        shards = _by_url(url, options)
    try:
        if needs_host:
            shards.require_hosts()
    except ShardError:
        shards.close()
        raise
    return shards


# -- One server, or a cluster that it belongs to -----------------------------------------------------------


def _by_url(url: str, options: dict[str, Any]) -> Shards:
    client = redis.Redis.from_pool(pool_of(url, options))
    address = address_of(client)
    with errors_of(address):
        info = client.execute_command("INFO", "cluster")
        if "cluster_enabled" not in info:
            _require_no_sentinel(client, address)
    if int(info.get("cluster_enabled", 0)) == 0:
        return Shards("standalone", [Shard(address, client, url)], url)
    try:
        return Shards("cluster", _of_cluster(client, address, url), url)
    finally:
        client.close()


def _require_no_sentinel(client: redis.Redis, address: str) -> None:
    if _text(client.execute_command("ROLE")[0]) == "sentinel":
        raise ShardError(
            f"{address} is a sentinel.", f"name what it watches: redis+sentinel://{address}/SERVICE."
        )


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
        primary = node_client(client, name or given_host, number)
        if not slots and not _takes_deployments(primary):
            primary.close()
            continue
        shards.append(Shard(address_of(primary), primary, direct_url(url, address_of(primary)), tuple(slots)))
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


# -- Sentinels ---------------------------------------------------------------------------------------------


def _by_sentinel(url: str, options: dict[str, Any]) -> Shards:
    parts = urlsplit(url)
    service = unquote(parts.path.strip("/").split("/")[0])
    places = parts.netloc.rpartition("@")[2]
    if not service or not places:
        raise ShardError("the Redis URL names no sentinel or no service.", URL_HINT)
    sentinels = [_host_and_port(place) for place in places.split(",")]
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    # Of one sentinel, for the options of TLS alone: its login is apart.
    pool = pool_of(direct_url(url, places.split(",")[0]), options)
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
        _require_sentinel(sentinels, sentinel_options)
        raise ShardError(
            f"none of the sentinels {places} knows a reachable primary called {service}.",
            "see redis-cli -p 26379 SENTINEL MASTERS for the names they watch.",
        ) from error
    except redis.exceptions.RedisError as error:
        _require_sentinel(sentinels, sentinel_options)
        raise ShardError(f"one of the sentinels {places} is none, or refuses: {error}.", URL_HINT) from error
    direct = direct_url(url, f"[{_text(host)}]:{port}" if ":" in _text(host) else f"{_text(host)}:{port}")
    client = redis.Redis.from_pool(pool_of(direct, options))
    shard = Shard(address_of(client), client, direct)
    return Shards("sentinel", [shard], url)


def _require_sentinel(sentinels: Sequence[tuple[str, int]], options: dict[str, Any]) -> None:
    """Where none of them can be asked for names, the reason is that, and not the name. Raises ShardError."""
    failures = []
    for host, port in sentinels:
        try:
            with errors_of(f"sentinel {host}:{port}"), redis.Redis(host, port, **options) as client:
                if _text(client.execute_command("ROLE")[0]) == "sentinel":
                    return
                raise ShardError(
                    f"{host}:{port} is no sentinel.",
                    "give a sentinel's port, or write redis:// for a server.",
                )
        except ShardError as failure:
            if "refused the login" in failure.message:
                failure.hint = "the sentinels' own login: …/service?sentinel_username=…&sentinel_password=…."
            failures.append(failure)
    raise failures[0]


def _host_and_port(place: str) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    try:
        host = parts.hostname or "127.0.0.1"
        require_host(host)
        return host, parts.port or SENTINEL_PORT
    except ValueError as error:
        raise ShardError(f"{place} is no host:port of a sentinel.", URL_HINT) from error


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
