"""Whether all nodes of a cluster see the same cluster, and it has all slots."""

from __future__ import annotations

from typing import Any

from deploy.doctor.asking import Redis
from deploy.doctor.findings import Place

SLOTS = 16384


def check(servers: list[Redis], place: Place) -> None:
    """Look at a cluster by what each of its primaries says; ``place`` is that of the whole."""
    infos = [(server, _pairs(server.ask("CLUSTER INFO"))) for server in servers]
    for server, info in infos:
        _check_node(server, info)
    epochs = {info["cluster_current_epoch"] for _, info in infos if "cluster_current_epoch" in info}
    if len(epochs) > 1:
        place.warn(
            "cluster-epochs",
            f"The nodes are at different epochs of the cluster: {', '.join(sorted(epochs))}.",
            "They have not told each other of the last failover yet, or the network is cut.",
            "Look again in some seconds; then see CLUSTER NODES on each.",
        )


def _check_node(server: Redis, info: dict[str, str]) -> None:
    place = server.place
    assigned = int(info.get("cluster_slots_assigned", SLOTS))
    if assigned < SLOTS:
        place.error(
            "cluster-slots",
            f"{SLOTS - assigned:,} slots belong to no node.",
            "Their keys can't be written or read.",
            "redis-cli --cluster fix.",
        )
    elif info.get("cluster_state", "ok") != "ok":
        place.error(
            "cluster-state",
            f"The cluster's state is {info['cluster_state']}.",
            "Writes are refused.",
            "See CLUSTER NODES for who is away.",
        )
    if server.settings.get("cluster-require-full-coverage") == "no":
        place.note(
            "cluster-require-full-coverage",
            "cluster-require-full-coverage is no.",
            "While a shard is away, the others go on; a row with keys of both is half new.",
        )
    moving = _moving(server.ask("CLUSTER NODES"))
    if moving:
        place.warn(
            "cluster-open-slots",
            f"{moving} {'slot is' if moving == 1 else 'slots are'} on the way to another shard, or from one.",
            "A move that was broken off stays so: clients meet ASK, and loads and backfills wait.",
            "If none goes on: redis-cli --cluster fix.",
        )


def _moving(nodes: Any) -> int:
    """Return how many slots the node that was asked has open; others' are not in its reply."""
    if not isinstance(nodes, dict):
        return 0
    return sum(
        len(node["migrations"]) for node in nodes.values() if "myself" in str(node["flags"]).split(",")
    )


def _pairs(reply: Any) -> dict[str, str]:
    if isinstance(reply, dict):
        return {str(name): str(value) for name, value in reply.items()}
    return {}
