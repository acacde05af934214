"""Whether this is the primary, and what a promotion of its replicas would lose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deploy.doctor.asking import Redis

#: Bytes and seconds that a replica may be behind its primary.
LATE_BYTES = 16 << 20
LATE_SECONDS = 10
#: What has a primary refuse writes without replicas, unless one of them is 0, and a value for each.
_NEEDED = {"min-replicas-to-write": 1, "min-replicas-max-lag": 10}


def check(server: Redis) -> None:
    """Look at the replication of one shard."""
    if not server.info:
        return
    place = server.place
    if server.info.get("role") != "master":
        place.error(
            "role",
            "This is a replica.",
            "It captures nothing of its own, and its reads may be behind.",
            "Give the address of its primary, or a sentinel's.",
        )
        return
    _check_refusal(server)
    replicas = list(_replicas(server.info))
    if not replicas:
        place.note(
            "replicas",
            "No replica is connected.",
            "If the machine is lost, so are Redis' data and the changes that wait.",
        )
        return
    zero = [name for name in _NEEDED if server.settings.get(name) == "0"]
    if zero:
        place.note(
            "min-replicas-to-write",
            f"{zero[0]} is 0.",
            "A primary that is cut off from its replicas takes writes on, which its return as a replica "
            "loses; SQL may have some of them.",
            f"CONFIG SET {zero[0]} {_NEEDED[zero[0]]} makes that rarer.",
        )
    for replica in replicas:
        _check_replica(server, replica)


def _check_refusal(server: Redis) -> None:
    """Look whether writes are refused because too few replicas are there."""
    # Redis tells it only where both settings are given.
    if "min_slaves_good_slaves" not in server.info:
        return
    needed, good = (
        int(server.settings.get("min-replicas-to-write", "0")),
        server.number("min_slaves_good_slaves"),
    )
    if good < needed:
        server.place.error(
            "min-replicas-to-write",
            f"min-replicas-to-write is {needed}, and {good} of its replicas are near enough.",
            "All writes are refused, what the worker has to write among them, so that changes wait.",
            "See why replicas are away or late, or CONFIG SET min-replicas-to-write 0 meanwhile.",
        )


def _replicas(info: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number in range(int(info.get("connected_slaves", 0))):
        replica = info.get(f"slave{number}")
        if isinstance(replica, dict):
            yield replica


def _check_replica(server: Redis, replica: dict[str, Any]) -> None:
    name = f"The replica {replica.get('ip')}:{replica.get('port')}"
    why = "Its promotion would lose what it lacks, and reads from it are as old."
    todo = "See whether it runs, and the network and client-output-buffer-limit replica."
    if replica.get("state") != "online":
        server.place.warn("replica-state", f"{name} is in the state {replica.get('state')}.", why, todo)
        return
    behind = server.number("master_repl_offset") - int(replica.get("offset", 0))
    seconds = int(replica.get("lag", 0))
    if behind > LATE_BYTES or seconds > LATE_SECONDS:
        what = f"{name} is {behind:,} bytes behind, and was last heard of {seconds} s ago."
        server.place.warn("replica-lag", what, why, todo)
