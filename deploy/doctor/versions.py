"""The server's version, and that of what the functions run on."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any

from deploy.doctor.asking import Redis
from deploy.hosts.base import Host
from deploy.hosts.redisgears import RedisGearsHost

OLDEST = (6, 2)
#: From here on a write and its change are one unit.
ONE_UNIT = (7, 0)
#: RedisGears itself was tried and tested up to this server.
NEWEST_WITH_REDISGEARS = (8, 0)
#: From here on a cluster can move slots in a way that takes no changes along.
ATOMIC_MIGRATION = (8, 4)
NO_LANES_IN_CLUSTERS = (7, 4)


def check(server: Redis, host: Host | None, status: dict[str, Any]) -> None:
    """Look at the versions of one shard; ``status`` is its status document, empty when there is none."""
    _check_server(server)
    if isinstance(host, RedisGearsHost):
        _check_redisgears(server)
    elif host is not None:
        _check_units(server, server.place.note, "the module compares them after a crash")
        _check_module(server, str(status.get("module", "")))


def _check_server(server: Redis) -> None:
    place, version = server.place, server.version
    if not version:
        return
    if not server.is_valkey and version < OLDEST:
        place.error(
            "server-version",
            f"The server is {server.title}.",
            "gearsync needs Redis 6.2 or newer, or Valkey.",
            "Upgrade the server.",
        )
    if server.is_cluster and not server.is_valkey and version >= ATOMIC_MIGRATION:
        place.warn(
            "slot-migration",
            f"This cluster of {server.title} knows CLUSTER MIGRATION.",
            "Keys that it moves are not captured, and their waiting changes stay behind.",
            "Move slots by CLUSTER SETSLOT and MIGRATE, as redis-cli --cluster reshard does.",
        )


def _check_units(server: Redis, add: Callable[[str, str, str, str], None], then: str) -> None:
    if OLDEST <= server.version < ONE_UNIT and not server.is_valkey:
        add(
            "aof-units",
            f"The server is {server.title}.",
            f"A write and its change are two units in the AOF and for replicas there; {then}.",
            "Redis 7.0 or newer has them in one.",
        )


def _check_module(server: Redis, module: str) -> None:
    own = metadata.version("gearsync")
    if module and module != own:
        server.place.warn(
            "module-version",
            f"The module is of version {module}, this gearsync of {own}.",
            "The one may send what the other does not know.",
            "Load the same: gearsync module path, then MODULE UNLOAD gearsync and MODULE LOAD, or restart.",
        )


def _check_redisgears(server: Redis) -> None:
    place, version = server.place, server.version
    _check_units(server, place.warn, "after a crash the one may be there without the other")
    if server.number("aof_enabled") == 1 and server.settings.get("aof-use-rdb-preamble") == "no":
        place.error(
            "redisgears-aof",
            "aof-use-rdb-preamble is no.",
            "RedisGears has no part in such an AOF: a rewrite leaves all deployments out, so that nothing is "
            "captured after a restart.",
            "CONFIG SET aof-use-rdb-preamble yes, then BGREWRITEAOF.",
        )
    if server.is_cluster and not server.is_valkey and version >= NO_LANES_IN_CLUSTERS:
        place.error(
            "redisgears-cluster",
            f"This is RedisGears in a cluster of {server.title}.",
            "Such a server can't load again what a function writes to another key than the client's.",
            "Use gearsync's own module, or Redis 6.2 to 7.2.",
        )
    elif version[:2] > NEWEST_WITH_REDISGEARS:
        place.warn(
            "redisgears-version",
            f"RedisGears runs on {server.title}.",
            "It was tried on Redis 6.2 to 8.0; its makers have ended it before newer ones.",
            "Use gearsync's own module.",
        )
