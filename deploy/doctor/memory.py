"""Memory: what may be evicted, and whether the changes that may wait have room."""

from __future__ import annotations

from typing import Any

from deploy.doctor.asking import Redis

NEARLY_FULL = 0.9


def check(server: Redis, deployments: list[dict[str, Any]]) -> None:
    """Look at the memory of one shard; ``deployments`` are those of its status document."""
    if not server.info:
        return
    most = server.number("maxmemory")
    policy = str(server.info.get("maxmemory_policy", "noeviction"))
    if policy.startswith("allkeys"):
        _add_evicts_all(server, policy, most)
    elif policy.startswith("volatile") and most:
        server.place.note(
            "maxmemory-policy",
            f"maxmemory-policy is {policy}.",
            "Keys that have an expiry may be evicted; their rows then follow on_evict, by default they stay.",
        )
    if most:
        _check_room(server, most, deployments)
    elif any(not _is_bounded(each["backlog"]) for each in deployments):
        server.place.note(
            "memory-bound",
            "maxmemory is 0, and a backlog has no bound in bytes, or grows beyond it.",
            "While a database is away, the changes that wait may take all memory of the machine.",
            'Give the deployment backlog={"bytes": 2_000_000_000}, say, or the server a maxmemory.',
        )


def _add_evicts_all(server: Redis, policy: str, most: int) -> None:
    add = server.place.error if most else server.place.warn
    add(
        "maxmemory-policy",
        f"maxmemory-policy is {policy}" + ("." if most else ", without effect while maxmemory is 0."),
        "It can evict the streams in which changes wait, and those are lost.",
        "CONFIG SET maxmemory-policy noeviction, or a volatile-* policy.",
    )


def _check_room(server: Redis, most: int, deployments: list[dict[str, Any]]) -> None:
    used = server.number("used_memory")
    if used >= most * NEARLY_FULL:
        server.place.warn(
            "memory-used",
            f"{used / most:.0%} of maxmemory is used ({_size(used)} of {_size(most)}).",
            "At maxmemory writes are refused, or keys are evicted.",
            "Raise maxmemory, or see what waits: gearsync status.",
        )
    room = max(0, most - used)
    bounds = [each["backlog"] for each in deployments if _is_bounded(each["backlog"])]
    wanted = sum(max(0, each["limit_bytes"] - each["bytes"]) for each in bounds)
    if wanted > room:
        server.place.warn(
            "memory-headroom",
            f"The backlogs may grow by {_size(wanted)}, and maxmemory leaves {_size(room)}.",
            "While a database is away, memory is full before the backlog's bound: all writes are refused "
            "then, or keys are evicted.",
            "Raise maxmemory, or lower the backlog's bound.",
        )


def _is_bounded(backlog: dict[str, Any]) -> bool:
    return bool(backlog["limit_bytes"]) and backlog.get("on_full") != "grow"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"
